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
import sys
from collections.abc import Callable
from typing import Any

from flask import Flask

from postwake.errors import StoreUnavailableError
from postwake.store.recorder import Recorder
from postwake_pixelserver.answer import ANSWER, Answer, Deed
from postwake_pixelserver.measures import Measures
from postwake_pixelserver.safe import Safe
from postwake_pixelserver.who import UNREADABLE

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


_TOLD_IF_UNREADABLE = ("user-agent", "x-forwarded-for")
"""granian gives no value that is not ASCII, but says that the field is there: that is not the same as none."""


class Gateway:
    """The RSGI application that a worker gives to granian."""

    def __init__(
        self, app: Flask, recorder: Recorder, measures: Measures, store_timeout_s: float, *, on_unix_socket: bool
    ) -> None:
        """Take the Flask application whose answers may carry a :class:`Deed`."""
        self._app = app.wsgi_app
        self._measures = measures
        self._unix = on_unix_socket
        self._safe = Safe(recorder, store_timeout_s)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Meet the loop that the requests will run on."""
        self._safe.loop = loop

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        environ = self._environ(scope)
        self._app(environ, _ignore)
        answer: Answer = environ[ANSWER]
        deed = answer.deed
        if deed is not None:
            try:
                stored = await self._safe.record(deed.hit)
            except Exception as error:  # noqa: BLE001 - the public edge: a link works whatever becomes of its counting
                answer = self._lost(answer, deed, error)
            else:
                if deed.then is not None:
                    deed.then()
                self._measures.recorded(deed.endpoint, "stored" if stored else "spooled", deed.hit.at_us)
        if environ["REQUEST_METHOD"] == "HEAD" or not answer.body:
            proto.response_empty(answer.status_code, answer.exact_headers)
        else:
            proto.response_bytes(answer.status_code, answer.exact_headers, answer.body)

    def _lost(self, answer: Answer, deed: Deed, error: Exception) -> Answer:
        """Return what is said when a hit could be made safe nowhere."""
        self._measures.hit("lost")
        self._measures.request(deed.endpoint, "error")
        if not isinstance(error, StoreUnavailableError):
            log.error("endpoint=%s answered=%s", deed.endpoint, deed.said, exc_info=error)
        else:
            log.error("endpoint=%s answered=%s recorded=no error=%s", deed.endpoint, deed.said, error)
        return answer if deed.if_lost is None else deed.if_lost

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
        for name in _TOLD_IF_UNREADABLE:
            if _HEADERS[name] not in environ and name in scope.headers:
                environ[_HEADERS[name]] = UNREADABLE
        return environ


def _ignore(*_: object) -> Callable[[bytes], object]:
    """Be the start_response that nobody needs: the answer is taken as it is."""
    return _ignore
