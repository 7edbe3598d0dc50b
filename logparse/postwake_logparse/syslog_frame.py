r"""Syslog messages in a stream of bytes, and what a log file would hold of them. Pure functions.

Framing is RFC 6587: a message is preceded by its length (octet counting) or followed by a newline (non-transparent).
Each frame says by its first bytes which it is, so that senders of both kinds are understood. Messages are RFC 5424
(``<PRI>1 …``) or RFC 3164 (``<PRI>Mmm dd hh:mm:ss host tag: …``, with the variations that there are: RFC 3339 stamps
as rsyslog's forward format has them, no host as syslog(3) writes it, no stamp at all). What has no ``<PRI>`` is taken
for a line of a log file and left as it is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from postwake_logparse.source import MAX_LINE_BYTES

_COUNTED = re.compile(rb"([1-9][0-9]{0,8}) <")
_MAYBE_COUNTED = re.compile(rb"[1-9][0-9]{0,8}(?: )?\Z")
_BREAKS = re.compile(rb"[\n\r\0]")
_RFC5424 = re.compile(
    rb"<[0-9]{1,3}>[1-9][0-9]{0,2} (?P<stamp>\S+) (?P<host>\S+) (?P<app>\S+) (?P<pid>\S+) \S+ "
    rb'(?:-|(?:\[[^ \]"=]+(?: [^ \]"=]+="(?:[^"\\\]]|\\.)*+")*+\])++)(?: (?P<message>.*))?',
    re.DOTALL,
)
_RFC3164 = re.compile(
    rb"<[0-9]{1,3}>"
    rb"(?:(?P<stamp>[A-Z][a-z]{2} [ 0-3][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+) )?"
    rb"(?P<rest>.*)",
    re.DOTALL,
)
_TAG_FIRST = re.compile(rb"[^\s\[\]:]+(?:\[[^\]\s]*\])?:(?:\s|\Z)")
_BOM = b"\xef\xbb\xbf"


class Frames(NamedTuple):
    """What :func:`split_frames` found."""

    frames: list[bytes]
    rest: bytes
    """The beginning of a frame that is not complete."""
    skip: int
    """Bytes still to come that belong to a counted frame over the bound."""
    lines_discarded: int
    bytes_discarded: int


def split_frames(data: bytes, bound: int = MAX_LINE_BYTES) -> Frames:
    r"""Split *data*, the start of a stream or what was left of it, into whole frames, without their framing.

    Frames over *bound* bytes are discarded and counted; of one that is counted and not complete, ``skip`` says how
    many bytes to drop of what comes. One without a count is complete only with its ``\n``, so the caller has to see to
    it that ``rest`` does not grow for ever.
    """
    frames: list[bytes] = []
    position = lines = discarded = 0
    size = len(data)
    while position < size:
        counted = _COUNTED.match(data, position)
        if counted is not None:
            start = counted.end() - 1
            end = start + int(counted[1])
            if end - start > bound:
                lines += 1
                discarded += min(end, size) - position
                if end > size:
                    return Frames(frames, b"", end - size, lines, discarded)
            elif end > size:
                break
            else:
                frames.append(data[start:end])
            position = end
            continue
        newline = data.find(b"\n", position)
        if newline < 0:
            break
        frame = data[position:newline]
        if len(frame) > bound:
            lines += 1
            discarded += len(frame) + 1
        elif frame:
            frames.append(frame)
        position = newline + 1
    return Frames(frames, data[position:], 0, lines, discarded)


def is_counted(rest: bytes) -> bool:
    """Tell whether *rest*, the beginning of a frame, has a length before it, or may still turn out to have one."""
    return _COUNTED.match(rest) is not None or _MAYBE_COUNTED.match(rest) is not None


def render_frame(frame: bytes, host: bytes, stamp: bytes) -> bytes:
    r"""Return the message in *frame* as a line of a log file, with ``\n``: ``STAMP HOST TAG[PID]: TEXT``.

    *host* and *stamp* (RFC 3339) stand in where the message has none. Stamps are left in the form they have. Newlines,
    carriage returns and NULs inside the message are written as rsyslog does (``#012``), at its end dropped.
    """
    text = frame.rstrip(b"\n\r\0")
    match = _RFC5424.fullmatch(text)
    if match is not None:
        pid = b"" if match["pid"] == b"-" else b"[" + match["pid"] + b"]"
        message = (match["message"] or b"").removeprefix(_BOM)
        text = b"%b %b %b%b: %b" % (_or(match["stamp"], stamp), _or(match["host"], host), match["app"], pid, message)
    elif (match := _RFC3164.fullmatch(text)) is not None:
        rest = match["rest"]
        if match["stamp"] is None or _TAG_FIRST.match(rest) is not None:
            rest = host + b" " + rest
        text = (match["stamp"] or stamp) + b" " + rest
    if _BREAKS.search(text) is not None:
        text = _BREAKS.sub(lambda found: b"#%03o" % found[0][0], text)
    return text + b"\n"


def _or(value: bytes, otherwise: bytes) -> bytes:
    return otherwise if value == b"-" else value
