"""No hit lost: many hits from many connections while others write to the same store, and things go wrong.

    PYTHONPATH=lab python bench/pixel_holds.py [--hits 100000] [--connections 64]
        [--trouble none|lock|kill] [--lock-seconds 30]

The real server, a real client, and beside them a process that commits milter rows one at a time and one that commits
log events 500 at a time. ``lock``: another process sits on the store's lock in the middle; ``kill``: the server is
killed with SIGKILL in the middle and started again. At the end every answered hit must be in the store, once.
Prints rates, latencies, and the worker's memory at the beginning and the end. Exit status
1 if anything is missing, double, or 5xx.
"""

from __future__ import annotations

import argparse
import itertools
import os
import selectors
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from postwake.events import Accepted, Direction, EventType
from postwake.keyfile import add_key, read_keys
from postwake.store.apply import apply_event
from postwake.store.connection import WriteLock, migrate_file, open_reader, open_writer
from postwake.store.transaction import Transactions
from postwake.tokens import Purpose, Token
from postwake.tracking_id import make_tracking_id
from postwake_lab.ports import free_ports

MESSAGES = 1000
AGENT = b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\r\n"


def write_beside(path: Path, how: str) -> None:
    """The other writers, until killed: what the milter (one row a commit) and the log parser (500) do to the store."""
    transactions = Transactions(open_writer(path, busy_timeout_ms=60_000), WriteLock(path))
    for number in itertools.count():
        now_us = time.time_ns() // 1000
        with transactions.begin(60.0) as transaction:
            if how == "milter":
                who = (
                    f"Q{number}",
                    "mail",
                    f"{number}@example.com",
                    "news@example.com",
                    "example.com",
                    ("a@example.net",),
                )
                event = Accepted(
                    now_us, make_tracking_id(now_us, os.urandom(10)), Direction.OUTBOUND, *who, tracked=True
                )
                apply_event(transaction, event)
            else:
                rows = [(now_us, EventType.REJECTED, str(n)) for n in range(500)]
                transaction.executemany("INSERT INTO event (at_us, type, detail) VALUES (?, ?, ?)", rows)
        time.sleep(0.02 if how == "milter" else 0.2)


