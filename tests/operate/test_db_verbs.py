"""The verbs of ``postwake db`` that look after the store: what they print and how they end."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.events import Accepted, Direction
from postwake.store import schema
from postwake.store.connection import migrate_file
from postwake.store.recorder import Recorder
from postwake.tracking_id import make_tracking_id
from postwake_cli import main as command

AT_US = 1_700_000_000_000_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on a store with one delivered message of 2023."""
    store = tmp_path / "postwake.db"
    config = tmp_path / "postwake.toml"
    config.write_text(
        f'[store]\npath = "{store}"\nspool_dir = "{tmp_path}/spool"\n[retention]\nevents_days = 30\nclient_days = 30\n'
    )
    migrate_file(store)
    recorder = Recorder(store, tmp_path / "spool", "test")
    for n in (1, 2):
        tracking_id = make_tracking_id(AT_US + n, bytes([n] * 10))
        about: dict[str, Any] = {"message_id": f"{n}@x", "sender": "a@example.com", "domain": "example.com"}
        recorder.record(
            Accepted(
                AT_US + n, tracking_id, Direction.OUTBOUND, f"Q{n}", "mx", recipients=("ann@example.net",), **about
            ),
            10,
        )
    recorder.writer.submit(lambda transaction: transaction.execute("UPDATE delivery SET state = 1")).result(10)
    recorder.close()

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["postwake", "--config", str(config), "db", *arguments])
        status = 0
        try:
            command.main()
        except SystemExit as end:
            status = int(end.code or 0)
        output = capsys.readouterr()
        return status, output.out, output.err

    return call


def configure(tmp_path: Path, text: str) -> None:
    """Add to the configuration."""
    path = tmp_path / "postwake.toml"
    path.write_text(path.read_text() + text)


