"""Rows written many to a statement.

Each statement of SQLite gives the interpreter's lock up, and has to wait for it behind whoever wants it: in a server that
is busy a group of events costs by the number of its statements. Rows are bound as they are, which takes half the time of
taking JSON apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from postwake.store.transaction import Transaction

ROWS_A_STATEMENT = 32
"""Rows written by one statement: few enough that SQLite has to prepare few different ones, once each."""


class NotTogetherError(Exception):
    """These events have to be applied one by one."""


def insert_rows(
    transaction: Transaction, table: str, columns: tuple[str, ...], values: Sequence[object], conflict: str = ""
) -> int:
    """Insert *values*, row after row, into *columns* of *table*; return how many rows were written.

    *conflict*: the ``ON CONFLICT`` clause, if any.
    """
    size = ROWS_A_STATEMENT * len(columns)
    written = 0
    for start in range(0, len(values), size):
        some = values[start : start + size]
        written += transaction.execute(_statement(table, columns, conflict, len(some) // len(columns)), some).rowcount
    return written


@lru_cache(maxsize=8 * ROWS_A_STATEMENT)
def _statement(table: str, columns: tuple[str, ...], conflict: str, rows: int) -> str:
    places = ", ".join([f"({', '.join('?' * len(columns))})"] * rows)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {places} {conflict}"
