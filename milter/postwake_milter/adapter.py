"""The only file that imports pymilter: libmilter's callbacks turned into whole messages, and edits back.

The rules it keeps, each learnt the hard way:

- Nothing but pymilter's own calls, queue operations and waiting happens on libmilter's threads (see
  :mod:`postwake_milter.pool`).
- Everything is computed before the first edit. Then header changes, then one ``replacebody(bytes)``, last: an
  exception after a first ``replacebody`` can deliver half a body. An error before edits begin accepts the message
  unchanged; after, the client is told to try again (451).
- HELO and unknown commands are declined in the negotiation, so that the MTA never sends them: a non-UTF-8 HELO makes
  pymilter's C wrapper answer 451 for ever. Header values and addresses are taken as bytes. The exception policy
  CONTINUE covers only what fails before Python is reached (a non-UTF-8 header name: that field is skipped; a
  non-UTF-8 client name: the client stays unknown).
- Only body pieces (which may be answered with "skip the rest") and the end of a message are answered: where the MTA
  agreed to no reply, a callback must return NOREPLY, or libmilter writes a complaint to syslog each time.
- One connection carries many messages: all state of a message begins at MAIL FROM.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import Milter

import milter
from postwake.events import Direction
from postwake.tracking_id import make_tracking_id
from postwake_milter.handle import Envelope, Handled, Handler
from postwake_milter.policy import Origin
from postwake_milter.rewrite.headers import Fields
from postwake_milter.shared_stats import WorkerStats

log = logging.getLogger("postwake.milter")

Process = Callable[[Envelope], Handled]

CONTINUE: int = Milter.CONTINUE
ACCEPT: int = Milter.ACCEPT
TEMPFAIL: int = Milter.TEMPFAIL
SKIP: int = Milter.SKIP
NOREPLY: int = Milter.NOREPLY

_ACTIONS: int = Milter.ADDHDRS | Milter.CHGHDRS | Milter.CHGBODY
_NO_CALL: int = Milter.P_NOHELO | Milter.P_NODATA | Milter.P_NOEOH | Milter.P_NOUNKNOWN
_NO_REPLY: int = Milter.P_NR_CONN | Milter.P_NR_MAIL | Milter.P_NR_RCPT | Milter.P_NR_HDR
_PROTOCOL: int = _NO_CALL | _NO_REPLY | Milter.P_SKIP
_MACROS = {
    Milter.M_CONNECT: "j",
    Milter.M_ENVFROM: "{auth_authen}",
    Milter.M_EOM: "i",
    # A stage cannot be given none, and one that is not named gets the MTA's own list: the one it has sent already.
    Milter.M_HELO: "j",
    Milter.M_ENVRCPT: "j",
    Milter.M_DATA: "j",
    Milter.M_EOH: "j",
}
"""What we read, and when: the queue ID is known from DATA on, the login from MAIL on."""

_SMALL_BYTES = 131_072
"""So much of a body is always taken: large mail does not keep others, such as newsletters, from being tracked."""


class Application:
    """What sessions need from the worker process: replaceable parts in one place."""

    def __init__(self, handler: Handler, process: Process, stats: WorkerStats) -> None:
        """Take the handler of the current configuration, what handles a message, and the process's counters."""
        self.handler = handler
        self.process = process
        self.stats = stats
        self.begun: set[Session] = set()
        """Those with a message on its way."""
        self.held: dict[Session, int] = {}
        """Bytes of the bodies that are in memory. Each call on it is one of C's, so that it needs no lock."""


