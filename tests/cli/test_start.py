"""Starting: a verb imports what it needs and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from postwake.store.connection import migrate_file
from postwake_cli.main import cli

HEAVY = ("sqlite_utils", "pyparsing", "lxml", "flask", "granian", "prometheus_client")


def test_every_verb_is_found_where_it_is_said_to_be() -> None:
    """Each name leads to the command of that name; another leads to none."""
    context = click.Context(cli)
    names = cli.list_commands(context)
    assert {"report", "parse-log", "db", "milter"} <= set(names)
    for name in names:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name
    assert cli.get_command(context, "rewritten") is None


@pytest.mark.parametrize("form", ["", "--by=tag", "--unclassified", "--json"])
def test_a_report_imports_little(form: str, tmp_path: Path) -> None:
    """What reads the store does not wait for libraries that only others use: they took longer than the reading."""
    migrate_file(tmp_path / "postwake.db")
    config = tmp_path / "postwake.toml"
    config.write_text(f'[store]\npath = "{tmp_path}/postwake.db"\n[tracking]\nurl = "https://t.example.org"\n')
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "postwake_cli",
        "--config",
        str(config),
        "report",
        *form.split(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "postwake.store.queries" in imported
    assert imported & set(HEAVY) == set()
