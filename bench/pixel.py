"""What recording costs the pixel server: hits committed before the answer, against the same server's static reply.

    python bench/pixel.py [--connections 64] [--seconds 3] [--workers 1] [--rounds 5] [--no-peers]

Starts the daemon on a loopback port with a store of its own and asks it over kept-alive connections from another
process. In turn with: the same server's static reply; a Flask application under gunicorn's threads that writes each hit
in a transaction of its own (gunicorn is fetched into a temporary environment); nginx's empty_gif, as the limit. Prints
rates, ratios, latencies, the server's CPU time a request (which a busy machine changes less), and whether every
answered hit is in the store exactly once. Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import itertools
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from postwake.keyfile import add_key, read_keys
from postwake.store.connection import migrate_file, open_reader
from postwake.tokens import Purpose, Token
from postwake.tracking_id import make_tracking_id
from postwake_lab.ports import free_ports

MESSAGES = 2000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: t\r\nUser-Agent: {AGENT}\r\n\r\n".encode()


def load(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> None:
    """The client process: one request in flight on each connection; prints one line of figures."""
    selector = selectors.DefaultSelector()
    latencies_s: list[float] = []
    bad = 0

    def send(state: list) -> None:
        state[1:] = [time.perf_counter(), b""]
        state[0].sendall(next(requests))

    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        state: list = [client, 0.0, b""]
        selector.register(client, selectors.EVENT_READ, state)
        send(state)
    started = time.perf_counter()
    waiting = connections
    while waiting:
        going_on = time.perf_counter() - started < seconds
        for key, _ in selector.select(5):
            state = key.data
            state[2] += state[0].recv(65536)
            head, end, body = state[2].partition(b"\r\n\r\n")
            if not end or len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
                continue
            latencies_s.append(time.perf_counter() - state[1])
            bad += head.split()[1] not in (b"200", b"307")
            if going_on:
                send(state)
            else:
                selector.unregister(state[0])
                state[0].close()
                waiting -= 1
    took_s = time.perf_counter() - started
    latencies_s.sort()
    count = len(latencies_s)
    p50, p99 = latencies_s[count // 2] * 1e3, latencies_s[count * 99 // 100] * 1e3
    print(count, bad, count / took_s, p50, p99, latencies_s[-1] * 1e3)


def main() -> int:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return run(Path(name), arguments)


def run(directory: Path, arguments: argparse.Namespace) -> int:
    """Start the server in *directory*, measure, compare."""
    migrate_file(directory / "postwake.db")
    add_key(directory / "keys", "2026-01-01T00:00:00Z")
    [port] = free_ports(1)
    (directory / "postwake.toml").write_text(
        f'[store]\npath = "{directory}/postwake.db"\nspool_dir = "{directory}/spool"\n'
        f'[tracking]\nurl = "http://127.0.0.1:{port}"\nkeys = "{directory}/keys"\n'
        f'[pixelserver]\nlisten = "127.0.0.1:{port}"\nworkers = {arguments.workers}\n'
        '[metrics]\npixelserver = ""\n'
    )
    ring = read_keys(directory / "keys")
    paths = []
    for number in range(2 * MESSAGES):
        if number % MESSAGES == 0:
            ids = [make_tracking_id(time.time_ns() // 1000, os.urandom(10)) for _ in range(MESSAGES)]
        token = Token(ids[number % MESSAGES], 1, number % 9, f"https://example.com/{number % 50}")
        paths.append(
            f"/c/{ring.sign(Purpose.CLICK, token)}" if number % 2 else f"/o/{ring.sign(Purpose.OPEN, token)}.gif"
        )
    (directory / "recorded").write_text("\n".join(paths))
    (directory / "static").write_text("/healthz")
    command = [sys.executable, "-m", "postwake_cli", "--config", str(directory / "postwake.toml"), "pixelserver"]
    peers: dict[str, tuple[int, subprocess.Popen]] = {}
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    peers["static"] = peers["recorded"] = await_port(port), server
    if not arguments.no_peers:
        peers |= start_peers(directory)
    try:
        return measure(directory, peers, arguments)
    finally:
        for _, process in peers.values():
            process.terminate()
        for _, process in peers.values():
            process.wait()


def await_port(port: int) -> int:
    """Return *port* once somebody answers there."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return port
        except OSError:
            time.sleep(0.05)


