"""A log, a store and the real way between them: source, grammar, correlator, ingester. Only clock and waker are ours.

Each log line is the delivery of a message of its own to a recipient with a number, so that the store can be asked which
lines it has, and how often.
"""

from __future__ import annotations

import gzip
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import StoreUnavailableError
from postwake.events import EventType
from postwake.reply.load import load_classifier
from postwake.store.connection import migrate_file, open_reader
from postwake_logparse.correlate import Correlator
from postwake_logparse.follow import Follower
from postwake_logparse.ingest import Ingester
from postwake_logparse.outcome import Outcomes
from postwake_logparse.postfix import PostfixGrammar
from postwake_logparse.source import Cursor
from postwake_logparse.source_file import FileSource

CLASSIFIER = load_classifier(None)
NOW_US = 1_795_348_800_000_000


def line(number: int, padding: int = 0) -> bytes:
    """Return the log line of delivery *number*, with its newline."""
    stamp = f"2026-11-22T10:{number // 60 % 60:02d}:{number % 60:02d}.000000+00:00"
    went = "relay=mx.example.org[192.0.2.1]:25, delay=1, delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent"
    reply = f"250 2.0.0 Ok {'x' * padding}"
    return f"{stamp} mx postfix/smtp[7]: {number:010X}: to=<n{number}@example.org>, {went} ({reply})\n".encode()


class Waker:
    """A waker that never waits: the test says when there is something to see."""

    def wait(self, timeout_s: float) -> None:
        """Return at once."""

    def close(self) -> None:
        """Nothing is held."""


class World:
    """The log in its directory, the store, and a process that can die."""

    def __init__(self, directory: Path, store: Path | None = None) -> None:
        self.path = directory / "mail.log"
        self.store = store or directory / "postwake.db"
        if not self.store.exists():
            migrate_file(self.store)
        self.now_s = 1000.0
        self.number = 0
        self.waits = 0
        self.follower = self.start()

    def start(self) -> Follower:
        """Start a process: everything it knows comes from the store."""
        self.ingester = Ingester(
            self.store,
            Correlator(Outcomes(CLASSIFIER), lambda ip: ip.startswith("192.0.2.")),
            busy_timeout_ms=1,
        )
        ingester = self.ingester

        def opener(cursor: Cursor | None) -> FileSource:
            return FileSource(self.path, cursor, clock=lambda: self.now_s, waker=Waker(), ingested=ingester.backfilled)

        return Follower(
            opener, PostfixGrammar(), ingester, timezone="UTC", now_us=lambda: NOW_US, name=f"file:{self.path}"
        )

    def write(self, count: int = 1, padding: int = 0, to: Path | None = None) -> list[int]:
        """Append lines; return their numbers."""
        numbers = list(range(self.number, self.number + count))
        self.number += count
        with (to or self.path).open("ab") as file:
            file.write(b"".join(line(number, padding) for number in numbers))
        return numbers

    def rotated(self, number: int) -> Path:
        """Return the path of a rotated file."""
        return self.path.with_name(f"mail.log.{number}")

    def rotate(self) -> None:
        """Rename all files one up, and make a new log."""
        for number in range(40, 0, -1):
            for extension in ("", ".gz"):
                old = self.rotated(number).with_name(f"mail.log.{number}{extension}")
                if old.exists():
                    old.rename(old.with_name(f"mail.log.{number + 1}{extension}"))
        self.path.rename(self.rotated(1))
        self.path.touch()

    def compress(self, number: int) -> None:
        """Compress a rotated file as gzip does, keeping its times."""
        plain = self.rotated(number)
        target = plain.with_name(f"{plain.name}.gz")
        target.write_bytes(gzip.compress(plain.read_bytes()))
        shutil.copystat(plain, target)
        plain.unlink()

    def run(self) -> None:
        """Read everything there is, and wait out the grace that a late writer is given."""
        for _ in range(3):
            while self.follower.step(0):
                pass
            self.now_s += 6.0

    def die(self) -> None:
        """End the process as kill -9 does: nothing is written any more."""
        if self.follower.source is not None:
            self.follower.source.close()
        transactions = self.ingester._transactions
        if transactions is not None:
            transactions.close()
            self.ingester._transactions = None

    def restart(self) -> None:
        """Die, and start again."""
        self.die()
        self.follower = self.start()

    def stored(self) -> Counter[int]:
        """Return the numbers of the deliveries in the store, and how often each was made."""
        with closing(open_reader(self.store)) as connection:
            rows = connection.execute(
                "SELECT delivery.recipient, delivery.attempts, count(event.id) FROM delivery"
                " LEFT JOIN event ON event.delivery = delivery.id AND event.type = ? GROUP BY delivery.id",
                (int(EventType.SENT),),
            ).fetchall()
        found: Counter[int] = Counter()
        for recipient, attempts, events in rows:
            assert attempts == events
            found[int(recipient[1 : recipient.index("@")])] += events
        return found


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Return a function that makes a world in a directory (the test's own) with its store there or elsewhere."""
    made: list[World] = []

    def make(directory: Path = tmp_path, **options: Any) -> World:
        made.append(World(directory, **options))
        return made[-1]

    yield make
    for world in made:
        world.die()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """Return a world with an empty log."""
    made = make_world()
    made.path.touch()
    return made


@pytest.fixture
def step_until_refused() -> Callable[[World], int]:
    """Return a function that follows until the store refuses; it returns how many steps were taken."""

    def run(world: World) -> int:
        steps = 0
        with suppress(StoreUnavailableError):
            while world.follower.step(0):
                steps += 1
        return steps

    return run
