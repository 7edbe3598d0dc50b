"""A real server for the tests: the daemon's own processes on a free loopback port, spoken to with http.client."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from postwake.config import Config, parse
from postwake.keyfile import add_key, read_keys
from postwake.store.connection import migrate_file, open_reader
from postwake.tokens import KeyRing, Privacy, Purpose, Token
from postwake.tracking_id import make_tracking_id
from postwake_lab.ports import free_ports

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"

_START = """
import sys, tomllib
from pathlib import Path
from postwake.config import load
from postwake.service import set_up_logging
from postwake_pixelserver.daemon import serve
set_up_logging("INFO")
serve(load(Path(sys.argv[1])), sys.argv[1])
"""


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """A running daemon, its store and its keys."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    """Added to ours when it is started."""

    @property
    def config_path(self) -> Path:
        """Where its configuration stands."""
        return self.directory / "postwake.toml"

    @property
    def store(self) -> Path:
        """The store."""
        return Path(self.options.get("store", {}).get("path", self.directory / "postwake.db"))

    @property
    def spool(self) -> Path:
        """The spool's directory."""
        return Path(self.options.get("store", {}).get("spool_dir", self.directory / "spool"))

    @property
    def keys(self) -> KeyRing:
        """Its keys."""
        return read_keys(self.directory / "keys")

    def config(self) -> Config:
        """Its configuration."""
        pixel = {"listen": f"127.0.0.1:{self.port}", **self.options.get("pixelserver", {})}
        return parse(
            {
                "store": {
                    "path": str(self.store),
                    "spool_dir": str(self.spool),
                    **self.options.get("store", {}),
                },
                "tracking": {
                    "url": "https://t.example.com",
                    "keys": str(self.directory / "keys"),
                    **self.options.get("tracking", {}),
                },
                "pixelserver": pixel,
                "metrics": {"pixelserver": self.options.get("metrics", "")},
            },
            "test",
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        config = self.config()
        lines = []
        for section in ("store", "tracking", "pixelserver", "metrics"):
            lines.append(f"[{section}]")
            for key, value in getattr(config, section).model_dump(exclude_unset=True).items():
                if isinstance(value, bool):
                    lines.append(f"{key} = {str(value).lower()}")
                elif isinstance(value, int | list):
                    lines.append(f"{key} = {value}")
                else:
                    lines.append(f'{key} = "{value}"')
        self.config_path.write_text("\n".join(lines) + "\n")
        log = (self.directory / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(self.config_path)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **self.environment},
        )
        log.close()
        self.await_ready()

    def await_ready(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                pytest.fail(f"the server left with {self.process.returncode}:\n{self.log()}")
            try:
                if self.get("/healthz").status == 200:
                    return
            except OSError:
                time.sleep(0.02)
        pytest.fail(f"the server does not answer:\n{self.log()}")

    def spooled(self) -> list[Path]:
        """Return the spool files that wait."""
        return list(self.spool.glob("*.spool"))

    def await_replay(self) -> None:
        """Wait until no spool file is left."""
        await_true(lambda: not self.spooled(), "the spool was not replayed")

    def log(self) -> str:
        """Return what it logged."""
        return (self.directory / "log").read_text()

    def await_log(self, words: str, times: int = 1) -> None:
        """Wait until it has logged *words* so many *times*."""
        deadline = time.monotonic() + 20
        while self.log().count(words) < times:
            assert time.monotonic() < deadline, f"not logged: {words}\n{self.log()}"
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and return its exit status; SIGKILL goes to all its processes."""
        assert self.process is not None
        if number == signal.SIGKILL:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.send_signal(number)
        return self.process.wait(30)

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Return the answer to one request, sent as it stands."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True, skip_host="Host" in (headers or {}))
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """Return the answer to a browser's GET."""
        return self.request(
            "GET", path, {"User-Agent": BROWSER, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )

    def raw(self, data: bytes, timeout_s: float = 5.0) -> bytes:
        """Send bytes and return all bytes that come back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as client:
            client.sendall(data)
            out = b""
            while chunk := client.recv(65536):
                out += chunk
            return out

    def token(self, purpose: Purpose, url: str = "", **fields: Any) -> str:
        """Return a signed token."""
        fields.setdefault("tracking_id", make_tracking_id(time.time_ns() // 1000, os.urandom(10)))
        fields.setdefault("recipient", 1)
        return self.keys.sign(purpose, Token(url=url, privacy=fields.pop("privacy", Privacy.FULL), **fields))

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return what the store says."""
        connection = open_reader(self.store)
        try:
            return [tuple(row) for row in connection.execute(sql, parameters)]
        finally:
            connection.close()

    def lock_store(self) -> sqlite3.Connection:
        """Hold SQLite's write lock until the connection is closed."""
        connection = sqlite3.connect(self.store, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        return connection


def await_true(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Poll until *condition* holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture(scope="session")
def make_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Make servers with given options; all are killed at the end."""
    made: list[Server] = []

    def make(*, start: bool = True, **options: Any) -> Server:
        directory = tmp_path_factory.mktemp("pixelserver")
        migrate_file(directory / "postwake.db")
        add_key(directory / "keys", "2026-11-22T05:30:00Z")
        server = Server(directory, free_ports(1)[0], options=options)
        made.append(server)
        if start:
            server.start()
        return server

    yield make
    for server in made:
        if server.process is not None and server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait(10)


@pytest.fixture(scope="session")
def server(make_server: Callable[..., Server]) -> Server:
    """One server with default options, shared by the tests that only ask it things."""
    return make_server()


@pytest.fixture
def free_port_number() -> int:
    """A port that nobody has now, such as for the metrics listener."""
    return free_ports(1)[0]


@pytest.fixture(scope="session", name="await_true")
def await_true_() -> Callable[..., None]:
    """Poll until a condition holds."""
    return await_true


@pytest.fixture(scope="session")
def browser() -> str:
    """A browser's User-Agent."""
    return BROWSER
