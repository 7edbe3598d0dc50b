r"""A journal that somebody saved: what ``journalctl -o json`` (``json-seq``, ``json-sse``) or ``-o export`` printed.

Its entries become the lines that :func:`~postwake_logparse.source_journal.render_entry` makes of them. The forms of
journalctl that look like a log file (``short`` and its kin) need none of this. Pure: bytes in, bytes out. Formats:
systemd's "Journal Export Formats".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from postwake_logparse.source_journal import render_entry

# What stands before an entry's object: nothing, RFC 7464's record separator, a server-sent event's field name.
_BEFORE_JSON = (b"", b"\x1e", b"data: ")
_JSON_STARTS = tuple(before + b'{"' for before in _BEFORE_JSON)
# The fields that every entry of the export form begins with, in the order of journalctl's versions.
_EXPORT_STARTS = (b"__CURSOR=", b"__REALTIME_TIMESTAMP=")
_TIMES = frozenset((b"__REALTIME_TIMESTAMP", b"_SOURCE_REALTIME_TIMESTAMP"))
_FIELDS = _TIMES | {b"MESSAGE", b"_HOSTNAME", b"SYSLOG_IDENTIFIER", b"_COMM", b"SYSLOG_PID", b"_PID"}
_LENGTH_BYTES = 8


def is_journal(head: bytes) -> bool:
    """Whether a file that begins with *head* is a journal that somebody saved."""
    return head.lstrip().startswith((*_JSON_STARTS, *_EXPORT_STARTS))


def as_lines(portions: Iterable[bytes], *, unfinished: bool = True) -> Iterator[bytes]:
    """The portions of a log, cut anywhere; a journal's entries as lines, anything else as it is.

    *unfinished*: take a last entry that nothing ends for a whole one.
    """
    rest = iter(portions)
    head = b""
    for portion in rest:
        head += portion
        if len(head.lstrip()) >= len(_EXPORT_STARTS[1]):
            break
    start = head.lstrip()
    everything = chain((head,), rest)
    if start.startswith(_JSON_STARTS):
        yield from _json_lines(everything, unfinished)
    elif start.startswith(_EXPORT_STARTS):
        yield from _export_lines(chain(everything, (b"\n\n",)) if unfinished else everything)
    else:
        yield from everything


def _json_lines(portions: Iterable[bytes], unfinished: bool) -> Iterator[bytes]:
    partial = b""
    for portion in portions:
        *whole, partial = (partial + portion).split(b"\n")
        yield b"".join(map(_json_line, whole))
    if partial and unfinished:
        yield _json_line(partial)


def _json_line(line: bytes) -> bytes:
    start = line.find(b"{", 0, len(_BEFORE_JSON[-1]) + 1)
    if start < 0:
        return line + b"\n" if line.strip() else b""
    try:
        return render_entry(json.loads(line[start:]))
    except (ValueError, KeyError, TypeError):
        return line + b"\n"  # for the grammar to count as unparsed


def _export_lines(portions: Iterable[bytes]) -> Iterator[bytes]:
    """Entries of ``NAME=value`` lines; a value with a newline in it as ``NAME``, its length in 8 bytes, and itself."""
    data = b""
    fields: dict[str, Any] = {}
    for portion in portions:
        data += portion
        at, lines = 0, []
        while (newline := data.find(b"\n", at)) >= 0:
            name, equals, value = data[at:newline].partition(b"=")
            end = newline + 1
            if not equals and name:
                start = end + _LENGTH_BYTES
                end = start + int.from_bytes(data[end:start], "little") + 1
                if len(data) < max(start, end):
                    break
                value = data[start : end - 1]
            at = end
            if name in _FIELDS:
                fields[name.decode()] = value.decode() if name in _TIMES else list(value)
            elif not name and fields:
                try:
                    lines.append(render_entry(fields))
                except (ValueError, KeyError):
                    lines.append(b"journal entry without a time\n")
                fields = {}
        data = data[at:]
        yield b"".join(lines)
