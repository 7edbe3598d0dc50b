"""Many hits at once: what the pixel server's group commit writes, in a handful of statements whatever their number.

Each statement of SQLite gives the interpreter's lock up and has to wait for it behind the requests being served; so
a group costs three statements, not ten a hit. Rows travel as one JSON array (``json_each``) and identifiers as one
BLOB (``substr``), because JSON has no bytes; the rows are then taken apart without the interpreter's lock.

The outcome is that of :func:`postwake.store.hits.apply_hit` on each in turn: where that is not certain (a hit that is
there already, a reader who unsubscribes) this declines (:class:`NotTogetherError`), and they are applied one by one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from postwake.events import Direction, EventType, Hit, Who
from postwake.store.counting import Cohort, count_cohort, count_event, domain_shared, load_cohort
from postwake.store.hits import find_or_make_message
from postwake.store.text import storable_event
from postwake.store.transaction import Transaction

_KINDS = (EventType.OPENED, EventType.CLICKED)
_SLOT = {(kind, who): 3 * place + int(who) for place, kind in enumerate(_KINDS) for who in Who}
"""Where a hit is counted among _COUNTERS."""
_COUNTERS = tuple(f"{noun}_{who.label}" for noun in ("opens", "clicks") for who in Who)
_MEASURE = {(kind, who): f"{kind.label}.{who.label}" for kind in _KINDS for who in Who}
_OPENED_UNKNOWN, _OPENED_HUMAN, _OPENED_MACHINE = (_SLOT[EventType.OPENED, who] for who in Who)
_CLICKED_UNKNOWN, _CLICKED_HUMAN, _CLICKED_MACHINE = (_SLOT[EventType.CLICKED, who] for who in Who)
_FACTS = ("opened_human", "opened_any", "clicked_human", "clicked_any")

_FIND = f"""
SELECT json_group_array(json_array(asked.key, message.id, message.at_us, direction, message.domain, tag,
  CASE WHEN asked.value > 0
    THEN (SELECT id FROM delivery WHERE message = message.id AND idx = asked.value LIMIT 1) END,
  engagement.domain,
  json(CASE WHEN engagement.message IS NULL THEN
    (SELECT json_group_array(recipient) FROM delivery
     WHERE message = message.id AND (asked.value = 0 OR idx = asked.value)) END),
  {", ".join(_COUNTERS)}))
FROM json_each(?1) AS asked
LEFT JOIN message ON message.tracking_id = substr(?2, asked.key * 16 + 1, 16)
LEFT JOIN engagement ON engagement.message = message.id AND recipient_idx = asked.value
"""
_EVENT_COLUMNS = (
    "at_us", "type", "message", "delivery", "who", "reason", "link", "url", "user_agent", "client", "recipient_idx",
)  # fmt: skip


def _of_json(count: int) -> str:
    return ", ".join(f"json_extract(value, '$[{number}]')" for number in range(count))


_INSERT = f"""
INSERT INTO event ({", ".join(_EVENT_COLUMNS)}, hit_id)
SELECT {_of_json(len(_EVENT_COLUMNS))}, substr(?2, key * 16 + 1, 16) FROM json_each(?1) WHERE true
ON CONFLICT DO NOTHING
"""
_FIRSTS = ("first_open_us", "first_click_us")
_ENGAGE = f"""
INSERT INTO engagement (message, recipient_idx, domain, {", ".join((*_COUNTERS, *_FIRSTS))})
SELECT {_of_json(3 + len(_COUNTERS) + len(_FIRSTS))} FROM json_each(?1) WHERE true
ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in _COUNTERS)},
{", ".join(f"{name} = min(coalesce({name}, excluded.{name}), coalesce(excluded.{name}, {name}))" for name in _FIRSTS)}
"""


class _Reader:
    """One message's one recipient, as the group finds and leaves them."""

    __slots__ = ("added", "before", "cohort", "delivery", "domain", "firsts", "recipient")

    def __init__(
        self, recipient: int, cohort: Cohort | None, delivery: int | None, domain: str | None, before: Sequence[int]
    ) -> None:
        self.recipient = recipient
        self.cohort = cohort
        self.delivery = delivery
        self.domain = domain
        self.before = before
        self.added = [0] * len(_COUNTERS)
        self.firsts: list[int | None] = [None, None]


class NotTogetherError(Exception):
    """These hits have to be applied one by one."""


