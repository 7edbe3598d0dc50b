"""The verbs without a store, as a person types them: output, diagnostics, exit status."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

NEWSLETTER = b"""From: Shop <news@example.com>
To: <ada@example.org>
Subject: Offers
MIME-Version: 1.0
Content-Type: text/html; charset=utf-8

<html><body><a href="https://shop.example.com/a?b=1&amp;c=2">Offer</a></body></html>
"""
LOG = b"""Nov 22 08:00:00 mx postfix/smtpd[1]: 4F2A81B3C5: client=app[10.0.0.5], sasl_method=PLAIN, sasl_username=shop
Nov 22 08:00:00 mx postfix/cleanup[2]: 4F2A81B3C5: message-id=<1@example.com>
Nov 22 08:00:00 mx postfix/qmgr[3]: 4F2A81B3C5: from=<news@example.com>, size=900, nrcpt=1 (queue active)
Nov 22 08:00:01 mx postfix/smtp[4]: 4F2A81B3C5: to=<ada@example.org>, relay=mx.example.org[192.0.2.1]:25, delay=1.1, \
delays=0.1/0/0.5/0.5, dsn=5.1.1, status=bounced (host mx.example.org[192.0.2.1] said: 550 5.1.1 <ada@example.org>: \
Recipient address rejected: User unknown (in reply to RCPT TO command))
Nov 22 08:00:01 mx postfix/qmgr[3]: 4F2A81B3C5: removed
"""


def run(*arguments: str, stdin: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own, with no configuration in the way."""
    command = [sys.executable, "-m", "postwake_cli", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, check=False)


def test_rewrite_from_stdin_to_stdout() -> None:
    """A message on standard input comes out rewritten and stamped; that a try-out key was used is said elsewhere."""
    done = run("rewrite", stdin=NEWSLETTER)

    assert done.returncode == 0
    assert b"X-Postwake-ID: " in done.stdout
    assert b'href="https://track.example.com/c/' in done.stdout
    assert b"try-out key" in done.stderr


def test_rewrite_marks_what_several_recipients_get() -> None:
    """A body that several recipients get has shared tokens, and no one-click unsubscribing, as from the milter."""
    asking = NEWSLETTER.replace(b"Subject:", b"X-Track-Unsubscribe: yes\nSubject:")
    recipients = ("--recipient", "ada@example.org", "--recipient")

    assert b"List-Unsubscribe" in run("rewrite", *recipients, "ADA@example.org", stdin=asking).stdout
    done = run("rewrite", *recipients, "bob@example.org", stdin=asking)
    assert b"List-Unsubscribe" not in done.stdout
    token = re.search(rb"/c/([\w-]+)", done.stdout)
    assert token is not None
    assert json.loads(run("token", "decode", token[1].decode()).stdout)["recipient"] == "shared"


def test_rewrite_reads_privacy_behind_an_mbox_line() -> None:
    """A message as it stands in a mailbox file is asked for its privacy too: anonymous names no recipient."""
    mail = b"From news@example.com Mon Mar  2 09:00:00 2026\nX-Track-Privacy: anonymous\n" + NEWSLETTER
    token = re.search(rb"/c/([\w-]+)", run("rewrite", "--recipient", "ada@example.org", stdin=mail).stdout)
    assert token is not None
    assert json.loads(run("token", "decode", token[1].decode()).stdout)["recipient"] == "shared"


def test_rewrite_many_needs_an_output_dir(tmp_path: Path) -> None:
    """Many files without --output-dir is a usage error (64), and with it each goes out under its own name."""
    for name in ("a.eml", "b.eml"):
        (tmp_path / name).write_bytes(NEWSLETTER)

    assert run("rewrite", "a.eml", "b.eml", cwd=tmp_path).returncode == 64
    done = run("rewrite", "--explain", "--output-dir", "out", "a.eml", "b.eml", cwd=tmp_path)

    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["file"], line["tracked"], line["opens"], line["clicks"]) for line in lines] == [
        ("a.eml", True, 1, 1),
        ("b.eml", True, 1, 1),
    ]
    assert list(lines[0]) == [
        "file", "tracked", "untracked_reason", "tracking_id", "opens", "clicks", "links_skipped", "parts_rewritten",
    ]  # fmt: skip
    assert b"X-Postwake-ID" in (tmp_path / "out" / "b.eml").read_bytes()


