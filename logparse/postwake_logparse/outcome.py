"""What an attempt came to, in the store's terms: its reply and its relay entered in the dictionaries."""

from __future__ import annotations

from postwake.reply import Classifier
from postwake.store.dictionary import StoredReply
from postwake.store.transaction import Transaction
from postwake_logparse.attempt_reading import AttemptReader, Tried

_NO_VERDICT = (None, None, None, None)


class Outcomes:
    """Understands attempts. :meth:`begin` must be called in each transaction before the numbers are asked for."""

    def __init__(self, classifier: Classifier) -> None:
        """Take what classifies replies."""
        self.reader = AttemptReader(classifier)

    def begin(self, transaction: Transaction) -> None:
        """Write through *transaction* from now on."""
        self._replies = transaction.replies
        self.relay = transaction.relays.id

    def reply(self, tried: Tried) -> int | None:
        """Return the number of the attempt's reply; None if nothing was said."""
        if not tried.reply:
            return None
        verdict = tried.verdict or _NO_VERDICT
        found = self._replies.cached((tried.reply, tried.code, tried.dsn, tried.rule, verdict[3]))
        if found is not None:
            return found
        return self._replies.id(StoredReply(tried.reply, tried.code, tried.dsn, *verdict, tried.rule))

    def expired(self, forced: bool) -> tuple[int, str | None, str | None]:
        """Return reply, category and kind of mail that the queue manager gave up."""
        stored = self.reader.expired(forced)
        return self._replies.id(stored), stored.category, stored.kind
