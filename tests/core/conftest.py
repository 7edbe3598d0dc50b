"""Shared by the core's tests: real stores in tmp_path, and events to put into them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postwake.events import Accepted, Direction, Event, EventType, Hit
from postwake.store.apply import apply_event
from postwake.store.connection import WriteLock, migrate_file, open_writer
from postwake.store.transaction import Transactions
from postwake.tracking_id import make_tracking_id

NOON_US = 1_795_348_800_000_000
"""2026-11-22T12:00:00Z."""


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated store that tests copy."""
    path = tmp_path_factory.mktemp("store") / "postwake.db"
    migrate_file(path)
    return path


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Path:
    """A store of one's own."""
    return Path(shutil.copy(empty_store, tmp_path / "postwake.db"))


@pytest.fixture
def noon_us() -> int:
    """The time that events happen at unless they say otherwise."""
    return NOON_US


@pytest.fixture
def tracking_id() -> Callable[..., bytes]:
    """Make the tracking ID number *n*, made at a time."""

    def make(n: int = 1, at_us: int = NOON_US) -> bytes:
        return make_tracking_id(at_us, n.to_bytes(10, "big"))

    return make


@pytest.fixture
def accepted(tracking_id: Callable[..., bytes]) -> Callable[..., Accepted]:
    """Make the milter's event about message *n*."""

    def make(n: int = 1, **changed: Any) -> Accepted:
        at_us = changed.get("at_us", NOON_US)
        values: dict[str, Any] = {
            "at_us": at_us,
            "tracking_id": tracking_id(n, at_us),
            "direction": Direction.OUTBOUND,
            "queue_id": f"4F2A81B3C{n}",
            "host": "mail",
            "message_id": f"m{n}@example.com",
            "sender": "news@example.com",
            "domain": "example.com",
            "recipients": ("ann@example.net",),
            "subject": f"Subject {n}",
            "tracked": True,
        }
        return Accepted(**{**values, **changed})

    return make


@pytest.fixture
def hit(tracking_id: Callable[..., bytes]) -> Callable[..., Hit]:
    """Make hit number *n*, on message 1 unless told."""

    def make(n: int = 1, type_: EventType = EventType.OPENED, message: int = 1, **changed: Any) -> Hit:
        values: dict[str, Any] = {
            "hit_id": n.to_bytes(16, "big"),
            "at_us": NOON_US + 60_000_000,
            "type": type_,
            "tracking_id": tracking_id(message),
            "recipient": 1,
        }
        return Hit(**{**values, **changed})

    return make


@pytest.fixture
def transactions(store: Path) -> Iterator[Transactions]:
    """Write transactions on the store."""
    found = Transactions(open_writer(store), WriteLock(store))
    yield found
    found.close()


@pytest.fixture
def apply(transactions: Transactions) -> Callable[..., None]:
    """Write events, each in a transaction of its own."""

    def write(*events: Event) -> None:
        for event in events:
            with transactions.begin() as transaction:
                apply_event(transaction, event)

    return write


@pytest.fixture
def ask(store: Path) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Run a query with plain sqlite3, which knows nothing of Postwake."""
    connection = sqlite3.connect(store, isolation_level=None)

    def run(sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return connection.execute(sql, values).fetchall()

    yield run
    connection.close()
