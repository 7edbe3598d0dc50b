"""Logs of the past and a store; the real sources, grammar, correlator and ingester between them."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from postwake.reply.load import load_classifier
from postwake.store.connection import migrate_file, open_reader
from postwake_logparse.backfill import Backfill, Summary, order_files
from postwake_logparse.correlate import Correlator
from postwake_logparse.follow import Follower
from postwake_logparse.ingest import Ingester
from postwake_logparse.outcome import Outcomes
from postwake_logparse.postfix import PostfixGrammar
from postwake_logparse.source_file import FileSource

CLASSIFIER = load_classifier(None)
NOW_US = 1_795_348_800_000_000


def mail(number: int, day: str = "Nov 21") -> bytes:
    """Return the five lines of mail *number*, delivered to a recipient with its number."""
    head = f"{day} {number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d} mx postfix"
    went = "relay=mx.example.org[192.0.2.1]:25, delay=1, delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent"
    return "".join(
        f"{head}/{program}[7]: {number:010X}: {text}\n"
        for program, text in (
            ("smtpd", "client=app.example.org[10.0.0.7]"),
            ("cleanup", f"message-id=<{number}@example.org>"),
            ("qmgr", "from=<news@example.org>, size=1000, nrcpt=1 (queue active)"),
            ("smtp", f"to=<n{number}@example.com>, {went} (250 2.0.0 Ok: queued as {number:012X})"),
            ("qmgr", "removed"),
        )
    ).encode()


class Past:
    """A directory with logs, and a store."""

    def __init__(self, directory: Path, ahead_from_bytes: int) -> None:
        self.ahead_from_bytes = ahead_from_bytes
        self.directory = directory
        self.path = directory / "mail.log"
        self.store = directory / "postwake.db"
        self.now_s = 0.0
        migrate_file(self.store)

    def write(self, name: str, *numbers: int, day: str = "Nov 21") -> Path:
        """Append mails to the file of that name, compressed if it ends in .gz."""
        path = self.directory / name
        data = b"".join(mail(number, day) for number in numbers)
        with gzip.open(path, "ab") if path.suffix == ".gz" else path.open("ab") as file:
            file.write(data)
        return path

    def ingester(self, on_statement: Callable[[str], None] | None = None) -> Ingester:
        """Return a new process's ingester."""
        correlator = Correlator(Outcomes(CLASSIFIER), lambda ip: ip.startswith("10."))
        return Ingester(self.store, correlator, busy_timeout_ms=100, on_statement=on_statement)

    def backfill(
        self,
        *paths: Path,
        year: int | None = 2026,
        on_progress: Callable[[], None] | None = None,
        on_statement: Callable[[str], None] | None = None,
    ) -> Summary:
        """Backfill the files, in a process of its own."""
        with closing(self.ingester(on_statement)) as ingester:
            return Backfill(
                order_files(paths, year=year, timezone="UTC"),
                ingester,
                year=year,
                timezone="UTC",
                sleep=lambda _seconds: None,
                ahead_from_bytes=self.ahead_from_bytes,
                progress=lambda _progress, _lines: on_progress() if on_progress is not None else None,
            ).run()

    def follow(self, start: str = "beginning") -> Follower:
        """Follow ``mail.log`` until there is nothing more, in a process of its own that is left running."""
        ingester = self.ingester()
        follower = Follower(
            lambda cursor: FileSource(
                self.path,
                cursor,
                start="end" if start == "end" else "beginning",
                clock=lambda: self.now_s,
                ingested=ingester.backfilled,
            ),
            PostfixGrammar(),
            ingester,
            timezone="UTC",
            now_us=lambda: NOW_US,
            name=f"file:{self.path}",
        )
        for _ in range(3):
            while follower.step(0):
                pass
            self.now_s += 6.0  # the grace that late writers are given
        return follower

    def stored(self) -> Counter[int]:
        """Return the numbers of the deliveries in the store, and how often each was made."""
        with closing(open_reader(self.store)) as connection:
            rows = connection.execute("SELECT recipient, attempts FROM delivery").fetchall()
        found: Counter[int] = Counter()
        for recipient, attempts in rows:
            found[int(recipient[1 : recipient.index("@")])] += attempts
        return found


@pytest.fixture(params=[1 << 40, 0], ids=["parsed-here", "parsed-ahead"])
def past(tmp_path: Path, request: pytest.FixtureRequest) -> Past:
    """Return a directory for logs with a store in it; backfills parse in their own process, and in a second one."""
    return Past(tmp_path, request.param)


@pytest.fixture
def make_mail() -> Callable[[int], bytes]:
    """Return the function that writes one mail's lines."""
    return mail