class Client:
    """One request in flight on each connection; what was answered, and how."""

    def __init__(self, port: int, directory: Path, connections: int) -> None:
        self.port, self.connections = port, connections
        self.ring = read_keys(directory / "keys")
        self.ids = [make_tracking_id(time.time_ns() // 1000, os.urandom(10)) for _ in range(MESSAGES)]
        self.answered: list[int] = []
        self.statuses: Counter[int] = Counter()
        self.latencies_s: list[float] = []
        self.broken = 0

    def run(self, hits: int) -> None:
        """Ask *hits* times, each link number once; a broken connection is tried again with another."""
        selector = selectors.DefaultSelector()
        numbers = iter(range(hits))
        for _ in range(self.connections):
            self._connect(selector, numbers)
        while selector.get_map():
            for key, _ in selector.select(1):
                self._read(selector, key.fileobj, key.data, numbers)

    def _connect(self, selector, numbers) -> None:
        while True:
            try:
                client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
                break
            except OSError:
                time.sleep(0.02)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send(selector, client, numbers)

    def _send(self, selector, client, numbers) -> None:
        number = next(numbers, None)
        if number is None:
            if client in [key.fileobj for key in selector.get_map().values()]:
                selector.unregister(client)
            client.close()
            return
        token = Token(self.ids[number % MESSAGES], 1, number, f"https://example.com/{number % 50}")
        path = f"/c/{self.ring.sign(Purpose.CLICK, token)}"
        state = [number, time.perf_counter(), b""]
        try:
            selector.modify(client, selectors.EVENT_READ, state)
        except KeyError:
            selector.register(client, selectors.EVENT_READ, state)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: t\r\n".encode() + AGENT)

    def _read(self, selector, client, state, numbers) -> None:
        try:
            got = client.recv(65536)
        except OSError:
            got = b""
        if not got:
            self.broken += 1
            selector.unregister(client)
            client.close()
            self._connect(selector, numbers)
            return
        state[2] += got
        head, end, _ = state[2].partition(b"\r\n\r\n")
        if not end:
            return
        status = int(head.split()[1])
        self.statuses[status] += 1
        self.latencies_s.append(time.perf_counter() - state[1])
        if status == 307:
            self.answered.append(state[0])
        try:
            self._send(selector, client, numbers)
        except OSError:
            self.broken += 1
            selector.unregister(client)
            client.close()
            self._connect(selector, numbers)


def start(directory: Path, port: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "postwake_cli", "--config", str(directory / "postwake.toml"), "pixelserver"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server
        except OSError:
            time.sleep(0.02)


def memory_mb(pid: int) -> int:
    """Return the biggest resident size among *pid* and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    sizes = [
        int(line.split()[1])
        for one in (pid, *children)
        for line in Path(f"/proc/{one}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return max(sizes) // 1024


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--trouble", choices=["none", "lock", "kill"], default="none")
    parser.add_argument("--lock-seconds", type=float, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return hold(Path(name), arguments)


def hold(directory: Path, arguments: argparse.Namespace) -> int:
    """Run it in *directory*."""
    store = directory / "postwake.db"
    migrate_file(store)
    add_key(directory / "keys", "2026-01-01T00:00:00Z")
    [port] = free_ports(1)
    (directory / "postwake.toml").write_text(
        f'[store]\npath = "{store}"\nspool_dir = "{directory}/spool"\n'
        f'[tracking]\nurl = "http://127.0.0.1:{port}"\nkeys = "{directory}/keys"\n'
        f'[pixelserver]\nlisten = "127.0.0.1:{port}"\n[metrics]\npixelserver = ""\n'
    )
    server = start(directory, port)
    beside = [subprocess.Popen([sys.executable, __file__, "--beside", str(store), how]) for how in ("milter", "log")]
    client = Client(port, directory, arguments.connections)
    started = time.perf_counter()
    loader = threading.Thread(target=client.run, args=(arguments.hits,))
    loader.start()
    first_mb = 0
    try:
        while loader.is_alive() and len(client.answered) < arguments.hits // 2:
            time.sleep(0.05)
            if not first_mb and len(client.answered) > arguments.hits // 20:
                first_mb = memory_mb(server.pid)
        if arguments.trouble == "lock":
            blocker = sqlite3.connect(store, timeout=60, isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            time.sleep(arguments.lock_seconds)
            blocker.close()
        elif arguments.trouble == "kill":
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            server = start(directory, port)
        loader.join()
        took_s = time.perf_counter() - started
        last_mb = memory_mb(server.pid)
        deadline = time.monotonic() + 60
        while list((directory / "spool").glob("*.spool")) and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        for process in beside:
            process.kill()
            process.wait()
        server.terminate()
        server.wait()
    connection = open_reader(store)
    rows = [row[0] for row in connection.execute("SELECT link FROM event WHERE type = ?", (EventType.CLICKED,))]
    others = connection.execute("SELECT count(*) FROM event WHERE type <> ?", (EventType.CLICKED,)).fetchone()[0]
    connection.close()
    stored = Counter(rows)
    missing = sum(number not in stored for number in client.answered)
    double = sum(n > 1 for n in stored.values())
    bad = sum(n for status, n in client.statuses.items() if status != 307)
    latencies = sorted(client.latencies_s)
    p50_ms, p99_ms = latencies[len(latencies) // 2] * 1e3, latencies[len(latencies) * 99 // 100] * 1e3
    count = len(client.answered)
    print(
        f"trouble {arguments.trouble}: {count} answered in {took_s:.0f} s ({count / took_s:.0f}/s,"
        f" load {os.getloadavg()[0]:.0f}), {len(stored)} stored beside {others} other events, missing {missing},"
        f" double {double}, not 307 {bad}, connections broken {client.broken}; p50 {p50_ms:.1f} ms,"
        f" p99 {p99_ms:.1f} ms, max {latencies[-1] * 1e3:.0f} ms; worker {first_mb} MB, then {last_mb} MB"
    )
    return 1 if missing or double or bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--beside"]:
        write_beside(Path(sys.argv[2]), sys.argv[3])
    sys.exit(main())
