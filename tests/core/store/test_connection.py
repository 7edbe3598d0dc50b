"""Opening the store: whose file it is, who may use it, what is said when it is not there."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from postwake.errors import ConfigError, StoreUnavailableError
from postwake.events import Direction, EventType, State, Who
from postwake.store import schema
from postwake.store.connection import WriteLock, file_identity, migrate_file, open_reader, open_writer
from postwake.tokens import Privacy

OPENERS = pytest.mark.parametrize("opener", [open_reader, open_writer], ids=["reader", "writer"])
Opener = Callable[[Path], sqlite3.Connection]


def set_version(path: Path, version: int) -> None:
    """Make the file say that its schema has another number."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


@OPENERS
def test_a_newer_schema(opener: Opener, store: Path) -> None:
    """A file from a later release is refused with the advice to install it, exit status 78, and left alone."""
    set_version(store, schema.version() + 1)
    before = store.read_bytes()
    with pytest.raises(ConfigError, match=r"newer.*install the newer release") as caught:
        opener(store)
    assert caught.value.exit_status == 78
    with pytest.raises(ConfigError, match="newer"):
        migrate_file(store)
    assert store.read_bytes() == before


@OPENERS
def test_an_older_schema(opener: Opener, store: Path) -> None:
    """A file from an earlier release is refused with the command that migrates it, exit status 78."""
    set_version(store, schema.version() - 1)
    with pytest.raises(ConfigError, match="run `postwake db migrate`") as caught:
        opener(store)
    assert caught.value.exit_status == 78


@OPENERS
def test_no_store(opener: Opener, tmp_path: Path) -> None:
    """A missing file says what makes one, exit status 75, and is not made by looking."""
    with pytest.raises(StoreUnavailableError, match="no store there; `postwake db migrate` makes one") as caught:
        opener(tmp_path / "none.db")
    assert caught.value.exit_status == 75
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("action", [open_reader, open_writer, migrate_file], ids=["reader", "writer", "migrate"])
def test_another_programs_file(action: Callable[[Path], object], version: int, tmp_path: Path) -> None:
    """An SQLite file of another program is refused and not changed, whatever number its own schema has."""
    path = tmp_path / "bookmarks.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmark (url)")
    set_version(path, version)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="of another program"):
        action(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("action", [open_reader, open_writer, migrate_file], ids=["reader", "writer", "migrate"])
def test_no_database_at_all(action: Callable[[Path], object], tmp_path: Path) -> None:
    """A file that is no SQLite file is said to be none, and not changed."""
    path = tmp_path / "text.db"
    path.write_text("This is not a database, and it is longer than a header of one hundred bytes. " * 3)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailableError, match="file is not a database"):
        action(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_modes(umask: int, tmp_path: Path) -> None:
    """Store, write-ahead log and lock are writable by owner and group and nobody else, whatever the umask."""
    path = tmp_path / "deep" / "postwake.db"
    old = os.umask(umask)
    try:
        migrate_file(path)
        with closing(open_writer(path)) as connection, closing(WriteLock(path)) as lock, lock.held(1):
            connection.execute("INSERT INTO meta VALUES ('a', 'b')")
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert modes == dict.fromkeys([f"postwake.db{end}" for end in ("", "-wal", "-shm", "-lock")], 0o660)


def test_writers_pragmas(store: Path) -> None:
    """A writer is in WAL mode, synchronous as asked, and bounds the log's size."""
    with closing(open_writer(store, synchronous="FULL", busy_timeout_ms=123)) as connection:
        found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
        assert found == {"journal_mode": "wal", "synchronous": 2}
        assert connection.execute("PRAGMA busy_timeout").fetchone()[0] == 123
        assert connection.execute("PRAGMA journal_size_limit").fetchone()[0] == 64 << 20


def test_readers_cannot_write(store: Path) -> None:
    """A reader's connection refuses to write."""
    with closing(open_reader(store)) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")


def test_migrating_once(tmp_path: Path) -> None:
    """Migrating makes everything, and the second time finds nothing to do."""
    path = tmp_path / "postwake.db"
    made = migrate_file(path)
    assert (made[0], len(made)) == ("m001_first", schema.version())
    assert migrate_file(path) == []
    with closing(open_reader(path)) as connection:
        assert schema.found_version(connection) == schema.version()


def test_migrating_concurrently(tmp_path: Path) -> None:
    """Of several processes that migrate the same new file one does, all succeed."""
    path = tmp_path / "postwake.db"
    script = "import sys\nfrom pathlib import Path\nfrom postwake.store.connection import migrate_file\n"
    script += "sys.stdin.read()\nprint(migrate_file(Path(sys.argv[1])))\n"
    command = [sys.executable, "-c", script, path]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()
        child.stdin = None
    said = sorted(child.communicate(timeout=60)[0].strip() for child in children)
    assert said[0].startswith("['m001_first'")
    assert said[1:] == ["[]", "[]"]


def test_a_migration_that_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in the middle of a migration leaves nothing of it; the next run makes it whole."""
    path = tmp_path / "postwake.db"
    monkeypatch.setattr(
        schema, "_VIEWS", schema._VIEWS + "CREATE VIEW broken AS SELECT nonsense FROM nowhere at all;\n"
    )
    with pytest.raises(StoreUnavailableError, match="syntax error"):
        migrate_file(path)
    with closing(sqlite3.connect(path)) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert not {"message", "event", "rollup"} & names
    monkeypatch.undo()
    made = migrate_file(path)
    assert (made[0], len(made)) == ("m001_first", schema.version())


def test_dictionaries_of_numbers(ask: Callable[..., list[tuple[object, ...]]]) -> None:
    """The numbers in the tables are the vocabulary's."""
    for table, members in (("event_type", EventType), ("state", State), ("direction", Direction), ("who", Who)):
        assert ask(f"SELECT id, name FROM {table}") == [(int(m), m.name.lower()) for m in sorted(members)]
    assert ask("SELECT id, name FROM privacy") == [(int(m), m.name.lower()) for m in Privacy]
    assert (EventType.DEFERRED, EventType.BOUNCED, EventType.EXPIRED) == (4, 5, 6)  # the index event_failed


VIEWS = ("messages", "deliveries", "opens", "clicks", "events", "daily")


def test_views_for_people(
    store: Path, apply: Callable[..., None], accepted: Callable[..., object], hit: Callable[..., object]
) -> None:
    """Every view can be read with plain sqlite3 and with sqlite-utils, and shows what happened."""
    apply(
        accepted(),
        hit(1, user_agent="Mozilla", client="192.0.2.1"),
        hit(2, EventType.CLICKED, link=3, url="https://example.com/", who=Who.HUMAN),
    )
    with closing(sqlite3.connect(store)) as connection:
        connection.row_factory = sqlite3.Row
        by_sqlite = {view: [dict(row) for row in connection.execute(f"SELECT * FROM {view}")] for view in VIEWS}
    with closing(sqlite3.connect(store)) as connection:
        database = Database(connection)
        assert set(database.view_names()) == set(VIEWS)
        assert {view: list(database[view].rows) for view in VIEWS} == by_sqlite
    assert {view: len(rows) for view, rows in by_sqlite.items()} == {
        "messages": 1,
        "deliveries": 1,
        "opens": 1,
        "clicks": 1,
        "events": 3,
        "daily": 1,
    }
    (opened,), (clicked,), (day,) = by_sqlite["opens"], by_sqlite["clicks"], by_sqlite["daily"]
    assert (opened["at"], opened["recipient"], opened["who"]) == (
        "2026-11-22T12:01:00.000Z",
        "ann@example.net",
        "unknown",
    )
    assert (clicked["url"], clicked["link"], clicked["who"]) == ("https://example.com/", 3, "human")
    assert (day["day"], day["accepted"], day["opens_unknown"], day["clicks_human"]) == ("2026-11-22", 1, 1, 1)


def test_identity(tmp_path: Path, store: Path) -> None:
    """A file has an identity while it is there; a copy in its place has another."""
    before = file_identity(store)
    assert before is not None
    copy = tmp_path / "copy"
    copy.write_bytes(store.read_bytes())
    copy.replace(store)
    assert file_identity(store) not in (None, before)
    store.unlink()
    assert file_identity(store) is None


def test_the_lock_is_only_an_accelerator(store: Path) -> None:
    """Where no lock file can be made, and where the lock is held too long, writing goes on without it."""
    with closing(WriteLock(store.parent / "none" / "postwake.db")) as lock, lock.held(0):
        pass
    with closing(WriteLock(store)) as first, closing(WriteLock(store)) as second, first.held(0), second.held(0.01):
        pass


def test_the_lock_is_let_go(store: Path) -> None:
    """After a block that raised the next one has the lock at once."""
    with closing(WriteLock(store)) as first, closing(WriteLock(store)) as second:
        with pytest.raises(KeyError), first.held(0):
            raise KeyError
        with second.held(0):
            pass
