"""Between granian and Flask: one event loop answers, and an answer waits for its hit without holding a thread.

Purpose
    Flask makes each answer at once, without waiting for anything. If the answer says that a hit has to be safe first,
    it is kept until the writer has committed the hit with everybody else's, or the spool has it. A thread for each
    request that waits costs more than the request (measured: 4,300 hits/s so, with 64 threads; the interpreter's lock
    goes round between them), and how many may wait would be bounded by the threads.

Limits
    What runs here runs on the loop: it must not block. The store is the writer's thread's, the spool has one of its
    own.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from flask import Flask

from postwake.errors import StoreUnavailableError
from postwake.events import Hit
from postwake.store.recorder import Recorder
from postwake_pixelserver.answer import ANSWER, Answer, Deed
from postwake_pixelserver.measures import Measures

log = logging.getLogger("postwake.pixelserver")

_HEADERS = {
    "user-agent": "HTTP_USER_AGENT",
    "accept-language": "HTTP_ACCEPT_LANGUAGE",
    "x-forwarded-for": "HTTP_X_FORWARDED_FOR",
    "sec-purpose": "HTTP_SEC_PURPOSE",
    "purpose": "HTTP_PURPOSE",
    "x-purpose": "HTTP_X_PURPOSE",
    "x-moz": "HTTP_X_MOZ",
}
"""The only headers that anything here reads; the Host is not among them, so no answer can depend on it."""


class Gateway:
    """The RSGI application that a worker gives to granian."""

    def __init__(
        self, app: Flask, recorder: Recorder, measures: Measures, store_timeout_s: float, *, on_unix_socket: bool
    ) -> None:
        """Take the Flask application whose answers may carry a :class:`Deed`."""
        self._app = app.wsgi_app
        self._measures = measures
        self._unix = on_unix_socket
        self._safe = _Safe(recorder, store_timeout_s)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Meet the loop that the requests will run on."""
        self._safe.loop = loop

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        environ = self._environ(scope)
        self._app(environ, _ignore)
        answer: Answer = environ[ANSWER]
        if answer.deed is not None:
            answer = await self._after_deed(answer, answer.deed)
        if environ["REQUEST_METHOD"] == "HEAD" or not answer.body:
            proto.response_empty(answer.status_code, answer.exact_headers)
        else:
            proto.response_bytes(answer.status_code, answer.exact_headers, answer.body)

    async def _after_deed(self, answer: Answer, deed: Deed) -> Answer:
        """Return *answer* once its hit is safe, or what is to be said if it cannot be made safe."""
        measures = self._measures
        try:
            measures.hit("stored" if await self._safe.record(deed.hit) else "spooled")
        except Exception as error:  # the public edge: a link works whatever becomes of its counting
            measures.hit("lost")
            measures.request(deed.endpoint, "error")
            if not isinstance(error, StoreUnavailableError):
                log.exception("endpoint=%s answered=%s", deed.endpoint, deed.said)
            else:
                log.error("endpoint=%s answered=%s recorded=no error=%s", deed.endpoint, deed.said, error)
            return answer if deed.if_lost is None else deed.if_lost
        if deed.then is not None:
            deed.then()
        deed.done()
        return answer

    def _environ(self, scope: Any) -> dict[str, Any]:
        path: str = scope.path
        environ = {
            "REQUEST_METHOD": scope.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path if path.isascii() else path.encode("utf-8", "replace").decode("latin-1"),
            "QUERY_STRING": scope.query_string,
            # On a UNIX socket there is no address: the proxy says who it is.
            "REMOTE_ADDR": "" if self._unix else scope.client.rpartition(":")[0].strip("[]"),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost",
            "wsgi.url_scheme": "http",
            "wsgi.input": None,
            "wsgi.errors": sys.stderr,
        }
        for name, value in scope.headers.items():
            key = _HEADERS.get(name)
            if key is not None:
                before = environ.get(key)  # repeated fields are one list (RFC 9110 section 5.3)
                environ[key] = value if before is None else f"{before},{value}"
        if "HTTP_USER_AGENT" not in environ and "user-agent" in scope.headers:
            environ["HTTP_USER_AGENT"] = "\ufffd"  # granian gives no value that is not UTF-8: an agent nobody can read
        return environ


def _ignore(*_: object) -> Callable[[bytes], object]:
    """Be the start_response that nobody needs: the answer is taken as it is."""
    return _ignore


