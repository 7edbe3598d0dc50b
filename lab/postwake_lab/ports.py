"""Free loopback ports."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time

# Below 32768, where Linux takes the ports of outgoing connections from: one of those took the port of a Postfix that
# was about to start. Each process has its own hundred, so that tests beside each other don't choose the same either.
_FIRST, _BLOCKS, _BLOCK = 10_000, 220, 100
_next = itertools.count()


def free_ports(count: int) -> list[int]:
    """Return *count* loopback ports that nobody has now, and that no other process of the tests chooses."""
    ports: list[int] = []
    while len(ports) < count:
        port = _FIRST + os.getpid() % _BLOCKS * _BLOCK + next(_next) % _BLOCK
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def wait_for_port(port: int, timeout_s: float = 20.0) -> None:
    """Return when something listens on *port*; TimeoutError if nothing does in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on 127.0.0.1:{port} after {timeout_s:.0f} s") from None
            time.sleep(0.05)
