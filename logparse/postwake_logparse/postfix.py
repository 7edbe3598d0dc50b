"""Postfix's log, from whole blocks of it to records, at the speed of one regular expression.

``parse_block`` runs one compiled expression over a block of a mebibyte. Each of its alternatives swallows a whole line:
the few kinds of line that a normal mail writes make a record at once; lines that tell no message's fate are counted by
their first words without taking them apart; everything else goes to the lenient grammar in
:mod:`postwake_logparse.postfix_rare`, line by line. Blocks are decoded as Latin-1, which is a plain copy and keeps
offsets; a line with a byte beyond ASCII in it takes the lenient way, decoded as UTF-8.
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Iterator

from postwake_logparse.postfix_rare import QUEUE_ID, next_queue_id, read_rare, read_relay
from postwake_logparse.postfix_shapes import NOISE, SERVICES, shape_of
from postwake_logparse.record import (
    DEFERRED,
    SENT,
    Attempt,
    Client,
    MessageId,
    Program,
    Queued,
    Record,
    Relay,
    Removed,
)
from postwake_logparse.shapes import Tally, chunks
from postwake_logparse.stamp import StampReader
from postwake_logparse.syslog import decode, split_line

# Each alternative is known by the number of the last group in it (``match.lastindex``). There are no more than 25
# groups: a match object with more does not fit Python's small-object allocator, which costs every line a tenth of a
# microsecond. `(?:x|)` and not `(?:x)?`: an alternative is cheaper than a repeat. Every `[^…]` stops at the newline: a
# line cut short by a crash must not swallow the next one.
_STAMP = r"[A-Z][a-z][a-z] [ 0123].{10}|[0-9]{4}-[0-9]{2}-[0-9]{2}T.{8}[^ \n]*+"
_FRAME = rf"({_STAMP}) ([^ \n]++ [^ \n\[\]:]++)(?:\[[0-9]++\]:? |: )"
_NOISE_WORDS = "|".join(re.escape(words) for words in NOISE)
_BODY = rf"""(?:
  ({QUEUE_ID}):[ ](?:
      to=<([^>\n]*+)>,[ ](?:orig_to=<([^>\n]*+)>,[ ]|)relay=([^,\n]*+),[ ](?:conn_use=([0-9]++)(?:,[ ]|[ ])|)
        delay=([0-9.]++),[ ](?:delays=([0-9./]++),[ ]|)(?:tls=([^,\ \n]*+),[ ]|)(?:dsn=([0-9.]++),[ ]|)
        status=(sent|deferred|bounced|SOFTBOUNCE)[ ]\((?P<attempt>.*)\)
    | from=<(?P<sender>[^>\n]*+)>,[ ]size=([0-9]++),[ ]nrcpt=(?P<queued>[0-9]++)[ ]\(queue[ ]active\)
    | message-id=<(?P<message_id>[^>\n]*+)>
    | client=(?P<client_name>[^\[\],\n]*+)\[(?P<client>[^\]\n]*+)\](?::[0-9]++|)
        (?:,[ ]sasl_method=([^,\n]*+),[ ]sasl_username=(?P<client_sasl>[^,\n]*+)|)
    | (?P<removed>removed)
  )\n
  | (?P<noise>{_NOISE_WORDS}).*\n
  | (?P<rest>.*)\n
)"""
_LINE = re.compile(rf"(?x:(?-x:{_FRAME}){_BODY}|.*\n)")

_ID = 3
_INDEX = _LINE.groupindex
_ATTEMPT, _QUEUED, _MESSAGE_ID, _REMOVED = (_INDEX[name] for name in ("attempt", "queued", "message_id", "removed"))
_CLIENT, _CLIENT_SASL, _NOISE, _REST = (_INDEX[name] for name in ("client", "client_sasl", "noise", "rest"))
_ATTEMPT_GROUPS = tuple(range(_ID + 1, _ATTEMPT + 1))
_QUEUED_GROUPS = tuple(range(_INDEX["sender"], _QUEUED + 1))
_CLIENT_KINDS = (_CLIENT, _CLIENT_SASL)
_CLIENT_GROUPS = tuple(range(_INDEX["client_name"], _CLIENT_SASL + 1))

_NO_PROGRAM = Program("", "", "")
# NamedTuple's own constructor re-packs its arguments; this makes the same object in a third of the time.
_new = tuple.__new__


class _Writers(dict[str, "tuple[str, Program | None]"]):
    """``host tag`` to host and Program; None for a program that is not Postfix's. Bounded: tags come from outside."""

    def __missing__(self, host_and_tag: str) -> tuple[str, Program | None]:
        if len(self) > 1000:
            self.clear()
        host, _, tag = host_and_tag.partition(" ")
        self[host_and_tag] = writer = (host, read_program(tag))
        return writer


