"""A store with two weeks of mail in it, some of it written by strangers with bad intent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from postwake.events import Accepted, Direction, EventType, Hit, Who
from postwake.reply.load import load_classifier
from postwake.store.connection import migrate_file
from postwake.store.recorder import Recorder
from postwake.tracking_id import make_tracking_id
from postwake_logparse.correlate import Correlator
from postwake_logparse.detect import open_grammar
from postwake_logparse.follow import Follower
from postwake_logparse.ingest import Ingester
from postwake_logparse.outcome import Outcomes
from postwake_logparse.source_file import FileSource

DAY_US = 86_400_000_000
LAST_DAY_US = 1_795_305_600_000_000
"""2026-11-22T00:00:00Z."""

HOSTILE_REPLY = (
    "550 5.7.1 <script>alert(1)</script> \"' onload=x &amp; </code></table><img src=x onerror=alert(2)> \u202egnp.exe"
)
HOSTILE_TAG = '"><img src=x onerror=alert(3)>\u202e'
HOSTILE_DOMAIN = "<svg-onload=alert(4)>.example"


class Mail(NamedTuple):
    """One message to one recipient, so many days ago, and what became of it."""

    days_ago: int
    recipient: str
    reply: str = "250 2.0.0 Ok"
    """What the server said; empty: nobody has tried yet, ``deleted``: nobody has, and the operator took it out."""
    tag: str = ""
    domain: str = "example.com"
    hits: tuple[tuple[EventType, Who], ...] = ()


@pytest.fixture
def mail() -> type[Mail]:
    """Make a message for ``make_store``."""
    return Mail


def _status(reply: str) -> tuple[str, str]:
    words = reply.split()
    return {"2": "sent", "4": "deferred", "5": "bounced"}[reply[0]], words[1]


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[list[Any]], Path]:
    """Write mails into a store as the milter, the log and the pixel server would; a (recipient, reply) is of today."""

    def make(given: list[Any]) -> Path:
        mails = [item if isinstance(item, Mail) else Mail(0, *item) for item in given]
        path = tmp_path / "postwake.db"
        migrate_file(path)
        recorder = Recorder(path, tmp_path / "spool", "test")
        lines = []
        for number, mail in enumerate(mails):
            at_us = LAST_DAY_US - mail.days_ago * DAY_US + 10 * 3_600_000_000 + number * 1_000_000
            queue_id = f"4F2{number:07X}"
            tracking_id = make_tracking_id(at_us, number.to_bytes(10, "big"))
            recorder.record(
                Accepted(
                    at_us=at_us, tracking_id=tracking_id, direction=Direction.OUTBOUND, queue_id=queue_id, host="mx",
                    message_id=f"{number}@example.com", sender=f"news@{mail.domain}", domain=mail.domain,
                    recipients=(mail.recipient,), subject="Subject", tag=mail.tag, tracked=True, pixels=1, links=1,
                ),
                20,
            )  # fmt: skip
            stamp = datetime.fromtimestamp(at_us / 1e6 + 2, tz=UTC).isoformat(timespec="microseconds")
            lines.append(
                f"{stamp} mx postfix/qmgr[13]: {queue_id}: from=<news@{mail.domain}>, size=900, nrcpt=1 (queue active)"
            )
            if mail.reply == "deleted":
                lines.append(f"{stamp} mx postfix/postsuper[15]: {queue_id}: removed")
            elif mail.reply:
                status, dsn = _status(mail.reply)
                said = mail.reply if status == "sent" else f"host mx.example.net[192.0.2.8] said: {mail.reply}"
                lines.append(
                    f"{stamp} mx postfix/smtp[14]: {queue_id}: to=<{mail.recipient}>,"
                    " relay=mx.example.net[192.0.2.8]:25, delay=1, delays=0.1/0/0.4/0.5,"
                    f" dsn={dsn}, status={status} ({said})"
                )
            for hit_number, (kind, who) in enumerate(mail.hits):
                hit_id = number.to_bytes(8, "big") + hit_number.to_bytes(8, "big")
                url = "https://example.com/" if kind is EventType.CLICKED else ""
                recorder.record(Hit(hit_id, at_us + 60_000_000, kind, tracking_id, 1, 0, url, who, "test"), 20)
        recorder.close()
        _read_log(path, tmp_path / "mail.log", lines)
        return path

    return make


def _read_log(store: Path, log: Path, lines: list[str]) -> None:
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ingester = Ingester(store, Correlator(Outcomes(load_classifier(None)), lambda _: True))
    follower = Follower(
        lambda cursor: FileSource(log, cursor), open_grammar("postfix"), ingester,
        timezone="UTC", now_us=lambda: LAST_DAY_US + DAY_US, name="file:test",
    )  # fmt: skip
    while follower.step(0.0):
        pass
    follower.close()


@pytest.fixture
def two_weeks(make_store: Callable[[list[Any]], Path]) -> Path:
    """Two weeks, the second better opened and worse delivered; hostile texts on the last day."""
    human, machine = (EventType.OPENED, Who.HUMAN), (EventType.OPENED, Who.MACHINE)
    clicked = (EventType.CLICKED, Who.HUMAN)
    mails = []
    for day in range(14):
        bad = day < 7
        mails += [
            Mail(day, f"ann{day}@example.net", tag="autumn", hits=(human, clicked) if bad else (machine,)),
            Mail(day, f"bob{day}@example.org", tag="autumn", domain="example.org", hits=(human, machine)),
            Mail(day, f"eve{day}@example.net", "450 4.2.1 Greylisted, try again later" if bad else "250 2.0.0 Ok"),
        ]
    mails += [Mail(0, f"x{n}@example.net", "550 5.1.1 User unknown", "lost") for n in range(2)]
    mails += [Mail(0, f"mallory@{HOSTILE_DOMAIN}", HOSTILE_REPLY, HOSTILE_TAG)]
    return make_store(mails)


@pytest.fixture
def run(two_weeks: Path, tmp_path: Path) -> Any:
    """Run `postwake report` on the store."""
    config = tmp_path / "postwake.toml"
    config.write_text(f'[store]\npath = "{two_weeks}"\n')

    def report(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "postwake_cli", "--config", str(config), "report", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return report