def apply_hits(transaction: Transaction, hits: Sequence[Hit]) -> None:
    """Write *hits*; :class:`NotTogetherError` if they have to be applied one by one instead.

    What was written until then is to be undone by the caller (a savepoint), as after any other error.
    """
    rows: list[tuple[object, ...]] = []
    urls, user_agents = transaction.urls, transaction.user_agents
    hits = [storable_event(hit) for hit in hits]
    if any(hit.type not in _KINDS for hit in hits):
        raise NotTogetherError
    readers = _find(transaction, hits)
    for hit in hits:
        reader = readers[hit.tracking_id, hit.recipient]
        kind, who, at_us = hit.type, hit.who, hit.at_us
        cohort = reader.cohort
        rows.append(
            (
                at_us,
                kind,
                cohort and cohort.message,
                reader.delivery,
                who,
                hit.reason or None,
                hit.link,
                urls.id(hit.url),
                user_agents.id(hit.user_agent),
                hit.client or None,
                hit.recipient,
            )
        )
        count_event(transaction.rollup, at_us, _MEASURE[kind, who], cohort)
        reader.added[_SLOT[kind, who]] += 1
        place = 0 if kind is EventType.OPENED else 1
        first_us = reader.firsts[place]
        if first_us is None or at_us < first_us:
            reader.firsts[place] = at_us
    inserted = transaction.execute(_INSERT, (_json(rows), b"".join([hit.hit_id for hit in hits]))).rowcount
    if inserted != len(rows):
        raise NotTogetherError  # some are there already; which is not worth knowing
    _engage(transaction, [reader for reader in readers.values() if reader.cohort is not None])


def _find(transaction: Transaction, hits: Sequence[Hit]) -> dict[tuple[bytes, int], _Reader]:
    """Return what the store has of each (tracking ID, recipient); make messages that are not there yet."""
    first: dict[tuple[bytes, int], Hit] = {}
    for hit in hits:
        first.setdefault((hit.tracking_id, hit.recipient), hit)
    keys = list(first)
    asked = (_json([recipient for _, recipient in keys]), b"".join([tracking_id for tracking_id, _ in keys]))
    (found,) = transaction.execute(_FIND, asked).fetchone()
    readers = {}
    for place, message, at_us, direction, domain, tag, delivery, counted, recipients, *before in json.loads(found):
        key = keys[place]
        if message is None:
            made = find_or_make_message(transaction, first[key])
            readers[key] = _Reader(key[1], None if made is None else load_cohort(transaction, made), None, None, before)
        else:
            cohort = Cohort(message, at_us, Direction(direction), domain or "", tag or "")
            if recipients is not None:  # the first hit of this reader
                counted = domain_shared(recipients)
            readers[key] = _Reader(key[1], cohort, delivery, counted, before)
    return readers


def _engage(transaction: Transaction, readers: Sequence[_Reader]) -> None:
    """Add what the group did to each reader's row, and count what it made true."""
    if not readers:
        return
    rows = []
    for reader in readers:
        assert reader.cohort is not None
        rows.append((reader.cohort.message, reader.recipient, reader.domain, *reader.added, *reader.firsts))
        before = [n or 0 for n in reader.before]
        was = _facts(before)
        is_now = _facts([n + more for n, more in zip(before, reader.added, strict=True)])
        if was != is_now:
            for measure, old, new in zip(_FACTS, was, is_now, strict=True):
                if old != new:
                    count_cohort(
                        transaction.rollup, measure, reader.cohort, recipient_domain=reader.domain, n=new - old
                    )
    transaction.execute(_ENGAGE, (_json(rows),))


def _facts(counts: Sequence[int]) -> tuple[bool, bool, bool, bool]:
    """Return _FACTS of one reader; a human click implies an open, any click implies some open."""
    clicked_human = counts[_CLICKED_HUMAN] > 0
    clicked_any = clicked_human or counts[_CLICKED_MACHINE] > 0 or counts[_CLICKED_UNKNOWN] > 0
    opened_human = clicked_human or counts[_OPENED_HUMAN] > 0
    opened_any = clicked_any or opened_human or counts[_OPENED_MACHINE] > 0 or counts[_OPENED_UNKNOWN] > 0
    return opened_human, opened_any, clicked_human, clicked_any


def _json(rows: Sequence[object]) -> str:
    # Not ASCII-only: SQLite's reader would take an escaped lone surrogate, its binding refuses a bare one.
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
