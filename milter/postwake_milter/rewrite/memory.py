"""Parts that come again: the same newsletter goes to each of its recipients, and is decoded, scanned and judged once.

What is remembered of a part depends on its bytes and on nothing of the message around it; the bytes are compared
whole, never by a hash alone. What stands in the way of remembering, a part that is too large or a memory that is full,
costs time and changes nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .html_edit import HtmlDraft, HtmlPlan
from .placing import Gaps, Opened, Placement, Span
from .transfer import open_body

_COPIES: Final = 6
"""What is kept of a part is some six times its size: encoded, decoded, both cut in pieces once or twice."""
_MAX_DRAFTS: Final = 2
"""Drafts of one part: few senders send the same bytes under several plans."""


DraftKey = tuple[str, HtmlPlan, str]
"""What a draft depends on besides the part's bytes: charset, plan (its unsubscribe targets left out), tracking host."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where some spans of a part stand."""

    decoded: Placement
    encoded: Placement


class Known:
    """What is known of a part's bytes: *opened*, and what :meth:`draft` and :meth:`place` have found out before."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self._drafts: list[tuple[DraftKey, frozenset[str], HtmlDraft]] = []
        self._places: dict[tuple[Span, ...], Place] = {}

    def draft(self, key: DraftKey, targets: frozenset[str], make: Callable[[frozenset[str]], HtmlDraft]) -> HtmlDraft:
        """Return the draft under *key* for mail with the unsubscribe *targets*, from *make* if there is none.

        Every recipient of a newsletter may have a target of their own: only one that a link leads to matters.
        """
        for drafted, mattering, draft in self._drafts:
            if drafted == key and targets & draft.urls == mattering:
                return draft
        draft = make(targets)
        if len(self._drafts) < _MAX_DRAFTS:
            self._drafts.append((key, targets & draft.urls, draft))
        return draft

    def place(self, spans: tuple[Span, ...]) -> Place:
        """Return where *spans* of the decoded bytes stand; TransferError if nothing can be put there."""
        found = self._places.get(spans)
        if found is None:
            found = Place(Gaps(self.opened.decoded, spans), self.opened.place(spans))
            if len(self._places) < _MAX_DRAFTS:
                self._places[spans] = found
        return found


class Memory:
    """The parts seen last, within a bound. Safe from any thread."""

    def __init__(self, limit_bytes: int) -> None:
        """Remember parts whose traces together take up *limit_bytes*, about; none if that is 0."""
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._parts: OrderedDict[tuple[bytes, str, bytes], Known] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """What is remembered, about."""
        return self._size_bytes

    def open(self, encoded: bytes, encoding: str, eol: bytes) -> Known:
        """Return what is known of a part; arguments and errors are those of :func:`.transfer.open_body`."""
        key = (encoded, encoding, eol)
        with self._lock:
            found = self._parts.get(key)
            if found is not None:
                self._parts.move_to_end(key)
                return found
        known = Known(open_body(encoded, encoding, eol))
        size_bytes = _COPIES * len(encoded)
        if size_bytes <= self._limit_bytes // 2:  # one large mail is not to drive all others out
            with self._lock:
                if key not in self._parts:
                    self._parts[key] = known
                    self._size_bytes += size_bytes
                while self._size_bytes > self._limit_bytes:
                    (oldest, _, _), _ = self._parts.popitem(last=False)
                    self._size_bytes -= _COPIES * len(oldest)
        return known
