"""The pixel server's memory against the hits it has recorded: is it flat?

    PYTHONPATH=lab python bench/pixel_memory.py [--minutes 10] [--connections 64] [--every 100000]
    PYTHONPATH=lab python bench/pixel_memory.py --in-process [--hits 10000000] [--minutes 20] [--every 1000000]

No two hits are alike: 50,000 messages, readers anywhere (behind one proxy hop), 50,000 agents, a million
destinations, so that every cache fills to its bound. The first form drives the real server with a real client for so
many minutes. The second takes the same hits through everything but HTTP and Flask (token, verdict, privacy, writer,
group commit) in this process, which is fast enough for ten million. Prints resident memory against hits, and at the
end by how much it grew over the second half.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pixel import await_port, cpu_s, load
from postwake.config import Config, parse
from postwake.events import EventType, Hit
from postwake.keyfile import add_key, read_keys
from postwake.store.connection import migrate_file, open_reader
from postwake.store.recorder import Recorder
from postwake.tokens import Purpose, Token
from postwake.tracking_id import make_tracking_id
from postwake_lab.ports import free_ports
from postwake_pixelserver import destination, peer, privacy
from postwake_pixelserver.live import read_live

MESSAGES = AGENTS = 50_000
DESTINATIONS = 1_000_000


def asked(keys_file: Path, seed: int) -> Iterator[tuple[Purpose, str, str, str]]:
    """Yield purpose, token, reader's address and agent of one hit after the other."""
    keys, some = read_keys(keys_file), random.Random(seed)
    born_us = time.time_ns() // 1000
    while True:
        number = some.randrange(MESSAGES)
        tracking_id = make_tracking_id(born_us + number, number.to_bytes(10, "big"))
        agent = f"Mozilla/5.0 (X11; Linux x86_64; rv:{some.randrange(AGENTS)}.0) Gecko/20100101 Firefox/128.0"
        client = f"{some.randrange(1, 224)}.{some.randrange(256)}.{some.randrange(256)}.{some.randrange(256)}"
        if some.random() < 0.5:
            yield Purpose.OPEN, keys.sign(Purpose.OPEN, Token(tracking_id, 1)), client, agent
        else:
            url = f"https://example.com/{some.randrange(DESTINATIONS)}"
            yield Purpose.CLICK, keys.sign(Purpose.CLICK, Token(tracking_id, 1, number % 9, url)), client, agent


def requests(keys_file: Path) -> Iterator[bytes]:
    """Yield the same as HTTP requests."""
    for purpose, token, client, agent in asked(keys_file, os.getpid()):
        path = f"/o/{token}.gif" if purpose is Purpose.OPEN else f"/c/{token}"
        head = f"GET {path} HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: {client}\r\nUser-Agent: {agent}\r\n\r\n"
        yield head.encode()


