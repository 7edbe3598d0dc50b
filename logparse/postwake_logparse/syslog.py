"""What syslog puts before a program's own text, in all the forms that reach us.

 - ``Jul  5 06:52:01 host tag[pid]: body`` and the same with an RFC 3339 stamp (rsyslog, syslog-ng files);
 - ``<22>`` before it, or ``<22>Jul  5 06:52:01 tag[pid]: body`` without a host: an RFC 3164 datagram as libc's syslog()
 sends it;
 - ``<22>1 2026-… host app procid msgid [data] body``: RFC 5424;
 - the colon after the pid missing, Solaris' ``[ID 197553 mail.info]`` before the body;
 - journalctl's ``short-precise`` (``Jul  5 06:52:01.257375``), ``short-full`` (``Sun 2026-07-05 06:52:01 CEST``) and
   ``short-unix`` (``1783227121.257375``), a space in place of RFC 3339's ``T``, FreeBSD's ``<mail.info>`` behind it;
 - no prefix at all: the body alone.

journald needs no parsing: its entries come with identifier, pid, text and time apart (``parse_entry`` of the grammars).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_DATE, _TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "[0-9]{2}:[0-9]{2}:[0-9]{2}"
STAMP = (
    rf"[A-Z][a-z]{{2}} [ 0-3]?[0-9] {_TIME}(?:[.,][0-9]{{1,9}})?"
    rf"|{_DATE}[T ]{_TIME}[^ \n]*+"
    rf"|[A-Z][a-z]{{2}} {_DATE} {_TIME} [A-Z+-][A-Za-z0-9+:-]*"
    r"|[0-9]{10}\.[0-9]{3,6}"
)

# A message's length stands before it where a stream counted octets (RFC 6587).
_PRI = re.compile(r"(?:[1-9][0-9]{0,5} )?<[0-9]{1,3}>")
_FULL = re.compile(rf"[A-Z][a-z]{{2}} ({_DATE} {_TIME}) (UTC|GMT|[+-][0-9]{{2}}:?[0-9]{{2}}|.*)")
_RFC5424 = re.compile(
    r"1 (?P<stamp>-|[0-9]{4}-[^ ]+) (?P<host>[^ ]+) (?P<tag>[^ ]+) (?P<pid>[^ ]+) [^ ]+ (?:-|(?:\[(?:\\.|"
    r"[^\]\\])*\])+)(?: (?P<body>.*))?",
    re.DOTALL,
)
_FRAMED = re.compile(
    rf"(?P<stamp>{STAMP}) (?:<[^ <>]{{1,30}}> )?(?:(?P<host>[^ \[\]]*[^ \[\]:]) )?(?P<tag>[^ \[\]:]+)"
    r"(?:\[(?P<pid>[0-9]+)\](?::(?: |$)| )|:(?: |$))(?P<body>.*)",
    re.DOTALL,
)
_SOLARIS_ID = re.compile(r"\[ID [0-9]+ [a-z0-9]+\.[a-z]+\] ")


class Entry(NamedTuple):
    """A log line taken apart. ``stamp`` is None and ``host``, ``tag``, ``pid`` empty where the line has none."""

    stamp: str | None
    host: str
    tag: str
    pid: str
    body: str


def split_line(line: str) -> Entry:
    """Take a line's (or datagram's) syslog prefix off. Never fails: what has no known prefix is a bare body."""
    text = line.rstrip("\r\n\0")
    pri = _PRI.match(text)
    if pri:
        text = text[pri.end() :]
        if (match := _RFC5424.fullmatch(text)) is not None:
            body = (match["body"] or "").removeprefix("\ufeff")
            host, tag, pid = _nil(match["host"]), _nil(match["tag"]), _nil(match["pid"])
            return Entry(_nil(match["stamp"]) or None, host, tag, pid, unescape_control(body))
    match = _FRAMED.fullmatch(text)
    if match is None:
        return Entry(None, "", "", "", unescape_control(text))
    body = match["body"]
    if body.startswith("[ID "):
        body = _SOLARIS_ID.sub("", body, count=1)
    return Entry(_plain(match["stamp"]), match["host"] or "", match["tag"], match["pid"] or "", unescape_control(body))


def _plain(stamp: str) -> str:
    """Take the weekday off ``Sun 2026-07-05 06:52:57 CEST``; a zone's abbreviation but UTC's means nothing certain."""
    full = _FULL.fullmatch(stamp)
    if full is None:
        return stamp
    zone = full[2]
    return full[1] + ("Z" if zone in ("UTC", "GMT") else zone if zone[0] in "+-" else "")


def _nil(value: str) -> str:
    return "" if value == "-" else value


def unescape_control(text: str) -> str:
    """Undo rsyslog's ``#011`` for a tab, the one control character that MTAs write."""
    return text.replace("#011", "\t") if "#011" in text else text


def decode(raw: bytes) -> str:
    """A log line's text: UTF-8, with a byte that is not as ``\\xff``: readable, storable, never an error."""
    return raw.decode("utf-8", "backslashreplace")
