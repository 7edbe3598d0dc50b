"""One person's address: everything that is held about it, and its removal.

An address stands in more places than the delivery's row: in replies (``550 <ann@example.net>: no such user``), in the
log's rejections, in a link's query, in a VERP sender (``news+ann=example.net@…``). So every text column of every table
is searched, in each of the address's spellings, and never only a part of a longer address.

Removing puts a random marker in its place, the same throughout one removal, so that the person's rows still belong
together and are counted as before, but nobody can tell whose they are; the domain stays, for the counts by domain.
Hits that are, or (in mail that several recipients share) may be, the person's lose address and agent.
"""

from __future__ import annotations

import base64
import contextlib
import json
import mmap
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from postwake.domain_names import spellings
from postwake.errors import UsageError
from postwake.store.accepted import MERGES
from postwake.store.connection import WriteLock, open_reader, open_writer
from postwake.store.maintenance import checkpoint
from postwake.store.purge import bump
from postwake.store.transaction import SWEPT, Transaction, Transactions

SCAN_ROWS = 20_000
ROWS_A_TRANSACTION = 200
_NEVER = frozenset({"cursor", "meta", "sqlite_sequence", "_sqlite_migrations"})
"""Tables of our own workings; a cursor holds fingerprints, and changing it would make the log be read again."""
_TWICE = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
_BEFORE = r"(?:(?<![\w.+\x80-\U0010ffff-])|(?<==)|(?<=[+-])(?=[^@%\s]*=)|(?<=%3D)|(?<=%3A)|(?<=%2F)|(?<=%3C)|(?<=%2C)|(?<=%26)|(?<=%20))"
_AFTER = r"(?![\w-]|\.\w)"
"""A longer address that begins or ends with this one is another person's. But a VERP sender puts it behind a ``+`` or
``-``, and in an encoded URL the delimiter in front is encoded too."""


class Address:
    """An address in all its spellings: as it is, percent-encoded, with ``=`` (VERP), JSON-escaped; its domain in both."""

    def __init__(self, text: str) -> None:
        """Take ``local@domain``; :class:`UsageError` if it is not one."""
        self.text = text.strip().strip("<>")
        local, at, self.domain = self.text.rpartition("@")
        unusable = any(char.isspace() or "\ud800" <= char <= "\udfff" for char in self.text)
        if not at or not local or not self.domain or unusable:
            raise UsageError(f"{text!r}: expected an address such as ann@example.net")
        self.local = local
        # Each spelling of the local part with what follows it, which stays.
        self._rest = {
            _lower(name + rest): rest for domain in spellings(self.domain) for name, rest in _spellings(local, domain)
        }
        alternatives = "|".join(re.escape(name) for name in sorted(self._rest, key=len, reverse=True))
        self._pattern = re.compile(f"{_BEFORE}({alternatives}){_AFTER}", re.IGNORECASE | re.ASCII)

    def needles(self) -> list[str]:
        """Return what to look for in lower-cased text: every match of the pattern holds one of them."""
        return sorted(self._rest)

    def is_in(self, text: str) -> bool:
        """Return whether *text* names this address, not merely a longer one."""
        return self._pattern.search(text) is not None

    def replace(self, text: str, marker: str) -> str:
        """Return *text* with *marker* for the local part wherever it names this address."""
        return self._pattern.sub(lambda match: marker + self._rest[_lower(match[1])], text)


def _spellings(local: str, domain: str) -> Iterator[tuple[str, str]]:
    encoded, escaped = quote(domain, safe=""), json.dumps(domain)[1:-1]
    yield local, f"@{domain}"
    yield quote(local, safe=""), f"@{domain}"
    yield quote(local, safe=""), f"%40{encoded}"
    yield local, f"%40{domain}"
    yield local, f"={domain}"
    yield json.dumps(local)[1:-1], f"@{escaped}"


def _lower(text: str) -> str:
    """Return *text* with A to Z in lower case, as SQLite's ``lower()`` has it."""
    return "".join(chr(ord(char) + 32) if "A" <= char <= "Z" else char for char in text)


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """``rowid``, or the primary key of a table without."""


def _tables(connection: sqlite3.Connection) -> list[_Table]:
    """Return every table with text in it."""
    found = []
    names = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    for name, sql in names:
        if name in _NEVER:
            continue
        info = connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,)).fetchall()
        columns = tuple(row[0] for row in info if row[1].upper() == "TEXT")
        keys = tuple(row[0] for row in sorted(info, key=lambda row: row[2]) if row[2])
        if columns:
            found.append(_Table(name, columns, keys if "WITHOUT ROWID" in sql.upper() else ("rowid",)))
    return found


