"""What an attempt came to: the event it is, and its reply understood and entered in the dictionary.

Replies are memoised by their text; the reply of a successful delivery is not classified.
"""

from __future__ import annotations

from typing import NamedTuple

from postwake.events import EventType
from postwake.reply import Classifier
from postwake.store.dictionary import ReplyDictionary, StoredReply, cut_variable, is_variable
from postwake.store.transaction import Transaction
from postwake_logparse.record import BOUNCED, DEFERRED, SENT, Attempt

MEMO_ENTRIES = 10_000
FAILURES_ENTRIES = 2_000
"""Replies to failed attempts are long, and new each time where the server writes an identifier into them."""


class Outcome(NamedTuple):
    """The columns of an attempt's event."""

    kind: EventType
    relay: int | None
    reply: int | None
    reply_part: str | None
    delay_us: int | None
    delays_us: tuple[int | None, int | None, int | None, int | None]
    reply_kind: str | None
    category: str | None


_KIND = {DEFERRED: EventType.DEFERRED, BOUNCED: EventType.BOUNCED}
_NO_DELAYS = (None, None, None, None)


class _Microseconds(dict[str, int]):
    """Seconds as logged, ``0.12``, to microseconds. Two digits are usual, so a log has some hundred different ones."""

    def __missing__(self, seconds: str) -> int:
        """Convert; raises ValueError for what is no number."""
        if len(self) >= MEMO_ENTRIES:
            self.clear()
        self[seconds] = converted = round(float(seconds) * 1e6)
        return converted


# NamedTuple's own constructor re-packs its arguments; this makes the same object in a third of the time.
_new = tuple.__new__


class Outcomes:
    """Understands attempts. :meth:`begin` must be called in each transaction before :meth:`of`."""

    def __init__(self, classifier: Classifier) -> None:
        """Take what classifies replies."""
        self._classifier = classifier
        self._memo: dict[tuple[str, str, str | None, str | None], tuple[StoredReply, str | None]] = {}
        self._us = _Microseconds()
        self._heads: dict[str, int] = {}
        """By what stands before the last word: where the first variable word begins, -1 if nothing can be cut."""
        self._sent: dict[tuple[str, str, str | None], int] = {}
        """The number of a successful delivery's reply, by text, code and enhanced code."""
        self._sent_of: tuple[ReplyDictionary, int] | None = None

    def begin(self, transaction: Transaction) -> None:
        """Write through *transaction* from now on."""
        self._transaction = transaction
        sent_of = (transaction.replies, transaction.replies.generation)
        if self._sent_of != sent_of:  # numbers that a rollback may have taken back
            self._sent.clear()
            self._sent_of = sent_of

    def of(self, attempt: Attempt) -> Outcome:
        """Return what *attempt* came to."""
        delays: tuple[int | None, int | None, int | None, int | None] = _NO_DELAYS
        if attempt.delays_text is not None:
            microseconds = self._us
            try:
                before, queued, connecting, sending = attempt.delays_text.split("/")
                delays = (microseconds[before], microseconds[queued], microseconds[connecting], microseconds[sending])
            except (ValueError, OverflowError):
                delays = _NO_DELAYS
        delay_us = None if attempt.delay_s is None else round(attempt.delay_s * 1e6)
        relay = self._transaction.relays.id(attempt.relay.text)
        if attempt.status == SENT:
            number, part = self._sent_reply(attempt.reply, attempt.dsn)
            return _new(Outcome, (EventType.SENT, relay, number, part, delay_us, delays, None, None))
        kind = _KIND[attempt.status]
        stored, part = self._understand(attempt)
        if kind is EventType.BOUNCED and stored.category == "expired":
            kind = EventType.EXPIRED
        number = self._transaction.replies.id(stored) if stored.text else None
        return Outcome(kind, relay, number, part, delay_us, delays, stored.kind, stored.category)

    def _sent_reply(self, reply: str, dsn: str | None) -> tuple[int | None, str | None]:
        """Return the number of a successful delivery's reply, and what was cut out of it."""
        if not reply:
            return None, None
        text, part = self._cut(reply)
        code = reply[:3]
        key = (text, code, dsn)
        number = self._sent.get(key)
        if number is None:
            if len(self._sent) >= MEMO_ENTRIES:
                self._sent.clear()
            stored = StoredReply(text, int(code) if code.isdecimal() else None, dsn)
            number = self._sent[key] = self._transaction.replies.id(stored)
        return number, part

    def _cut(self, reply: str) -> tuple[str, str | None]:
        """As :func:`~postwake.store.dictionary.cut_variable`, quicker for replies that end in what is variable."""
        head, space, last = reply.rpartition(" ")
        if not space or not is_variable(last) or "{}" in last:
            return cut_variable(reply)
        start = self._heads.get(head)
        if start is None:
            if len(self._heads) >= MEMO_ENTRIES:
                self._heads.clear()
            text, part = cut_variable(head)
            start = -1 if "{}" in head else len(head) + 1 if part is None else text.index("{}")
            self._heads[head] = start
        if start < 0:
            return reply, None
        return f"{reply[:start]}{{}}", reply[start:]

    def expired(self, forced: bool) -> tuple[int, str | None, str | None]:
        """Return reply, category and kind of mail that the queue manager gave up, which quotes no server."""
        text = "message expired by force, returned to sender" if forced else "message expired, returned to sender"
        verdict = self._classifier.classify(text, code=None, dsn=None, status=BOUNCED, relay="none")
        stored = StoredReply(
            text, None, None, verdict.kind, verdict.fault, verdict.category, verdict.provider, verdict.rule
        )
        return self._transaction.replies.id(stored), verdict.category, verdict.kind

    def _understand(self, attempt: Attempt) -> tuple[StoredReply, str | None]:
        key = (attempt.reply, attempt.status, attempt.dsn, attempt.relay.host)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= FAILURES_ENTRIES:
                self._memo.clear()
            found = self._memo[key] = self._read(attempt)
        return found

    def _read(self, attempt: Attempt) -> tuple[StoredReply, str | None]:
        text, part = cut_variable(attempt.reply)
        verdict, code, dsn = self._classifier.judge(
            attempt.reply, dsn=attempt.dsn, status=attempt.status, relay=attempt.relay.text
        )
        stored = StoredReply(
            text,
            code,
            attempt.dsn or dsn,
            verdict.kind,
            verdict.fault,
            verdict.category,
            verdict.provider,
            verdict.rule,
        )
        return stored, part