class _Waiter:
    """One hit on its way: what the writer and the spooler say about it, and the future that a request waits for."""

    __slots__ = ("_safe", "deadline_s", "future", "hit", "running")

    def __init__(self, safe: _Safe, hit: Hit, future: asyncio.Future[bool], deadline_s: float) -> None:
        self._safe = safe
        self.hit = hit
        self.future = future
        self.deadline_s = deadline_s
        self.running = True

    def set_running_or_notify_cancel(self) -> bool:
        """Return whether the writer shall still write it."""
        return self.running

    def set_result(self, _: None) -> None:
        """Hear from the writer that it is committed."""
        self._safe.tell(self, True)

    def set_exception(self, error: BaseException) -> None:
        """Hear from the writer why it is not."""
        self._safe.tell(self, error)


class _Safe:
    """Gets hits into the store or the spool, from the loop's side of both threads."""

    def __init__(self, recorder: Recorder, timeout_s: float) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._recorder = recorder
        self._timeout_s = timeout_s
        self._told: deque[tuple[_Waiter, bool | BaseException]] = deque()
        self._waking = False
        self._waiting: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._to_spool: queue.SimpleQueue[_Waiter] = queue.SimpleQueue()
        threading.Thread(target=self._spool, name="spool-append", daemon=True).start()

    def record(self, hit: Hit) -> asyncio.Future[bool]:
        """Return a future: True when the store has *hit*, False when the spool has, an error if neither can."""
        loop = self.loop
        assert loop is not None
        waiter = _Waiter(self, hit, loop.create_future(), loop.time() + self._timeout_s)
        if self._recorder.available:
            try:
                self._recorder.writer.submit_hit(hit, waiter)
            except StoreUnavailableError as error:
                self._recorder.trouble(error)
                self._to_spool.put(waiter)
            else:
                self._waiting.append(waiter)
                if self._timer is None:
                    self._timer = loop.call_at(waiter.deadline_s, self._look_at_the_clock)
        else:
            self._to_spool.put(waiter)
        return waiter.future

    def tell(self, waiter: _Waiter, outcome: bool | BaseException) -> None:
        """Hear what has become of a hit, on any thread; the loop is woken once for a whole group."""
        self._told.append((waiter, outcome))
        if not self._waking:
            self._waking = True
            loop = self.loop
            assert loop is not None
            try:
                loop.call_soon_threadsafe(self._hear)
            except RuntimeError:  # the loop has ended: nobody waits any more
                self._waking = False

    def _hear(self) -> None:
        self._waking = False  # first: what is told from now on wakes us again
        told = self._told
        while told:
            waiter, outcome = told.popleft()
            if waiter.future.done():
                continue
            if isinstance(outcome, bool):
                waiter.future.set_result(outcome)
            elif isinstance(outcome, StoreUnavailableError) and waiter.running:
                # Not in the store: into the spool instead.
                waiter.running = False
                self._recorder.trouble(outcome)
                self._to_spool.put(waiter)
            else:
                waiter.future.set_exception(outcome)

    def _look_at_the_clock(self) -> None:
        """Give up on the store for those who have waited long enough; they go to the spool."""
        loop = self.loop
        assert loop is not None
        now_s = loop.time()
        waiting = self._waiting
        late = None
        while waiting and (waiting[0].future.done() or waiting[0].deadline_s <= now_s):
            waiter = waiting.popleft()
            if not waiter.future.done() and waiter.running:
                # If the writer has begun with it, it will be in both: recorded once, by its ID.
                waiter.running = False
                late = waiter
                self._to_spool.put(waiter)
        if late is not None:
            waited_ms = self._timeout_s * 1000
            self._recorder.trouble(StoreUnavailableError(f"the store has not committed within {waited_ms:.0f} ms"))
        self._timer = loop.call_at(waiting[0].deadline_s, self._look_at_the_clock) if waiting else None

    def _spool(self) -> None:
        """Append what has to go to the spool, all that waits in one fsync."""
        while True:
            group = [self._to_spool.get()]
            while not self._to_spool.empty():
                group.append(self._to_spool.get())
            outcome: bool | BaseException
            try:
                self._recorder.spool_events([waiter.hit for waiter in group])
                outcome = False
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told to those who wait
                outcome = error
            for waiter in group:
                self.tell(waiter, outcome)
