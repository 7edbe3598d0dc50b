"""Parts that come again: the same newsletter goes to each of its recipients, and is decoded, scanned and judged once.

What is remembered of a part depends on its bytes and on nothing of the message around it; the bytes are compared
whole, never by a hash alone. What stands in the way of remembering, a part that is too large or a memory that is full,
costs time and changes nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from .content import Content
from .html_edit import HtmlDraft, HtmlPlan
from .never_touch import holds_pgp
from .placing import Opened, Placement, Span
from .transfer import open_body

_COPIES: Final = 6
"""What is kept of a part is some six times its size: encoded, decoded, both cut in pieces once or twice."""
_STEP: Final = 61
"""Every so manieth byte of a part is hashed: no divisor of the length of lines, 76 and a line break in most mail."""
_MAX_DRAFTS: Final = 2
"""Drafts of one part: few senders send the same bytes under several plans."""


DraftKey = tuple[str, HtmlPlan, str]
"""What a draft depends on besides the part's bytes: charset, plan (its unsubscribe targets left out), tracking host."""


class Known:
    """What is known of a part's bytes: *opened*, and what :meth:`draft` and :meth:`place` have found out before."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self._drafts: list[tuple[DraftKey, frozenset[str], HtmlDraft]] = []
        self._places: dict[tuple[Span, ...], Placement] = {}
        self._holds_pgp: dict[str, bool] = {}

    def holds_pgp(self, content: Content) -> bool:
        """Whether it is a text with an inline PGP message, as *content* says what text it is."""
        found = self._holds_pgp.get(content.type)
        if found is None:
            found = self._holds_pgp[content.type] = holds_pgp(self.opened.decoded, content)
        return found

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

    def place(self, spans: tuple[Span, ...]) -> Placement:
        """Return where *spans* of the decoded bytes stand; TransferError if nothing can be put there."""
        found = self._places.get(spans)
        if found is None:
            found = self.opened.place(spans)
            if len(self._places) < _MAX_DRAFTS:
                self._places[spans] = found
        return found


class Memory:
    """The parts seen last, within a bound. Safe from any thread."""

    def __init__(self, limit_bytes: int) -> None:
        """Remember parts whose traces together take up *limit_bytes*, about; none if that is 0."""
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._parts: OrderedDict[tuple[int, bytes, str, bytes], tuple[bytes, Known]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """What is remembered, about."""
        return self._size_bytes

    def open(self, encoded: bytes, encoding: str, eol: bytes) -> Known:
        """Return what is known of a part; arguments and errors are those of :func:`.transfer.open_body`."""
        # Hashing a few of the bytes and comparing them all is quicker than hashing them all. Of parts that differ
        # elsewhere only, the latest is remembered.
        key = (len(encoded), encoded[::_STEP], encoding, eol)
        with self._lock:
            found = self._parts.get(key)
            if found is not None and found[0] == encoded:
                self._parts.move_to_end(key)
                return found[1]
        known = Known(open_body(encoded, encoding, eol))
        size_bytes = _COPIES * len(encoded)
        if size_bytes <= self._limit_bytes // 2:  # one large mail is not to drive all others out
            with self._lock:
                if key not in self._parts:
                    self._size_bytes += size_bytes
                self._parts[key] = (encoded, known)
                self._parts.move_to_end(key)
                while self._size_bytes > self._limit_bytes:
                    _, (oldest, _) = self._parts.popitem(last=False)
                    self._size_bytes -= _COPIES * len(oldest)
        return known
