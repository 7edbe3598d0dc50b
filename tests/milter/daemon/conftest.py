"""A real daemon without Postfix, and a client that speaks the milter protocol to it byte by byte.

The protocol is Postfix's src/milter/milter8.c: packets of a 4-byte length (big-endian), a command letter, data.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from postwake.keyfile import add_key
from postwake.store.connection import migrate_file, open_reader

ALL_ACTIONS = 0x1FF
ALL_PROTOCOL = 0x1FFFFF
"""What Postfix 3.7 offers: every callback may be left out or left unanswered, SKIP, leading space."""
ANSWERED = b"BE"
"""The commands that Postfix waits for an answer to, after our negotiation: body and end of message."""


@dataclass
class Client:
    """One connection as an MTA makes it."""

    path: Path
    sent: list[tuple[bytes, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Connect."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(str(self.path))

    def send(self, letter: bytes, data: bytes = b"") -> None:
        """Send one packet."""
        self.socket.sendall(struct.pack(">I", 1 + len(data)) + letter + data)

    def receive(self) -> tuple[bytes, bytes]:
        """Return the next packet's letter and data; EOFError when the daemon hung up."""
        (length,) = struct.unpack(">I", self._exactly(4))
        packet = self._exactly(length)
        return packet[:1], packet[1:]

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def negotiate(self, actions: int = ALL_ACTIONS, protocol: int = ALL_PROTOCOL) -> tuple[int, int, int, bytes]:
        """Offer *actions* and *protocol*; return version, actions, protocol, macro lists that were asked for."""
        self.send(b"O", struct.pack(">III", 6, actions, protocol))
        letter, data = self.receive()
        assert letter == b"O"
        return (*struct.unpack(">III", data[:12]), data[12:])

    def macros(self, stage: bytes, *pairs: bytes) -> None:
        """Give macros for the command *stage*: name, value, name, value."""
        self.send(b"D", stage + b"".join(item + b"\0" for item in pairs))

    def connect(self, address: bytes = b"127.0.0.1", name: bytes = b"client.test", *, negotiate: bool = True) -> None:
        """Negotiate, and say who the SMTP client is."""
        if negotiate:
            self.negotiate()
        self.macros(b"C", b"j", b"mx.example.com")
        self.send(b"C", name + b"\0" + b"4" + struct.pack(">H", 2525) + address + b"\0")

    def envelope(self, sender: bytes = b"news@example.com", *recipients: bytes, login: bytes = b"") -> None:
        """Send MAIL FROM and RCPT TO."""
        if login:
            self.macros(b"M", b"{auth_authen}", login)
        self.send(b"M", b"<" + sender + b">\0")
        for recipient in recipients or (b"ada@accept.test",):
            self.send(b"R", b"<" + recipient + b">\0")

    def header(self, message: bytes) -> bytes:
        """Send the header of *message* as Postfix does (bare LF folding, one space eaten); return the body."""
        head, _, body = message.partition(b"\r\n\r\n")
        for line in head.replace(b"\r\n ", b"\n ").replace(b"\r\n\t", b"\n\t").split(b"\r\n"):
            name, _, value = line.partition(b":")
            self.send(b"L", name + b"\0" + value.removeprefix(b" ") + b"\0")
        return body

    def body(self, data: bytes, *, piece: int = 65535) -> list[bytes]:
        """Send the body in pieces as long as more is wanted; return the answers' letters."""
        answers = []
        for at in range(0, len(data), piece):
            self.send(b"B", data[at : at + piece])
            answers.append(self.receive()[0])
            if answers[-1] != b"c":
                break
        return answers

    def end(self, queue_id: bytes = b"4Q1") -> list[tuple[bytes, bytes]]:
        """Send end-of-message; return every packet up to the verdict."""
        self.macros(b"E", b"i", queue_id)
        self.send(b"E")
        packets = [self.receive()]
        while packets[-1][0] not in (b"a", b"c", b"t", b"r", b"d", b"y"):
            packets.append(self.receive())
        return packets

    def message(self, message: bytes, queue_id: bytes = b"4Q1", **envelope: Any) -> list[tuple[bytes, bytes]]:
        """Send one message from MAIL FROM to its end; return what the daemon did at the end."""
        self.envelope(**envelope)
        self.body(self.header(message))
        return self.end(queue_id)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


_CONFIG = """
[store]
path = "{directory}/postwake.db"
spool_dir = "{directory}/spool"
[tracking]
url = "https://track.example.com"
sender_domains = ["example.com"]
keys = "{directory}/keys"
{tracking}
[milter]
socket = "{directory}/milter.sock"
workers = {workers}
{milter}
[metrics]
milter = ""
"""


class Daemon:
    """``postwake milter`` as a process of its own."""

    def __init__(self, directory: Path, *, workers: int = 1, milter: str = "", tracking: str = "") -> None:
        """Write configuration, keys and store under *directory*."""
        self.directory = directory
        self.socket = directory / "milter.sock"
        self.config = directory / "postwake.toml"
        self._options = {"directory": str(directory), "workers": workers}
        self.configure(milter=milter, tracking=tracking)
        add_key(directory / "keys", "2026-01-01T00:00:00Z")
        migrate_file(directory / "postwake.db")
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    def configure(self, *, milter: str = "", tracking: str = "") -> None:
        """Write the configuration file."""
        self.config.write_text(_CONFIG.format(**self._options, milter=milter, tracking=tracking))

    def start(self) -> None:
        """Start it and wait for the line that says it is ready."""
        ready = self.log.read_text(errors="replace").count("state=ready") if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "postwake_cli", "--config", str(self.config), "milter"], stderr=log
            )
        self.wait_for_log("state=ready", ready + 1)

    def wait_for_log(self, text: str, count: int = 1, timeout_s: float = 20.0) -> None:
        """Wait until *text* has been logged *count* times."""
        assert self.process is not None
        self.wait_until(lambda: self.log.read_text(errors="replace").count(text) >= count, timeout_s, f"log {text!r}")

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 20.0, what: str = "condition") -> None:
        """Wait until *condition* holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.log.read_text(errors='replace')}"
            time.sleep(0.01)

    def client(self) -> Client:
        """Connect."""
        client = Client(self.socket)
        self._clients.append(client)
        return client

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Run *query* on the store."""
        with closing(open_reader(self.directory / "postwake.db")) as connection:
            return [tuple(row) for row in connection.execute(query)]

    def workers(self) -> list[int]:
        """Return the worker processes."""
        assert self.process is not None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def signal(self, number: int) -> None:
        """Send a signal to the daemon."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        """Stop it as systemd would; return its exit status."""
        for client in self._clients:
            client.close()
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(25)
        except subprocess.TimeoutExpired:
            for pid in self.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture
def make_daemon() -> Iterator[Callable[..., Daemon]]:
    """Start daemons that are stopped at the end; a UNIX socket's path must be short, so not under pytest's own."""
    daemons: list[Daemon] = []

    def make(*, started: bool = True, **options: Any) -> Daemon:
        daemon = Daemon(Path(tempfile.mkdtemp(prefix="pw-")), **options)
        daemons.append(daemon)
        if started:
            daemon.start()
        return daemon

    yield make
    for daemon in daemons:
        if daemon.process is not None:
            daemon.stop()
            print(daemon.log.read_text(errors="replace")[-3000:])
        shutil.rmtree(daemon.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One daemon for the tests of a module that do not disturb one another: each message has a queue ID of its own."""
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="pw-")), milter="max_message_bytes = 200000")
    daemon.start()
    yield daemon
    daemon.stop()
    shutil.rmtree(daemon.directory, ignore_errors=True)
