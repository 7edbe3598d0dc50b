"""Passing an unsubscription on to the sender's own List-Unsubscribe target (``notify_sender_unsubscribe``).

When our one-click header stands before the sender's own, a provider calls ours; the sender's list software has to
hear of it, too. One thread POSTs what RFC 8058 section 3.2 has a provider POST, without following redirects, with a
few tries. The unsubscription itself is in the store before this begins; what cannot be delivered is counted and logged.

Security: the target was signed by us, but came from a mail. So: https only, a verified certificate, only addresses of
the public net (checked on the very address that is connected to), and only the status of the answer is looked at.

Limits: what waits is in memory; a restart forgets it. The store still has the unsubscription.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import logging
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Literal
from urllib.parse import urlsplit

from postwake.tokens import Token
from postwake.tracking_id import format_tracking_id
from postwake_pixelserver.destination import location

log = logging.getLogger("postwake.pixelserver")

Result = Literal["told", "refused", "failed", "not_https", "dropped"]
BODY = b"List-Unsubscribe=One-Click"
MAX_WAITING = 1000
TIMEOUT_S = 10.0
TRIES_AFTER_S = (0.0, 5.0, 60.0)


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_INSIDE = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32", "::ffff:0:0/96")))
"""6to4, Teredo and IPv4-mapped addresses: no target needs them, and each holds an IPv4 address of anybody's choice."""


def is_public(address: str) -> bool:
    """Whether *address* is one of the public net, and leads to one (RFC 6052: NAT64)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if found in _NAT64:
        found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found.is_global and not found.is_multicast and not any(found in network for network in _INSIDE)


class Forwarder:
    """The thread and its queue. ``forward`` never blocks."""

    def __init__(
        self,
        on_result: Callable[[Result], None],
        *,
        allowed: Callable[[str], bool] = is_public,
        context: ssl.SSLContext | None = None,
        tries_after_s: tuple[float, ...] = TRIES_AFTER_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Start the thread. *on_result* is told what became of each; *allowed* judges addresses."""
        self._on_result = on_result
        self._allowed = allowed
        self._context = context or ssl.create_default_context()
        self._tries_after_s = tries_after_s
        self._timeout_s = timeout_s
        self._queue: queue.Queue[Token | None] = queue.Queue(MAX_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unsubscribe-forward", daemon=True)
        self._thread.start()

    def forward(self, token: Token) -> None:
        """Queue the target of an unsubscribe *token*; nothing if it carries none."""
        if not token.url:
            return
        try:
            self._queue.put_nowait(token)
        except queue.Full:
            self._say("dropped", token, f"{MAX_WAITING} are waiting")

    def close(self) -> None:
        """Try what waits once more, briefly, and stop."""
        self._stop.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        while (token := self._queue.get()) is not None:
            self._forward(token)

    def _forward(self, token: Token) -> None:
        target = location(token.url)
        if target is None or not target.lower().startswith("https:"):
            return self._say("not_https", token, "no https URL")
        problem = ""
        for wait_s in self._tries_after_s:
            if wait_s and self._stop.wait(wait_s):
                break
            try:
                status = self._post(target)
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if status < 500:
                # A 3xx is a refusal, too: RFC 8058 section 3.1 forbids the target to redirect.
                return self._say("told" if 200 <= status < 300 else "refused", token, f"status {status}")
            problem = f"status {status}"
        return self._say("failed", token, problem)

    def _post(self, target: str) -> int:
        parts = urlsplit(target)
        host, port = parts.hostname or "", parts.port or 443
        # In the order given: first those that can be reached from here (RFC 6724), such as no IPv6 where there is none.
        found = dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        public = [address for address in found if self._allowed(address)]
        if not public:
            raise ValueError(f"{host} has no public address")
        connection = _PinnedConnection(host, port, public, self._context, self._timeout_s)
        # A socket's timeout begins anew with each byte: one that drips would keep this thread for days.
        end = threading.Timer(self._timeout_s, connection.cut)
        end.start()
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "Postwake"}
            connection.request("POST", path, BODY, headers)
            return connection.getresponse().status
        finally:
            end.cancel()
            connection.close()

    def _say(self, result: Result, token: Token, detail: str) -> None:
        self._on_result(result)
        level = logging.INFO if result == "told" else logging.WARNING
        log.log(
            level, "unsubscribe_forward=%s message=%s detail=%s", result, format_tracking_id(token.tracking_id), detail
        )


class _PinnedConnection(http.client.HTTPSConnection):
    """HTTPS to the very addresses that were judged, the first that answers, under the name that the certificate has
    to carry.
    """

    def __init__(
        self, host: str, port: int, addresses: Sequence[str], context: ssl.SSLContext, timeout_s: float
    ) -> None:
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._timeout_s = timeout_s
        self._addresses = addresses
        self._plain: socket.socket | None = None
        self._pinned_context = context

    def connect(self) -> None:
        plain = self._plain = self._reach()
        plain.settimeout(self._timeout_s)
        try:
            self.sock = self._pinned_context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise

    def _reach(self) -> socket.socket:
        *others, last = self._addresses
        patience_s = self._timeout_s / len(self._addresses)  # all of them within the time for one
        for address in others:
            with contextlib.suppress(OSError):
                return socket.create_connection((address, self.port), patience_s)
        return socket.create_connection((last, self.port), patience_s)

    def cut(self) -> None:
        """End whatever is going on, from another thread."""
        for there in (self.sock, self._plain):
            if there is not None:
                with contextlib.suppress(OSError):
                    there.shutdown(socket.SHUT_RDWR)
