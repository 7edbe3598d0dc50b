"""From an event to its rows: what the writer and the spool's replay call."""

from __future__ import annotations

from postwake.events import Accepted, Event, Hit
from postwake.store.accepted import apply_accepted, apply_requeued
from postwake.store.hits import apply_hit
from postwake.store.text import storable_event
from postwake.store.transaction import Transaction


def apply_event(transaction: Transaction, event: Event) -> None:
    """Write *event*; applying one that is already there changes nothing."""
    event = storable_event(event)
    if isinstance(event, Hit):
        apply_hit(transaction, event)
    elif isinstance(event, Accepted):
        apply_accepted(transaction, event)
    else:
        apply_requeued(transaction, event)