_PEER = """
import sqlite3, threading, time
from flask import Flask, Response, redirect, request
app, local = Flask("peer"), threading.local()
PIXEL = bytes(43)
def hit(kind, token):
    if not hasattr(local, "db"):
        local.db = sqlite3.connect("peer.db", timeout=30, isolation_level=None)
        local.db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS hit"
                               " (id INTEGER PRIMARY KEY, at REAL, kind TEXT, token TEXT, agent TEXT, client TEXT)")
    local.db.execute("INSERT INTO hit (at, kind, token, agent, client) VALUES (?, ?, ?, ?, ?)",
                     (time.time(), kind, token, request.headers.get("User-Agent"), request.remote_addr))
@app.get("/o/<token>")
def pixel(token):
    hit("open", token)
    return Response(PIXEL, mimetype="image/gif")
@app.get("/c/<token>")
def click(token):
    hit("click", token)
    return redirect("https://example.com/", 307)
"""


def start_peers(directory: Path) -> dict[str, tuple[int, subprocess.Popen]]:
    """Start the naive application and nginx in *directory*."""
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    pip = [directory / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "gunicorn", "flask"]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    (directory / "peer.py").write_text(_PEER)
    naive, nginx = free_ports(2)
    gunicorn = [directory / "venv/bin/gunicorn", "-k", "gthread", "--threads", "16", "--keep-alive", "60"]
    processes = {
        "naive": (
            naive,
            subprocess.Popen(
                [*gunicorn, "-b", f"127.0.0.1:{naive}", "peer:app"], cwd=directory, stderr=subprocess.DEVNULL
            ),
        )
    }
    (directory / "nginx.conf").write_text(
        f"daemon off; pid {directory}/nginx.pid; error_log /dev/null; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; keepalive_requests 1000000000;\n"
        f"server {{ listen 127.0.0.1:{nginx}; location / {{ empty_gif; }} }} }}\n"
    )
    processes["nginx"] = nginx, subprocess.Popen(["nginx", "-c", directory / "nginx.conf"], stderr=subprocess.DEVNULL)
    for port, _ in processes.values():
        await_port(port)
    (directory / "naive").write_text((directory / "recorded").read_text())
    (directory / "nginx").write_text((directory / "recorded").read_text())
    return processes


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of *pid* and its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(cpu_s(int(child)) for child in children)


def measure(directory: Path, peers: dict[str, tuple[int, subprocess.Popen]], arguments: argparse.Namespace) -> int:
    """Measure in turns and print."""
    answered = 0
    rates: dict[str, list[float]] = {kind: [] for kind in peers}
    costs_us: dict[str, list[float]] = {kind: [] for kind in peers}
    print(f"{arguments.connections} connections, {arguments.workers} worker(s); load {os.getloadavg()[0]:.1f}")
    for _ in range(arguments.rounds):
        for kind, (port, process) in peers.items():
            client = [sys.executable, __file__, "--client", str(port), str(directory / kind)]
            client += [str(arguments.connections), str(arguments.seconds)]
            before_s = cpu_s(process.pid)
            count, bad, rate, p50, p99, worst = map(
                float, subprocess.run(client, capture_output=True, text=True, check=True).stdout.split()
            )
            used_us = (cpu_s(process.pid) - before_s) / count * 1e6
            rates[kind].append(rate)
            costs_us[kind].append(used_us)
            answered += int(count) if kind == "recorded" else 0
            print(
                f"{kind:>9}: {rate:8.0f}/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  max {worst:6.1f} ms"
                f"  CPU {used_us:4.0f} us  bad {bad:.0f}"
            )
    connection = open_reader(directory / "postwake.db")
    stored, distinct = connection.execute("SELECT count(*), count(DISTINCT hit_id) FROM event").fetchone()
    connection.close()
    for kind in peers:
        if kind != "recorded":
            ratios = [one / other for one, other in zip(rates["recorded"], rates[kind], strict=True)]
            by_cpu = [other / one for one, other in zip(costs_us["recorded"], costs_us[kind], strict=True)]
            print(f"recorded / {kind}: {_list(ratios)}; by CPU time {_list(by_cpu)}")
    print(f"answered {answered}, in the store {stored}, distinct {distinct}")
    return 0 if answered == stored == distinct else 1


def _list(ratios: list[float]) -> str:
    return f"median {median(ratios):.2f} of {', '.join(f'{ratio:.2f}' for ratio in ratios)}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        asked = map(get, itertools.cycle(Path(sys.argv[3]).read_text().split()))
        load(int(sys.argv[2]), asked, int(sys.argv[4]), float(sys.argv[5]))
        sys.exit(0)
    sys.exit(main())