def _mentions(
    connection: sqlite3.Connection, table: _Table, address: Address
) -> Iterator[tuple[tuple[Any, ...], dict[str, str]]]:
    """Yield key and naming columns of each row of *table* that names *address*."""
    needles = address.needles()
    condition = " OR ".join(f"instr(lower({column}), ?)" for column in table.columns for _ in needles)
    values = [needle for _ in table.columns for needle in needles]
    select = f"SELECT {', '.join((*table.key, *table.columns))} FROM {table.name} WHERE "
    for where, bounds in _ranges(connection, table):
        for row in connection.execute(f"{select}{where} ({condition})", (*bounds, *values)).fetchall():
            key, texts = tuple(row[: len(table.key)]), row[len(table.key) :]
            naming = {
                column: str(text)
                for column, text in zip(table.columns, texts, strict=True)
                if text is not None and address.is_in(str(text))
            }
            if naming:
                yield key, naming


def _ranges(connection: sqlite3.Connection, table: _Table) -> Iterator[tuple[str, tuple[int, ...]]]:
    if table.key != ("rowid",):
        yield "", ()
        return
    start, last = connection.execute(
        f"SELECT coalesce(min(rowid), 0), coalesce(max(rowid), -1) FROM {table.name}"
    ).fetchone()
    while start <= last:
        yield "rowid >= ? AND rowid < ? AND", (start, start + SCAN_ROWS)
        start += SCAN_ROWS


@dataclass(slots=True)
class Forgotten:
    """What a removal did."""

    marker: str
    rows: dict[str, int] = field(default_factory=dict)
    """Rows that named the address, by table."""
    hits: int = 0
    """Hits that lost the reader's address and agent."""
    still_queued: int = 0
    """Deliveries to it that are still queued or deferred: the log will name the address again."""
    remnants: bool = False
    """Whether the file's free space still holds the address; rewriting the file (VACUUM) removes it."""


