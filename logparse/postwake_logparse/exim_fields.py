"""What follows Exim's ``<=``, ``=>``, ``**`` and ``==``: field lists whose letters mean different things on each.

Given is the text after the flag, with the line's end taken off. Source of the grammar: "Log files" in Exim's
specification, and the lines that 4.96 and 4.98 write. ``T=`` is the subject on ``<=`` and the transport elsewhere;
``R=`` the bounced message on ``<=`` and the router elsewhere; ``P=`` the protocol on ``<=`` and the return path
elsewhere.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from postwake_logparse.record import Arrival, Attempt, Program, Relay

PROGRAM = Program("exim", "exim", "exim")
NOWHERE = Relay("", None, None, None, None)

# It is not time yet, or not this queue run's business: nothing was tried. By the words, since the numbers of these
# errors begin at -51, -52 or -59, depending on the version, and what is "retry time" to one is a router's :defer: to
# another (exim: src/macros.h, ERRNO_RETRY_BASE; src/deliver.c, src/transports/smtp.c).
_NOT_TRIED = (
    "retry time not reached",
    "domain is in queue_domains",
    "remote deliveries suppressed",
    "concurrency limit reached for transport",
)

_ARRIVAL = re.compile(
    r"(?P<sender><>|\"(?:\\.|[^\"\\])*\"[^ ]*|[^ ]*|(?:(?! (?:[A-Z][A-Za-z0-9]*|id\*?)=).)*?)"
    r"(?: R=(?P<parent>[^ ]+)|)(?: DS|)"
    r"(?: H=(?:(?P<name>[^ (\[][^ ]*) |)(?:\((?P<helo>.*?)\) |)\[(?P<ip>[^\]]*)\](?::[^ ]+|)|)"
    r"(?: I=[^ ]+|)(?: U=(?P<user>[^ =]+(?: [^ =]+(?= P=)|))|)(?: Ci=[^ ]+|)(?: P=(?P<protocol>[^ ]+)|)(?: L[.*]?-?|)"
    r"(?: X=[^ ]+|)(?: CV=[^ ]+|)(?: DN=\"(?:\\.|[^\"\\])*\"|)(?: SNI=[^ ]+|)(?: A=(?P<auth>[^ ]+)|)(?: PRDR|"
    r")(?: PRX=[^ ]+|)(?: K|)"
    r"(?: S=(?P<size>[^ ]+)|)(?: M8S=[^ ]+|)(?: DKIM=[^ ]+|)(?: RT=[^ ]+|)(?: Q=[^ ]+|)"
    r"(?: id\*?=(?P<id>.*?)|)(?: T=\"(?P<subject>(?:\\.|[^\"\\])*)\"|)(?: from <(?P<from>.*?)>|)(?: for (?P<for>.+)|)",
    re.DOTALL,
)
# The same with fields that nobody knew yet among them: each field is looked for by itself, the first one counts.
_ARRIVAL_BY_FIELD = re.compile(
    r"(?P<sender><>|\"(?:\\.|[^\"\\])*\"[^ ]*|[^ ]*)(?=.* (?:P|S|H|U)=)"
    r"(?=(?:.*? R=(?P<parent>[^ ]+))?)"
    r"(?=(?:.*? H=(?:(?P<name>[^ (\[][^ ]*) |)(?:\((?P<helo>[^ ]*)\) |)\[(?P<ip>[^\]]*)\])?)"
    r"(?=(?:.*? U=(?P<user>[^ ]+))?)(?=(?:.*? P=(?P<protocol>[^ ]+))?)(?=(?:.*? A=(?P<auth>[^ ]+))?)"
    r"(?=(?:.*? S=(?P<size>[^ ]+))?)(?=(?:.*? id\*?=(?P<id>.*?)(?: T=\"| from <| for |$))?)"
    r"(?=(?:.*? T=\"(?P<subject>(?:\\.|[^\"\\])*)\")?)(?=(?:.*? from <(?P<from>.*?)>)?)"
    r"(?=(?:.* for (?P<for>[^\"=]*@[^=]*)$)?).*",
    re.DOTALL,
)
_RECIPIENT = re.compile(r"(?:\"(?:\\.|[^\"\\])*\"|[^ \"])+")

# Where the address ends and the fields begin.
_FIELDS = re.compile(r" (?:[FP]=<|SRS=<|[RTQSHC]=|[QD]T=|\(=)")
_FIELDS_OR_TEXT = re.compile(
    r"\"(?:\\.|[^\"\\])*\"|(?P<end> (?:[FP]=<|SRS=<|[RTQSHC]=|[QD]T=|(?:routing )?defer \()| ?: )"
)
_SENT = re.compile(
    r"(?: F=<(?P<sender>[^>]*)>|)(?: Q=[^ ]+|)(?: SRS=<[^>]*>|)(?: P=<[^>]*>|)(?: R=(?P<router>[^ ]+)|"
    r")(?: T=(?P<transport>[^ ]+)|)(?: S=[^ ]+|)"
    r"(?: H=(?P<host>[^ ]+)(?: DS|)(?: \[(?P<ip>[^\]]*)\](?::(?P<port>[^ *]+)|)|)|)(?P<reused>\*|)(?P<more>.*)",
    re.DOTALL,
)
_NOT_SENT = re.compile(
    r"(?: F=<(?P<sender>[^>]*)>|)(?: Q=[^ ]+|)(?: SRS=<[^>]*>|)(?: P=<[^>]*>|)(?: R=(?P<router>[^ :]+)|"
    r")(?: T=(?P<transport>[^ :]+)|)(?: S=[^ ]+|)"
    r"(?: (?:routing |)defer \(-?[0-9a-z]+\)|)"
    r"(?:: (?P<strerror>[^:\[]*?)(?= H=|: |$| DT=)|)"
    r"(?: H=(?P<host>[^ ]+?)(?: DS|)(?: \[(?P<ip>[^\]]*)\](?::(?P<port>[0-9]\w*|PORT_\w+)|)|(?=: ))|)\*?"
    r"(?: I=[^ ]+?(?=:? )|)(?: L|)(?: X=(?P<tls>[^ ]+?)(?=:? )|)(?: CV=\w+|)(?: DN=\"(?:\\.|[^\"\\])*\"|"
    r")(?: DT=(?P<dt>[^ :]+)|)"
    r"(?: ?: ?(?P<text>.*)|(?P<odd>.*))",
    re.DOTALL,
)
# Where Exim named the host before it did so in a field.
_HOST_IN_TEXT = re.compile(r": host (?P<host>[^ ]+) \[(?P<ip>[^\]]*)\](?::(?P<port>[0-9]+)|): ")
_COMMAND_OR_FILE = re.compile(r"(?:^| )[|/]")
_TRAILING_TIME = re.compile(r" DT=(?P<dt>[0-9][0-9.dhmsw]*)$")
_REPLY = re.compile(r" C=\"((?:\\.|[^\"\\])*)(?:\"|$)", re.DOTALL)  # without its end if syslog cut the line
_TLS = re.compile(r" X=([^ ]+)")
_QUEUE_TIME = re.compile(r" QT=([0-9][0-9.smhdw]*)")
_TIME_PART = re.compile(r"([0-9.]+)([wdhms])")
_TIME_UNIT_S = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_ENHANCED = re.compile(r"(?<![0-9.])[245][0-9]{2}[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.])")
_NEXT_ID = re.compile(r"(?:\bid=|queued as )([0-9A-Za-z][0-9A-Za-z-]{4,})(?![A-Za-z0-9_.@-])")
_PARENTS = re.compile(r" \([^()]*\)$")
_OCTALS = re.compile(r"(?:\\[0-3][0-7]{2})+")


_SENTENCE = re.compile(r"(?P<address>\S+@\S+) (?P<text>[^<(].*)")
"""An address and words with nothing between: ``x@t.test routing yielded a local delivery`` (mua_wrapper)."""


def read_arrival(text: str, fake_reject: bool, at_us: int, host: str, queue_id: str, offset: int) -> Arrival | None:
    """The record of ``<= text``, or None if it does not parse."""
    match = _ARRIVAL.fullmatch(text) or _ARRIVAL_BY_FIELD.fullmatch(text)
    if match is None:
        return None
    sender = match["sender"]
    method, _, username = (match["auth"] or "").partition(":")
    size = match["size"]
    recipients = match["for"]
    return Arrival(
        at_us,
        host,
        PROGRAM,
        queue_id,
        "" if sender == "<>" else sender,
        match["name"],
        match["ip"],
        match["helo"],
        match["protocol"],
        method or None,
        username.partition(":")[0] or None,
        match["user"],
        int(size) if size is not None and size.isdecimal() else None,
        match["id"],
        _unquote(match["subject"]) if match["subject"] is not None else None,
        match["parent"],
        tuple(_RECIPIENT.findall(recipients)) if recipients is not None else None,
        fake_reject,
        offset,
    )


def read_sent(text: str, at_us: int, host: str, queue_id: str, offset: int) -> Attempt | None:
    """The record of ``=> text`` (also ``->``, ``>>``), or None if it does not parse."""
    start = _FIELDS.search(text)
    address = text if start is None else text[: start.start()]
    match = _SENT.match(text, len(address))
    if match is None:
        return None
    transport, more = match["transport"], match["more"]
    reply = _REPLY.search(more)
    said = fold(_unquote(reply[1])) if reply is not None else ""
    tls = _TLS.search(more)
    waited = _QUEUE_TIME.search(more)
    recipient, original, agent = _split_address(address, transport, match["host"])
    next_id = _NEXT_ID.search(said) if said else None
    enhanced = _ENHANCED.search(said) if said else None
    return Attempt(
        at_us,
        host,
        PROGRAM,
        queue_id,
        recipient,
        original,
        _relay(match["host"], match["ip"], match["port"], transport),
        seconds(waited[1]) if waited is not None else None,
        None,
        enhanced[1] if enhanced is not None else None,
        "sent",
        said,
        agent,
        tls[1] if tls is not None else None,
        2 if match["reused"] else None,
        next_id[1] if next_id is not None else None,
        match["sender"],
        transport,
        False,
        offset,
    )


def read_not_sent(text: str, status: str, at_us: int, host: str, queue_id: str, offset: int) -> Attempt | None:
    """The record of ``** text`` (``bounced``) or ``== text`` (``deferred``), or None if it does not parse."""
    address = text[: _end_of_address(text)]
    match = _NOT_SENT.fullmatch(text, len(address))
    if match is None:
        return None
    said = match["text"] if match["text"] is not None else match["odd"].strip()
    if len(address) == len(text) and (sentence := _SENTENCE.fullmatch(text)) is not None:
        address, said = sentence["address"], sentence["text"]
    if status == "bounced" and (late := _TRAILING_TIME.search(said)) is not None:
        said = said[: late.start()]
    strerror = match["strerror"]
    if strerror:
        said = f"{strerror}: {said}" if said else strerror
    said = fold(said)
    transport = match["transport"]
    recipient, original, agent = _split_address(address, transport, match["host"])
    at = match if match["host"] is not None else _HOST_IN_TEXT.search(said) or match
    enhanced = _ENHANCED.search(said)
    if "@" not in recipient and " " in recipient:
        return None  # "** mua_wrapper is set but …": a sentence where the address should be
    return Attempt(
        at_us,
        host,
        PROGRAM,
        queue_id,
        recipient,
        original,
        _relay(at["host"], at["ip"], at["port"], transport),
        None,
        None,
        enhanced[1] if enhanced is not None else None,
        status,
        said,
        agent if transport is not None or match["host"] is not None else "error",
        match["tls"],
        None,
        None,
        match["sender"],
        transport,
        status == "deferred" and said.startswith(_NOT_TRIED),
        offset,
    )


def _end_of_address(text: str) -> int:
    """Where the address of a ``**`` or ``==`` line ends: before its fields, or before the colon of its text.

    A colon may stand in a local part, which Exim logs without its quotes: what has no ``@`` yet goes on.
    """
    ends = [match.start() for match in _FIELDS_OR_TEXT.finditer(text) if match["end"] is not None]
    whole = (end for end in ends if text[0] in "|/>:" or "@" in text[:end])
    return next(whole, ends[0] if ends else len(text))


class _Address(NamedTuple):
    recipient: str
    original: str | None
    agent: str


def _split_address(text: str, transport: str | None, host: str | None) -> _Address:
    """``address (parents) <original>`` taken apart.

    A local delivery names a local part, a command, a file or nothing, and the mail's recipient in angle brackets: then
    that is the recipient.
    """
    address, original = text, None
    if text.endswith(">"):
        start = text.rfind(" <")
        if start >= 0:
            address, original = text[:start], text[start + 2 : -1]
    if address.endswith(")"):
        address = _PARENTS.sub("", address)
    first = address[:1]
    if host is not None or ("@" in address and transport is not None and "mtp" in transport):
        # A remote transport that did not get as far as a host is known by its name alone.
        agent = "lmtp" if transport is not None and "lmtp" in transport else "smtp"
    elif first == "|" or " |" in address:
        agent = "pipe"
    elif first == "/":
        agent = "file"
    elif first == ">":
        agent = "autoreply"
    elif address in (":blackhole:", "blackhole"):
        agent = "discard"
    else:
        agent = "local"
    if original is not None and (first in ">:" or "@" not in address or _COMMAND_OR_FILE.search(address) is not None):
        return _Address(original, None, agent)
    return _Address(address, original, agent)


def _relay(host: str | None, ip: str | None, port: str | None, transport: str | None) -> Relay:
    if host is None:
        return Relay(transport, transport, None, None, None) if transport is not None else NOWHERE
    port_text = "" if port is None else f":{port}"
    if ip is None:
        return Relay(host, host, None, None, None)
    if ip.startswith("/"):
        return Relay(f"{host}[{ip}]", host, None, None, ip)
    return Relay(f"{host}[{ip}]{port_text}", host, ip, port, None)


def seconds(text: str) -> float | None:
    """Exim's ``0.019s``, ``21s``, ``1m10s``, ``2d3h`` in seconds; None if it is none of them."""
    total, end = 0.0, 0
    for part in _TIME_PART.finditer(text):
        try:
            total += float(part[1]) * _TIME_UNIT_S[part[2]]
        except ValueError:
            return None
        end = part.end()
    return total if end == len(text) and end else None


def _unquote(text: str) -> str:
    """Undo the quoting inside ``C="…"`` and ``T="…"``, in one pass: a backslash protects the next character."""
    if "\\" not in text:
        return text
    return _octals(re.sub(r'\\(["\\])', r"\1", text))


def fold(text: str) -> str:
    """A reply's escapes undone and its lines joined by a space, as Postfix joins them."""
    if "\\" not in text:
        return text
    return _octals(text).replace("\\r", "").replace("\\n", " ").replace("\\t", "\t")


def _octals(text: str) -> str:
    r"""``\303\274`` as the character it is in UTF-8; left alone if it is none."""
    if "\\" not in text:
        return text
    return _OCTALS.sub(_from_octals, text)


def _from_octals(match: re.Match[str]) -> str:
    raw = bytes(int(digits, 8) for digits in match[0].split("\\")[1:])
    if all(byte >= 0x80 for byte in raw):
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return match[0]
