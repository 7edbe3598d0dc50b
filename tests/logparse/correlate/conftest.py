"""What the correlator's tests share: scenarios as text, real stores, and what a store says, told in lines.

A scenario file has a first line that states the rule, the log with the milter's doings between its lines, a line of
dashes, and the story that the store must tell. Log lines are abbreviated (``10:00:01 smtp AB12C: to=<…>``) and get
their whole prefix before the real grammar reads them. A line with ``@`` is the milter's: ``@accepted`` and
``@requeued`` write its rows, as its own process does. ``@local_domains`` is the configuration's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from postwake.domain_names import every_spelling
from postwake.events import Accepted, Direction, EventType, Requeued, State
from postwake.networks import Networks
from postwake.reply.load import load_classifier
from postwake.store.apply import apply_event
from postwake.store.connection import WriteLock, migrate_file, open_reader, open_writer
from postwake.store.transaction import Transactions
from postwake_logparse.correlate import Correlator
from postwake_logparse.exim import EximGrammar
from postwake_logparse.follow import Follower
from postwake_logparse.ingest import Ingester
from postwake_logparse.outcome import Outcomes
from postwake_logparse.postfix import PostfixGrammar
from postwake_logparse.record import Record
from postwake_logparse.source_file import FileSource
from postwake_logparse.stamp import StampReader
from postwake_logparse.wake import PollingWaker

FOLDER = Path(__file__).parent / "scenarios"
DAY = "2026-11-22"
MIDNIGHT_US = 1_795_305_600_000_000
HOUR_US = 3_600_000_000
INTERNAL = ("127.0.0.0/8", "10.0.0.0/8", "::1/128")
Step = str | Accepted | Requeued


@dataclass(frozen=True)
class Scenario:
    """One file of the folder."""

    name: str
    mta: str
    steps: tuple[Step, ...]
    expected: str
    local_domains: tuple[str, ...]


def _time_us(text: str) -> int:
    day = 0
    if "+" in text:
        text, _, days = text.partition("+")
        day = int(days)
    hour, minute, second = text.split(":")
    return MIDNIGHT_US + ((day * 24 + int(hour)) * 3600 + int(minute) * 60) * 1_000_000 + round(float(second) * 1e6)


def _tracking_id(name: str) -> bytes:
    return hashlib.md5(name.encode(), usedforsecurity=False).digest()


def _milter(text: str) -> Accepted | Requeued:
    kind, time, queue_id, *fields = text[1:].split()
    values = dict(field.split("=", 1) for field in fields)
    if kind == "requeued":
        return Requeued(_time_us(time), _tracking_id(values["as"]), queue_id)
    sender = values.get("from", "s@example.com")
    return Accepted(
        at_us=_time_us(time),
        tracking_id=_tracking_id(values.get("as", queue_id)),
        direction=Direction[values.get("direction", "outbound").upper()],
        queue_id=queue_id,
        host="mx",
        message_id=values.get("id", ""),
        sender=sender,
        domain=sender.rpartition("@")[2],
        recipients=tuple(values["to"].split(",")),
        tracked=True,
    )


def _line(text: str, mta: str) -> str:
    time, _, rest = text.partition(" ")
    day = DAY
    if "+" in time:
        time, _, days = time.partition("+")
        day = f"2026-11-{22 + int(days):02}"
    if mta == "exim":
        return f"{day} {time} {rest}\n"
    program, _, body = rest.partition(" ")
    tag = program if "/" in program else f"postfix/{program}"
    return f"{day}T{time}+00:00 mx {tag}[77]: {body}\n"


def read_scenario(path: Path) -> Scenario:
    """Read a scenario's file."""
    log, _, expected = path.read_text(encoding="utf-8").partition("\n---\n")
    mta = "exim" if path.name.startswith("exim") else "postfix"
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("#")]
    local_domains: list[str] = []
    if lines[0].startswith("@local_domains "):
        _, *local_domains = lines.pop(0).split()
    steps = tuple(_milter(line) if line.startswith("@") else _line(line, mta) for line in lines)
    return Scenario(path.stem, mta, steps, expected.strip(), tuple(local_domains))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``scenario`` for each file, or ``milter_scenario`` for those with a row of the milter."""
    for name in {"scenario", "milter_scenario"} & set(metafunc.fixturenames):
        scenarios = [read_scenario(path) for path in sorted(FOLDER.glob("*.txt"))]
        if name == "milter_scenario":
            scenarios = [one for one in scenarios if any(isinstance(step, Accepted) for step in one.steps)]
        metafunc.parametrize(name, scenarios, ids=[scenario.name for scenario in scenarios])


class World:
    """A store with a log parser's correlator before it."""

    def __init__(self, path: Path, mta: str, outcomes: Outcomes, local_domains: Iterable[str]) -> None:
        self.path = path
        self._local_domains = every_spelling(local_domains)
        self._grammar: Any = EximGrammar() if mta == "exim" else PostfixGrammar()
        self._clock = StampReader(reference_us=MIDNIGHT_US + 30 * 24 * HOUR_US, timezone="UTC")
        self._outcomes = outcomes
        self._connection = open_writer(path)
        self._connection.execute("PRAGMA synchronous = OFF")
        self.transactions = Transactions(self._connection, WriteLock(path))
        self.restart()

    def restart(self) -> None:
        """Go on with a correlator that knows nothing but the store."""
        self.correlator = Correlator(self._outcomes, Networks(INTERNAL).__contains__, self._local_domains)

    def records(self, text: str) -> list[Record]:
        """Read log text through the grammar; every line must be understood or named."""
        records = list(self._grammar.parse_block(text.encode(), self._clock))
        assert not self._grammar.tally.unparsed, f"unparsed: {dict(self._grammar.tally.samples or {})} in {text}"
        return records

    def log(self, text: str) -> None:
        """Take in log text as one block."""
        records = self.records(text)
        with self.transactions.begin() as transaction:
            self.correlator.apply(transaction, records)

    def milter(self, event: Accepted | Requeued) -> None:
        """Write a row as the milter does."""
        with self.transactions.begin() as transaction:
            apply_event(transaction, event)

    def run(self, steps: Sequence[Step], cuts: Iterable[int] = (), restarts: Iterable[int] = ()) -> None:
        """Take in *steps*; blocks end before the milter's steps, at *cuts* and at *restarts* (step numbers)."""
        ends, starts_anew = set(cuts) | set(restarts), set(restarts)
        block = ""
        for number, step in enumerate(steps):
            if block and (number in ends or not isinstance(step, str)):
                self.log(block)
                block = ""
            if number in starts_anew:
                self.restart()
            if isinstance(step, str):
                block += step
            else:
                self.milter(step)
        if block:
            self.log(block)

    def close(self) -> None:
        """Close the store."""
        self.transactions.close()


