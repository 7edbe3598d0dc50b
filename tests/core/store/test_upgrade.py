"""Stores of every release before this one: migrated in place, or left exactly as they were."""

from __future__ import annotations

import importlib.util
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from sqlite_utils import Database

from postwake.errors import CannotCreateError, ConfigError, StoreUnavailableError
from postwake.store import schema
from postwake.store.connection import migrate_file, open_reader
from postwake.store.maintenance import check_integrity, check_references, migrate

GOLDEN = Path(__file__).parents[2] / "golden" / "schema"


def load_make() -> ModuleType:
    """Return tests/golden/schema/make.py, which dumps and restores."""
    spec = importlib.util.spec_from_file_location("golden_schema", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = load_make()
VERSIONS = range(1, schema.version() + 1)
NAMES = ("event_type", "state", "direction", "who", "privacy")


@pytest.fixture
def old_store(tmp_path: Path) -> Callable[[int], Path]:
    """A store as the release with schema *version* left it, every table with rows."""

    def restore(version: int = schema.version()) -> Path:
        path = tmp_path / "stores" / "postwake.db"
        path.parent.mkdir()
        make.restore(make.golden(version).read_text(encoding="utf-8"), path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        return path

    return restore


@pytest.fixture
def next_release() -> Iterator[Callable[..., None]]:
    """Give this release one migration more, as the next one will have."""
    before = dict(schema.migrations)

    def add(*statements: str) -> None:
        def later(db: Database) -> None:
            for statement in statements:
                db.conn.execute(statement)

        schema.migrations[f"m{schema.version() + 1:03}_later"] = later

    yield add
    schema.migrations.clear()
    schema.migrations.update(before)


def described(path: Path) -> tuple[list[tuple[object, ...]], dict[str, list[tuple[object, ...]]]]:
    """Return everything that SQLite knows of the schema, and the tables that name numbers."""
    with closing(sqlite3.connect(path)) as connection:
        made = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        return made, {name: connection.execute(f"SELECT * FROM {name} ORDER BY id").fetchall() for name in NAMES}


def counted(path: Path) -> dict[str, int]:
    """Return how many rows each table that a user has rows in has."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in tables
            if name not in (*NAMES, "_sqlite_migrations", "sqlite_sequence")
        }


def dumped(path: Path) -> str:
    """Return everything in the file."""
    return str(make.dump(path))


def test_every_schema_has_its_golden_dump() -> None:
    """A migration was added: tests/golden/schema/make.py writes the dump that goes with it."""
    assert sorted(path.name for path in GOLDEN.glob("*.sql")) == [make.golden(version).name for version in VERSIONS]


@pytest.mark.parametrize("version", VERSIONS)
def test_migrates_in_place(version: int, old_store: Callable[[int], Path], tmp_path: Path) -> None:
    """Every past store becomes what a fresh one is, in schema and names, and keeps its rows.

    For the newest this says that no migration was changed after its dump was written.
    """
    path = old_store(version)
    before = counted(path)
    assert before["event"] > 30
    names, kept = migrate(path)

    fresh = tmp_path / "fresh.db"
    migrate_file(fresh)
    assert described(path) == described(fresh)
    assert names == list(schema.migrations)[version:]
    assert (kept is None) == (version == schema.version())
    after = counted(path)
    assert {name: n for name, n in before.items() if after.get(name, 0) < n} == {}
    assert check_integrity(path) == []
    assert check_references(path) == []
    with closing(open_reader(path)) as connection:
        assert len(connection.execute("SELECT * FROM messages").fetchall()) == 7  # one was merged
        assert len(connection.execute("SELECT * FROM deliveries").fetchall()) == 11
        states = connection.execute("SELECT state FROM deliveries WHERE recipient LIKE 'r2%' ORDER BY recipient")
        assert [row[0] for row in states] == ["deferred", "bounced"]


def test_a_copy_is_kept(old_store: Callable[[], Path], next_release: Callable[..., None]) -> None:
    """Before an older store is migrated it is copied beside itself: one whole file, readable by nobody else."""
    path = old_store()
    before = dumped(path)
    next_release("ALTER TABLE message ADD COLUMN later INTEGER")
    names, kept = migrate(path)
    assert len(names) == 1
    assert kept is not None
    assert kept.path == path.with_name(f"postwake.db.schema-{schema.version() - 1}")
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert dumped(kept.path) == before
    assert migrate(path) == ([], None)


def test_a_newer_store_is_left_alone(old_store: Callable[[], Path]) -> None:
    """A store of a later release is refused, exit status 78, with nothing written and nothing copied."""
    path = old_store()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.version() + 1}")
    before = dumped(path)
    with pytest.raises(ConfigError, match=r"is newer than this Postwake's .*: install the newer release") as caught:
        migrate(path)
    assert caught.value.exit_status == 78
    assert dumped(path) == before
    assert list(path.parent.glob("*.schema-*")) == []


def test_an_error_takes_all_of_it_back(old_store: Callable[[], Path], next_release: Callable[..., None]) -> None:
    """When the second of two migrations fails, the first has not happened either."""
    path = old_store()
    before = dumped(path)
    next_release("ALTER TABLE message ADD COLUMN later INTEGER", "UPDATE message SET later = 1")
    next_release("CREATE TABLE more (a)", "INSERT INTO nowhere VALUES (1)")
    with pytest.raises(StoreUnavailableError, match="no such table: nowhere"):
        migrate(path)
    assert dumped(path) == before


# Migrates with two migrations more, and stops in the middle of the second until it is killed.
_INTERRUPTED = """
import sys
from pathlib import Path
from postwake.store import schema
from postwake.store.maintenance import migrate

def first(db):
    db.conn.execute("ALTER TABLE message ADD COLUMN later INTEGER")
    db.conn.execute("UPDATE message SET later = id, subject = zeroblob(500000)")  # more than stays in memory

def second(db):
    db.conn.execute("PRAGMA cache_spill = 1")
    db.conn.execute("CREATE TABLE more (a)")
    db.conn.execute("UPDATE delivery SET attempts = attempts + 1")
    print("in the middle", flush=True)
    sys.stdin.read()

schema.migrations |= {"m998": first, "m999": second}
migrate(Path(sys.argv[1]))
"""


def test_killed_in_the_middle(old_store: Callable[[], Path]) -> None:
    """kill -9 during a migration: the old store is there, whole, for the release that made it; the copy too."""
    path = old_store()
    before = dumped(path)
    command = [sys.executable, "-c", _INTERRUPTED, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with closing(open_reader(path)) as connection:
        assert schema.found_version(connection) == schema.version()
    assert dumped(path) == before
    assert check_integrity(path) == []
    assert dumped(path.with_name(f"postwake.db.schema-{schema.version()}")) == before


@pytest.mark.parametrize("keep_old", [True, False], ids=["copied first", "not copied"])
def test_a_full_disk(
    keep_old: bool, old_store: Callable[[], Path], next_release: Callable[..., None], make_disk: Callable[[str], Path]
) -> None:
    """No room for the copy, or for the migration itself: said, and the old store is as it was."""
    source = old_store()
    disk = make_disk(str(source.stat().st_size + 200_000))
    path = disk / "postwake.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(source.read_bytes())
    before = dumped(path)
    next_release("ALTER TABLE message ADD COLUMN later BLOB", "UPDATE message SET later = zeroblob(2000000)")
    expected = (CannotCreateError, "bytes free on its disk") if keep_old else (StoreUnavailableError, "full")
    with pytest.raises(expected[0], match=expected[1]):
        migrate(path, keep_old=keep_old)
    assert dumped(path) == before
    assert check_integrity(path) == []
    assert list(disk.glob("*schema*")) == []


@pytest.mark.parametrize("difference", [-1, 1], ids=["older", "newer"])
@pytest.mark.parametrize("service", ["milter", "logparse", "pixelserver"])
def test_services_refuse_another_schema(service: str, difference: int, old_store: Callable[[], Path]) -> None:
    """A service ends with status 78 and one line that says which schema it met and what to do."""
    path = old_store()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.version() + difference}")
    config = path.with_name("postwake.toml")
    keys = path.with_name("keys")
    subprocess.run(
        [sys.executable, "-m", "postwake_cli", "key", "new", "--file", str(keys)], check=True, capture_output=True
    )
    config.write_text(
        f'[store]\npath = "{path}"\n[tracking]\nurl = "https://track.example.com"\nkeys = "{keys}"\n'
        f'[milter]\nsocket = "{path.parent}/milter.sock"\n[pixelserver]\nlisten = "unix:{path.parent}/web.sock"\n'
        '[metrics]\nmilter = ""\nlogparse = ""\npixelserver = ""\n'
    )
    command = [sys.executable, "-m", "postwake_cli", "--config", str(config), service]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    wanted = "run `postwake db migrate`" if difference < 0 else "install the newer release"
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr
