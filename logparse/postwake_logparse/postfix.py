"""Postfix's log, from whole blocks of it to records, at the speed of one regular expression.

``parse_block`` runs one compiled expression over a block of a mebibyte. Each of its alternatives swallows a whole line: the
few kinds of line that a normal mail writes make a record at once; lines that tell no message's fate are counted by their
first words without taking them apart; everything else goes to the lenient grammar in
:mod:`postwake_logparse.postfix_rare`, line by line. Blocks are decoded as Latin-1, which is a plain copy and keeps
offsets; a line with a byte beyond ASCII in it takes the lenient way, decoded as UTF-8.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from postwake_logparse.postfix_rare import QUEUE_ID, STATUS, next_queue_id, read_rare, read_relay
from postwake_logparse.postfix_shapes import NOISE, SERVICES, shape_of
from postwake_logparse.record import (
    DEFERRED,
    SENT,
    Attempt,
    Client,
    Deleted,
    MessageId,
    Program,
    Queued,
    Record,
    Relay,
    Removed,
)
from postwake_logparse.shapes import Tally
from postwake_logparse.stamp import StampReader
from postwake_logparse.syslog import STAMP, decode, split_line

_FRAME = rf"({STAMP}) ([^ \n\[\]]++) ([^ \n\[\]:]++)(?:\[[0-9]++\](?:: | )|: )"
_NOISE_WORDS = "|".join(re.escape(words) for words in NOISE)
_BODY = rf"""(?:
  ({QUEUE_ID}):[ ](?:
      to=<([^>\n]*+)>,[ ](?:orig_to=<([^>\n]*+)>,[ ])?relay=([^,\n]*+),[ ](?:conn_use=([0-9]++),?[ ])?delay=([0-9.]++),[ ]
        (?:delays=([0-9./]++),[ ])?(?:tls=([^,\ \n]*+),[ ])?(?:dsn=([0-9.]++),[ ])?
        status=(sent|deferred|bounced|SOFTBOUNCE)[ ]\((.*)\)(?P<attempt>)
    | from=<([^>\n]*+)>,[ ]size=([0-9]++),[ ]nrcpt=([0-9]++)[ ]\(queue[ ]active\)(?P<queued>)
    | message-id=<([^>\n]*+)>(?P<message_id>)
    | client=([^\[\],\n]*+)\[([^\]\n]*+)\](?::[0-9]++)?(?:,[ ]sasl_method=([^,\n]*+),[ ]sasl_username=([^,\n]*+))?(?P<client>)
    | removed(?P<removed>)
    | uid=([0-9]++)[ ]from=<([^>\n]*+)>(?P<pickup>)
  )\n
  | (?P<noise>{_NOISE_WORDS}).*+\n(?P<noise_end>)
  | (?P<rest>.*+)\n
)"""
_LINE = re.compile(rf"(?x:(?-x:{_FRAME}){_BODY}|(?P<whole>.*+)\n)")
# The same groups under the same numbers, for bodies whose prefix was taken off elsewhere.
_BODY_ALONE = re.compile(rf"(?x:()()(){_BODY}|(?P<whole>.*+)\n)")

_INDEX = _LINE.groupindex
_ATTEMPT, _QUEUED, _MESSAGE_ID = _INDEX["attempt"], _INDEX["queued"], _INDEX["message_id"]
_CLIENT, _REMOVED, _PICKUP = _INDEX["client"], _INDEX["removed"], _INDEX["pickup"]
_NOISE, _NOISE_END, _REST, _WHOLE = _INDEX["noise"], _INDEX["noise_end"], _INDEX["rest"], _INDEX["whole"]
_ID = 4
_ATTEMPT_FIELDS = tuple(range(_ID, _ATTEMPT))
_QUEUED_FIELDS = (_ID, *range(_ATTEMPT + 1, _QUEUED))
_MESSAGE_ID_FIELDS = (_ID, *range(_QUEUED + 1, _MESSAGE_ID))
_CLIENT_FIELDS = (_ID, *range(_MESSAGE_ID + 1, _CLIENT))
_PICKUP_FIELDS = (_ID, *range(_REMOVED + 1, _PICKUP))

_NO_PROGRAM = Program("", "", "")
# NamedTuple's own constructor re-packs its arguments; this makes the same object in a third of the time.
_new = tuple.__new__


class _Programs(dict[str, Program | None]):
    """Syslog tag to Program; None for a program that is not Postfix's. Bounded, since tags come from outside."""

    def __missing__(self, tag: str) -> Program | None:
        if len(self) > 1000:
            self.clear()
        self[tag] = program = read_program(tag)
        return program


def read_program(tag: str) -> Program | None:
    """The Postfix program of a syslog tag, or None if the tag is another software's.

    ``syslog_name`` is free text: what ends in ``/`` and a Postfix service is Postfix, and so is what starts with ``postfix``.
    """
    first, slash, last = tag.rpartition("/")
    if slash and (last in SERVICES or first.startswith("postfix")):
        return Program(tag, tag.partition("/")[0], last)
    if tag.startswith("postfix") and not slash:
        return Program(tag, tag, "")
    return None


class PostfixGrammar:
    """Reads one Postfix log. ``tally`` counts what became of the lines; the caller may store and reset it."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._programs = _Programs()
        self._relays: dict[str, Relay] = {}

    def parse_block(self, data: bytes, clock: StampReader) -> list[Record]:
        """The records of a block of whole lines (the last may lack its newline), in order."""
        if not data.endswith(b"\n"):
            if not data:
                return []
            data += b"\n"
        text = data.decode("latin-1")
        return self._scan(_LINE.finditer(text), clock, data.isascii())

    def parse_entry(self, body: str, *, at_us: int, host: str, tag: str, offset: int = 0) -> Record | None:
        """The record of one entry whose prefix is apart already (journald), or None; counted like a line."""
        self.tally.lines += 1
        record = self._entry(body, at_us, host, tag, offset)
        if record is not None:
            self.tally.records[type(record).__name__] += 1
        return record

    def _scan(self, matches: Iterator[re.Match[str]], clock: StampReader, ascii_only: bool) -> list[Record]:
        records: list[Record] = []
        append = records.append
        noise: list[str] = []
        programs = self._programs
        tally = self.tally
        read_stamp = clock.at_us
        last_stamp = ""
        at_us: int | None = None
        lines = foreign = 0
        for match in matches:
            lines += 1
            kind = match.lastindex
            if kind == _NOISE_END:
                noise.append(match[_NOISE])
                continue
            if kind == _WHOLE or not (ascii_only or match[0].isascii()):
                record = self._line(match[0], clock, match.start())
                if record is not None:
                    append(record)
                continue
            stamp, host, tag = match.group(1, 2, 3)
            program = programs[tag]
            if program is None:
                foreign += 1
                continue
            if stamp != last_stamp:
                at_us = read_stamp(stamp)
                last_stamp = stamp
            if at_us is None:
                tally.unknown(match[0])
                continue
            if kind == _REST:
                record = self._rare(match[_REST], at_us, host, program, match.start())
                if record is not None:
                    append(record)
                continue
            append(self._common(match, kind, at_us, host, program, match.start()))
        tally.lines += lines
        if foreign:
            tally.shapes["other program"] += foreign
        for words, count in Counter(noise).items():
            tally.shapes[NOISE[words]] += count
        for record_class, count in Counter(map(type, records)).items():
            tally.records[record_class.__name__] += count
        return records

    def _common(
        self, match: re.Match[str], kind: int | None, at_us: int, host: str, program: Program, offset: int
    ) -> Record:
        """The record of a line that one of the hot alternatives took apart."""
        if kind == _ATTEMPT:
            (queue_id, recipient, original, relay_text, conn_use, delay, delays, tls, dsn, word, reply) = match.group(
                *_ATTEMPT_FIELDS
            )
            relay = self._relays.get(relay_text)
            if relay is None:
                relay = self._relay(relay_text)
            status = STATUS[word]
            try:
                delay_s = float(delay)
            except ValueError:
                delay_s = None
            return _new(
                Attempt,
                (
                    at_us,
                    host,
                    program,
                    queue_id,
                    recipient,
                    original,
                    relay,
                    delay_s,
                    delays,
                    dsn,
                    status,
                    reply,
                    program.service,
                    tls,
                    int(conn_use) if conn_use else None,
                    next_queue_id(reply) if status is SENT and "ed as " in reply else None,
                    None,
                    None,
                    False,
                    offset,
                ),
            )
        if kind == _REMOVED:
            if program.service == "postsuper":
                return Deleted(at_us, host, program, match[_ID], None, "deleted with postsuper", offset)
            return _new(Removed, (at_us, host, program, match[_ID], offset))
        if kind == _QUEUED:
            queue_id, sender, size, nrcpt = match.group(*_QUEUED_FIELDS)
            return _new(Queued, (at_us, host, program, queue_id, sender, int(size), int(nrcpt), offset))
        if kind == _MESSAGE_ID:
            queue_id, message_id = match.group(*_MESSAGE_ID_FIELDS)
            return _new(MessageId, (at_us, host, program, queue_id, message_id, False, offset))
        if kind == _CLIENT:
            queue_id, name, ip, method, username = match.group(*_CLIENT_FIELDS)
            return _new(
                Client,
                (at_us, host, program, queue_id, name, ip, method, username, None, None, None, None, None, offset),
            )
        queue_id, uid, sender = match.group(*_PICKUP_FIELDS)
        return Client(
            at_us, host, program, queue_id, None, None, None, None, None, None, None, int(uid), sender, offset
        )

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
        program = self._programs[tag] if tag else _NO_PROGRAM
        if program is None:
            self.tally.shapes["other program"] += 1
            return None
        if "\n" not in body:
            match = _BODY_ALONE.fullmatch(body + "\n")
            if match is not None and match.lastindex not in (_NOISE_END, _REST, _WHOLE):
                return self._common(match, match.lastindex, at_us, host, program, offset)
        return self._rare(body, at_us, host, program, offset)


__all__ = ["DEFERRED", "PostfixGrammar", "read_program"]
