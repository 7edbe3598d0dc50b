"""Text that SQLite can hold and everybody can read back.

A subject or a user agent is written by strangers. SQLite refuses lone surrogates (they are no UTF-8), and a NUL ends
the string for its own functions, its shell and every C program that opens the file. Both become U+FFFD.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from postwake.events import Accepted, Event, Hit

E = TypeVar("E", bound=Event)

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return *text* with each NUL and lone surrogate replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def storable_event(event: E) -> E:
    """Return *event* with every string in it :func:`storable`; the very same object if they are already."""
    if isinstance(event, Hit) and not _UNSTORABLE.search(f"{event.url}{event.user_agent}{event.reason}{event.client}"):
        return event  # nearly always, and there are many
    if isinstance(event, Accepted) and not _UNSTORABLE.search(_text_of(event)):
        return event
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        clean = _clean(value)
        if clean is not value:
            changed[field.name] = clean
    return dataclasses.replace(event, **changed) if changed else event


def _text_of(event: Accepted) -> str:
    """Return every text in *event*, one behind the other."""
    names = (
        event.queue_id,
        event.host,
        event.message_id,
        event.sender,
        event.domain,
        event.client,
        event.sasl_username,
    )
    about = (event.subject, event.tag, event.campaign, event.untracked_reason)
    return "".join((*names, *about, *event.recipients, *event.metadata.keys(), *event.metadata.values()))


def storable_hits(hits: Sequence[Hit]) -> Sequence[Hit]:
    """Return *hits*, each :func:`storable_event`; looked through all at once, because nearly always they are already."""
    text = "".join([f"{hit.url}{hit.user_agent}{hit.reason}{hit.client}" for hit in hits])
    return [storable_event(hit) for hit in hits] if _UNSTORABLE.search(text) else hits


def _clean(value: Any) -> Any:
    """Return *value* itself if there is nothing to replace in it."""
    if isinstance(value, str):
        return storable(value) if _UNSTORABLE.search(value) else value
    if isinstance(value, tuple) and any(_UNSTORABLE.search(item) for item in value):
        return tuple(map(storable, value))
    if isinstance(value, dict) and any(_UNSTORABLE.search(f"{key}{item}") for key, item in value.items()):
        return {storable(key): _clean(item) for key, item in value.items()}
    return value
