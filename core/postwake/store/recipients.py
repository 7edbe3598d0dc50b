"""Recipients to think about: who unsubscribed, whose address is dead, who takes mail and never looks at it.

Said from what the store has seen, and no more: Postwake holds no mail back, and knows of no complaint. Each function
takes a read-only connection and yields plain rows, one an address (in the spelling met first, compared without case).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

from postwake.events import Direction, EventType, State
from postwake.store.counting import domain_of
from postwake.store.schema import DAY_US, HOUR_US
from postwake.tokens import Privacy
from postwake.tracking_id import make_tracking_id

Row = dict[str, Any]

MIN_MESSAGES = 3
"""Who was sent fewer messages than this is not called inactive."""
TRIED_AT_MOST_US = 10 * DAY_US
"""How long after its acceptance a mail may still be taken: twice Postfix's default, maximal_queue_lifetime = 5d; Exim's is
four days."""
_TIME = "strftime('%Y-%m-%dT%H:%M:%fZ', {0} / 1e6, 'unixepoch')"

# Only mail that would have told: of one recipient (a shared body does not say who), with a pixel or links, and of a
# privacy mode that keeps the recipient. By the hours in front of the index: else a day of a huge store reads all of it.
_INACTIVE = f"""
SELECT min(delivery.recipient) AS recipient, count(*) AS messages, {_TIME.format("min(delivery.at_us)")} AS first_at,
  {_TIME.format("max(delivery.at_us)")} AS last_at,
  sum(coalesce(opens_machine + opens_unknown + clicks_machine + clicks_unknown, 0)) AS other_hits
FROM delivery INDEXED BY delivery_recipient JOIN message ON message.id = delivery.message
LEFT JOIN engagement ON engagement.message = delivery.message AND engagement.recipient_idx = delivery.idx
WHERE delivery.at_us / {HOUR_US} BETWEEN ?1 / {HOUR_US} AND ?2 / {HOUR_US}
  AND delivery.at_us >= ?1 AND delivery.at_us < ?2 AND delivery.state = {State.SENT:d} AND delivery.idx = 1
  AND message.tracked AND message.recipients = 1 AND message.direction <> {Direction.INBOUND:d}
  AND message.privacy < {Privacy.ANONYMOUS:d} AND message.pixels + message.links > 0
GROUP BY lower(delivery.recipient)
HAVING count(*) >= {MIN_MESSAGES} AND sum(coalesce(opens_human + clicks_human, 0)) = 0
"""

# A reply that blames the sender says nothing about the address, and neither does one that may change its mind. What came
# after is found in one walk over the deliveries: a look for each address would cost more where many fail.
_DEAD = f"""
WITH failed AS MATERIALIZED (
  SELECT lower(delivery.recipient) AS who, delivery.recipient, max(event.at_us) AS at_us, reply.category, reply.code, reply.dsn,
    message.domain AS sender_domain
  FROM reply CROSS JOIN event INDEXED BY event_reply ON event.reply = reply.id
  JOIN delivery ON delivery.last_event = event.id AND delivery.id = event.delivery
  JOIN message ON message.id = delivery.message
  WHERE type IN (4, 5, 6) AND event.at_us >= ?1 AND event.at_us < ?2 AND reply.kind = 'hard' AND reply.fault = 'recipient'
    AND delivery.state IN ({State.BOUNCED:d}, {State.EXPIRED:d}) AND message.direction <> {Direction.INBOUND:d}
  GROUP BY 1),
taken AS MATERIALIZED (
  SELECT lower(recipient) AS who, max(last_attempt_us) AS at_us FROM delivery INDEXED BY delivery_recipient
  WHERE at_us / {HOUR_US} >= (?1 - {TRIED_AT_MOST_US}) / {HOUR_US} AND state = {State.SENT:d} AND last_attempt_us > ?1 AND lower(recipient) IN (SELECT who FROM failed) GROUP BY 1)
SELECT recipient, {_TIME.format("failed.at_us")} AS at, category, code, dsn, sender_domain
FROM failed LEFT JOIN taken ON taken.who = failed.who
WHERE taken.at_us IS NULL OR taken.at_us <= failed.at_us ORDER BY failed.at_us DESC
"""

_READER = """delivery.message = {0}.message AND (delivery.idx = {0}.recipient_idx
  OR {0}.recipient_idx = 0 AND message.recipients = 1 AND delivery.idx = 1)"""
"""The delivery to who acted: a body for one alone is theirs, if its token does not say so."""

# The last word counts, whichever mail's page it was said on: of one address to one sender domain.
_UNSUBSCRIBED = f"""
WITH back AS MATERIALIZED (SELECT json_extract(value, '$[0]') AS who, json_extract(value, '$[1]') AS domain,
  json_extract(value, '$[2]') AS at_us FROM json_each(?3))
SELECT coalesce(delivery.original_recipient, delivery.recipient) AS recipient,
  {_TIME.format("max(unsubscribed_us)")} AS at, message.domain AS sender_domain, message.tag