def test_backup_as_configured(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without FILE, as the timer calls it: into a directory that is made, so many kept, never a full disk."""
    target = tmp_path / "nightly"
    configure(tmp_path, f'[backup]\ndirectory = "{target}"\nkeep = 1\n')
    assert run("backup")[0] == 0
    assert target.stat().st_mode & 0o777 == 0o700
    [first] = target.iterdir()
    first.rename(target / "postwake-20200101T000000Z.db")
    status, out, _ = run("backup")
    assert (status, "postwake-20200101T000000Z.db: removed" in out) == (0, True)
    assert len(list(target.iterdir())) == 1

    usage = type("Usage", (), {"free": 100_000})
    monkeypatch.setattr("postwake_cli.store_verbs.shutil.disk_usage", lambda _path: usage)
    status, _, err = run("backup")
    assert status == 73
    assert "expected" in err
    assert "twice the store" in err
    assert len(list(target.iterdir())) == 1
    monkeypatch.undo()


def test_backup_by_root_leaves_room_for_the_nightly_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that root makes belongs to the maintenance unit's user, who must write there every night."""
    if os.geteuid():
        pytest.skip("needs root")
    monkeypatch.setattr("postwake_cli.store_verbs.MAINTENANCE_USER", "nobody")
    target = tmp_path / "nightly"
    configure(tmp_path, f'[backup]\ndirectory = "{target}"\n')
    assert run("backup")[0] == 0
    assert target.owner() == "nobody"
    target.chmod(0o755)
    shutil.chown(target, "root")
    assert run("backup")[0] == 0
    assert target.owner() == "root"  # one that was there is the administrator's


def test_no_backup_configured(run: Run, tmp_path: Path) -> None:
    """keep = 0 makes none, and that is no error."""
    configure(tmp_path, f'[backup]\ndirectory = "{tmp_path}/nightly"\nkeep = 0\n')
    assert run("backup") == (0, "backup.keep = 0: no backup is made\n", "")
    assert not (tmp_path / "nightly").exists()


def test_migrate_says_where_the_old_store_is(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older store: the copy is named; no room for one: nothing is migrated, status 73, --no-backup goes without."""
    before = dict(schema.migrations)
    number = schema.version()
    kept = tmp_path / f"postwake.db.schema-{number}"
    try:
        schema.migrations["m999"] = lambda db: db.conn.execute("ALTER TABLE message ADD COLUMN later INTEGER")
        with monkeypatch.context() as patch:
            usage = type("Usage", (), {"free": 1})
            patch.setattr("postwake.store.maintenance.shutil.disk_usage", lambda _path: usage)
            status, _, err = run("migrate")
            assert (status, kept.exists()) == (73, False)
            assert "nothing was migrated: make room, or --no-backup" in err
        status, out, _ = run("migrate")
        assert status == 0
        assert out.startswith(f"{kept}: the store as it was,")
        assert out.endswith("migrated: m999\n")
    finally:
        schema.migrations.clear()
        schema.migrations.update(before)


def test_backup_into_a_directory_keeps_so_many(run: Run, tmp_path: Path) -> None:
    """A name with the time, the oldest removed; without a directory --keep makes no sense."""
    target = tmp_path / "backups"
    target.mkdir()
    for name in ("postwake-20200101T000000Z.db", "postwake-20210101T000000Z.db", "mine.db"):
        (target / name).write_text("")
    status, out, _ = run("backup", "--keep", "2", str(target))
    assert status == 0
    assert "postwake-20200101T000000Z.db: removed" in out
    assert len(list(target.glob("postwake-*.db"))) == 2
    assert (target / "mine.db").exists()
    assert run("backup", "--keep", "2", str(tmp_path / "file.db"))[0] == 64
    assert run("backup", str(tmp_path / "file.db"))[0] == 0
    assert run("backup", str(tmp_path / "nowhere" / "file.db"))[0] == 73


def test_a_backup_is_not_removed_by_those_of_a_clock_that_was_ahead(run: Run, tmp_path: Path) -> None:
    """The one just made stays, whatever the others' names say, and as many as were asked for with it."""
    target = tmp_path / "backups"
    target.mkdir()
    for year in (2096, 2097, 2098):
        (target / f"postwake-{year}0101T000000Z.db").write_text("")
    for _ in range(2):
        status, out, _ = run("backup", "--keep", "3", str(target))
        assert status == 0
        assert Path(out.partition(":")[0]).stat().st_size > 0
        assert len(list(target.iterdir())) == 3
    assert run("backup", "--keep", "1", str(target))[0] == 0
    (left,) = target.iterdir()
    assert left.stat().st_size > 0
    assert run("backup", "--keep", "5", str(target))[0] == 0
    assert left.exists()


def test_what_a_killed_backup_left_goes(run: Run, tmp_path: Path) -> None:
    """Its unfinished copy is removed once it is a day old; a younger one may be going on."""
    target = tmp_path / "backups"
    target.mkdir()
    old, young = (target / f".postwake-2023010{n}T000000Z.db.abcdefgh.part" for n in (1, 2))
    for part in (old, young):
        part.write_text("half")
    os.utime(old, (time.time() - 90_000,) * 2)
    status, out, _ = run("backup", "--keep", "2", str(target))
    assert (status, f"{old}: removed, an unfinished backup" in out) == (0, True)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_store_that_others_write_to_is_tried_later(run: Run, tmp_path: Path) -> None:
    """Status 75 and what it was: it can be read, but not be written now."""
    with closing(sqlite3.connect(tmp_path / "postwake.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        status, _, err = run("purge")
    assert status == 75
    assert err.startswith("postwake: the store cannot be written now: database is locked; ")


def test_check(run: Run, tmp_path: Path) -> None:
    """In order is 0, damaged 1 with what is wrong, missing 75."""
    assert run("check")[:2] == (0, f"{tmp_path}/postwake.db: in order\n")
    store = tmp_path / "postwake.db"
    data = store.read_bytes()
    store.write_bytes(b"x" * 8192)
    status, out, err = run("check", "--quick")
    assert (status, "file is not a database" in out, "A damaged store" in err) == (1, True, True)
    store.write_bytes(data)
    store.unlink()
    assert run("check")[0] == 75


def test_purge(run: Run) -> None:
    """A dry run says what would go; a run removes it."""
    would = json.loads(run("purge", "--dry-run", "--json")[1])
    assert (would["messages"], would["dry_run"]) == (1, True)
    status, out, _ = run("purge")
    assert status == 0
    assert "removed: 1 messages, 1 deliveries, 1 events" in out
    assert json.loads(run("purge", "--json")[1])["messages"] == 0


def test_checkpoint(run: Run) -> None:
    """Says what is left of the write-ahead log."""
    assert "write-ahead log: 0 bytes" in run("checkpoint")[1]


def test_export_and_forget(run: Run) -> None:
    """Everything, then nothing; a no is status 1, no address is a usage error."""
    status, out, _ = run("export", "Ann@Example.net")
    assert (status, len(json.loads(out)["messages"])) == (0, 2)
    status, out, _ = run("forget", "ann@example.net")
    assert (status, "2 of delivery" in out) == (0, True)
    assert run("forget", "ann@example.net")[0] == 1
    assert run("export", "ann@example.net")[0] == 1
    assert run("forget", "ann")[0] == 64
