"""The migration to indexes by the hour, on a file that has the older ones."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from postwake.store.connection import migrate_file

NAMES = ("message_queue_id", "message_message_id", "delivery_recipient")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store as the first migration made it, with a message in it."""
    path = tmp_path / "old.db"
    migrate_file(path)
    with closing(sqlite3.connect(path)) as connection:
        for name in NAMES:
            connection.execute(f"DROP INDEX {name}")
        connection.execute("CREATE INDEX message_queue_id ON message (at_us / 86400000000, queue_id)")
        connection.execute("CREATE INDEX message_message_id ON message (at_us / 86400000000, message_id)")
        connection.execute("CREATE INDEX delivery_recipient ON delivery (at_us / 86400000000, recipient)")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'm003_look_ups_by_the_hour'")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO message (at_us, queue_id) VALUES (1772323200000000, '4F2A81B3C5')")
        connection.commit()
    return path


def test_older_indexes_become_hourly(old: Path) -> None:
    """An older store is migrated, and a look-up by hour and queue ID finds its message by the index."""
    assert migrate_file(old) == ["m003_look_ups_by_the_hour"]
    with closing(sqlite3.connect(old)) as connection:
        definitions = [
            row[0]
            for row in connection.execute(
                f"SELECT sql FROM sqlite_master WHERE name IN ({', '.join('?' * len(NAMES))})", NAMES
            )
        ]
        assert len(definitions) == 3
        assert all("at_us / 3600000000," in sql for sql in definitions)
        query = "SELECT id FROM message INDEXED BY message_queue_id WHERE at_us / 3600000000 = ? AND queue_id = ?"
        values = (1772323200000000 // 3600000000, "4F2A81B3C5")
        assert connection.execute(query, values).fetchall() == [(1,)]
