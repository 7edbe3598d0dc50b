"""Getting a hit into the store or the spool while its answer waits on the event loop.

Hits that came in one turn of the loop are handed to the writer as one batch, and what became of them comes back as
one: a lock, a wake-up and a change of threads for each hit cost more than the hit. A batch that the store has not taken
in time, or refuses, goes to the spool, whose thread writes all that waits in one fsync.

What the store and the spool both have (it committed after all, late) is recorded once, by its ID.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from postwake.errors import StoreUnavailableError
from postwake.events import Hit
from postwake.store.recorder import Recorder
from postwake.store.writer import MAX_GROUP

SPOOL_SHARE = 0.1
"""The last part of the time in which a reader is to be answered belongs to the spool's fsync."""


class _Waiter:
    """One hit on its way, and the future that its request waits for."""

    __slots__ = ("deadline_s", "future", "hit", "running")

    def __init__(self, hit: Hit, future: asyncio.Future[bool], deadline_s: float) -> None:
        self.hit = hit
        self.future = future
        self.deadline_s = deadline_s
        self.running = True
        """Whether the writer is to write it; after that it is the spool's."""


class _Batch:
    """Hits that go to the writer together: :class:`postwake.store.writer.Batch`."""

    __slots__ = ("_safe", "_waiters")

    def __init__(self, safe: Safe, waiters: Sequence[_Waiter]) -> None:
        self._safe = safe
        self._waiters = waiters

    def take(self) -> list[Hit]:
        """Begin to write those that have not gone to the spool in the meantime."""
        self._waiters = [waiter for waiter in self._waiters if waiter.running]
        return [waiter.hit for waiter in self._waiters]

    def written(self, problems: Mapping[int, Exception]) -> None:
        """Tell the loop."""
        self._safe.tell(partial(_stored, self._waiters, problems))

    def refused(self, error: StoreUnavailableError) -> None:
        """Tell the loop."""
        self._safe.tell(partial(self._safe.refuse, self._waiters, error))


class Safe:
    """Gets hits into the store or the spool, from the loop's side of both threads."""

    def __init__(self, recorder: Recorder, timeout_s: float) -> None:
        """Answer within *timeout_s*, or when the spool's fsync is done if that takes longer than its share of it."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._recorder = recorder
        self._patience_s = timeout_s * (1 - SPOOL_SHARE)
        self._fresh: list[_Waiter] = []
        self._told: deque[Callable[[], None]] = deque()
        self._waking = False
        self._waiting: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._to_spool: queue.SimpleQueue[Sequence[_Waiter]] = queue.SimpleQueue()
        threading.Thread(target=self._spool, name="spool-append", daemon=True).start()

    def record(self, hit: Hit) -> asyncio.Future[bool]:
        """Return a future: True when the store has *hit*, False when the spool has, an error if neither can."""
        loop = self.loop
        assert loop is not None
        waiter = _Waiter(hit, loop.create_future(), loop.time() + self._patience_s)
        if not self._fresh:
            loop.call_soon(self._hand_over)  # after everything that is to be done now: others come with it
        self._fresh.append(waiter)
        return waiter.future

    def _hand_over(self) -> None:
        """Give what has come to the writer, or to the spool while the store is known to be away."""
        fresh, self._fresh = self._fresh, []
        for start in range(0, len(fresh), MAX_GROUP):
            waiters = fresh[start : start + MAX_GROUP]
            if not self._recorder.available:
                self._give_to_spool(waiters)
                continue
            try:
                self._recorder.writer.submit_batch(_Batch(self, waiters), len(waiters))
            except StoreUnavailableError as error:
                self._recorder.trouble(error)
                self._give_to_spool(waiters)
                continue
            self._waiting.extend(waiters)
            if self._timer is None:
                assert self.loop is not None
                self._timer = self.loop.call_at(waiters[0].deadline_s, self._look_at_the_clock)

    def tell(self, news: Callable[[], None]) -> None:
        """Have the loop hear *news*, from any thread; it is woken once for what comes together."""
        self._told.append(news)
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
            told.popleft()()

    def refuse(self, waiters: Sequence[_Waiter], error: StoreUnavailableError) -> None:
        """Take to the spool what the store did not take; what is on its way there already stays on it."""
        self._recorder.trouble(error)
        left = [waiter for waiter in waiters if waiter.running]
        if left:
            self._give_to_spool(left)

    def _look_at_the_clock(self) -> None:
        """Give up on the store for those who have waited long enough; they go to the spool."""
        loop = self.loop
        assert loop is not None
        now_s = loop.time()
        waiting = self._waiting
        late = []
        while waiting and (waiting[0].future.done() or waiting[0].deadline_s <= now_s):
            waiter = waiting.popleft()
            if waiter.running and not waiter.future.done():
                late.append(waiter)
        if late:
            waited_ms = self._patience_s * 1000
            self._recorder.trouble(StoreUnavailableError(f"the store has not committed within {waited_ms:.0f} ms"))
            self._give_to_spool(late)
        self._timer = loop.call_at(waiting[0].deadline_s, self._look_at_the_clock) if waiting else None

    def _give_to_spool(self, waiters: Sequence[_Waiter]) -> None:
        for waiter in waiters:
            waiter.running = False  # if the writer has begun with it, it will be in both
        self._to_spool.put(waiters)

    def _spool(self) -> None:
        """Append what has to go to the spool, all that waits in one fsync."""
        while True:
            group = [*self._to_spool.get()]
            while not self._to_spool.empty():
                group += self._to_spool.get()
            problem: Exception | None = None
            try:
                self._recorder.spool_events([waiter.hit for waiter in group])
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told to those who wait
                problem = error
            self.tell(partial(_spooled, group, problem))


def _stored(waiters: Sequence[_Waiter], problems: Mapping[int, Exception]) -> None:
    """Let the requests go on: the store has their hits, or says what is wrong with one."""
    for place, waiter in enumerate(waiters):
        if not waiter.future.done():
            if place in problems:
                waiter.future.set_exception(problems[place])
            else:
                waiter.future.set_result(True)


def _spooled(waiters: Sequence[_Waiter], problem: Exception | None) -> None:
    """Let the requests go on: the spool has their hits, or nobody can have them."""
    for waiter in waiters:
        if not waiter.future.done():
            if problem is None:
                waiter.future.set_result(False)
            else:
                waiter.future.set_exception(problem)
