"""Which message each open queue ID stands for, in memory and in the store's ``queue`` table.

The table is written in the transaction that writes the events, so that nothing is known only here: a new
:class:`QueueIds` that starts from the table gives the same answers. Rows that the milter put there are picked up by
their number.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass

from postwake.store.bulk import MessageRow
from postwake.store.schema import DAY_US, HOUR_US
from postwake.store.transaction import Transaction

CLOSED_LATELY = 2_000
"""A hop before logs its hand-over within moments of the next one's: it means one of the newest messages, by number."""
CLOSED_REMEMBERED = 4 * CLOSED_LATELY
"""Queue IDs remembered after ``removed``, for the line of the hop before that names them only then."""
UNUSED_AFTER_US = DAY_US
"""A queue ID that no mail was queued under within a day never will be: the client went away after RCPT."""

_WEEK = ", ".join(f"?1 - {hours}" for hours in range(-1, 7 * 24))
"""The hours in which a mail may have begun that a line of the hour ?1 speaks of: one probe of the index each."""


@dataclass(slots=True, eq=False)
class QueueEntry:
    """What is known of one queue ID."""

    queue_id: str
    at_us: int
    row: int | None = None
    """Its number in the ``queue`` table."""
    message: MessageRow | None = None
    message_number: int | None = None
    """The message in the store; ``message`` is None until it is loaded."""
    host: str = ""
    client: str | None = None
    client_ip: str | None = None
    sasl_username: str | None = None
    local: bool = False
    message_id: str | None = None
    orig_queue_id: str | None = None
    parent: int | None = None
    via: int | None = None
    """The delivery whose handing over made this queue ID."""
    bare: bool = False
    """The message was made by a line that is not its first: sender and client are not known yet."""
    way: str | None = None
    """The label of a direction, if no line says where the mail came from: unknown until the first attempt, then what
    that says, if it says anything."""
    refused: bool = False
    """Cleanup bounces the mail and does not queue it: there will be no ``removed``."""
    dirty: bool = True
    newer: QueueEntry | None = None
    """The next message under the same ID, while the log lags behind the milter."""


_PERSISTED = (
    "host",
    "client",
    "client_ip",
    "sasl_username",
    "local",
    "message_id",
    "orig_queue_id",
    "parent",
    "via",
    "bare",
    "way",
    "refused",
)