def read_program(tag: str) -> Program | None:
    """The Postfix program of a syslog tag, or None if the tag is another software's.

    ``syslog_name`` is free text: what ends in ``/`` and a Postfix service is Postfix, and so is what starts with
    ``postfix``.
    """
    first, slash, last = tag.rpartition("/")
    if slash and (last in SERVICES or first.startswith("postfix")):
        return Program(tag, tag.partition("/")[0], last)
    if tag == "postfix":
        return Program(tag, tag, "")
    if tag.startswith("postfix") and not slash:
        return Program(tag, tag, tag)  # postfix-tlspol and its like: helpers under a name of their own
    return None


class PostfixGrammar:
    """Reads one Postfix log. ``tally`` counts what became of the lines; the caller may store and reset it."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._writers = _Writers()
        self._relays: dict[str, Relay] = {}

    def parse_block(self, data: bytes, clock: StampReader) -> Iterator[Record]:
        """The records of a block of whole lines (the last may lack its newline), in order.

        Lazy: the tally is complete when the iterator is exhausted.
        """
        for start, end in chunks(data):
            chunk = data[start:end]
            if not chunk.endswith(b"\n"):
                chunk += b"\n"
            collecting = gc.isenabled()
            gc.disable()  # nothing here makes cycles, and thousands of live tuples make each collection dear
            try:
                records = self._scan(chunk.decode("latin-1"), clock, chunk.isascii(), start)
            finally:
                if collecting:
                    gc.enable()
            yield from records

    def parse_entry(
        self,
        body: str,
        *,
        at_us: int,
        host: str,
        tag: str,
        pid: str = "",  # noqa: ARG002 (Exim's grammar needs it: one contract)
        offset: int = 0,
    ) -> Record | None:
        """The record of one entry whose prefix is apart already (journald), or None; counted like a line."""
        self.tally.lines += 1
        record = self._entry(body, at_us, host, tag, offset)
        if record is not None:
            self.tally.records[type(record).__name__] += 1
        return record

    def _scan(self, text: str, clock: StampReader, ascii_only: bool, base: int) -> list[Record]:
        records: list[Record] = []
        append = records.append
        noise: list[str] = []
        noted = noise.append
        writers = self._writers
        relays = self._relays
        tally = self.tally
        read_stamp = clock.at_us
        last_stamp = ""
        at_us: int | None = None
        foreign = 0
        for match in _LINE.finditer(text):
            kind = match.lastindex
            if kind == _NOISE:
                noted(match[_NOISE])
                continue
            if kind is None or not (ascii_only or match[0].isascii()):
                record = self._line(match[0], clock, base + match.start())
                if record is not None:
                    append(record)
                continue
            stamp, host_and_tag, queue_id = match.group(1, 2, 3)
            host, program = writers[host_and_tag]
            if program is None:
                foreign += 1
                continue
            if stamp != last_stamp:
                at_us = read_stamp(stamp)
                last_stamp = stamp
            if at_us is None:
                tally.unknown(match[0])
            elif kind == _ATTEMPT:
                recipient, original, relay_text, use, delay, delays, tls, dsn, status, reply = match.group(
                    *_ATTEMPT_GROUPS
                )
                append(
                    _new(
                        Attempt,
                        (
                            at_us,
                            host,
                            program,
                            queue_id,
                            recipient,
                            original,
                            relays.get(relay_text) or self._relay(relay_text),
                            float(delay) if delay.count(".") < 2 else None,
                            delays,
                            dsn,
                            status if status != "SOFTBOUNCE" else DEFERRED,
                            reply,
                            program.service,
                            tls,
                            None if use is None else int(use),
                            next_queue_id(reply) if "ed as " in reply and status == SENT else None,
                            None,
                            None,
                            False,
                            base + match.start(),
                        ),
                    )
                )
            elif kind == _QUEUED:
                sender, size, nrcpt = match.group(*_QUEUED_GROUPS)
                append(
                    _new(Queued, (at_us, host, program, queue_id, sender, int(size), int(nrcpt), base + match.start()))
                )
            elif kind == _REMOVED and program.service != "postsuper":
                append(_new(Removed, (at_us, host, program, queue_id, base + match.start())))
            elif kind == _MESSAGE_ID:
                message_id = match[_MESSAGE_ID]
                append(_new(MessageId, (at_us, host, program, queue_id, message_id, False, base + match.start())))
            elif kind in _CLIENT_KINDS:
                name, ip, method, username = match.group(*_CLIENT_GROUPS)
                append(
                    _new(
                        Client,
                        (
                            at_us,
                            host,
                            program,
                            queue_id,
                            name,
                            ip,
                            method,
                            username,
                            None,
                            None,
                            None,
                            None,
                            None,
                            base + match.start(),
                        ),
                    )
                )
            else:
                body = match[_REST] if kind == _REST else match[0][match.start(_ID) - match.start() : -1]
                record = self._rare(body, at_us, host, program, base + match.start())
                if record is not None:
                    append(record)
        tally.lines += text.count("\n")
        if foreign:
            tally.shapes["other program"] += foreign
        for words, count in Counter(noise).items():
            tally.shapes[NOISE[words]] += count
        for record_class, count in Counter(map(type, records)).items():
            tally.records[record_class.__name__] += count
        return records

    def _relay(self, text: str) -> Relay:
        if len(self._relays) > 10_000:
            self._relays.clear()
        self._relays[text] = relay = read_relay(text)
        return relay

    def _rare(self, body: str, at_us: int, host: str, program: Program, offset: int) -> Record | None:
        found = read_rare(body, at_us, host, program, offset)
        if found is None:
            found = shape_of(body, program.service)
            if found is None:
                self.tally.unknown(f"{program.tag}: {body}")
                return None
        if isinstance(found, str):
            self.tally.shapes[found] += 1
            return None
        return found

    def _line(self, raw: str, clock: StampReader, offset: int) -> Record | None:
        """A line with an unusual prefix, or with bytes beyond ASCII (``raw`` is Latin-1)."""
        line = raw[:-1]
        if not line.strip("\r\0 "):
            self.tally.shapes["empty"] += 1
            return None
        entry = split_line(decode(line.encode("latin-1")))
        if entry.stamp is None:
            # A bare body: as old as the newest line, or as the reference.
            at_us: int | None = clock.last_us if clock.last_us is not None else clock.reference_us
        else:
            at_us = clock.at_us(entry.stamp)
        if at_us is None:
            self.tally.unknown(line)
            return None
        return self._entry(entry.body, at_us, entry.host, entry.tag, offset)

    def _entry(self, body: str, at_us: int, host: str, tag: str, offset: int) -> Record | None:
        program = self._writers[f" {tag}"][1] if tag else _NO_PROGRAM
        if program is None:
            self.tally.shapes["other program"] += 1
            return None
        return self._rare(body, at_us, host, program, offset)
