"""What an attempt came to: the event it is, and its reply understood and entered in the dictionary.

Replies are memoised by their text; the reply of a successful delivery is not classified.
"""

from __future__ import annotations

from typing import NamedTuple

from postwake.events import EventType
from postwake.reply import Classifier, parse_reply
from postwake.store.dictionary import StoredReply, cut_variable
from postwake.store.transaction import Transaction
from postwake_logparse.record import BOUNCED, DEFERRED, SENT, Attempt

MEMO_ENTRIES = 10_000


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


_KIND = {SENT: EventType.SENT, DEFERRED: EventType.DEFERRED, BOUNCED: EventType.BOUNCED}
_NO_DELAYS = (None, None, None, None)


class Outcomes:
    """Understands attempts. :meth:`begin` must be called in each transaction before :meth:`of`."""

    def __init__(self, classifier: Classifier) -> None:
        """Take what classifies replies."""
        self._classifier = classifier
        self._memo: dict[tuple[str, str, str | None, str | None], tuple[StoredReply, str | None]] = {}

    def begin(self, transaction: Transaction) -> None:
        """Write through *transaction* from now on."""
        self._transaction = transaction

    def of(self, attempt: Attempt) -> Outcome:
        """Return what *attempt* came to."""
        kind = _KIND[attempt.status]
        stored, part = self._understand(attempt)
        if kind is EventType.BOUNCED and stored.category == "expired":
            kind = EventType.EXPIRED
        delays = attempt.delays_s if attempt.delays_text is not None else None
        return Outcome(
            kind,
            self._transaction.relays.id(attempt.relay.text),
            self._transaction.replies.id(stored) if stored.text else None,
            part,
            None if attempt.delay_s is None else round(attempt.delay_s * 1e6),
            _NO_DELAYS
            if delays is None
            else (round(delays[0] * 1e6), round(delays[1] * 1e6), round(delays[2] * 1e6), round(delays[3] * 1e6)),
            stored.kind,
            stored.category,
        )

    def _understand(self, attempt: Attempt) -> tuple[StoredReply, str | None]:
        key = (attempt.reply, attempt.status, attempt.dsn, attempt.relay.host if attempt.status != SENT else None)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= MEMO_ENTRIES:
                self._memo.clear()
            found = self._memo[key] = self._read(attempt)
        return found

    def _read(self, attempt: Attempt) -> tuple[StoredReply, str | None]:
        text, part = cut_variable(attempt.reply)
        if attempt.status == SENT:
            code = attempt.reply[:3]
            return StoredReply(text, int(code) if code.isdigit() else None, attempt.dsn), part
        reply = parse_reply(attempt.reply)
        dsn = attempt.dsn or reply.dsn
        verdict = self._classifier.classify(
            attempt.reply, code=reply.code, dsn=dsn, status=attempt.status, relay=attempt.relay.text
        )
        stored = StoredReply(
            text, reply.code, dsn, verdict.kind, verdict.fault, verdict.category, verdict.provider, verdict.rule
        )
        return stored, part