@pytest.fixture(scope="session")
def outcomes() -> Outcomes:
    """What understands replies, with the rules as shipped."""
    return Outcomes(load_classifier(None))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store to copy: migrating one takes a while."""
    path = tmp_path_factory.mktemp("empty") / "postwake.db"
    migrate_file(path)
    with closing(open_writer(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def make_world(tmp_path: Path, empty_store: Path, outcomes: Outcomes) -> Iterator[Callable[..., World]]:
    """Make worlds, each with an empty store of its own."""
    worlds: list[World] = []

    def make(mta: str = "postfix", local_domains: Iterable[str] = ()) -> World:
        path = tmp_path / f"{len(worlds)}.db"
        shutil.copy(empty_store, path)
        worlds.append(World(path, mta, outcomes, local_domains))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def tell(connection: sqlite3.Connection) -> str:
    """Tell what the store says of each message: who, to whom, what became of it, and what happened in order."""
    connection.row_factory = sqlite3.Row
    numbers = {row["id"]: row for row in connection.execute("SELECT * FROM message")}
    lines = []
    for number, row in numbers.items():
        if row["merged_into"] is not None:
            continue
        words = [row["queue_id"], Direction(row["direction"]).label, f"from=<{row['sender']}>"]
        if row["sender"] is None:
            words[-1] = "from=?"
        if row["message_id"]:
            words.append(f"id={row['message_id']}")
        if row["sasl_username"]:
            words.append(f"sasl={row['sasl_username']}")
        if row["parent"] is not None:
            words.append(f"about={numbers[row['parent']]['queue_id']}")
        if row["removed_us"] is None:
            words.append("open")
        lines.append(" ".join(words))
        names = {}
        for delivery in connection.execute("SELECT * FROM delivery WHERE message = ? ORDER BY id", (number,)):
            names[delivery["id"]] = delivery["recipient"]
            asked = f" <{delivery['original_recipient']}>" if delivery["original_recipient"] else ""
            index = f" #{delivery['idx']}" if delivery["idx"] else ""
            state = State(delivery["state"]).label
            lines.append(f"  {delivery['recipient']}{asked}{index} {state} {delivery['attempts']}")
        happened = []
        for event in connection.execute("SELECT * FROM event WHERE message = ? ORDER BY id", (number,)):
            who = f" {names[event['delivery']]}" if event["delivery"] is not None else ""
            happened.append(EventType(event["type"]).label + who)
        lines.append("  " + ", ".join(happened))
    others = connection.execute("SELECT type FROM event WHERE message IS NULL ORDER BY id").fetchall()
    lines += [f"- {EventType(row['type']).label}" for row in others]
    left = connection.execute("SELECT queue_id FROM queue ORDER BY id").fetchall()
    if left:
        lines.append("queue: " + " ".join(row["queue_id"] for row in left))
    return "\n".join(lines)


def dump(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything that the log parser writes.

    Deliveries are numbered anew, because the number of one that gave way to another may be used again; the queue table
    comes without its row numbers, which are nobody's.
    """
    queries = {name: f"SELECT * FROM {name} ORDER BY id" for name in ("message", "delivery", "event", "relay", "reply")}
    queries["rollup"] = "SELECT * FROM rollup WHERE n <> 0 ORDER BY basis, span, dimension, start_us, key, measure"
    queries["queue"] = "SELECT queue_id, at_us, message, state FROM queue ORDER BY id"
    found = {name: [tuple(row) for row in connection.execute(query)] for name, query in queries.items()}
    rank = {row[0]: number for number, row in enumerate(found["delivery"], 1)}
    found["delivery"] = [(rank[row[0]], *row[1:]) for row in found["delivery"]]
    found["event"] = [(*row[:4], rank.get(row[4], row[4]), *row[5:]) for row in found["event"]]
    found["queue"] = [
        (*row[:3], json.dumps(json.loads(row[3]), sort_keys=True) if row[3] else None) for row in found["queue"]
    ]
    return found


