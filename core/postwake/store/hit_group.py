"""Many hits at once: what the pixel server's group commit writes, in a handful of statements whatever their number.

Each statement of SQLite gives the interpreter's lock up and has to wait for it behind the requests being served; so
a group costs a few statements, not ten a hit. What is asked for travels as one JSON array (``json_each``) and comes back
as one, because every row that is fetched changes threads, too; rows that are written are bound as they are, many to a
statement, which takes half the time of taking JSON apart.

The outcome is that of :func:`postwake.store.hits.apply_hit` on each in turn: where that is not certain (a hit that is
there already, a reader who unsubscribes) this declines (:class:`NotTogetherError`), and they are applied one by one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from postwake.events import Direction, EventType, Hit, Who
from postwake.store.counting import Cohort, count_cohort, domain_shared, event_key, load_cohort
from postwake.store.hits import find_or_make_message
from postwake.store.many_rows import NotTogetherError, insert_rows
from postwake.store.text import storable_hits
from postwake.store.transaction import Transaction

_KINDS = (EventType.OPENED, EventType.CLICKED)
_FIRST_SLOT = {EventType.OPENED: 0, EventType.CLICKED: len(Who)}
"""Where a hit is counted among _COUNTERS: here and ``who`` further on."""
_COUNTERS = tuple(f"{noun}_{who.label}" for noun in ("opens", "clicks") for who in Who)
_MEASURES = tuple(f"{kind.label}.{who.label}" for kind in _KINDS for who in Who)
_DIRECTIONS = tuple(Direction)
_NOTHING = (0,) * len(_COUNTERS)
_FACTS = ("opened_human", "opened_possible", "opened_any", "clicked_human", "clicked_possible", "clicked_any")

_FIND = f"""
SELECT json_group_array(json_array(asked.key, message.id, message.at_us, direction, message.domain, tag,
  CASE WHEN asked.value > 0
    THEN (SELECT min(id) FROM delivery WHERE message = message.id AND idx = asked.value HAVING count(*) = 1) END,
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
    "hit_id",
)  # fmt: skip
_FIRSTS = ("first_open_us", "first_click_us")
_ENGAGEMENT_COLUMNS = ("message", "recipient_idx", "domain", *_COUNTERS, *_FIRSTS)
_ADD_UP = f"""ON CONFLICT DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in _COUNTERS)},
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


def apply_hits(transaction: Transaction, hits: Sequence[Hit]) -> None:
    """Write *hits*; :class:`NotTogetherError` if they have to be applied one by one instead.

    What was written until then is to be undone by the caller (a savepoint), as after any other error.
    """
    hits = storable_hits(hits)
    urls, user_agents = transaction.urls, transaction.user_agents
    readers = _find(transaction, hits)
    rows: list[object] = []
    counted = transaction.rollup.counted
    for hit in hits:
        kind, who, at_us = hit.type, hit.who, hit.at_us
        first_slot = _FIRST_SLOT.get(kind)
        if first_slot is None:
            raise NotTogetherError
        reader = readers[hit.tracking_id, hit.recipient]
        cohort = reader.cohort
        rows += (
            at_us,
            int(kind),  # the driver asks around for an adapter of everything that is not exactly an int
            None if cohort is None else cohort.message,
            reader.delivery,
            int(who),
            hit.reason or None,
            hit.link,
            urls.id(hit.url),
            user_agents.id(hit.user_agent),
            hit.client or None,
            hit.recipient,
            hit.hit_id,
        )
        slot = first_slot + who
        counted.append(event_key(at_us, _MEASURES[slot], cohort))
        reader.added[slot] += 1
        place = 0 if first_slot == 0 else 1
        first_us = reader.firsts[place]
        if first_us is None or at_us < first_us:
            reader.firsts[place] = at_us
    if insert_rows(transaction, "event", _EVENT_COLUMNS, rows, "ON CONFLICT DO NOTHING") != len(hits):
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
            cohort = None if made is None else load_cohort(transaction, made)
        else:
            cohort = Cohort(message, at_us, _DIRECTIONS[direction], domain or "", tag or "")
            if recipients is not None:  # the first hit of this reader
                counted = domain_shared(recipients)
        readers[key] = _Reader(key[1], cohort, delivery, counted, _NOTHING if before[0] is None else before)
    return readers


def _engage(transaction: Transaction, readers: Sequence[_Reader]) -> None:
    """Add what the group did to each reader's row, and count what it made true."""
    rows: list[object] = []
    for reader in readers:
        cohort = reader.cohort
        assert cohort is not None
        rows += (cohort.message, reader.recipient, reader.domain, *reader.added, *reader.firsts)
        was = _facts(reader.before)
        if not all(was):
            is_now = _facts([n + more for n, more in zip(reader.before, reader.added, strict=True)])
            for measure, old, new in zip(_FACTS, was, is_now, strict=True):
                if old != new:
                    count_cohort(transaction.rollup, measure, cohort, recipient_domain=reader.domain, n=new - old)
    insert_rows(transaction, "engagement", _ENGAGEMENT_COLUMNS, rows, _ADD_UP)


def _facts(counts: Sequence[int]) -> tuple[bool, ...]:
    """Return _FACTS of one reader; a human click implies an open, any click implies some open."""
    opened_unknown, opened_human, opened_machine, clicked_unknown, clicked_human, clicked_machine = counts
    human, possible = opened_human + clicked_human, clicked_unknown + clicked_human
    opened_possible = human + opened_unknown + clicked_unknown
    return (
        human > 0,
        opened_possible > 0,
        opened_possible + opened_machine + clicked_machine > 0,
        clicked_human > 0,
        possible > 0,
        possible + clicked_machine > 0,
    )


def _json(rows: Sequence[object]) -> str:
    # Not ASCII-only: SQLite's reader would take an escaped lone surrogate, its binding refuses a bare one.
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
