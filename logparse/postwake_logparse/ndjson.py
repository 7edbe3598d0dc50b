"""Log lines in, events out, without a store: what ``postwake parse-log`` prints.

The vocabulary is the store's own. Between lines only a bounded table of the messages in flight is kept, so that an
event about a recipient names the message's sender and Message-ID; a message that fell out of the table, or began before
the log did, has them null. A delivery to a content filter or forwarding alias is reported as the log says it, with the
queue ID under which the mail goes on in ``next_queue_id``: following it is the reader's, since no line tells that the
ID is local.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from postwake_logparse.detect import open_grammar
from postwake_logparse.journal_export import as_lines
from postwake_logparse.record import (
    DEFERRED,
    Arrival,
    Attempt,
    Client,
    Deleted,
    Held,
    MessageId,
    NonDelivery,
    Queued,
    QueueExpired,
    Record,
    Rejected,
    Removed,
)
from postwake_logparse.shapes import Tally
from postwake_logparse.stamp import StampReader

# A busy relay has some ten thousand messages in its queue; ten times that is some 50 MB of table at the very worst.
MAX_MESSAGES = 100_000
# A bulk message to a hundred thousand recipients must not hold them all only to say "expired" of each.
MAX_OPEN_RECIPIENTS = 10_000

KEYS = (
    "type", "at", "host", "queue_id", "message_id", "sender", "recipient", "original_recipient", "relay", "status",
    "dsn", "code", "reply", "delay_s", "next_queue_id",
)  # fmt: skip

# Not ipaddress's is_private, which also counts networks set aside for documentation.
_NEAR = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip

# "220-greeting 421 4.2.1 refused": the server changed its mind within its greeting, and the later code counts.
_CODE = re.compile(
    r"(?:^|said: |to me: |>: |RCPT TO:<[^>]*>: |: )(?:2[0-9]{2}-[^ ]+ (?=[45][0-9]{2} ))?([245][0-9]{2})(?=[ -]|$)"
)
_ENHANCED = re.compile(r"(?<![0-9.])[245][0-9]{2}[ -]#?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.])")
_GIVEN_UP = re.compile(
    r"^retry timeout exceeded|: retry timeout exceeded$|after a long failure period|been failing for a long time"
)


@dataclass(slots=True)
class _Message:
    sender: str | None = None
    message_id: str | None = None
    local: bool = True
    announced: bool = False
    deferred: dict[str, Attempt] = field(default_factory=dict)


def parse_log(
    streams: Iterable[tuple[str, Iterable[bytes]]],
    *,
    mta: str,
    year: int | None,
    timezone: str | None,
    now_us: int,
    stats: bool,
) -> Iterator[dict[str, object]]:
    """The events of logs, one after the other, with the keys of :data:`KEYS`.

    ``streams``: name and bytes of each log, in portions of any size (lines, blocks, what read() returned). ``mta``:
    ``postfix``, ``exim`` or ``auto``, which is decided for each log. ``year``: of each log's first line; None infers
    it, no line being later than ``now_us``. ``timezone``: of stamps that name none; None is this machine's. With
    ``stats`` a last dict, ``type`` ``stats``, counts what became of the lines. Raises ConfigError for an unknown time
    zone.
    """
    total = Tally()
    events: Counter[str] = Counter()
    for _, portions in streams:
        grammar = open_grammar(mta)
        clock = StampReader(reference_us=now_us, timezone=timezone, year=year)
        table = _Table()
        for block in whole_lines(as_lines(portions)):
            # A log that went through a mail or another system may have its lines ended by CRLF.
            for record in grammar.parse_block(block.replace(b"\r\n", b"\n"), clock):
                for event in table.events(record):
                    events[str(event["type"])] += 1
                    yield event
        total.add(grammar.tally)
    if stats:
        yield statistics(total, events)


def statistics(tally: Tally, events: Counter[str]) -> dict[str, object]:
    """The last line: every line is a record, a known shape without a fate, or unparsed."""
    return {
        "type": "stats",
        "lines": tally.lines,
        "events": dict(sorted(events.items())),
        "records": dict(tally.records.most_common()),
        "shapes": dict(tally.shapes.most_common()),
        "unparsed": tally.unparsed,
        "unparsed_shapes": [
            {"shape": shape, "count": count, "sample": tally.samples[shape]}
            for shape, count in tally.sample_counts.most_common()
        ],
    }


def whole_lines(portions: Iterable[bytes]) -> Iterator[bytes]:
    """Portions cut anywhere, as blocks that end at a line's end; the last may lack its newline."""
    rest: list[bytes] = []
    for portion in portions:
        end = portion.rfind(b"\n") + 1
        if end == 0:
            rest.append(portion)
            continue
        rest.append(portion[:end])
        yield b"".join(rest)
        rest = [portion[end:]] if end < len(portion) else []
    if rest:
        yield b"".join(rest)


