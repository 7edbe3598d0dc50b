"""The command lines that README and docs show are ones the command takes; those that need nothing are run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from postwake_cli.main import cli

MAIL = b"""From: news@example.com\r\nTo: ann@example.net\r\nSubject: News\r\nMIME-Version: 1.0\r\n\
Content-Type: text/html; charset=utf-8\r\n\r\n<html><body><a href="https://example.com/">Read</a></body></html>\r\n"""
REPLY = "550 5.1.1 <a@example.com>: Recipient address rejected: User unknown\n"
LOG = (
    "2026-11-22T10:00:02.000000+00:00 mx postfix/smtp[14]: 4F2A81B3C5: to=<ann@example.net>,"
    " relay=mx.example.net[192.0.2.8]:25, delay=1, delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok)\n"
)

NEEDS_NOTHING = {"classify", "parse-log", "rewrite", "config", "key", "db", "message", "explain", "report", "events"}
"""Verbs that a configuration, a key and an empty store in a temporary folder are enough for."""


def parse(words: tuple[str, ...]) -> None:
    """Parse *words* as the command would; raises :class:`click.UsageError`."""
    context: click.Context = cli.make_context("postwake", list(words))
    command: click.Command = cli
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return  # the group alone, as in a sentence about it
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, found.make_context(name, rest, parent=context)


def test_shown_command_lines_are_taken(shown: list[Any]) -> None:
    """Each has a verb and options that exist, with values of the right kind."""
    wrong = []
    for item in shown:
        try:
            parse(item.words)
        except click.exceptions.Exit:  # --version, --help
            pass
        except click.UsageError as error:
            is_short = isinstance(error, click.MissingParameter | click.exceptions.NoArgsIsHelpError)
            if item.is_whole or not (is_short or "requires an argument" in error.format_message()):
                wrong.append(f"{item.page}: {item.line}: {error.format_message()[:200]}")
    assert wrong == []
    assert len(shown) > 40, "the pages' code was not found"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A folder with a configuration, a key, a store, a mail and a log."""
    config = tmp_path / "postwake.toml"
    config.write_text(
        f'[store]\npath = "{tmp_path}/postwake.db"\nspool_dir = "{tmp_path}/spool"\n'
        f'[tracking]\nurl = "https://track.example.com"\nsender_domains = ["example.com"]\nkeys = "{tmp_path}/keys"\n'
        '[report]\nto = ["you@example.com"]\nsendmail = "/bin/true"\n'
    )
    (tmp_path / "newsletter.eml").write_bytes(MAIL)
    (tmp_path / "mail.log").write_text(LOG)
    found = os.environ | {"POSTWAKE_CONFIG": str(config)}
    for words in (("key", "new"), ("db", "migrate")):
        subprocess.run([sys.executable, "-m", "postwake_cli", *words], env=found, check=True, capture_output=True)
    return found


def test_shown_command_lines_run(
    shown: list[Any], environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that look, filter or set up files work as they stand, on an empty store: status 0, or 1 for "nothing"."""
    monkeypatch.chdir(tmp_path)
    lines: dict[tuple[str, ...], str] = {}
    for item in shown:
        if item.is_whole and item.words and item.words[0] in NEEDS_NOTHING and "--follow" not in item.words:
            lines.setdefault(item.words, f"{item.page}: {item.line}")
    ran = 0
    for words, where in lines.items():
        own = {"/var/log/mail.log": "mail.log", "/var/log/mail.log.1": "mail.log"}
        arguments = [own.get(word, word) for word in words]
        if any(word.startswith("/") for word in arguments) or words[:2] in {("db", "backup"), ("db", "restore")}:
            continue  # about files of one's own machine
        done = CliRunner(env=environment).invoke(cli, arguments, input=REPLY)
        assert done.exit_code in (0, 1), f"{where}: status {done.exit_code}: {done.output}"
        assert done.exception is None or isinstance(done.exception, SystemExit), f"{where}: {done.exception!r}"
        ran += 1
    assert ran > 8


def test_trying_out_needs_no_configuration(tmp_path: Path) -> None:
    """README's filters work before anything is installed."""
    (tmp_path / "newsletter.eml").write_bytes(MAIL)
    (tmp_path / "mail.log").write_text(LOG)

    def run(*arguments: str, text: str = "") -> list[Any]:
        environment = {name: value for name, value in os.environ.items() if name != "POSTWAKE_CONFIG"}
        done = subprocess.run(
            [sys.executable, "-m", "postwake_cli", *arguments],
            input=text, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert run("rewrite", "--explain", "newsletter.eml")[0]["tracked"] is True
    assert run("parse-log", "--stats", "mail.log")[0]["type"] == "sent"
    assert run("classify", text="550 5.1.1 <a@example.com>: User unknown\n")[0]["category"] == "bad-mailbox"
