"""Free loopback ports."""

from __future__ import annotations

import socket
import time


def free_ports(count: int) -> list[int]:
    """Return *count* loopback ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


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