class QueueIds:
    """The queue IDs that are open, oldest message first where an ID stands for several, and those closed lately."""

    def __init__(self) -> None:
        """Know nothing: :meth:`pick_up` reads the table."""
        self.open: dict[str, QueueEntry] = {}
        self.standing: dict[int, list[QueueEntry]] = {}
        """By message number, every open queue ID that stands for it."""
        self._closed: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._closed_complete = False
        self._newest = 0
        """The highest number of a message seen."""
        self._last_row = 0
        self._gone: list[int] = []
        self._touched: list[QueueEntry] = []

    def pick_up(self, transaction: Transaction) -> None:
        """Take up the rows that came since the last time."""
        rows = transaction.execute(
            "SELECT id, queue_id, at_us, message, state FROM queue WHERE id > ? ORDER BY id", (self._last_row,)
        ).fetchall()
        for number, queue_id, at_us, message, state in rows:
            entry = QueueEntry(queue_id, at_us, number, dirty=False)
            if state:
                for name, value in json.loads(state).items():
                    setattr(entry, name, value)
            self._last_row = number
            self._enter(entry, message)

    def _enter(self, entry: QueueEntry, message: int | None) -> None:
        known = self.open.get(entry.queue_id)
        if known is None:
            self.open[entry.queue_id] = entry
        elif known.message_number is None and known.newer is None and message is not None:
            # The log's client and message-id lines came first; the milter's row is about the same mail.
            if known.row is not None and entry.row is not None:
                self._gone.append(known.row)
            known.row, known.at_us = entry.row, entry.at_us
            self.touch(known)  # what the log said must be in the row that stays
            entry = known
        else:
            while known.newer is not None:
                known = known.newer
            known.newer = entry
        if message is not None:
            self.stand_for(entry, message)

    def new(self, queue_id: str, at_us: int, host: str) -> QueueEntry:
        """Open a queue ID that is not open yet."""
        entry = QueueEntry(queue_id, at_us, host=host)
        self.open[queue_id] = entry
        self._touched.append(entry)
        return entry

    def touch(self, entry: QueueEntry) -> None:
        """Note that an entry has changed."""
        if not entry.dirty:
            entry.dirty = True
            self._touched.append(entry)

    def stand_for(self, entry: QueueEntry, message: int) -> None:
        """Let *entry* stand for the message of that number, and no longer for another."""
        if entry.message_number is not None:
            self._leave(entry, entry.message_number)
        entry.message_number = message
        if message > self._newest:
            self._newest = message
        others = self.standing.get(message)
        if others is None:
            self.standing[message] = [entry]
        else:
            others.append(entry)

    def forget_message(self, entry: QueueEntry) -> None:
        """Let *entry* stand for nothing: its message was purged."""
        if entry.message_number is not None:
            self._leave(entry, entry.message_number)
            entry.message_number = entry.message = None

    def _leave(self, entry: QueueEntry, message: int) -> None:
        others = self.standing[message]
        if len(others) == 1:
            del self.standing[message]
        else:
            others.remove(entry)

    def close(self, entry: QueueEntry) -> None:
        """Nothing more will follow for *entry*; the next message under its ID, if there is one, takes its place."""
        if entry.newer is not None:
            self.open[entry.queue_id] = entry.newer
            entry.newer = None
        else:
            self.open.pop(entry.queue_id, None)
        if entry.row is not None:
            self._gone.append(entry.row)
            entry.row = None
        entry.dirty = False
        number = entry.message_number
        if number is not None:
            self._leave(entry, number)
            if number > self._newest - CLOSED_LATELY:
                self._closed[entry.queue_id] = (number, entry.at_us)
                if len(self._closed) > CLOSED_REMEMBERED:
                    self._closed.popitem(last=False)

    def closed_lately(self, queue_id: str, transaction: Transaction, next_message: int) -> tuple[int, int] | None:
        """Return number and time of the message that *queue_id* stood for, if it is one of the newest."""
        oldest = next_message - CLOSED_LATELY
        if not self._closed_complete:
            self._closed_complete = True
            known = self._closed
            self._closed = OrderedDict()
            for name, number, at_us in transaction.execute(
                "SELECT queue_id, coalesce(merged_into, id), at_us FROM message WHERE id >= ? AND queue_id IS NOT NULL"
                " ORDER BY id",
                (oldest,),
            ):
                self._closed[name] = (number, at_us)
            self._closed.update(known)
        found = self._closed.get(queue_id)
        return found if found is not None and found[0] >= oldest else None

    def closed_ever(self, queue_id: str, at_us: int, transaction: Transaction) -> int | None:
        """Return the message that *queue_id* stood for at *at_us* or in the days before; needs all rows written."""
        row = transaction.execute(
            f"SELECT coalesce(merged_into, id) FROM message WHERE at_us / 3600000000 IN ({_WEEK})"  # noqa: S608
            " AND queue_id = ?2 ORDER BY id DESC LIMIT 1",
            (at_us // HOUR_US, queue_id),
        ).fetchone()
        return None if row is None else int(row[0])

    def sweep(self, now_us: int) -> None:
        """Close what was never used, or was and has no end."""
        for entry in [entry for entry in self.open.values() if entry.message_number is None or entry.refused]:
            if entry.at_us < now_us - UNUSED_AFTER_US:
                self.close(entry)

    def forget_closed(self) -> None:
        """Let go of what has changed and was closed since: nothing of it will be written."""
        self._touched = [entry for entry in self._touched if entry.dirty]

    def write(self, transaction: Transaction) -> None:
        """Write what has changed to the table."""
        if self._gone:
            transaction.executemany("DELETE FROM queue WHERE id = ?", [(number,) for number in self._gone])
        execute = transaction.execute
        for entry in self._touched:
            if not entry.dirty:
                continue
            entry.dirty = False
            state = {name: value for name in _PERSISTED if (value := getattr(entry, name)) not in (None, "", False)}
            text = json.dumps(state) if state else None
            if entry.row is None:
                row = execute(
                    "INSERT INTO queue (queue_id, at_us, message, state) VALUES (?, ?, ?, ?) RETURNING id",
                    (entry.queue_id, entry.at_us, entry.message_number, text),
                ).fetchone()
                entry.row = row[0]
                self._last_row = max(self._last_row, row[0])
            else:
                execute("UPDATE queue SET message = ?, state = ? WHERE id = ?", (entry.message_number, text, entry.row))
        self._gone, self._touched = [], []