def recount(connection: sqlite3.Connection) -> Counter[tuple[str, str, str, int, str, str]]:
    """Count the rollup's cells anew from messages, deliveries and events: an account that shares no code with it."""
    cells: Counter[tuple[str, str, str, int, str, str]] = Counter()
    messages = {row[0]: row[1:] for row in connection.execute("SELECT id, at_us, direction, domain, tag FROM message")}
    merged = {row[0] for row in connection.execute("SELECT id FROM message WHERE merged_into IS NOT NULL")}

    def in_spans(basis: str, at_us: int, dimension: str, key: str, measure: str) -> None:
        for span, unit_us in (("hour", HOUR_US), ("day", 24 * HOUR_US)):
            cells[basis, span, dimension, at_us - at_us % unit_us, key, measure] += 1
        if dimension in ("sender_domain", "recipient_domain", "tag", "reply"):
            cells[basis, "4weeks", dimension, at_us - at_us % (28 * 24 * HOUR_US), key, measure] += 1
        if dimension not in ("recipient_domain", "tag", "reply"):
            cells[basis, "all", dimension, 0, key, measure] += 1

    def count(basis: str, at_us: int, measure: str, message: int | None, recipient: str, extra: dict[str, str]) -> None:
        _, direction, domain, tag = messages[message] if message is not None else (0, 0, "", "")
        places = {"all": ""}
        if direction == Direction.INBOUND:
            places = {"inbound": ""}
        else:
            recipient_domain = recipient.rpartition("@")[2].lower() if "@" in recipient else ""
            named = {"sender_domain": domain, "tag": tag, "recipient_domain": recipient_domain, **extra}
            places.update({dimension: key for dimension, key in named.items() if key})
        for dimension, key in places.items():
            in_spans(basis, at_us, dimension, key, measure)

    for number, (at_us, *_) in messages.items():
        if number not in merged:
            count("cohort", at_us, "messages", number, "", {})
    for message, recipient, state in connection.execute("SELECT message, recipient, state FROM delivery"):
        assert message not in merged
        count("cohort", messages[message][0], State(state).label, message, recipient, {})
    attempts = ("sent", "deferred", "bounced", "expired")
    for at_us, kind, message, recipient, category, reply_kind, reply in connection.execute(
        "SELECT event.at_us, type, event.message, recipient, category, kind, event.reply FROM event"
        " LEFT JOIN delivery ON delivery.id = event.delivery LEFT JOIN reply ON reply.id = event.reply"
    ):
        label = EventType(kind).label
        if label in attempts[1:] and reply is not None:
            in_spans("event", at_us, "reply", str(reply), label)
        if message in merged:
            assert label in ("accepted", "received")
        elif label in attempts:
            extra = {"category": category, "kind": reply_kind} if category else {}
            count("event", at_us, label, message, recipient, extra)
        elif label in ("accepted", "received", "rejected", "deleted"):
            count("event", at_us, label, message, "", {})
    return cells