class _Table:
    """The messages in flight of one log, oldest first out."""

    def __init__(self) -> None:
        self._messages: OrderedDict[tuple[str, str], _Message] = OrderedDict()
        self._second = -1
        self._second_text = ""

    def events(self, record: Record) -> Iterator[dict[str, object]]:
        kind = type(record)
        if kind is Attempt:
            yield from self._attempt(record)  # type: ignore[arg-type]
        elif kind is MessageId:
            self._message(record).message_id = record.message_id  # type: ignore[union-attr]
        elif kind is Removed:
            self._messages.pop((record.host, record.queue_id), None)
        elif isinstance(record, Client):
            # A queue ID is used again once its message has gone.
            self._messages[record.host, record.queue_id] = message = _Message()
            message.local = record.uid is not None or record.sasl_username is not None or is_near(record.client_ip)
            self._bound()
        elif isinstance(record, Queued):
            yield from self._queued(record)
        elif isinstance(record, Arrival):
            yield from self._arrival(record)
        elif isinstance(record, QueueExpired):
            yield from self._expired(record)
        elif isinstance(record, NonDelivery):
            told = f"{record.audience} {record.notice} notification"
            yield self._event("notified", record, self._message(record), reply=told, next_queue_id=record.new_queue_id)
        elif isinstance(record, Held):
            yield self._event("held", record, self._message(record), reply=record.text)
        elif isinstance(record, Deleted):
            yield self._event("deleted", record, self._message(record), reply=record.text)
        elif isinstance(record, Rejected):
            yield self._event(
                "rejected",
                record,
                self._messages.get((record.host, record.queue_id)) or _Message(),
                sender=record.sender,
                recipient=record.recipient,
                dsn=record.dsn,
                code=record.code,
                reply=record.text,
            )

    def _queued(self, record: Queued) -> Iterator[dict[str, object]]:
        message = self._message(record)
        message.sender = record.sender
        if not message.announced:  # it comes again at every retry
            message.announced = True
            yield self._event("accepted" if message.local else "received", record, message)

    def _arrival(self, record: Arrival) -> Iterator[dict[str, object]]:
        message = self._message(record)
        message.sender = record.sender
        message.message_id = record.message_id
        message.local = record.client_ip is None or record.sasl_method is not None or is_near(record.client_ip)
        yield self._event("accepted" if message.local else "received", record, message)

    def _attempt(self, record: Attempt) -> Iterator[dict[str, object]]:
        if record.retry_only:
            return
        message = self._message(record)
        kind = record.status
        if kind == DEFERRED:
            if len(message.deferred) < MAX_OPEN_RECIPIENTS:
                message.deferred[record.recipient] = record
        else:
            message.deferred.pop(record.recipient, None)
            if kind == "bounced" and _GIVEN_UP.search(record.reply) is not None:
                kind = "expired"
        yield self._delivery(kind, record, record, message)

    def _expired(self, record: QueueExpired) -> Iterator[dict[str, object]]:
        message = self._message(record)
        if record.sender is not None:
            message.sender = record.sender
        for attempt in message.deferred.values():
            yield self._delivery("expired", record, attempt, message)
        if not message.deferred:
            yield self._event("expired", record, message, status="expired")
        message.deferred.clear()

    def _delivery(self, kind: str, record: Record, attempt: Attempt, message: _Message) -> dict[str, object]:
        code = _CODE.search(attempt.reply)
        dsn = attempt.dsn
        if dsn is None and (enhanced := _ENHANCED.search(attempt.reply)) is not None:
            dsn = enhanced[1]  # Postfix before 2.3 logs none of its own
        return self._event(
            kind,
            record,
            message,
            sender=attempt.sender if attempt.sender is not None else message.sender,
            recipient=attempt.recipient,
            original_recipient=attempt.original_recipient,
            relay=attempt.relay.text or None,
            status="expired" if kind == "expired" else attempt.status,
            dsn=dsn,
            code=int(code[1]) if code is not None else None,
            reply=attempt.reply or None,
            delay_s=attempt.delay_s,
            next_queue_id=attempt.next_queue_id,
        )

    def _event(self, kind: str, record: Record, message: _Message, **fields: Any) -> dict[str, object]:
        return {
            "type": kind,
            "at": self._at(record.at_us),
            "host": record.host or None,
            "queue_id": record.queue_id or None,
            "message_id": message.message_id or None,
            "sender": message.sender,
            "recipient": None,
            "original_recipient": None,
            "relay": None,
            "status": None,
            "dsn": None,
            "code": None,
            "reply": None,
            "delay_s": None,
            "next_queue_id": None,
            **fields,
        }

    def _message(self, record: Record) -> _Message:
        key = (record.host, record.queue_id)
        message = self._messages.get(key)
        if message is None:
            self._messages[key] = message = _Message()
            self._bound()
        return message

    def _bound(self) -> None:
        if len(self._messages) > MAX_MESSAGES:
            self._messages.popitem(last=False)

    def _at(self, at_us: int) -> str:
        second, fraction_us = divmod(at_us, 1_000_000)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, tz=UTC).isoformat()[:19]
        return f"{self._second_text}.{fraction_us:06d}Z" if fraction_us else f"{self._second_text}Z"


@lru_cache(maxsize=4096)
def is_near(ip: str | None) -> bool:
    """Whether a client's address is this machine's or a private network's: then what it hands in is on its way out."""
    if ip is None:
        return True
    try:
        address = ip_address(ip.removeprefix("IPv6:"))
    except ValueError:
        return False
    return any(address in network for network in _NEAR)
