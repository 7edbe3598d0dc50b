"""An unsubscription is passed on to the sender's own target, and to nothing else."""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postwake.tokens import Token
from postwake_pixelserver.forward import Forwarder, Result, is_public

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to be installed")


class Target:
    """An https server that answers what it is told and remembers what it was asked."""

    def __init__(self, directory: Path) -> None:
        subject = "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
        subprocess.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes {subject} -keyout k -out c".split(),
            cwd=directory,
            check=True,
            capture_output=True,
        )
        self.requests: list[tuple[str, bytes]] = []
        self.statuses: list[int] = []
        """What to answer, in order; 0: drip."""
        self.gone = threading.Event()
        target = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                target.requests.append((self.path, body))
                status = target.statuses.pop(0)
                if status:
                    self.send_response(status)
                    self.send_header("Location", "https://localhost/elsewhere")
                    self.end_headers()
                else:
                    self._drip()

            def _drip(self) -> None:
                """Answer with one byte at a time, for ever."""
                self.connection.sendall(b"HTTP/1.1")
                with contextlib.suppress(OSError):
                    while not target.gone.wait(0.02):
                        self.connection.sendall(b" ")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "c", directory / "k")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}/u?id=1"
        self.client_context = ssl.create_default_context(cafile=str(directory / "c"))
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The sender's list server."""
    made = Target(tmp_path_factory.mktemp("target"))
    yield made
    made.gone.set()
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def outcome(url: str, **options: object) -> Result:
    """Forward one unsubscription and return what became of it."""
    results: list[Result] = []
    forwarder = Forwarder(results.append, tries_after_s=(0.0, 0.01, 0.01), **options)
    forwarder.forward(Token(bytes(16), 1, 0, url))
    deadline = time.monotonic() + 10
    while not results and time.monotonic() < deadline:
        time.sleep(0.01)
    forwarder.close()
    assert len(results) == 1
    return results[0]


def local(address: str) -> bool:
    """Allow the test's own server."""
    return ipaddress.ip_address(address).is_loopback and "." in address


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([200], "told"),
        ([202], "told"),
        ([302], "refused"),
        ([404], "refused"),
        ([500, 503, 200], "told"),
        ([500] * 3, "failed"),
    ],
    ids=str,
)
def test_status_decides(target: Target, statuses: list[int], expected: Result) -> None:
    """2xx: told; a redirect or 4xx: refused, not followed; 5xx: tried again, three times in all."""
    target.requests.clear()
    target.statuses = list(statuses)
    assert outcome(target.url, allowed=local, context=target.client_context) == expected
    assert target.requests == [("/u?id=1", b"List-Unsubscribe=One-Click")] * len(statuses)


def test_every_address_is_tried(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target with an address that cannot be reached, such as one of IPv6 from a host without, is told at the next."""
    target.requests.clear()
    target.statuses = [200]
    port = target.server.server_address[1]
    look_up = socket.getaddrinfo

    def two(host: str, *rest: object, **more: object) -> list[tuple[object, ...]]:
        if host != "localhost":
            return look_up(host, *rest, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.0", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert outcome(target.url, allowed=local, context=target.client_context) == "told"
    assert len(target.requests) == 1


def test_certificate_must_be_valid(target: Target) -> None:
    """A certificate that nobody vouches for is nobody's."""
    target.requests.clear()
    assert outcome(target.url, allowed=local) == "failed"
    assert target.requests == []


def test_private_addresses_are_not_called(target: Target) -> None:
    """A mail cannot have us call inside."""
    target.requests.clear()
    assert outcome(target.url, context=target.client_context) == "failed"
    assert target.requests == []


def test_a_target_that_drips_is_left(target: Target) -> None:
    """One byte now and then keeps no thread: a try has its time, however lively the other side looks."""
    target.requests.clear()
    target.statuses = [0] * 3
    started = time.monotonic()
    assert outcome(target.url, allowed=local, context=target.client_context, timeout_s=0.3) == "failed"
    assert time.monotonic() - started < 5
    assert len(target.requests) == 3


@pytest.mark.parametrize("url", ["http://example.com/u", "mailto:u@example.com", "https://", "javascript:1"])
def test_only_https(url: str) -> None:
    """Nothing but https is called."""
    assert outcome(url) == "not_https"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", False),
        ("64:ff9b::5db8:d70e", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a01:203", False),
        ("2002:7f00:1::1", False),
        ("2001:0:7f00:1::1", False),
        ("224.0.0.1", False),
        ("ff0e::1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
    ],
)
def test_public(address: str, expected: bool) -> None:
    """Only the public net is public."""
    assert is_public(address) is expected
