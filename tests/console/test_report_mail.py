"""The report as a mail: what it says of itself, both forms of it, and what happens when it is not taken."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from postwake.store.connection import open_reader
from postwake_console.report_data import gather
from postwake_console.report_mail import compose

DAY_US = 86_400_000_000
LAST_DAY_US = 1_795_305_600_000_000
TAKES = '#!/bin/sh\nprintf "%s\\n" "$@" > {0}/arguments\ncat > {0}/mail\n'


@pytest.fixture
def mailed(two_weeks: Path) -> EmailMessage:
    """The report of the week, as a reader's program gets it."""
    with closing(open_reader(two_weeks)) as connection:
        data = gather(connection, LAST_DAY_US - 6 * DAY_US, LAST_DAY_US + DAY_US, LAST_DAY_US + DAY_US, {})
    made = compose(data, host="mx.example.com", sender="postwake@example.com", to=["a@example.com", "b@example.com"],
                   unique="u1")  # fmt: skip
    read = message_from_bytes(made.as_bytes(), policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read


def test_header(mailed: EmailMessage) -> None:
    """It is dated, has an identity of its own, says that a machine made it, and what it is about."""
    assert mailed["To"] == "a@example.com, b@example.com"
    assert mailed["From"] == "Postwake <postwake@example.com>"
    assert mailed["Auto-Submitted"] == "auto-generated"
    assert mailed["Message-ID"] == f"<postwake-report.{(LAST_DAY_US + DAY_US) // 1_000_000}.u1@example.com>"
    assert mailed["Date"].datetime == datetime(2026, 11, 23, tzinfo=UTC)
    assert mailed["Subject"].startswith("Postwake on mx.example.com, 2026-11-16 to 2026-11-22 (UTC): 24 recipients, ")
    assert mailed["MIME-Version"] == "1.0"
    assert not mailed.defects


def test_both_forms(mailed: EmailMessage) -> None:
    """Plain text and HTML are alternatives; the page comes once more as a file for the browser."""
    types = [part.get_content_type() for part in mailed.walk()]
    assert types == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "text/html"]
    text, page, file = (part for part in mailed.walk() if not part.is_multipart())
    assert "By day of acceptance" in text.get_content()
    assert "\N{NARROW NO-BREAK SPACE}" not in text.get_content() or text.get_content_charset() == "utf-8"
    assert page.get_content().startswith("<!DOCTYPE html>")
    assert file.get_filename() == "postwake-2026-11-16.html"
    assert file.get_content().strip() == page.get_content().strip()
    assert max(len(line) for line in mailed.as_bytes().splitlines()) <= 998, "RFC 5322, section 2.1.1"


@pytest.fixture
def mail(two_weeks: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `postwake report --mail` with a program in sendmail's place."""

    def run(program: str, *arguments: str, extra: str = "") -> subprocess.CompletedProcess[str]:
        sendmail, config = tmp_path / "sendmail", tmp_path / "postwake.toml"
        if program:
            sendmail.write_text(program.format(tmp_path))
            sendmail.chmod(0o755)
        config.write_text(
            f'[store]\npath = "{two_weeks}"\n'
            f'[report]\nsendmail = "{sendmail}"\nsender = "postwake@example.com"\n{extra}'
        )
        command = [sys.executable, "-m", "postwake_cli", "--config", str(config), "report", *arguments, "--mail"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


TO = 'to = ["you@example.com", "her@example.org"]\n'


def test_handed_to_sendmail(mail: Callable[..., Any], tmp_path: Path) -> None:
    """sendmail(1) gets sender and recipients as arguments, after which nothing is an option, and the mail."""
    done = mail(TAKES, "--since", "2026-11-16", "--until", "2026-11-23", extra=TO)
    assert (done.returncode, done.stdout) == (0, "")
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments == ["-i", "-f", "postwake@example.com", "--", "you@example.com", "her@example.org"]
    sent = message_from_bytes((tmp_path / "mail").read_bytes(), policy=policy.default)
    assert sent["To"] == "you@example.com, her@example.org"


def test_nobody_waits_for_a_mail(mail: Callable[..., Any], two_weeks: Path, tmp_path: Path) -> None:
    """A mailed report has its lists however many deliveries are to be read for them."""
    with closing(sqlite3.connect(two_weeks)) as connection, connection:
        connection.execute("UPDATE rollup SET n = 10000000 WHERE basis = 'cohort' AND measure = 'sent'")
    assert mail(TAKES, "--since", "2026-11-16", "--until", "2026-11-23", extra=TO).returncode == 0
    sent = message_from_bytes((tmp_path / "mail").read_bytes(), policy=policy.default)
    text = next(part for part in sent.walk() if part.get_content_type() == "text/plain").get_content()
    assert "Dead: 2" in text
    assert "Inactive: 0" in text
    assert "left out" not in text


@pytest.mark.parametrize(
    ("program", "extra", "status", "said"),
    [
        pytest.param("", TO, 69, "cannot run it: No such file or directory", id="no-sendmail"),
        pytest.param("#!/bin/sh\necho queue full >&2\nexit 75\n", TO, 69, "status 75: queue full", id="refused"),
        pytest.param("#!/bin/sh\nexec kill -9 $$\n", TO, 69, "no reason given", id="killed"),
        pytest.param(TAKES, "", 78, "report.to = []: expected the addresses", id="nobody-to-mail-to"),
        pytest.param(TAKES, 'to = ["-oQ/tmp@example.com"]\n', 78, "expected an address", id="an-option-for-an-address"),
        pytest.param(TAKES, 'to = ["a@example.com\\nBcc: b@x.org"]\n', 78, "expected an address", id="a-header-in-it"),
    ],
)  # fmt: skip
def test_not_sent_is_an_error(program: str, extra: str, status: int, said: str, mail: Callable[..., Any]) -> None:
    """Whatever keeps the report from being mailed is said in a line, with an exit status that a timer shows."""
    done = mail(program, extra=extra)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
