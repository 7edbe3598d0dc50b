"""A backup taken at the command line under load, and docs/operations.md's restore, command by command."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postwake.store.connection import migrate_file, open_reader

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
# Commits messages as fast as it can, and says each number once it is committed.
_WRITER = """
import sys, time
from pathlib import Path
from postwake.events import Accepted, Direction
from postwake.store.apply import apply_event
from postwake.store.writer import Writer, wait
from postwake.tracking_id import make_tracking_id
writer, n = Writer(Path(sys.argv[1])), 0
while True:
    n += 1
    at_us = time.time_ns() // 1000
    tracking_id = make_tracking_id(at_us, n.to_bytes(10, "big"))
    event = Accepted(at_us, tracking_id, Direction.OUTBOUND, f"Q{n}", "mail", f"{n}@x", "a@example.com", "example.com",
                     (f"r{n}@example.net",), subject="x" * 500)
    wait(writer.submit(lambda transaction: apply_event(transaction, event)), 20)
    print(n, flush=True)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a store of its own."""
    path = tmp_path / "postwake.toml"
    path.write_text(f'[store]\npath = "{tmp_path}/lib/postwake.db"\nspool_dir = "{tmp_path}/lib/spool"\n')
    migrate_file(tmp_path / "lib" / "postwake.db")
    return path


@pytest.fixture
def writing(config: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that goes on committing."""
    store = config.parent / "lib" / "postwake.db"
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(store)], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def restore_commands() -> list[str]:
    """Return the commands of the section "Restore" as they stand there."""
    section = OPERATIONS.read_text(encoding="utf-8").partition("\n## Restore\n")[2].partition("\n## ")[0]
    return [line.strip() for line in section.splitlines() if line.startswith("    ")]


def test_restore_as_documented(config: Path, writing: subprocess.Popen[str]) -> None:
    """Everything committed before the backup began is in the restored store, which is whole and is gone on with."""
    assert writing.stdout is not None
    committed = 0
    while committed < 200:
        committed = int(writing.stdout.readline())
    postwake = [sys.executable, "-m", "postwake_cli", "--config", str(config)]
    target = config.parent / "backup.db"
    made = subprocess.run([*postwake, "db", "backup", str(target)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    writing.kill()  # as `systemctl stop` would, only harder: it leaves a write-ahead log behind
    writing.wait()

    store = config.parent / "lib" / "postwake.db"
    owner = pwd.getpwuid(os.geteuid()).pw_name
    group = grp.getgrgid(os.getegid()).gr_name
    done = []
    for command in restore_commands():
        line = command.replace("/var/lib/postwake/", f"{store.parent}/").replace("/srv/backup/postwake.db", str(target))
        line = line.replace("-o postwake-logparse -g postwake", f"-o {owner} -g {group}")
        words = shlex.split(line)
        done.append(words[0])
        if words[0] == "systemctl":
            continue
        result = subprocess.run(
            [*postwake, *words[1:]] if words[0] == "postwake" else words, capture_output=True, text=True
        )
        assert result.returncode == 0, (line, result.stderr)
    assert done == ["systemctl", "rm", "install", "postwake", "systemctl", "systemctl"]

    with closing(open_reader(store)) as connection:
        found = {row[0] for row in connection.execute("SELECT queue_id FROM message")}
    assert {f"Q{n}" for n in range(1, committed + 1)} <= found
    assert store.stat().st_mode & 0o777 == 0o660
    again = subprocess.Popen([sys.executable, "-c", _WRITER, str(store)], stdout=subprocess.PIPE, text=True)
    assert again.stdout is not None
    assert again.stdout.readline() == "1\n"
    again.kill()
    again.communicate()
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