class Session(Milter.Base):  # type: ignore[misc]  # pymilter has no types
    """One connection of the MTA."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._client_name = ""
        # From outside, for all we know: of a client whose name is not UTF-8 we are not told (see above).
        self._client_ip = "unknown"
        self._origin = Origin()
        self._begin(b"")

    def _end(self) -> None:
        self._begin(b"")
        self._application.begun.discard(self)

    def _release(self) -> None:
        self._application.held.pop(self, None)

    def _begin(self, sender: bytes) -> None:
        self._sender = sender
        self._recipients: list[bytes] = []
        self._fields: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._size_bytes = 0
        self._skipped: str | None = None

    def negotiate(self, options: list[int]) -> int:
        """Take of what the MTA offers only what we need."""
        offered_actions, offered_protocol = options[0], options[1]
        self._actions = offered_actions & _ACTIONS
        self._protocol = offered_protocol & _PROTOCOL
        if offered_actions & Milter.SETSYMLIST:
            for stage, names in _MACROS.items():
                self._ctx.setsymlist(stage, names)
        options[:] = [self._actions | offered_actions & Milter.SETSYMLIST, self._protocol, 0, 0]
        return CONTINUE

    def _answer(self, no_reply: int) -> int:
        return NOREPLY if self._protocol & no_reply else CONTINUE

    def connect(self, hostname: str, _family: int, address: Any) -> int:
        """Note where the connection comes from."""
        self._client_name = hostname
        self._client_ip = address[0] if isinstance(address, tuple) else ""
        return self._answer(Milter.P_NR_CONN)

    def envfrom_bytes(self, sender: bytes, *_parameters: bytes) -> int:
        """Begin a message."""
        self._release()
        self._begin(sender)
        self._origin = Origin(self._client_ip, self._macro("{auth_authen}"))
        self._application.begun.add(self)
        return self._answer(Milter.P_NR_MAIL)

    def envrcpt_bytes(self, recipient: bytes, *_parameters: bytes) -> int:
        """Note a recipient."""
        self._recipients.append(recipient)
        return self._answer(Milter.P_NR_RCPT)

    def header_bytes(self, name: str, value: bytes) -> int:
        """Note a header field."""
        self._fields.append((name.encode("utf-8", "surrogateescape"), b" " + value))
        return self._answer(Milter.P_NR_HDR)

    def body(self, chunk: bytes) -> int:
        """Take a piece of the body; say as soon as it is known that the rest is not wanted."""
        limits, held = self._application.handler.config.milter, self._application.held
        if self._skipped is None and not self._chunks and self._is_inbound():
            self._skipped = "inbound"
        self._size_bytes += len(chunk)
        if self._skipped is None and self._size_bytes > limits.max_message_bytes:
            self._skipped = "too-large"
        if self._skipped is None:
            held[self] = self._size_bytes
            if self._size_bytes > _SMALL_BYTES and len(held) > 1 and sum(held.values()) > limits.max_held_bytes:
                self._skipped = "busy"
        if self._skipped is None:
            self._chunks.append(chunk)
            return CONTINUE
        self._chunks = []
        self._release()
        return SKIP if self._protocol & Milter.P_SKIP else CONTINUE

    def eom(self) -> int:
        """Handle the message; fail open."""
        started = time.perf_counter()
        stats = self._application.stats
        queue_id = self._macro("i")
        edits_started = False
        try:
            handled = self._application.process(self._envelope(queue_id))
            # Nothing between the edits and the verdict: Postfix before August 2026 commits a damaged queue file when a
            # milter dies (kill -9) between the two.
            self._end()
            stats.count(handled.outcome, time.perf_counter() - started, handled.malformed_controls)
            if handled.header_changes or handled.body is not None:
                edits_started = True
                self._edit(handled)
            return ACCEPT
        except Exception:  # the milter's fail-open edge
            log.exception("%s: %s", queue_id, "told to try again" if edits_started else "sent on unchanged")
            stats.count("tempfailed" if edits_started else "failed", time.perf_counter() - started)
            self._end()
            return TEMPFAIL if edits_started else ACCEPT
        finally:
            self._release()

    def abort(self) -> int:
        """Forget the message; may come without one, and twice."""
        self._end()
        self._release()
        return CONTINUE

    def close(self) -> int:
        """End of the connection; may come before connect."""
        self._end()
        self._release()
        return CONTINUE

    def _edit(self, handled: Handled) -> None:
        for change in handled.header_changes:
            name = change.name.decode("utf-8")  # of a field that is taken out, as it came
            if change.index:
                value = None if change.value is None else change.value.decode("ascii")
                self.chgheader(name, change.index, value)
            else:
                assert change.value is not None
                self.addheader(name, change.value.decode("ascii"))
        if handled.body is not None:
            self.replacebody(handled.body)

    def _is_inbound(self) -> bool:
        return self._application.handler.direction(self._origin) is Direction.INBOUND

    def _macro(self, name: str) -> str:
        try:
            return self.getsymval(name) or ""
        except UnicodeDecodeError:  # a macro that is not UTF-8
            return ""

    def _envelope(self, queue_id: str) -> Envelope:
        at_us = time.time_ns() // 1000
        # Half of the edits would be worse than none.
        skipped = self._skipped if self._actions == _ACTIONS else "body-not-offered"
        body, self._chunks = b"".join(self._chunks), []
        return Envelope(
            at_us=at_us,
            tracking_id=make_tracking_id(at_us, os.urandom(10)),
            queue_id=queue_id,
            host=self._macro("j"),
            sender=_address(self._sender),
            recipients=tuple(_address(recipient) for recipient in self._recipients),
            origin=self._origin,
            client=f"{self._client_name}[{self._client_ip}]" if self._client_name else "",
            fields=Fields(self._fields),
            body=body,
            body_skipped=skipped,
            size_bytes=self._size_bytes,
        )


def _address(raw: bytes) -> str:
    """Return an envelope address without its brackets."""
    text = raw.decode("utf-8", "replace").strip()
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


def serve(listener: int, application: Application) -> None:
    """Serve the MTA on the listening descriptor *listener* until :func:`stop`. Blocks; not for the main thread."""
    Milter.factory = lambda: Session(application)
    Milter.set_flags(_ACTIONS | Milter.SETSYMLIST)
    milter.set_exception_policy(Milter.CONTINUE)
    Milter.runmilter("postwake", f"fd:{listener}", timeout=0, rmsock=False)


def stop() -> None:
    """Make :func:`serve` return, within some five seconds."""
    milter.stop()
