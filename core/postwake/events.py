"""The vocabulary: event types, states, and the events that daemons hand to the store.

Types are past tense with one meaning each (docs/architecture.md, "Vocabulary"). Numbers are what the store
holds; they never change meaning. Events are plain values with a JSON form, in which they wait in the spool
while the store cannot be written.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from postwake.tokens import Privacy


class EventType(enum.IntEnum):
    """What happened."""

    ACCEPTED = 1  # outbound, queued: the milter saw it or the log did
    RECEIVED = 2  # inbound, queued
    SENT = 3  # a remote or local agent took it, 2xx
    DEFERRED = 4  # 4xx or no answer: will be retried
    BOUNCED = 5  # 5xx or given up
    EXPIRED = 6  # given up after the queue lifetime: a kind of bounce
    OPENED = 7
    CLICKED = 8
    UNSUBSCRIBED = 9
    COMPLAINED = 10
    REPLIED = 11
    REJECTED = 12  # refused before it was queued
    SUPPRESSED = 13  # held back by us
    RESUBSCRIBED = 14
    HANDED_OVER = 15  # taken by a content filter or alias: not a delivery, the next queue ID decides
    HELD = 16  # by the operator or a rule; released or deleted later
    DELETED = 17  # by the operator
    NOTIFIED = 18  # the MTA told the sender: non-delivery or delay notification, under its own queue ID

    @property
    def label(self) -> str:
        """The word people and files use."""
        return self.name.lower()


class State(enum.IntEnum):
    """What has become of one message to one recipient."""

    QUEUED = 0
    SENT = 1
    DEFERRED = 2
    BOUNCED = 3
    EXPIRED = 4
    HANDED_OVER = 5  # the same mail lives on under another queue ID, as another delivery of the same message
    DELETED = 6

    @property
    def label(self) -> str:
        """The word people and files use."""
        return self.name.lower()


class Direction(enum.IntEnum):
    """Which way a message goes."""

    UNKNOWN = 0
    OUTBOUND = 1
    INBOUND = 2

    @property
    def label(self) -> str:
        """The word people and files use."""
        return self.name.lower()


class Who(enum.IntEnum):
    """Who opened or clicked."""

    UNKNOWN = 0
    HUMAN = 1
    MACHINE = 2

    @property
    def label(self) -> str:
        """The word people and files use."""
        return self.name.lower()


@dataclass(slots=True)  # not frozen, nor is Hit: that makes them four times as dear, and there are thousands a second
class Accepted:
    """The milter saw a message to its end and let it go on, rewritten or not."""

    at_us: int
    tracking_id: bytes
    direction: Direction
    queue_id: str
    host: str
    message_id: str
    sender: str
    domain: str
    """The sender domain it counts under, lower case."""
    recipients: tuple[str, ...]
    subject: str = ""
    tag: str = ""
    campaign: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    size_bytes: int = 0
    client: str = ""
    sasl_username: str = ""
    tracked: bool = False
    untracked_reason: str = ""
    pixels: int = 0
    links: int = 0
    links_skipped: dict[str, int] = field(default_factory=dict)
    parts_rewritten: int = 0
    privacy: Privacy = Privacy.FULL
    rewrite_us: int = 0
    """How long the rewriting took, microseconds."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """The milter met a message that already carries our stamp: a content filter handed it back."""

    at_us: int
    tracking_id: bytes
    queue_id: str


@dataclass(slots=True)
class Hit:
    """A request to the pixel server that its token proves to be about one of our messages."""

    hit_id: bytes
    """16 bytes, unique and time-ordered: recording the same hit twice records it once."""
    at_us: int
    type: EventType
    """OPENED, CLICKED, UNSUBSCRIBED or RESUBSCRIBED."""
    tracking_id: bytes
    recipient: int
    """1-based index in the transaction, 0: shared."""
    link: int = 0
    url: str = ""
    who: Who = Who.UNKNOWN
    reason: str = ""
    client: str = ""
    """The reader's address, or its keyed hash, or nothing, as the privacy mode has it."""
    user_agent: str = ""
    privacy: Privacy = Privacy.FULL


Event = Accepted | Requeued | Hit

_KINDS: dict[str, type[Accepted] | type[Requeued] | type[Hit]] = {
    "accepted": Accepted,
    "requeued": Requeued,
    "hit": Hit,
}
_BYTES = ("tracking_id", "hit_id")


def _a(kind: type, value: Any) -> Any:
    # Not isinstance: True is an int, and an enumeration's member would not come from JSON.
    if type(value) is not kind:
        raise TypeError(f"{value!r:.100}: expected {kind.__name__}")
    return value


def _int64(value: Any) -> int:
    number: int = _a(int, value)
    if not -(2**63) <= number < 2**63:  # what an SQLite INTEGER holds
        raise ValueError(f"{number!r:.100}: expected 64 bits")
    return number


def _id(value: Any) -> bytes:
    raw = base64.b64decode(_a(str, value), validate=True)
    if len(raw) != 16:
        raise ValueError(f"an ID of {len(raw)} bytes: expected 16")
    return raw


_READ: dict[str, Callable[[Any], Any]] = {
    "int": _int64,
    "str": lambda value: _a(str, value),
    "bool": lambda value: _a(bool, value),
    "bytes": _id,
    "tuple[str, ...]": lambda value: tuple(_a(str, item) for item in _a(list, value)),
    "dict[str, str]": lambda value: {key: _a(str, item) for key, item in _a(dict, value).items()},
    "dict[str, int]": lambda value: {key: _int64(item) for key, item in _a(dict, value).items()},
    "Direction": lambda value: Direction(_a(int, value)),
    "EventType": lambda value: EventType(_a(int, value)),
    "Who": lambda value: Who(_a(int, value)),
    "Privacy": lambda value: Privacy(_a(int, value)),
}
"""From a field's annotation to what makes its value of JSON's."""
HIT_TYPES = (EventType.OPENED, EventType.CLICKED, EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED)


def encode(event: Event) -> str:
    """Return *event* as one line of JSON."""
    data: dict[str, Any] = asdict(event)
    for name in _BYTES:
        if name in data:
            data[name] = base64.b64encode(data[name]).decode("ascii")
    data["kind"] = type(event).__name__.lower()
    return json.dumps(data, ensure_ascii=True, separators=(",", ":"))


def decode(line: str) -> Event:
    """Return the event that :func:`encode` wrote; ValueError if *line* is not one.

    Every value's type is checked: an event that got through with a list for a subject would fail when it is applied.
    """
    try:
        data = _a(dict, json.loads(line))
        kind = _KINDS[data.pop("kind")]
        for item in fields(kind):
            if item.name in data:
                data[item.name] = _READ[str(item.type)](data[item.name])
        event = kind(**data)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an event: {error}") from None
    if isinstance(event, Hit) and event.type not in HIT_TYPES:
        raise ValueError(f"not an event: a hit of type {event.type.label}")
    return event
