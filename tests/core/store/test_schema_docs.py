"""docs/schema.md is what the store is."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs" / "schema.md"
INTERNAL = {"sqlite_sequence", "_sqlite_migrations"}


def test_everything_is_documented(store: Path) -> None:
    """Every table, view and column is named in the page."""
    named = set(re.findall(r"`([a-z_]+)`", DOCS.read_text(encoding="utf-8")))
    with closing(sqlite3.connect(store)) as connection:
        tables = {
            row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        }
        for table in tables - INTERNAL:
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            assert {table} | columns <= named, f"{table}: {({table} | columns) - named} not documented"


@pytest.mark.parametrize("number", range(3))
def test_the_questions_can_be_asked(number: int, store: Path) -> None:
    """Each query of the page runs on a store as it is."""
    queries = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(queries) == 3
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
        assert connection.execute(queries[number]).fetchall() == []