def test_same_names_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Two files of one name would overwrite one another: usage error, nothing written."""
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.eml").write_bytes(NEWSLETTER)

    done = run("rewrite", "--output-dir", "out", "x/a.eml", "y/a.eml", cwd=tmp_path)

    assert done.returncode == 64
    assert not (tmp_path / "out").exists()


def test_parse_log_gives_the_documented_keys() -> None:
    """A Postfix log gives NDJSON events with the documented keys in order, and a last line of statistics."""
    done = run("parse-log", "--year", "2026", "--timezone", "UTC", "--stats", stdin=LOG)

    accepted, bounced, stats = map(json.loads, done.stdout.splitlines())
    assert accepted["type"] == "accepted"
    assert list(bounced) == [
        "type", "at", "host", "queue_id", "message_id", "sender", "recipient", "original_recipient", "relay", "status",
        "dsn", "code", "reply", "delay_s", "next_queue_id",
    ]  # fmt: skip
    assert (bounced["type"], bounced["sender"], bounced["message_id"], bounced["dsn"], bounced["code"]) == (
        "bounced", "news@example.com", "1@example.com", "5.1.1", 550,
    )  # fmt: skip
    assert bounced["at"] == "2026-11-22T08:00:01Z"
    assert stats["lines"] == 5
    assert stats["unparsed"] == 0


def test_classify_gives_the_documented_keys() -> None:
    """A reply text gives one NDJSON verdict with the documented keys in order."""
    done = run("classify", stdin=b"450 4.2.0 <a@b.test>: Recipient address rejected: Greylisted\n")

    verdict = json.loads(done.stdout)
    assert list(verdict) == ["reply", "kind", "fault", "category", "code", "dsn", "provider", "rule"]
    assert (verdict["kind"], verdict["fault"], verdict["category"]) == ("soft", "greylisting", "greylisted")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_parse_log_reads_compressed_files(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """A rotated log is read as it lies there, whatever its name."""
    (tmp_path / "mail.log.1").write_bytes(compress(LOG))

    done = run("parse-log", "--year", "2026", str(tmp_path / "mail.log.1"))

    assert [json.loads(line)["type"] for line in done.stdout.splitlines()] == ["accepted", "bounced"]


def test_a_damaged_compressed_file_gives_what_there_is_and_says_so(tmp_path: Path) -> None:
    """What precedes the damage is told; the file is named, and the status is that of bad data (65)."""
    whole = gzip.compress(LOG)
    (tmp_path / "mail.log.1.gz").write_bytes(whole[: len(whole) - 12])

    done = run("parse-log", "--year", "2026", str(tmp_path / "mail.log.1.gz"))

    assert b'"accepted"' in done.stdout
    assert b"mail.log.1.gz: cannot be decompressed any further" in done.stderr
    assert done.returncode == 65


def test_events_of_a_log_that_grows_come_at_once() -> None:
    """Events are out before the next lines come: standard input may be tail -f."""
    command = [sys.executable, "-m", "postwake_cli", "parse-log", "--year", "2026"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(LOG)
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 30)
        first = process.stdout.readline() if ready else b"nothing came while standard input was open"
        process.stdin.close()
        process.stdout.read()
    assert b'"accepted"' in first


def test_only_a_newline_ends_a_reply() -> None:
    """Other characters that some take for the end of a line belong to the reply."""
    replies = ["550 5.1.1 a\x0cb\x85c\u2028 user unknown", "451 x"]
    done = run("classify", stdin="\r\n".join(replies).encode())

    assert [json.loads(line)["reply"] for line in done.stdout.split(b"\n")[:-1]] == replies


def test_token_decode_of_a_whole_url(tmp_path: Path) -> None:
    """A URL from a rewritten mail decodes to its destination; a forged one is a no (1)."""
    rewritten = run("rewrite", stdin=NEWSLETTER).stdout
    url = rewritten.split(b'href="')[1].split(b'"')[0].decode()

    done = run("token", "decode", url)
    assert done.returncode == 0
    row = json.loads(done.stdout)
    assert list(row) == ["token", "valid", "purpose", "tracking_id", "recipient", "link", "url"]
    assert row["url"] == "https://shop.example.com/a?b=1&c=2"
    assert row["purpose"] == "click"

    forged = run("token", "decode", url[:-1] + ("A" if url[-1] != "A" else "B"))
    assert forged.returncode == 1
    assert json.loads(forged.stdout)["valid"] is False


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        pytest.param(["rewrite", "/no/such.eml"], 66, "/no/such.eml: cannot read", id="no-input"),
        pytest.param(["parse-log", "/no/such.log"], 66, "/no/such.log: cannot read", id="no-log"),
        pytest.param(["parse-log", "--mta", "sendmail"], 64, "sendmail", id="bad-option"),
        pytest.param(["parse-log", "--timezone", "Mars/Base"], 78, "Mars/Base", id="no-such-zone"),
        pytest.param(["frobnicate"], 64, "frobnicate", id="no-such-verb"),
        pytest.param(["--config", "/no/such.toml", "report"], 78, "/no/such.toml", id="no-configuration"),
        pytest.param(["--config", "/no/such.toml", "milter"], 78, "/no/such.toml", id="no-configuration-daemon"),
        pytest.param(["classify", "--rules", "/no/such.rules"], 78, "/no/such.rules", id="no-rules"),
    ],
)
def test_mistakes_end_in_a_line_and_a_status(arguments: list[str], status: int, says: str) -> None:
    """A user's mistake is told in words that name it, with its sysexits status and without a traceback."""
    done = run(*arguments, stdin=LOG)

    assert done.returncode == status
    assert says in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_reader_who_has_seen_enough(tmp_path: Path) -> None:
    """`| head` ends the command quietly, with status 0: 1 would be an answer."""
    line = (
        "2026-11-22T10:00:02.000000+00:00 mx postfix/smtp[14]: 4F2A81B3C5: to=<ann@example.net>,"
        " relay=mx.example.net[192.0.2.8]:25, delay=1, delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok)\n"
    )
    (tmp_path / "mail.log").write_text(line * 5000)
    command = [sys.executable, "-m", "postwake_cli", "parse-log", str(tmp_path / "mail.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline().startswith(b'{"type":"sent"')
        child.stdout.close()
        assert (child.wait(60), child.stderr.read()) == (0, b"")


@pytest.mark.parametrize(
    "arguments", [["config", "example"], ["token", "decode", "x"], ["classify"]], ids=lambda arguments: arguments[0]
)
def test_output_that_cannot_be_written(arguments: list[str]) -> None:
    """A full disk behind standard output is said in one line, with status 74."""
    command = [sys.executable, "-m", "postwake_cli", *arguments]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, input=b"550 no\n", stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 74
    assert done.stderr.endswith(b"postwake: cannot write the output: No space left on device\n")
    assert b"Traceback" not in done.stderr


def test_a_terminal_of_latin_letters() -> None:
    """What its character set has no sign for is a question mark, and no traceback."""
    command = [sys.executable, "-m", "postwake_cli", "config", "example"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b'reply_rules = "?"  (unset)' in done.stdout
