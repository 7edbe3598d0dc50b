"""Parsing in a second process: it says what parsing here says, and its end is nobody's loss."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import UnavailableError
from postwake.reply.load import load_classifier
from postwake_logparse.attempt_reading import AttemptReader
from postwake_logparse.parse_ahead import BLOCKS_AHEAD, LogTime, ParseAhead, ParseHere

READER = AttemptReader(load_classifier(None))
TIME = LogTime(1_795_348_800_000_000, "UTC", None, None)
BLOCK_BYTES = 128 * 1024


def without_program(record: Any) -> Any:
    """Who wrote a line stays behind."""
    return record._replace(program=None) if hasattr(record, "program") else record


def children(pid: int | str) -> list[int]:
    """Return a process's children."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


POSTFIX = """\
Nov 21 10:00:00 mx postfix/smtpd[1]: 4F2A81B3C1: client=app.example.org[10.0.0.7], sasl_method=PLAIN, sasl_username=shop
Nov 21 10:00:00 mx postfix/cleanup[1]: 4F2A81B3C1: message-id=<1@example.org>
Nov 21 10:00:00 mx postfix/qmgr[1]: 4F2A81B3C1: from=<news@example.org>, size=1000, nrcpt=3 (queue active)
Nov 21 10:00:01 mx postfix/smtp[1]: 4F2A81B3C1: to=<Ann@Example.com>, relay=mx.example.com[192.0.2.1]:25, delay=1, \
delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 0123456789AB)
Nov 21 10:00:01 mx postfix/smtp[1]: 4F2A81B3C1: host mx.gmail.example[192.0.2.2] said: 421 4.7.0 try again later
Nov 21 10:00:02 mx postfix/smtp[1]: 4F2A81B3C1: to=<b@gmail.example>, relay=mx.gmail.example[192.0.2.2]:25, delay=2, \
delays=0.1/0/0.4/1.5, dsn=4.7.0, status=deferred (host mx.gmail.example[192.0.2.2] said: 421 4.7.0 try again later)
Nov 21 10:00:03 mx postfix/qmgr[1]: 4F2A81B3C1: from=<news@example.org>, status=expired, returned to sender
Nov 21 10:00:03 mx postfix/bounce[1]: 4F2A81B3C1: sender non-delivery notification: 4F2A81B3C2
Nov 21 10:00:03 mx postfix/qmgr[1]: 4F2A81B3C1: removed
Nov 21 10:00:04 mx postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.9]: 554 5.7.1 <é@x.example>: Relay \
access denied; from=<a@b.example> to=<é@x.example> proto=ESMTP helo=<h>
Nov 21 10:00:04 mx postfix/smtpd[1]: connect from unknown[192.0.2.9]
Nov 21 10:00:05 mx dovecot: imap-login: Login
nothing that anybody knows 17
"""
EXIM = """\
2026-11-21 10:00:00 1tE0aA-000000001Ab-0Cd2 <= a@example.org U=www P=local S=500 id=1@example.org T="a \\"b\\""
2026-11-21 10:00:01 1tE0aA-000000001Ab-0Cd2 == b@example.com R=dns T=smtp defer (-53): retry time not reached
2026-11-21 10:00:02 1tE0aA-000000001Ab-0Cd2 ** c@example.com R=dns T=smtp H=mx.example.com [192.0.2.1]: 550 no
2026-11-21 10:00:03 1tE0aA-000000001Ab-0Cd2 => d@example.com R=dns T=smtp H=mx.example.com [192.0.2.1] C="250 OK"
2026-11-21 10:00:04 1tE0aA-000000001Ab-0Cd2 Frozen
2026-11-21 10:00:05 1tE0aA-000000001Ab-0Cd2 Completed
"""


@pytest.mark.parametrize(("mta", "log", "kinds"), [("postfix", POSTFIX, 9), ("exim", EXIM, 4)], ids=["postfix", "exim"])
def test_the_same_is_said(mta: str, log: str, kinds: int) -> None:
    """Of every kind of line, each block's records, newest time and counts are those of parsing here."""
    here, ahead = ParseHere(mta, READER), ParseAhead(mta, READER, BLOCK_BYTES)
    seen = set()
    try:
        for block in (log.encode(), b"", log.encode()[:-5]):
            here.give(block, TIME)
            ahead.give(block, TIME)
        for _ in range(3):
            expected, found = here.take(), ahead.take()
            assert [without_program(record) for record in found.records] == [
                without_program(record) for record in expected.records
            ]
            assert found[1:] == expected[1:]
            seen.update(type(record) for record in found.records)
    finally:
        ahead.close()
    assert len(seen) >= kinds


@pytest.mark.parametrize("past", [0], ids=["parsed-ahead"], indirect=True)
def test_the_child_is_kept_ahead(past: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the parent writes a block the child has others to parse: as many as it takes, and no more."""
    in_hand = [0]
    give, take = ParseAhead.give, ParseAhead.take

    def gives(self: ParseAhead, data: bytes, begins: LogTime | None) -> None:
        give(self, data, begins)
        in_hand.append(in_hand[-1] + 1)

    def takes(self: ParseAhead) -> Any:
        in_hand.append(in_hand[-1] - 1)
        return take(self)

    monkeypatch.setattr(ParseAhead, "give", gives)
    monkeypatch.setattr(ParseAhead, "take", takes)
    log = past.write("mail.log", *range(5000))
    assert log.stat().st_size > BLOCKS_AHEAD * BLOCK_BYTES
    past.backfill(log)
    assert max(in_hand) == BLOCKS_AHEAD
    assert past.stored() == dict.fromkeys(range(5000), 1)


def test_a_child_that_dies_is_said(past: Any) -> None:
    """Killed while it parses, the run ends with a sentence; started again, each line is in the store once."""
    log = past.write("mail.log", *range(3000))
    before = set(children(os.getpid()))

    def kill() -> None:
        for child in set(children(os.getpid())) - before:
            os.kill(child, signal.SIGKILL)

    past.ahead_from_bytes = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("postwake_logparse.backfill.BATCH_BYTES", BLOCK_BYTES)
        with pytest.raises(UnavailableError, match="start again"):
            past.backfill(log, on_progress=kill)
    some = len(past.stored())
    assert 0 < some < 3000
    past.backfill(log)
    assert past.stored() == dict.fromkeys(range(3000), 1)


def test_a_child_ends_with_its_parent(tmp_path: Path, make_mail: Callable[[int], bytes]) -> None:
    """When the backfill is killed nobody stays behind."""
    script = (
        "import sys\nfrom postwake.reply.load import load_classifier\n"
        "from postwake_logparse.attempt_reading import AttemptReader\n"
        "from postwake_logparse.parse_ahead import BLOCKS_AHEAD, LogTime, ParseAhead\n"
        "ahead = ParseAhead('postfix', AttemptReader(load_classifier(None)), 131072)\n"
        "ahead.give(sys.stdin.buffer.read(), LogTime(0, 'UTC', 2026, None))\n"
        "print(len(ahead.take().records), flush=True)\nimport time\ntime.sleep(60)\n"
    )
    (tmp_path / "log").write_bytes(make_mail(1))
    with (tmp_path / "log").open("rb") as log:
        parent = subprocess.Popen([sys.executable, "-c", script], stdin=log, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "5\n"
    (child,) = children(parent.pid)
    watched = os.pidfd_open(child)
    parent.kill()
    parent.communicate()
    readable, _, _ = select.select([watched], [], [], 20)
    os.close(watched)
    assert readable
