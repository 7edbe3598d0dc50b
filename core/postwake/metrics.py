"""Serving metrics: one loopback listener a service, on a registry of our own.

Names start ``postwake_``, base units, bounded labels only: never an address, a recipient's domain, a queue ID or
a URL. What there is: docs/metrics.md, which a test compares with what the services really serve.

Security: ``prometheus_client.start_http_server`` listens on every address unless told; here the address is always
told.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from wsgiref.simple_server import WSGIServer

# Read when prometheus_client is imported: a series of creation times beside every counter helps nobody here.
os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "True")

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from postwake import __version__
from postwake.config_values import parse_listener
from postwake.errors import UnavailableError


def serve(listener: str, registry: CollectorRegistry) -> Callable[[], None] | None:
    """Serve *registry* on ``HOST:PORT``; return what stops it, or None if *listener* is empty."""
    if not listener:
        return None
    host, port = parse_listener(listener)
    try:
        server, thread = start_http_server(port, host, registry=registry)
    except OSError as error:
        raise UnavailableError(f"metrics listener {listener}: {error.strerror}: expected a free address") from None
    return _Stopper(server, thread)


class _Stopper:
    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server, self._thread = server, thread

    def __call__(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def new_registry(service: str) -> CollectorRegistry:
    """Return a registry that says which release of which service this is."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Build(service))
    return registry


class _Build(Collector):
    def __init__(self, service: str) -> None:
        self._service = service
        self._started_at = time.time()

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("postwake_build_info", "The running release.", labels=("service", "version"))
        build.add_metric((self._service, __version__), 1)
        started = GaugeMetricFamily(
            "postwake_start_timestamp_seconds", "When the service was started.", labels=("service",)
        )
        started.add_metric((self._service,), self._started_at)
        yield from (build, started)
