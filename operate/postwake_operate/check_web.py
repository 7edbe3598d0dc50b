"""Checks of what answers over HTTP: metrics listeners, the pixel server here, the tracking host out there."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from postwake.config import Config
from postwake.config_values import parse_listener
from postwake_operate.finding import Finding, fail, ok, skip, warn

PATIENCE_S = 5.0
EXPIRES_SOON_S = 14 * 86_400
_SAMPLE = re.compile(r"([a-z_]+(?:\{[^}]*\})?) ([0-9.e+-]+|NaN|\+Inf)\Z")
_HEALTHY = b"ok\n"


@dataclass(frozen=True, slots=True)
class Scrape:
    """What a metrics listener said."""

    state: Literal["ok", "off", "silent", "foreign"]
    found: str = ""
    values: dict[str, float] = field(default_factory=dict)
    """By name with labels, as the text format has it."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._path)


def scrape(listener: str) -> Scrape:
    """Return what the metrics listener ``HOST:PORT`` says."""
    if not listener:
        return Scrape("off")
    host, port = parse_listener(listener)
    try:
        status, body = _get(http.client.HTTPConnection(host, port, timeout=PATIENCE_S), "/metrics")
    except OSError as error:
        return Scrape("silent", f"{listener}: {error.strerror or error}")
    except http.client.HTTPException:
        return Scrape("foreign", f"{listener}: somebody else answers there")
    values = {}
    for line in body.decode("utf-8", "replace").splitlines():
        match = _SAMPLE.match(line)
        if match:
            values[match[1]] = float(match[2])
    if status != 200 or not any(name.startswith("postwake_build_info{") for name in values):
        return Scrape("foreign", f"{listener}: somebody else answers there")
    return Scrape("ok", listener, values)


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    try:
        connection.request("GET", path, headers={"User-Agent": "postwake-check"})
        response = connection.getresponse()
        return response.status, response.read(1_000_000)
    finally:
        connection.close()


def local(config: Config) -> Iterator[Finding]:
    """Yield what is found of the services' listeners on this machine."""
    yield _pixelserver(config)
    for name, listener in config.metrics.model_dump().items():
        if isinstance(listener, str):
            yield metrics(name, listener)


def metrics(name: str, listener: str) -> Finding:
    """Return what is found of the metrics listener of the service *name*."""
    found = scrape(listener)
    if found.state == "off":
        return skip(f"metrics {name}", "no listener configured")
    if found.state == "silent":
        return fail(f"metrics {name}", found.found, f"systemctl status postwake-{name}")
    if found.state == "foreign":
        advice = f"ss -ltnp; another port in metrics.{name}, or stop what has it"
        return fail(f"metrics {name}", found.found, advice)
    if f'service="{name}"' not in " ".join(found.values):
        advice = f"metrics.{name}: a port of its own"
        return fail(f"metrics {name}", f"{listener}: another service of ours answers there", advice)
    return ok(f"metrics {name}", listener)


def _pixelserver(config: Config) -> Finding:
    name, listen = "pixel server", config.pixelserver.listen
    if listen.startswith("unix:"):
        connection: http.client.HTTPConnection = _UnixConnection(listen.removeprefix("unix:"))
    else:
        host, port = parse_listener(listen)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where to ask, not where to listen
        if config.pixelserver.tls_certificate is not None:
            # Reached by address here: whether name and chain are right is asked at the tracking host.
            context = ssl._create_unverified_context()  # noqa: S323 - we ask ourselves, on this machine
            connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE_S, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        status, body = _get(connection, "/healthz")
    except OSError as error:
        advice = "systemctl status postwake-pixelserver; journalctl -u postwake-pixelserver"
        return fail(name, f"{listen}: {error.strerror or error}", advice)
    except http.client.HTTPException as error:
        return fail(name, f"{listen}: not HTTP: {type(error).__name__}", "ss -ltnp: somebody else has that port")
    if (status, body) != (200, _HEALTHY):
        advice = "ss -ltnp: somebody else has that port; another one in pixelserver.listen, or stop what has it"
        return fail(name, f"{listen}: somebody else answers there (status {status})", advice)
    return ok(name, f"{listen}: answers")


def is_offline(proc: Path = Path("/proc/net")) -> bool:
    """Return whether this machine has no default route, so that nothing out there can be asked."""
    for name, column, default in (("route", 1, "00000000"), ("ipv6_route", 0, "0" * 32)):
        try:
            lines = (proc / name).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > column and fields[column] == default and fields[-1] != "lo":
                return False
    return True


def public(config: Config) -> Iterator[Finding]:
    """Yield what is found of every tracking host, from here."""
    if is_offline():
        yield skip("tracking host", "this machine is offline")
        return
    urls = {config.tracking.url, *(item.url for item in config.domains.values() if item.url)}
    for url in sorted(urls):
        yield tracking_host(url)


def tracking_host(url: str, context: ssl.SSLContext | None = None) -> Finding:
    """Return whether *url* resolves, answers over TLS with a valid chain, and is a pixel server."""
    name = "tracking host"
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            return skip(name, f"{host}: no name server answers")
        return fail(name, f"{host}: does not resolve", "an A or AAAA record that leads to this machine or its proxy")
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(host, parts.port or 80, timeout=PATIENCE_S)
    else:
        context = context or ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, parts.port or 443, timeout=PATIENCE_S, context=context)
    try:
        connection.connect()
        left_s = _certificate_left_s(connection)
        status, body = _get(connection, f"{parts.path}/healthz")
    except ssl.SSLCertVerificationError as error:
        return fail(
            name, f"{url}: {error.verify_message}", "a certificate for that name with its whole chain (fullchain.pem)"
        )
    except (OSError, http.client.HTTPException) as error:
        return fail(name, f"{url}: {error}", "proxy or firewall: port 443 must lead to pixelserver.listen")
    if (status, body) != (200, _HEALTHY):
        return fail(
            name, f"{url}: status {status}, not our pixel server", "the proxy must pass this host to pixelserver.listen"
        )
    if parts.scheme == "http":
        return warn(
            name, f"{url}: answers, without TLS", "https: mail programs warn of plain links, and load no plain pixel"
        )
    if left_s < EXPIRES_SOON_S:
        return warn(
            name,
            f"{url}: the certificate ends in {left_s / 86_400:.0f} days",
            "renew it: has the renewal's timer stopped?",
        )
    return ok(name, f"{url}: resolves, valid chain, answers")


def _certificate_left_s(connection: http.client.HTTPConnection) -> float:
    """Return for how many seconds from now on the other side's verified certificate is valid; without TLS for ever."""
    certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
    if not certificate:
        return float("inf")
    return ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
