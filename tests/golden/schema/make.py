"""Write the golden dump of the newest schema, from that of the schema before: once, when a migration has been added.

    .venv/bin/python tests/golden/schema/make.py

A golden dump is a store as a release with that schema left it, every table with rows. It is never edited afterwards.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from postwake.store import schema
from postwake.store.connection import migrate_file

HERE = Path(__file__).parent


def golden(version: int) -> Path:
    """Return where the dump of a schema stands."""
    return HERE / f"v{version:03}.sql"


def dump(store: Path) -> str:
    """Return the store as SQL that makes it again."""
    with closing(sqlite3.connect(store)) as connection:
        lines = [
            f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        return "\n".join([*lines, *connection.iterdump(), ""])


def restore(sql: str, store: Path) -> None:
    """Make the store that *sql* is the dump of."""
    with closing(sqlite3.connect(store)) as connection:
        connection.executescript(sql)


def main() -> None:
    """Write it."""
    target = golden(schema.version())
    if target.exists():
        raise SystemExit(f"{target}: there already, and never written twice")
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "postwake.db"
        restore(golden(schema.version() - 1).read_text(encoding="utf-8"), store)
        migrate_file(store)
        target.write_text(dump(store), encoding="utf-8")


if __name__ == "__main__":
    main()
