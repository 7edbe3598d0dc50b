"""The labelled sequences again, through the store: hits and the mail log's 250 arrive in any order, verdicts agree."""

from __future__ import annotations

import os
import runpy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from postwake.events import Accepted, Direction, Hit, Who
from postwake.reply.load import load_classifier
from postwake.store import queries
from postwake.store.apply import apply_event
from postwake.store.connection import WriteLock, migrate_file, open_reader, open_writer
from postwake.store.transaction import Transactions
from postwake.tracking_id import make_tracking_id
from postwake_logparse.correlate import Correlator
from postwake_logparse.outcome import Outcomes
from postwake_logparse.postfix import PostfixGrammar
from postwake_logparse.stamp import StampReader
from postwake_pixelserver.relabel import carry_out, look
from postwake_pixelserver.who import read_rules

confusion = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("confusion.py"))))
AGENTS, SEQUENCES = confusion.read_sequences()
RULES = read_rules()
T0_US = 1_795_348_800_000_000
"""2026-11-22T12:00:00Z: the 250 of every sequence."""
LATER_US = T0_US + 8 * 86_400_000_000
SHARED_BY = ("a@example.net", "b@example.net", "c@example.net")


class World:
    """A store, written as milter, pixel server and log parser write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        migrate_file(path)
        connection = open_writer(path)
        connection.execute("PRAGMA synchronous = OFF")
        self.transactions = Transactions(connection, WriteLock(path))
        self._grammar = PostfixGrammar()
        self._clock = StampReader(reference_us=LATER_US, timezone="UTC")
        self._correlator = Correlator(Outcomes(load_classifier(None)), lambda _: True)

    def write(self, event: Accepted | Hit) -> None:
        """Write one event."""
        with self.transactions.begin() as transaction:
            apply_event(transaction, event)

    def accept(self, number: int, case: dict[str, Any]) -> bytes:
        """Write the milter's row of a sequence's message; return its tracking ID."""
        tracking_id = tracking_id_of(number)
        self.write(
            Accepted(
                at_us=T0_US - 9_000_000,
                tracking_id=tracking_id,
                direction=Direction.OUTBOUND,
                queue_id=queue_id(number),
                host="mx",
                message_id=f"{number}@example.com",
                sender="news@example.com",
                domain="example.com",
                recipients=SHARED_BY if case.get("shared") else SHARED_BY[:1],
                tracked=True,
                links=case["links"],
            )
        )
        return tracking_id

    def log(self, number: int, what: str, at: str = "12:00:00", recipient: str = SHARED_BY[0]) -> None:
        """Let the log parser read one line of Postfix's."""
        line = (
            f"2026-11-22T{at}+00:00 mx postfix/smtp[77]: {queue_id(number)}: to=<{recipient}>,"
            f" relay=mx.example.net[192.0.2.9]:25, delay=9, delays=0.1/0/0.5/8.4, {what}\n"
        )
        records = list(self._grammar.parse_block(line.encode(), self._clock))
        assert records
        with self.transactions.begin() as transaction:
            self._correlator.apply(transaction, records)

    def sent(self, number: int, case: dict[str, Any], at: str = "12:00:00") -> None:
        """Let the log parser read that every recipient's server said 250, if the sequence has that known."""
        if case.get("delivered", True):
            for recipient in SHARED_BY if case.get("shared") else SHARED_BY[:1]:
                self.log(number, "dsn=2.0.0, status=sent (250 2.0.0 Ok)", at, recipient)

    def hit(self, tracking_id: bytes, seen: Any, recipient: int) -> None:
        """Write a hit as the pixel server does."""
        self.write(
            Hit(
                hit_id=make_tracking_id(seen.at_us, os.urandom(10)),
                at_us=seen.at_us,
                type=seen.type,
                tracking_id=tracking_id,
                recipient=recipient,
                link=seen.link,
                url=f"https://example.com/{seen.link}" if seen.link else "",
                who=seen.who,
                reason=seen.reason,
                client=seen.client,
                user_agent=seen.user_agent,
            )
        )

    def judge(self) -> None:
        """Look until there is nothing left to look at."""
        with closing(open_reader(self.path)) as reader:
            while (found := look(reader, LATER_US)).looked:
                for job in carry_out(found, LATER_US):
                    with self.transactions.begin() as transaction:
                        job(transaction)

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what the store says."""
        with closing(open_reader(self.path)) as reader:
            return [tuple(row) for row in reader.execute(sql, values)]


def tracking_id_of(number: int) -> bytes:
    """Return the tracking ID of message *number*."""
    return make_tracking_id(T0_US - 9_000_000, number.to_bytes(10, "big"))


def queue_id(number: int) -> str:
    """Return the queue ID of message *number*."""
    return f"4F2A8{number:05X}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty store."""
    made = World(tmp_path / "postwake.db")
    yield made
    made.transactions.close()


def sent_first(world: World, number: int, case: dict[str, Any], hits: Callable[[], None]) -> None:
    """The log is read as it is written."""
    world.accept(number, case)
    world.sent(number, case)
    hits()


def sent_after_the_hits(world: World, number: int, case: dict[str, Any], hits: Callable[[], None]) -> None:
    """The log is read late, but before anybody judged."""
    world.accept(number, case)
    hits()
    world.sent(number, case)


def sent_after_a_look(world: World, number: int, case: dict[str, Any], hits: Callable[[], None]) -> None:
    """The log is read when the hits were judged without it."""
    world.accept(number, case)
    hits()
    world.judge()
    world.sent(number, case)


def row_after_everything(world: World, number: int, case: dict[str, Any], hits: Callable[[], None]) -> None:
    """The milter's row waited in a spool while hits and log were judged by themselves."""
    hits()
    world.judge()
    world.sent(number, case)
    world.judge()
    world.accept(number, case)


def row_after_the_hits(world: World, number: int, case: dict[str, Any], hits: Callable[[], None]) -> None:
    """The milter's row waited in a spool, the log is read later."""
    hits()
    world.judge()
    world.accept(number, case)
    world.judge()
    world.sent(number, case)


ORDERS = (sent_first, sent_after_the_hits, sent_after_a_look, row_after_everything, row_after_the_hits)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.__name__)
def test_sequences_through_the_store(world: World, order: Callable[..., None]) -> None:
    """Whenever the 250 becomes known: the same verdicts, the earlier ones kept, and every count agrees with them."""
    expected, before, numbers = {}, {}, {}
    for number, case in enumerate(SEQUENCES, 1):
        seen = confusion.first_verdicts(case, AGENTS, RULES, T0_US)
        tracking_id = tracking_id_of(number)
        recipient = 0 if case.get("shared") else 1

        def hits(seen=seen, tracking_id=tracking_id, recipient=recipient) -> None:
            for hit in seen:
                world.hit(tracking_id, hit, recipient)

        order(world, number, case, hits)
        expected[case["id"]] = [(row[5], row[6] or hit.reason) for row, hit in zip(case["hits"], seen, strict=True)]
        before[case["id"]] = [(hit.who.label, hit.reason) for hit in seen]
        numbers[case["id"]] = number
    world.judge()

    kept = {
        event: (Who(who).label, reason)
        for event, who, reason in world.ask("SELECT event, who_before, reason_before FROM relabel ORDER BY id DESC")
    }
    found, history = {}, {}
    for name, number in numbers.items():
        rows = world.ask(
            "SELECT event.id, who, reason FROM event JOIN message ON message.id = event.message"
            " WHERE queue_id = ? AND hit_id IS NOT NULL ORDER BY event.id",
            queue_id(number),
        )
        found[name] = [(Who(who).label, reason) for _, who, reason in rows]
        history[name] = [kept.get(event, (Who(who).label, reason)) for event, who, reason in rows]
    assert found == expected
    assert history == before

    rows = [row for case in SEQUENCES for row in case["hits"]]
    counts = Counter(f"{'opened' if row[1] == 'open' else 'clicked'}.{row[5]}" for row in rows)
    with closing(open_reader(world.path)) as reader:
        report = queries.report(reader, T0_US - 86_400_000_000, LATER_US, "all")[""]
    assert Counter({name: n for name, n in report.hits.items() if n}) == counts
    counted_as = {"human": ("human",), "possible": ("human", "unknown"), "any": ("human", "unknown", "machine")}
    engaged = {
        f"{what}_{who}": sum(
            any(row[5] in verdicts and (what == "opened" or row[1] != "open") for row in case["hits"])
            for case in SEQUENCES
        )
        for what in ("opened", "clicked")
        for who, verdicts in counted_as.items()
    }
    assert {name: report.engaged[name] for name in engaged} == engaged  # a click counts as an open: above, too


REMOTE = "mx.example.net[192.0.2.9]"
PUT_OFF = {
    "the connection was lost at the end": (
        f"lost connection with {REMOTE} while sending end of data -- message may be sent more than once",
        "browser",
    ),
    "the other side was silent at the end": (
        f"conversation with {REMOTE} timed out while sending end of data -- message may be sent more than once",
        "browser",
    ),
    "it said 451 at the end": (
        f"host {REMOTE} said: 451 4.3.0 later (in reply to end of DATA command)",
        "before-delivery",
    ),
    "the connection was lost before the data": (
        f"lost connection with {REMOTE} while receiving the initial server greeting",
        "before-delivery",
    ),
}


@pytest.mark.parametrize(("why", "reason"), PUT_OFF.values(), ids=PUT_OFF)
def test_mail_that_may_have_arrived_before_its_250(world: World, why: str, reason: str) -> None:
    """Who reads what the other side kept, though our server heard no 250, is no machine; else nobody has it yet."""
    hits = [[-600, "open", "203.0.113.5", "C", "", "", ""], [-580, 2, "203.0.113.5", "C", "", "", ""]]
    tracking_id = world.accept(1, {"links": 4})
    world.log(1, f"dsn=4.4.2, status=deferred ({why})", "11:40:00")
    for hit in confusion.first_verdicts({"hits": hits}, AGENTS, RULES, T0_US):
        world.hit(tracking_id, hit, 1)
    world.sent(1, {}, "12:00:00")
    world.judge()
    assert world.ask("SELECT DISTINCT reason FROM event WHERE hit_id IS NOT NULL") == [(reason,)]


def test_one_recipients_250_says_nothing_of_anothers(world: World) -> None:
    """Of two recipients with tokens of their own, the second's 250 comes late: only his early hit is before it."""
    case = {"links": 4, "shared": True}
    tracking_id = world.accept(1, case)
    world.log(1, "dsn=2.0.0, status=sent (250 2.0.0 Ok)", "12:00:00", SHARED_BY[0])
    (open_,) = confusion.first_verdicts({"hits": [[60, "open", "203.0.113.5", "C", "", "", ""]]}, AGENTS, RULES, T0_US)
    for recipient in (1, 2):
        world.hit(tracking_id, open_, recipient)
    world.judge()
    world.log(1, "dsn=2.0.0, status=sent (250 2.0.0 Ok)", "12:10:00", SHARED_BY[1])
    world.judge()
    rows = world.ask("SELECT recipient_idx, reason FROM event WHERE hit_id IS NOT NULL ORDER BY 1")
    assert rows == [(1, "browser"), (2, "before-delivery")]
