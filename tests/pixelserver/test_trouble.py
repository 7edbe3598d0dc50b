"""The store locked, full, read-only, gone, corrupt: readers notice nothing, and every hit is there once afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from postwake.events import EventType, Who, decode
from postwake.store.connection import migrate_file
from postwake.tokens import Purpose
from postwake_lab.disks import fill, mount

TIMEOUT_MS = 2000
URL = "https://bücher.example/a%2Fb/../c?x=1&amp;y=%26&z[]=2#/frag?q=ä&%zz"
LOCATION = "https://xn--bcher-kva.example/a%2Fb/../c?x=1&amp;y=%26&z[]=2#/frag?q=%C3%A4&%zz"


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """A file system of four megabytes."""
    return make_disk("4m")


def no_store(server) -> None:
    """Take the store away, with what SQLite keeps beside it."""
    for path in server.store.parent.glob("postwake.db*"):
        path.unlink()


@contextlib.contextmanager
def locked(server) -> Iterator[None]:
    """Somebody sits on SQLite's write lock."""
    server.start()
    with contextlib.closing(server.lock_store()):
        yield


@contextlib.contextmanager
def full(server) -> Iterator[None]:
    """The store's disk has no byte left, nor the WAL a page that it could use again."""
    server.start()
    ballast = fill(server.store.parent)
    for number in range(300):
        assert server.get(f"/c/{server.token(Purpose.CLICK, f'https://example.com/{number:01900}')}").status == 307
        if server.spooled():
            break
    assert server.spooled()
    yield
    ballast.unlink()


@contextlib.contextmanager
def read_only(server) -> Iterator[None]:
    """The store's file system was mounted read-only."""
    assert mount("-o", "remount,ro", str(server.store.parent))
    server.start()
    yield
    assert mount("-o", "remount,rw", str(server.store.parent))


@contextlib.contextmanager
def gone(server) -> Iterator[None]:
    """The store was deleted under the running server, which holds it open."""
    server.start()
    assert server.get(f"/o/{server.token(Purpose.OPEN)}.gif").status == 200
    no_store(server)
    yield
    migrate_file(server.store)


@contextlib.contextmanager
def corrupt(server) -> Iterator[None]:
    """The store is garbage, until a good one is put in its place."""
    server.store.write_bytes(os.urandom(200_000))
    server.start()
    yield
    no_store(server)
    migrate_file(server.store)


@pytest.mark.parametrize("trouble", [locked, full, read_only, gone, corrupt], ids=lambda trouble: trouble.__name__)
def test_a_store_in_trouble_is_nobody_elses(make_server, small_disk: Path, trouble) -> None:
    """GET and HEAD go exactly where was signed within store_timeout_ms, the rest works, all is recorded once."""
    server = make_server(
        start=False,
        store={"path": str(small_disk / "postwake.db")},
        pixelserver={"store_timeout_ms": TIMEOUT_MS},
    )
    migrate_file(server.store)
    tracking_id = os.urandom(16)
    token = server.token(Purpose.CLICK, URL, tracking_id=tracking_id, link=7)
    asked = [
        ("GET", f"/c/{token}", 307),
        ("HEAD", f"/c/{token}", 307),
        ("GET", f"/o/{server.token(Purpose.OPEN, tracking_id=tracking_id)}.gif", 200),
        ("POST", f"/u/{server.token(Purpose.UNSUBSCRIBE, tracking_id=tracking_id)}", 200),
    ]
    with trouble(server):
        for method, path, status in asked:
            started = time.monotonic()
            answer = server.request(method, path)
            took_s = time.monotonic() - started
            assert (answer.status, took_s < TIMEOUT_MS / 1000) == (status, True), (method, path, took_s)
            if status == 307:
                assert (answer.headers["location"], answer.body) == (LOCATION, b"")
            elif path.endswith(".gif"):
                assert len(answer.body) == 43
        assert server.spooled()
    server.await_replay()
    rows = server.rows(
        "SELECT type, reason, url.text FROM event JOIN message ON message.id = event.message"
        " LEFT JOIN url ON url.id = event.url WHERE tracking_id = ? ORDER BY event.at_us",
        tracking_id,
    )
    assert rows == [
        (EventType.CLICKED, "no-agent", URL),
        (EventType.CLICKED, "head", URL),
        (EventType.OPENED, "no-agent", None),
        (EventType.UNSUBSCRIBED, "one-click", None),
    ]
    assert server.stop() == 0


def test_no_room_for_store_and_spool(make_server, await_true, small_disk: Path) -> None:
    """With both on one full disk links and pixels work, an unsubscription is 503; with room again all is recorded."""
    server = make_server(store={"path": str(small_disk / "postwake.db"), "spool_dir": str(small_disk)}, start=False)
    migrate_file(server.store)
    server.start()
    tracking_id = os.urandom(16)

    def click(link: int) -> int:
        url = f"https://example.com/{link:01900}"
        return server.get(f"/c/{server.token(Purpose.CLICK, url, tracking_id=tracking_id, link=link)}").status

    links = iter(range(10**6))
    before = [next(links) for _ in range(5)]
    assert {click(link) for link in before} == {307}
    ballast = fill(small_disk)
    await_true(lambda: click(next(links)) == 307 and "recorded=no" in server.log(), "the disk is not full")
    assert click(next(links)) == 307
    assert len(server.get(f"/o/{server.token(Purpose.OPEN)}.gif").body) == 43
    answer = server.request("POST", f"/u/{server.token(Purpose.UNSUBSCRIBE)}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    for path in server.spooled():  # what could not be written to its end is cut off
        for line in path.read_text().splitlines(keepends=True):
            assert line.endswith("\n")
            decode(line)
    ballast.unlink()
    server.await_replay()
    after = [next(links) for _ in range(5)]
    assert {click(link) for link in after} == {307}
    server.await_replay()
    stored = [link for (link,) in server.rows("SELECT link FROM event WHERE type = ?", EventType.CLICKED)]
    assert len(stored) == len(set(stored))
    assert set(before) | set(after) <= set(stored)
    assert server.stop() == 0


def test_stopped_while_readers_wait_for_a_locked_store(make_server, await_true) -> None:
    """SIGTERM answers those whose hits wait for the lock, and what they did is there after the next start."""
    server = make_server(pixelserver={"store_timeout_ms": 1000}, store={"busy_timeout_ms": 500})
    assert server.get(f"/o/{server.token(Purpose.OPEN)}.gif").status == 200
    tracking_id = os.urandom(16)
    with contextlib.closing(server.lock_store()), ThreadPoolExecutor(8) as pool:
        clients = []
        for link in range(8):
            client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            path = f"/c/{server.token(Purpose.CLICK, URL, tracking_id=tracking_id, link=link)}"
            client.sendall(f"HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
            clients.append(client)
        await_true(lambda: not _unread(server.port), "the requests were not read")
        server.process.send_signal(signal.SIGTERM)
        answers = list(pool.map(lambda client: client.recv(65536), clients))
        for client in clients:
            client.close()
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 307 Temporary Redirect"}
    assert server.process.wait(30) == 0
    server.start()
    server.await_replay()
    stored = server.rows("SELECT link, who FROM event WHERE type = ? ORDER BY link", EventType.CLICKED)
    assert stored == [(link, Who.MACHINE) for link in range(8)]
    assert server.stop() == 0


def _unread(port: int) -> bool:
    """Return whether any connection to *port* holds bytes that its server has not read (/proc/net/tcp: rx_queue)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == port and fields[4].split(":")[1] != "00000000":
            return True
    return False
