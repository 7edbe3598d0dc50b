"""A hit that waits for its commit: what a :class:`concurrent.futures.Future` does, at a tenth of its cost.

There are as many of these as hits, and a server's threads spend their time on the interpreter's lock: a Future's
condition variable costs two turns for it, a plain lock one.
"""

from __future__ import annotations

import threading

from postwake.events import Hit

_turning = threading.Lock()
"""Held while one passes from waiting to running or cancelled: only one of the two can happen to it."""


class PendingHit:
    """One hit. The caller waits with :meth:`result`; the writer does the rest. The methods are those of a Future."""

    __slots__ = ("_cancelled", "_closed", "_error", "_running", "hit")

    def __init__(self, hit: Hit) -> None:
        """Take the hit."""
        self.hit = hit
        self._running = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._closed = threading.Lock()
        self._closed.acquire()  # let go of once, when it is done

    def result(self, timeout_s: float) -> None:
        """Return when it is committed; raise why it is not, or TimeoutError after *timeout_s*."""
        if not self._closed.acquire(timeout=timeout_s):
            raise TimeoutError
        self._closed.release()
        if self._error is not None:
            raise self._error

    def cancel(self) -> bool:
        """Have it left out, if it is not being written yet; return whether that came in time."""
        with _turning:
            self._cancelled = not self._running
        return self._cancelled

    def set_running_or_notify_cancel(self) -> bool:
        """Return whether it is still wanted; from now on it cannot be cancelled."""
        with _turning:
            self._running = not self._cancelled
        return self._running

    def set_result(self, _: None) -> None:
        """Say that it is committed."""
        self._closed.release()

    def set_exception(self, error: BaseException) -> None:
        """Say why it is not."""
        self._error = error
        self._closed.release()
