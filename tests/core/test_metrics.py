"""Metrics: what the store says, on loopback, also while there is no store."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from postwake import __version__
from postwake.errors import UnavailableError
from postwake.events import Direction, EventType, Who
from postwake.metrics import new_registry, serve
from postwake.store import hits
from postwake.store.bulk import Bulk
from postwake.store.store_metrics import StoreCollector
from postwake.store.transaction import Transactions
from postwake_lab.ports import free_ports

Make = Callable[..., Any]


def exposed(*collectors: Any) -> dict[str, float]:
    """Return what a scrape of *collectors* says."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


def test_what_the_store_has(store: Path, apply: Make, accepted: Make, hit: Make) -> None:
    """Mail by state and direction, and hits by who made them."""
    apply(
        accepted(1),
        accepted(2, direction=Direction.INBOUND, tracked=False, untracked_reason="inbound"),
        hit(1, who=Who.HUMAN),
        hit(2, who=Who.MACHINE),
        hit(3, EventType.CLICKED),
    )
    found = exposed(StoreCollector(store))
    assert found["postwake_store_up"] == 1
    assert found['postwake_mail_total{direction="outbound",state="accepted"}'] == 1
    assert found['postwake_mail_total{direction="inbound",state="received"}'] == 1
    assert found['postwake_engagement_total{type="opened"}'] == 2
    assert found['postwake_engagement_verdicts{type="clicked",who="unknown"}'] == 1


def test_counters_never_go_down(
    store: Path, apply: Make, accepted: Make, hit: Make, transactions: Transactions
) -> None:
    """A verdict that is revised, and a row that comes late, take nothing off any counter."""
    apply(hit(1, who=Who.UNKNOWN))
    before = exposed(StoreCollector(store))
    with transactions.begin() as transaction:
        hits.relabel(transaction, 1, Who.MACHINE, "burst", 1)
    apply(accepted())
    after = exposed(StoreCollector(store))
    counters = [name for name in before if "_total" in name]
    assert counters
    assert all(after[name] >= before[name] for name in counters)
    assert after['postwake_engagement_verdicts{type="opened",who="machine"}'] == 1


def test_counters_of_what_is_counted_elsewhere_later(
    store: Path, apply: Make, accepted: Make, transactions: Transactions
) -> None:
    """The milter's row, late, says another sender domain than the log: no counter goes down; a restored store's may."""
    clock = [0]
    collector = StoreCollector(store, ["example.com"], now_us=lambda: clock[0])
    empty = store.with_name("empty.db")
    empty.write_bytes(store.read_bytes())
    event = accepted()
    with transactions.begin() as transaction:
        bulk = Bulk(transaction)
        message = bulk.new_message(event.at_us, Direction.OUTBOUND, "vendor.example")
        message.queue_id = event.queue_id
        bulk.new_event(event.at_us, EventType.ACCEPTED, message.id)
        bulk.flush()
    before = exposed(collector)
    apply(event)
    clock[0] += 10_000_000
    after = exposed(collector)
    accepted_of = 'postwake_domain_mail_total{{sender_domain="{}",state="accepted"}}'.format
    assert (before[accepted_of("other")], before[accepted_of("example.com")]) == (1, 0)
    assert (after[accepted_of("other")], after[accepted_of("example.com")]) == (1, 1)
    assert all(after[name] >= n for name, n in before.items() if "_total" in name)
    empty.replace(store)
    clock[0] += 10_000_000
    assert exposed(collector)[accepted_of("other")] == 0


@pytest.mark.parametrize("content", [None, b"", b"no database " * 20], ids=["missing", "empty", "garbage"])
def test_store_away(content: bytes | None, tmp_path: Path) -> None:
    """Without a usable store the scrape works and says postwake_store_up 0."""
    path = tmp_path / "postwake.db"
    if content is not None:
        path.write_bytes(content)
    found = exposed(StoreCollector(path))
    assert found["postwake_store_up"] == 0
    assert not [name for name in found if "_total" in name], "zeros would look like a restart"


def test_corrupt_store(store: Path) -> None:
    """A file whose header is right and whose pages are garbage is down as well."""
    with store.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (store.stat().st_size - 4096))
    assert exposed(StoreCollector(store))["postwake_store_up"] == 0


def test_listener() -> None:
    """It listens where it is told and nowhere else, says the release, and stops when told."""
    [port] = free_ports(1)
    stop = serve(f"127.0.0.1:{port}", new_registry("test"))
    assert stop is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert f'postwake_build_info{{service="test",version="{__version__}"}} 1.0' in text
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)
    with pytest.raises(UnavailableError, match=f"metrics listener 127.0.0.1:{port}: Address already in use"):
        serve(f"127.0.0.1:{port}", new_registry("test"))
    stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_no_listener() -> None:
    """An empty address means none."""
    assert serve("", new_registry("test")) is None