@pytest.fixture
def story() -> Callable[[Path], str]:
    """Tell what the store at a path says."""

    def read(path: Path) -> str:
        with closing(open_reader(path)) as connection:
            return tell(connection)

    return read


@pytest.fixture
def contents() -> Callable[[Path], dict[str, list[tuple[Any, ...]]]]:
    """Return everything in the store at a path."""

    def read(path: Path) -> dict[str, list[tuple[Any, ...]]]:
        with closing(open_reader(path)) as connection:
            return dump(connection)

    return read


@pytest.fixture
def miscounted() -> Callable[[Path], dict[Any, tuple[int, int]]]:
    """Return the rollup cells that a store's own tables contradict: (in the rollup, in the tables)."""

    def compare(path: Path) -> dict[Any, tuple[int, int]]:
        with closing(open_reader(path)) as connection:
            counted = recount(connection)
            kept = {
                tuple(row[:6]): row[6]
                for row in connection.execute(
                    "SELECT basis, span, dimension, start_us, key, measure, n FROM rollup"
                    " WHERE dimension <> 'reason' AND n <> 0"
                )
            }
        keys = set(counted) | set(kept)
        return {key: (kept.get(key, 0), counted[key]) for key in sorted(keys) if kept.get(key, 0) != counted[key]}

    return compare


class Log:
    """A log file that grows in parts, and what follows it into a store."""

    def __init__(self, path: Path, store: Path, outcomes: Outcomes) -> None:
        self.path = path
        self.store = store
        self._outcomes = outcomes

    def write(self, text: str) -> None:
        """Append to the log."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)

    def follower(self, on_statement: Callable[[str], None] | None = None, busy_timeout_ms: int = 5000) -> Follower:
        """Make what the service runs, as it is after its start."""
        correlator = Correlator(self._outcomes, Networks(INTERNAL).__contains__)
        return Follower(
            lambda cursor: FileSource(self.path, cursor, waker=PollingWaker()),
            PostfixGrammar(),
            Ingester(self.store, correlator, on_statement=on_statement, busy_timeout_ms=busy_timeout_ms),
            timezone="UTC",
            now_us=lambda: MIDNIGHT_US + 30 * 24 * HOUR_US,
            name=f"file:{self.path}",
        )


@pytest.fixture
def make_log(tmp_path: Path, empty_store: Path, outcomes: Outcomes) -> Callable[..., Log]:
    """Make logs, each with an empty store of its own, beside it or where it is told."""
    count = 0

    def make(store: Path | None = None) -> Log:
        nonlocal count
        count += 1
        store = store or tmp_path / f"log{count}.db"
        shutil.copy(empty_store, store)
        return Log(tmp_path / f"mail{count}.log", store, outcomes)

    return make


@pytest.fixture(scope="session")
def busy_log() -> tuple[str, ...]:
    """A log in three parts, cut between lines that belong together: a filter, a pipe, an expiry, refusals."""
    names = ("filter_queued_as_late", "filter_pipe", "force_expired", "notice_after_its_own_end", "rejected", "expired")
    lines = [line for name in names for line in _lines(name)]
    first, second = len(lines) // 3, 2 * len(lines) // 3
    return "".join(lines[:first]), "".join(lines[first:second]), "".join(lines[second:])


def _lines(name: str) -> list[str]:
    return [step for step in read_scenario(FOLDER / f"{name}.txt").steps if isinstance(step, str)]


@pytest.fixture(scope="session")
def log_of_notices() -> str:
    """A log of mail of which no line says where it came from, under queue IDs that :func:`busy_log` has not."""
    return "".join(_lines("direction_by_agent")).replace("AAAA", "BBBB")


@pytest.fixture(scope="session")
def postfix_scenarios() -> tuple[Scenario, ...]:
    """Every Postfix scenario that plays on one day: others mixed with it, they would make it look abandoned."""
    found = tuple(read_scenario(path) for path in sorted(FOLDER.glob("*.txt")) if "+" not in path.read_text("utf-8"))
    return tuple(scenario for scenario in found if scenario.mta == "postfix")
