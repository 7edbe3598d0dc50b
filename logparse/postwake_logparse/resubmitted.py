"""Mail that a filter behind pipe(8) submits anew with sendmail: known again by its Message-ID.

The filter's ``sent`` names no queue ID, and pickup's line no queue ID before. What tells is the Message-ID, a local
submission, and the same recipient. Only the newest messages are looked at, by number: a filter takes moments.
"""

from __future__ import annotations

from postwake.events import EventType
from postwake.store.transaction import Transaction
from postwake_logparse.queue_ids import CLOSED_LATELY

MEMO_ENTRIES = 2 * CLOSED_LATELY


class Resubmitted:
    """Message numbers by Message-ID: of mail that a pipe took, and of mail that local programs submitted.

    Memory is only in front of the tables: a new one reads what the old one knew.
    """

    def __init__(self) -> None:
        """Start empty; the first question reads the tables."""
        self._piped: dict[str, int] = {}
        self._local: dict[str, int] = {}
        self._complete = False

    def note_piped(self, message_id: str, number: int) -> None:
        """A pipe took message *number*."""
        _note(self._piped, message_id, number)

    def note_local(self, message_id: str, number: int) -> None:
        """Message *number* was submitted by a local program."""
        _note(self._local, message_id, number)

    def piped(self, message_id: str, transaction: Transaction, next_message: int) -> int | None:
        """Return the newest message with that Message-ID that a pipe took."""
        self._load(transaction, next_message)
        return _newest(self._piped, message_id, next_message)

    def local(self, message_id: str, transaction: Transaction, next_message: int) -> int | None:
        """Return the newest message with that Message-ID that a local program submitted."""
        self._load(transaction, next_message)
        return _newest(self._local, message_id, next_message)

    def _load(self, transaction: Transaction, next_message: int) -> None:
        if self._complete:
            return
        self._complete = True
        oldest = next_message - CLOSED_LATELY
        local = dict(
            transaction.execute(
                "SELECT message_id, id FROM message WHERE id >= ? AND client IS NULL AND tracking_id IS NULL"
                " AND merged_into IS NULL AND message_id IS NOT NULL AND parent IS NULL ORDER BY id",
                (oldest,),
            )
        )
        piped = dict(
            transaction.execute(
                "SELECT message.message_id, message.id FROM message JOIN delivery ON delivery.message = message.id"
                " JOIN event ON event.id = delivery.last_event JOIN relay ON relay.id = event.relay"
                " WHERE message.id >= ? AND message.message_id IS NOT NULL AND event.type = ?"
                " AND instr(relay.text, '[') = 0 AND relay.text NOT IN ('local', 'virtual', 'none')"
                " ORDER BY message.id",
                (oldest, EventType.SENT),
            )
        )
        self._local, self._piped = {**local, **self._local}, {**piped, **self._piped}


def is_pipe(relay: str) -> bool:
    """Return whether *relay* is a pipe's: a bare transport name that is none of the other agents' (as in _load)."""
    return "[" not in relay and relay not in ("local", "virtual", "none")


def _note(memo: dict[str, int], message_id: str, number: int) -> None:
    memo.pop(message_id, None)
    memo[message_id] = number
    if len(memo) > MEMO_ENTRIES:
        del memo[next(iter(memo))]


def _newest(memo: dict[str, int], message_id: str, next_message: int) -> int | None:
    number = memo.get(message_id)
    return number if number is not None and number >= next_message - CLOSED_LATELY else None
