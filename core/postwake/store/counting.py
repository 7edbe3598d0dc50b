"""What is counted when: the one place that knows which rollup cells an event or a delivery belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from postwake.events import Direction, EventType, State, Who
from postwake.store.rollup import MailKey, Rollup
from postwake.store.schema import HOUR_US
from postwake.store.transaction import Transaction


class Cohort(NamedTuple):
    """The message that something counts under."""

    message: int
    at_us: int
    direction: Direction
    domain: str
    tag: str


def domain_of(address: str) -> str:
    """Return the domain of *address*, lower case; empty for the null sender and bare local parts."""
    return address.rpartition("@")[2].lower() if "@" in address else ""


def domain_shared(recipients: Iterable[str]) -> str | None:
    """Return the one domain that all *recipients* have; None if they have several, or none."""
    domains = {domain_of(recipient) for recipient in recipients}
    return domains.pop() or None if len(domains) == 1 else None


def count_event(
    rollup: Rollup, at_us: int, measure: str, cohort: Cohort | None, *, recipient: str = "", n: int = 1
) -> None:
    """Count something that happened at *at_us*, once in each dimension it belongs to."""
    rollup.mail[event_key(at_us, measure, cohort, recipient)] += n


def count_cohort(
    rollup: Rollup, measure: str, cohort: Cohort, *, recipient_domain: str | None = "", n: int = 1
) -> None:
    """Count what has become of mail accepted in the cohort's hour."""
    rollup.mail[_key("cohort", cohort.at_us, measure, cohort, recipient_domain or "")] += n


def event_key(at_us: int, measure: str, cohort: Cohort | None, recipient: str = "") -> MailKey:
    """Return under what :func:`count_event` counts: for who counts many at once (:attr:`Rollup.counted`)."""
    return _key("event", at_us, measure, cohort, domain_of(recipient) if recipient else "")


def _key(basis: str, at_us: int, measure: str, cohort: Cohort | None, recipient_domain: str) -> MailKey:
    if cohort is None:
        return basis, at_us // HOUR_US, measure, False, "", "", recipient_domain
    inbound = cohort.direction is Direction.INBOUND
    return basis, at_us // HOUR_US, measure, inbound, cohort.domain, cohort.tag, recipient_domain


ENGAGED = {
    "opened_human": "opens_human + clicks_human > 0",  # a human click implies an open
    "opened_possible": "opens_human + opens_unknown + clicks_human + clicks_unknown > 0",  # not only machines
    "opened_any": "opens_human + opens_machine + opens_unknown + clicks_human + clicks_machine + clicks_unknown > 0",
    "clicked_human": "clicks_human > 0",
    "clicked_possible": "clicks_human + clicks_unknown > 0",
    "clicked_any": "clicks_human + clicks_machine + clicks_unknown > 0",
    "unsubscribed": "unsubscribed_us IS NOT NULL",
    "complained": "complained_us IS NOT NULL",
}
"""What is counted of a reader, once, and when a row of ``engagement`` makes it true."""


def count_message(rollup: Rollup, cohort: Cohort, sign: int = 1) -> None:
    """Count a message into its cohort; *sign* -1 takes it out again."""
    count_cohort(rollup, "messages", cohort, n=sign)


def count_delivery(rollup: Rollup, cohort: Cohort, recipient: str, state: State, sign: int = 1) -> None:
    """Count a delivery in *state* into its message's cohort; *sign* -1 takes it out again."""
    count_cohort(rollup, state.label, cohort, recipient_domain=domain_of(recipient), n=sign)


def recount_message(transaction: Transaction, cohort: Cohort, sign: int) -> None:
    """Count a stored message with its deliveries and engagement into (or with *sign* -1 out of) its cohort.

    For the rare moments when a message turns out to belong elsewhere: merged with another, or met by the log
    before the milter's row arrived from the spool.
    """
    rollup = transaction.rollup
    count_message(rollup, cohort, sign)
    for recipient, state in transaction.execute(
        "SELECT recipient, state FROM delivery WHERE message = ?", (cohort.message,)
    ):
        count_delivery(rollup, cohort, recipient, State(state), sign)
    sums = ", ".join(f"sum({condition})" for condition in ENGAGED.values())
    engaged = transaction.execute(
        f"SELECT domain, {sums} FROM engagement WHERE message = ? GROUP BY domain", (cohort.message,)
    ).fetchall()
    for domain, *counts in engaged:
        for measure, n in zip(ENGAGED, counts, strict=True):
            if n:
                count_cohort(rollup, measure, cohort, recipient_domain=domain, n=sign * n)


_COUNTED = {
    **dict.fromkeys((EventType.SENT, EventType.DEFERRED, EventType.BOUNCED, EventType.EXPIRED), True),
    **dict.fromkeys((EventType.ACCEPTED, EventType.RECEIVED, EventType.REJECTED, EventType.DELETED), False),
    **dict.fromkeys((EventType.OPENED, EventType.CLICKED, EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED), False),
}
"""Types that are counted when they happen, and whether under the recipient's domain too."""


def recount_events(transaction: Transaction, cohort: Cohort, sign: int) -> None:
    """Count the stored events of a message into (or with *sign* -1 out of) the dimensions its cohort belongs to.

    For the same rare moments as :func:`recount_message`: the message's domain, tag or direction is known only now.
    """
    rows = transaction.execute(
        "SELECT event.at_us, type, who, delivery.recipient, reply.category, reply.kind FROM event"
        " LEFT JOIN delivery ON delivery.id = event.delivery LEFT JOIN reply ON reply.id = event.reply"
        " WHERE event.message = ?",
        (cohort.message,),
    ).fetchall()
    for at_us, number, who, recipient, category, kind in rows:
        event = EventType(number)
        if event not in _COUNTED:
            continue
        measure = event.label
        if event in (EventType.OPENED, EventType.CLICKED):
            measure = f"{measure}.{Who(who).label}"
        under = (recipient or "") if _COUNTED[event] else ""
        count_event(transaction.rollup, at_us, measure, cohort, recipient=under, n=sign)
        if category is not None and cohort.direction is not Direction.INBOUND:
            transaction.rollup.add("event", at_us, measure, sign, dimension="category", key=category)
            transaction.rollup.add("event", at_us, measure, sign, dimension="kind", key=kind or "unknown")


def load_cohort(transaction: Transaction, message: int) -> Cohort:
    """Return what the message *message* counts under."""
    at_us, direction, domain, tag = transaction.execute(
        "SELECT at_us, direction, domain, tag FROM message WHERE id = ?", (message,)
    ).fetchone()
    return Cohort(message, at_us, Direction(direction), domain or "", tag or "")