def forget(
    path: Path,
    text: str,
    entropy: bytes,
    *,
    vacuum: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Forgotten:
    """Remove the person with address *text* from the store at *path*; counts stay.

    *entropy*: 8 random bytes, kept nowhere, that become the marker. *vacuum* rewrites the whole file afterwards, which
    keeps every writer waiting (they spool meanwhile). :class:`UsageError` if *text* is no address.
    """
    address = Address(text)
    found = Forgotten(f"forgotten-{entropy.hex()}")
    with contextlib.closing(open_reader(path)) as reader, contextlib.closing(_open(path)) as transactions:
        deliveries = _deliveries(reader, address)
        found.still_queued = sum(state in (0, 2) for _, _, _, state in deliveries)
        _drop_clients(transactions, deliveries, found, pause)
        for table in _tables(reader):
            batch: list[tuple[tuple[Any, ...], dict[str, str]]] = []
            for item in _mentions(reader, table, address):
                batch.append(item)
                if len(batch) >= ROWS_A_TRANSACTION:
                    _replace(transactions, table, batch, address, found, pause)
                    batch = []
            _replace(transactions, table, batch, address, found, pause)
        if vacuum:
            transactions.connection.execute("VACUUM")
    checkpoint(path)
    found.remnants = _holds(path, address)
    return found


def _open(path: Path) -> Transactions:
    connection = open_writer(path)
    connection.execute("PRAGMA secure_delete = ON")
    return Transactions(connection, WriteLock(path))


def _deliveries(reader: sqlite3.Connection, address: Address) -> list[tuple[int, int, int, int]]:
    """Return number, message, index and state of the deliveries to *address*."""
    delivery = _Table("delivery", ("recipient", "original_recipient"), ("rowid",))
    numbers = [key[0] for key, _ in _mentions(reader, delivery, address)]
    rows = reader.execute(
        "SELECT id, message, idx, state FROM delivery WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(numbers),),
    )
    return [tuple(row) for row in rows.fetchall()]


def _drop_clients(
    transactions: Transactions,
    deliveries: list[tuple[int, int, int, int]],
    found: Forgotten,
    pause: Callable[[float], None],
) -> None:
    for start in range(0, len(deliveries), ROWS_A_TRANSACTION):
        started = time.perf_counter()
        with transactions.begin() as transaction:
            for delivery, message, index, _ in deliveries[start : start + ROWS_A_TRANSACTION]:
                # Index 0: the message was one body for all its recipients; whose hit it is nobody knows.
                found.hits += transaction.execute(
                    "UPDATE event SET client = NULL, user_agent = NULL WHERE message = ? AND (delivery = ? OR"
                    " coalesce(recipient_idx, 0) IN (0, ?)) AND (client IS NOT NULL OR user_agent IS NOT NULL)",
                    (message, delivery, index),
                ).rowcount
        pause(time.perf_counter() - started)


def _replace(
    transactions: Transactions,
    table: _Table,
    batch: list[tuple[tuple[Any, ...], dict[str, str]]],
    address: Address,
    found: Forgotten,
    pause: Callable[[float], None],
) -> None:
    if not batch:
        return
    started = time.perf_counter()
    where = " AND ".join(f"{column} = ?" for column in table.key)
    with transactions.begin() as transaction:
        for key, naming in batch:
            written = 0
            for column, text in naming.items():
                # Only what still says the same: somebody may have changed it since it was read.
                change = f"UPDATE {table.name} SET {column} = ? WHERE {where} AND {column} = ?"
                written += _write(transaction, change, (*key, text), found.marker, partial(address.replace, text))
            found.rows[table.name] = found.rows.get(table.name, 0) + (written > 0)
        bump(transaction, MERGES)  # what the log parser remembers of a delivery would be written back
        bump(transaction, SWEPT)
    pause(time.perf_counter() - started)


def _write(
    transaction: Transaction, change: str, values: tuple[Any, ...], marker: str, replaced: Callable[[str], str]
) -> int:
    """Carry out *change* with the text that *replaced* makes of a marker; return how many rows changed.

    Where a text may stand only once, those that told ``Ann@`` from ``ann@`` apart would become the same: the marker of
    the second gets a number, and whoever referred to either still does.
    """
    number = 1
    while True:
        text = replaced(marker if number == 1 else f"{marker}.{number}")
        try:
            return transaction.execute(change, (text, *values)).rowcount
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode not in _TWICE:
                raise
            number += 1


def _holds(path: Path, address: Address) -> bool:
    """Return whether the bytes of the store's files still name *address*, in free space or anywhere."""
    for name in (path.name, f"{path.name}-wal"):
        file = path.with_name(name)
        if not file.exists() or not file.stat().st_size:
            continue
        with file.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as data:
            pattern = re.compile(b"|".join(re.escape(needle.encode()) for needle in address.needles()), re.IGNORECASE)
            for match in pattern.finditer(data):
                around = data[max(0, match.start() - 64) : match.end() + 64].decode("utf-8", "replace")
                if address.is_in(around):
                    return True
    return False


def in_spool(path: Path, spool_dir: Path, text: str) -> dict[str, list[str]]:
    """Return the lines that are about the person with address *text*, by file of *spool_dir*, ``.bad`` ones included.

    Those that name the address, and hits on messages that the store at *path* knows were theirs.
    """
    address = Address(text)
    with contextlib.closing(open_reader(path)) as reader:
        hers = {
            (base64.b64encode(tracking_id).decode("ascii"), recipient)
            for _, message, index, _ in _deliveries(reader, address)
            for (tracking_id,) in reader.execute("SELECT tracking_id FROM message WHERE id = ?", (message,))
            if tracking_id is not None
            for recipient in (0, index)
        }
    found: dict[str, list[str]] = {}
    for file in sorted(spool_dir.glob("*")) if spool_dir.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # replayed in this moment
            for line in file.read_text("ascii", "replace").splitlines():
                if address.is_in(line) or _hit_key(line) in hers:
                    found.setdefault(file.name, []).append(line)
    return found


def _hit_key(line: str) -> tuple[str, int] | None:
    try:
        event = json.loads(line)
        return (event["tracking_id"], event["recipient"]) if event["kind"] == "hit" else None
    except (ValueError, TypeError, KeyError):
        return None


def export(path: Path, text: str, spool_dir: Path | None = None) -> dict[str, Any]:
    """Return everything the store at *path* holds about the person with address *text*, as one JSON document.

    Deliveries to the address with their messages; what happened to them, hits with the reader's address and agent
    included (of mail with one body for several recipients: every hit, for it may be theirs); each other row that names
    the address; and what waits in *spool_dir*. Other recipients' addresses are not in it, except within texts that name
    both.
    """
    spooled = in_spool(path, spool_dir, text) if spool_dir is not None else {}
    address = Address(text)
    with contextlib.closing(open_reader(path)) as reader:
        reader.execute("BEGIN")  # one moment
        deliveries = _deliveries(reader, address)
        return {
            "address": address.text,
            "messages": [_exported(reader, *item) for item in deliveries],
            "mentions": {
                table.name: rows
                for table in _tables(reader)
                if table.name != "delivery" and (rows := [naming for _, naming in _mentions(reader, table, address)])
            },
            "spool": spooled,
        }


def _exported(reader: sqlite3.Connection, delivery: int, message: int, index: int, _state: int) -> dict[str, Any]:
    about = reader.execute("SELECT * FROM messages WHERE id = ?", (message,)).fetchone()
    row = reader.execute("SELECT * FROM deliveries WHERE id = ?", (delivery,)).fetchone()
    engaged = reader.execute(
        "SELECT * FROM engagement WHERE message = ? AND recipient_idx IN (0, ?)", (message, index)
    ).fetchall()
    events = reader.execute(
        "SELECT events.*, event.client, user_agent.text AS user_agent, event.link FROM event"
        " JOIN events ON events.id = event.id LEFT JOIN user_agent ON user_agent.id = event.user_agent"
        " WHERE event.message = ?1 AND (event.delivery = ?2 OR (event.delivery IS NULL AND coalesce(event.recipient_idx, 0) IN (0, ?3)))"
        " ORDER BY event.at_us, event.id",
        (message, delivery, index),
    ).fetchall()
    return {
        "message": _row(about),
        "delivery": _row(row),
        "engagement": [_row(item) for item in engaged],
        "events": [_row(item) for item in events],
    }


def _row(row: sqlite3.Row | None) -> dict[str, Any]:
    return {} if row is None else {key: value for key, value in dict(row).items() if value is not None}