def rss_kb(pid: int | str = "self") -> int:
    """Return the resident memory of *pid* that is its own: files it has mapped (the store's WAL index) apart."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0])


class Table:
    """Prints memory against hits as they come."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._rows: list[tuple[int, int]] = []
        self._started_s = time.perf_counter()

    def look(self, hits: int, pid: int | str = "self", *, last: bool = False) -> None:
        """Print a line if *hits* has grown by enough."""
        if last or hits >= (self._rows[-1][0] + self._every if self._rows else self._every // 10):
            self._rows.append((hits, rss_kb(pid)))
            rate = hits / (time.perf_counter() - self._started_s)
            print(f"{hits:>10} hits  {self._rows[-1][1] / 1024:6.1f} MB  ({rate:.0f}/s)", flush=True)

    def end(self) -> None:
        """Say how it went."""
        (half, before), (hits, after) = self._rows[len(self._rows) // 2], self._rows[-1]
        print(f"from {half} to {hits} hits: {(after - before) / 1024:+.1f} MB")


def make(directory: Path, port: int) -> Path:
    """Make store, keys and configuration; return the latter's path."""
    migrate_file(directory / "postwake.db")
    add_key(directory / "keys", "2026-01-01T00:00:00Z")
    path = directory / "postwake.toml"
    path.write_text(
        f'[store]\npath = "{directory}/postwake.db"\nspool_dir = "{directory}/spool"\n'
        f'[tracking]\nurl = "http://127.0.0.1:{port}"\nkeys = "{directory}/keys"\n'
        f'[pixelserver]\nlisten = "127.0.0.1:{port}"\nproxy_hops = 1\n[metrics]\npixelserver = ""\n'
    )
    return path


def live(directory: Path, arguments: argparse.Namespace) -> None:
    """Drive the real server."""
    [port] = free_ports(1)
    config = make(directory, port)
    server = subprocess.Popen([sys.executable, "-m", "postwake_cli", "--config", str(config), "pixelserver"])
    try:
        await_port(port)
        command = [sys.executable, __file__, "--client", str(port), str(directory / "keys")]
        command += [str(arguments.connections), str(arguments.minutes * 60)]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        table = Table(arguments.every)
        reader = open_reader(directory / "postwake.db")
        hits, worker = 0, 0
        while client.poll() is None:
            time.sleep(1)
            worker = worker or max(children(server.pid), key=cpu_s, default=0)
            hits = reader.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()[0]
            table.look(hits, worker)
        table.look(hits, worker, last=True)
        table.end()
        count, bad, rate, _, p99_ms, _ = map(float, client.communicate()[0].split())
        stored = reader.execute("SELECT count(*) FROM event").fetchone()[0]
        reader.close()
        print(f"answered {count:.0f} ({rate:.0f}/s, p99 {p99_ms:.0f} ms), bad {bad:.0f}, in the store {stored}")
    finally:
        server.terminate()
        server.wait()


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


class Batch:
    """Hits for the writer, and knowing when they are committed."""

    def __init__(self, hits: list[Hit], room: threading.Semaphore) -> None:
        self._hits, self._room = hits, room

    def take(self) -> list[Hit]:
        return self._hits

    def written(self, problems: Mapping[int, Exception]) -> None:
        assert not problems, problems
        self._room.release()

    def refused(self, error: Exception) -> None:
        raise error


def in_process(directory: Path, arguments: argparse.Namespace) -> None:
    """Take hits through everything but HTTP and Flask."""
    path = make(directory, 8025)
    config: Config = parse(
        {
            "store": {"path": str(directory / "postwake.db"), "spool_dir": str(directory / "spool")},
            "tracking": {"url": "http://127.0.0.1:8025", "keys": str(directory / "keys")},
        },
        str(path),
    )
    rules_and_keys = read_live(config)
    recorder = Recorder(config.store.path, config.store.spool_dir, "pixelserver", synchronous="FULL")
    room = threading.Semaphore(4)
    table = Table(arguments.every)
    source = asked(directory / "keys", 1)
    gc.freeze()
    deadline_s = time.perf_counter() + arguments.minutes * 60
    for start in itertools.count(0, 64):
        if start >= arguments.hits or time.perf_counter() > deadline_s:
            break
        hits = []
        for purpose, text, forwarded, agent in itertools.islice(source, 64):
            token = rules_and_keys.keys.verify(purpose, text)
            assert token is not None
            client = peer.client_address("127.0.0.1", forwarded, 1)
            kind = "open" if purpose is Purpose.OPEN else "click"
            verdict = rules_and_keys.rules.classify(kind, "GET", {"user-agent": agent}, client)
            if token.url:
                assert destination.location(token.url)
            at_us = time.time_ns() // 1000
            hit = Hit(
                make_tracking_id(at_us, os.urandom(10)), at_us,
                EventType.OPENED if purpose is Purpose.OPEN else EventType.CLICKED,
                token.tracking_id, token.recipient, token.link, token.url, verdict.who, verdict.reason, client, agent,
            )  # fmt: skip
            kept = privacy.apply(hit, b"")
            assert kept is not None
            hits.append(kept)
        room.acquire()
        recorder.writer.submit_batch(Batch(hits, room), len(hits))
        table.look(start + 64)
    recorder.close()
    table.look(start, last=True)
    table.end()
    reader = open_reader(directory / "postwake.db")
    stored, distinct = reader.execute("SELECT count(*), count(DISTINCT hit_id) FROM event").fetchone()
    print(f"submitted {start}, in the store {stored}, distinct {distinct}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-process", action="store_true")
    parser.add_argument("--hits", type=int, default=10_000_000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--every", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        (in_process if arguments.in_process else live)(Path(name), arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        load(int(sys.argv[2]), requests(Path(sys.argv[3])), int(sys.argv[4]), float(sys.argv[5]))
        sys.exit(0)
    main()