FROM engagement INDEXED BY engagement_unsubscribed JOIN message ON message.id = engagement.message
LEFT JOIN delivery ON {_READER.format("engagement")}
LEFT JOIN back ON back.who = lower(coalesce(delivery.original_recipient, delivery.recipient)) AND back.domain IS message.domain
WHERE unsubscribed_us >= ?1 AND unsubscribed_us < ?2 AND unsubscribed_us IS NOT NULL
  AND (back.at_us IS NULL OR back.at_us < (SELECT max(event.at_us) FROM event WHERE event.message = engagement.message
    AND event.recipient_idx = engagement.recipient_idx AND type = {EventType.UNSUBSCRIBED:d}))
GROUP BY coalesce(lower(delivery.original_recipient), lower(delivery.recipient), 'message ' || engagement.message)
ORDER BY max(unsubscribed_us) DESC
"""

_TIMES_RESUBSCRIBED = """
SELECT start_us FROM rollup WHERE basis = 'event' AND span = ? AND dimension = 'all' AND start_us >= ? AND start_us < ?
  AND key = '' AND measure = 'resubscribed' AND n > 0
"""
_RESUBSCRIBED = f"""
SELECT lower(coalesce(delivery.original_recipient, delivery.recipient)) AS who, message.domain, max(event.at_us) AS at_us
FROM event INDEXED BY event_hit_id JOIN message ON message.id = event.message JOIN delivery ON {_READER.format("event")}
WHERE hit_id >= ? AND hit_id < ? AND type = {EventType.RESUBSCRIBED:d} GROUP BY 1, 2
"""


def inactive(connection: sqlite3.Connection, since_us: int, until_us: int) -> Iterator[Row]:
    """Yield who took at least :data:`MIN_MESSAGES` tracked messages of that time, of which no human opened any.

    ``messages``, ``first_at``, ``last_at``; ``other_hits`` were by machines or nobody knows whom: behind a privacy
    proxy may be somebody who reads everything. Reads every delivery of that time, some 3 µs each.
    """
    for row in connection.execute(_INACTIVE, (since_us, until_us)):
        yield dict(row)


def dead(connection: sqlite3.Connection, since_us: int, until_us: int) -> Iterator[Row]:
    """Yield whose mail bounced for good by the address's own fault in that time, and was taken by nobody since.

    Reads every delivery from :data:`TRIED_AT_MOST_US` before that time until now, some 2 µs each.
    """
    for row in connection.execute(_DEAD, (since_us, until_us)):
        yield dict(row)


def unsubscribed(connection: sqlite3.Connection, since_us: int, until_us: int) -> Iterator[Row]:
    """Yield who unsubscribed in that time and has not come back since; ``recipient`` is None where several share a body.

    To come back is to resubscribe on the page of any mail of the same sender domain.

    A token of the privacy mode ``anonymous`` names nobody; but who unsubscribes from mail to one recipient wants to be
    known to have. Behind an alias it is who was asked for: the address on the sender's list.
    """
    back: dict[tuple[str, str | None], int] = {}
    for start_us, end_us in _times_resubscribed(connection, since_us):
        for who, domain, at_us in connection.execute(_RESUBSCRIBED, (_hit_ids_from(start_us), _hit_ids_from(end_us))):
            back[who, domain] = max(at_us, back.get((who, domain), at_us))
    came_back = json.dumps([(*key, at_us) for key, at_us in back.items()])
    for row in connection.execute(_UNSUBSCRIBED, (since_us, until_us, came_back)):
        yield dict(row)


def _times_resubscribed(connection: sqlite3.Connection, since_us: int) -> Iterator[tuple[int, int]]:
    """Yield beginning and end of the hours since *since_us* in which somebody came back; days where hours are purged."""
    days = connection.execute(_TIMES_RESUBSCRIBED, ("day", since_us - since_us % DAY_US, 2**62)).fetchall()
    for (day_us,) in days:
        hours = connection.execute(_TIMES_RESUBSCRIBED, ("hour", day_us, day_us + DAY_US)).fetchall()
        for start_us, length_us in [(hour_us, HOUR_US) for (hour_us,) in hours] or [(day_us, DAY_US)]:
            yield start_us, start_us + length_us


def _hit_ids_from(at_us: int) -> bytes:
    """Return a bound of the IDs of hits from *at_us* on: they are ordered by time, and there is no other index of hits."""
    return make_tracking_id(at_us, bytes(10))


@dataclass(frozen=True, slots=True)
class Group:
    """Some recipients: how many, of which domains, and the first of them."""

    count: int = 0
    domains: tuple[tuple[str, int], ...] = ()
    """The domains with most of them; ``""`` for those nobody knows."""
    rows: tuple[Row, ...] = ()


def summarise(rows: Iterable[Row], limit: int, weight: Callable[[Row], Any]) -> Group:
    """Count *rows* and their domains; keep *limit* domains, and the *limit* rows of most *weight*."""
    domains: Counter[str] = Counter()

    def counted() -> Iterator[Row]:
        for row in rows:
            domains[domain_of(row["recipient"] or "")] += 1
            yield row

    kept = tuple(nlargest(limit, counted(), key=weight))
    most = sorted(domains.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return Group(domains.total(), tuple(most), kept)
