"""What is asked of the world outside: the tracking host over TLS, DNS, blocklists."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from postwake_operate.check_dns import check_with
from postwake_operate.check_web import is_offline, tracking_host


class Healthy(BaseHTTPRequestHandler):
    """Answers as our pixel server does."""

    body = b"ok\n"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


class Foreign(Healthy):
    """Somebody else's page."""

    body = b"Welcome to nginx!"


def make_certificate(path: Path, days: int) -> Path:
    """Make a certificate for localhost that nobody vouches for, with its key in the same file."""
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days {days} -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    subprocess.run([*command.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One that is valid for long."""
    return make_certificate(tmp_path / "localhost.pem", 90)


@pytest.fixture
def serve(certificate: Path) -> Iterator[Callable[..., int]]:
    """Serve HTTPS (or HTTP) on a port of its own."""
    running: list[tuple[HTTPServer, threading.Thread]] = []

    def start(handler: type[BaseHTTPRequestHandler], *, tls: bool = True, certificate: Path = certificate) -> int:
        server = HTTPServer(("127.0.0.1", 0), handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return int(server.server_address[1])

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def test_tracking_host(serve: Callable[..., int], certificate: Path) -> None:
    """A valid chain and our answer are ok; an unknown issuer, a wrong page and no answer each say what they are."""
    url = f"https://localhost:{serve(Healthy)}"
    trusting = ssl.create_default_context(cafile=str(certificate))
    assert tracking_host(url, trusting).status == "ok"
    unknown = tracking_host(url)
    assert (unknown.status, unknown.found) == ("fail", f"{url}: self-signed certificate")
    foreign = tracking_host(f"https://localhost:{serve(Foreign)}", trusting)
    assert "not our pixel server" in foreign.found
    assert tracking_host("https://localhost:1", trusting).found == "https://localhost:1: [Errno 111] Connection refused"
    assert tracking_host(f"http://localhost:{serve(Healthy, tls=False)}").status == "warn"
    assert tracking_host("https://nowhere.invalid").status in ("fail", "skip")


def test_certificate_ends_soon(serve: Callable[..., int], tmp_path: Path) -> None:
    """A certificate that ends within two weeks is told of: the links of all mail that is out there depend on it."""
    ending = make_certificate(tmp_path / "ending.pem", 5)
    url = f"https://localhost:{serve(Healthy, certificate=ending)}"
    finding = tracking_host(url, ssl.create_default_context(cafile=str(ending)))
    assert (finding.status, finding.found) == ("warn", f"{url}: the certificate ends in 5 days")


def test_offline(tmp_path: Path) -> None:
    """No default route, nothing to ask; one of either kind is enough."""
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    (tmp_path / "route").write_text(f"{head}eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
    (tmp_path / "ipv6_route").write_text(
        f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} ffffffff 00000001 00000000 00200200 lo\n"
    )
    assert is_offline(tmp_path)
    (tmp_path / "route").write_text(f"{head}eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")
    assert not is_offline(tmp_path)


GOOD = {
    ("example.com", "TXT"): ["v=spf1 mx -all", "another=record"],
    ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject"],
    ("s1._domainkey.example.com", "TXT"): ["v=DKIM1; k=rsa; p=MIIB"],
    ("mx.example.com", "A"): ["8.8.4.4"],
}


@pytest.mark.parametrize(
    ("changed", "name", "status", "word"),
    [
        ({}, "spf", "ok", "v=spf1 mx -all"),
        ({("example.com", "TXT"): []}, "spf", "warn", "no SPF record"),
        ({("example.com", "TXT"): ["v=spf1 a -all", "v=spf1 mx -all"]}, "spf", "fail", "2 SPF records"),
        ({("example.com", "TXT"): ["v=spf1 +all"]}, "spf", "fail", "everybody may send"),
        ({}, "dmarc", "ok", "p=reject"),
        ({("_dmarc.example.com", "TXT"): []}, "dmarc", "warn", "no DMARC record"),
        ({}, "dkim", "ok", "there"),
        ({("s1._domainkey.example.com", "TXT"): []}, "dkim", "fail", "no key"),
        ({("s1._domainkey.example.com", "TXT"): ["v=DKIM1; p="]}, "dkim", "fail", "withdrawn"),
        ({}, "blocklists", "ok", "is not on zen.spamhaus.org"),
        ({("4.4.8.8.zen.spamhaus.org", "A"): ["127.0.0.2"]}, "blocklists", "fail", "is on zen.spamhaus.org"),
        ({("4.4.8.8.zen.spamhaus.org", "A"): ["127.255.255.254"]}, "blocklists", "skip", "does not answer"),
        ({("mx.example.com", "A"): ["192.168.1.1"]}, "blocklists", None, ""),
    ],
)
def test_dns(changed: dict[tuple[str, str], list[str]], name: str, status: str | None, word: str) -> None:
    """Each record as it should be and as it should not."""
    answers = {**GOOD, **changed}
    found = check_with(lambda host, kind: answers.get((host, kind), []), ["example.com"], "mx.example.com", ("s1",))
    first = next((item for item in found if item.name == name), None)
    assert (first and first.status) == status
    assert first is None or word in first.found


def test_a_subdomain_is_covered_by_its_parents_dmarc() -> None:
    """RFC 7489, section 6.6.3."""
    found = check_with(lambda host, kind: GOOD.get((host, kind), []), ["news.example.com"], "", ())
    assert [item.status for item in found if item.name == "dmarc"] == ["ok"]


def test_no_name_server() -> None:
    """Nothing is wrong because nobody answers."""

    def silent(host: str, kind: str) -> list[str]:
        raise OSError(f"{host}: LifetimeTimeout")

    assert [(item.name, item.status) for item in check_with(silent, ["example.com"], "", ())] == [("dns", "skip")]
