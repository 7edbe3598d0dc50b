"""Postfix's rarer lines, given the body alone: refusals, notices, operator's acts, old or odd forms of the common ones.

The common lines of a log never come here (see :mod:`postwake_logparse.postfix`), so this may take its time and be
lenient: missing brackets, commas and parentheses, text after the reply, fields in versions from 2.3 to 3.10.
"""

from __future__ import annotations

import re
from functools import lru_cache

from postwake_logparse.record import (
    BOUNCED,
    DEFERRED,
    EXPIRED,
    SENT,
    Attempt,
    Client,
    Deleted,
    Held,
    HostSaid,
    MessageId,
    NonDelivery,
    Probe,
    Program,
    Queued,
    QueueExpired,
    Record,
    Rejected,
    Relay,
    Released,
    Removed,
)

# Short IDs are upper case hexadecimal, long ones (enable_long_queue_ids) digits and consonants: together, no word of
# English.
QUEUE_ID = r"[0-9A-HJ-NP-TV-Zb-df-hj-np-tv-z]{5,}+"

_WITH_ID = re.compile(rf"({QUEUE_ID}): (.*)", re.DOTALL)
_ATTEMPT = re.compile(
    r"to=(?:<(?P<to>.*?)>|(?P<bare_to>[^ ,]*)), ?"
    r"(?:orig_to=(?:<(?P<orig>.*?)>|(?P<bare_orig>[^ ,]*)), ?)?"
    r"(?:relay=(?P<relay>[^,]*), ?)?"
    r"(?:conn_use=(?P<conn_use>[0-9]+),? )?"
    r"(?:delay=(?P<delay>[0-9.]+), ?)?"
    r"(?:delays=(?P<delays>[0-9./]+), ?)?"
    r"(?:tls=(?P<tls>[^ ,]*), ?)?"
    r"(?:dsn=(?P<dsn>[0-9.]+), ?)?"
    r"status=(?P<status>[A-Za-z-]+),?(?: (?P<text>.*))?",
    re.DOTALL,
)
_FROM_ACTIVE = re.compile(r"from=(?:<(.*)>|([^ ,]*)), size=([0-9]+), nrcpt=([0-9]+) \(queue active\)", re.DOTALL)
_EXPIRED = re.compile(r"from=(?:<(.*)>|([^ ,]*)), status=(force-)?expired,.*", re.DOTALL)
_MESSAGE_ID = re.compile(r"(resent-)?message-id=(.*)", re.DOTALL)
_CLIENT = re.compile(r"client=([^,]*)((?:, [a-z_]+=[^,]*)*)")
_PICKUP = re.compile(r"uid=([0-9]+) from=<(.*?)>(?: orig_id=(\S+))?", re.DOTALL)
_NOTICE = re.compile(rf"(sender|postmaster) (non-delivery|delay|delivery status) notification: ({QUEUE_ID})")
_HOST_SAID = re.compile(
    r"host (?P<host>\S+\[[^\]]*\]\S*) (?:said|refused to talk to me): (?P<said>.*)"
    r"|(?:lost connection with|conversation with|"
    r"SASL (?:\[CACHED\] )?authentication failed; (?:cannot authenticate to )?server|"
    r"SSL_connect error to) (?P<peer>\S+\[[^\]]*\]\S*) (?:while|timed out|said:)? ?.*",
    re.DOTALL,
)
# The SMTP server's, postscreen's and cleanup's refusals. The tail of fields is the last one: the text may have
# semicolons.
_ACTION = re.compile(rf"(?:(?P<id>{QUEUE_ID}): |NOQUEUE: |)(?P<action>[a-z_-]+): (?P<rest>.*)", re.DOTALL)
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_TAIL = re.compile(
    r"(?P<head>.*); (?=from=|to=|proto=)"
    rf"(?:from=<(?P<from>(?:{_QUOTED})?[^>]*)>,? ?)?(?:to=<(?P<to>(?:{_QUOTED})?[^;]*?)>,? ?)?"
    r"(?:proto=(?P<proto>[^ ,:]+),? ?)?"
    r"(?:helo=<?(?P<helo>[^>]*)>?)?"
    r"(?:,? ?sasl_[a-z]+=<?[^>]*>?)*"
    r"(?:: (?P<text>.*))?",
    re.DOTALL,
)
_STAGE = re.compile(r"(?P<stage>[A-Z-]+)(?: from (?P<client>\S*\[\S*?\])(?::[0-9]+)?)?: ?(?P<text>.*)", re.DOTALL)
_CONTENT = re.compile(r"(?P<stage>header|body|content) .*? from (?P<client>local|\S+\[\S*\])", re.DOTALL)
_CODES = re.compile(r"(?:([2345][0-9]{2})[ -])?(?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?= |$))?")
_RELAY = re.compile(r"(?P<host>[^\[\]]*)\[(?P<inside>[^\]]*)\](?::(?P<port>[0-9]+|unknown))?")
_NEXT_ID = re.compile(rf"(?:queued as|forwarded as) ({QUEUE_ID})(?![A-Za-z0-9_.-])")

# Before the mail had a queue ID; versions before 2.0 did not say so. A before-queue proxy's verdicts have no ID at all.
_NO_ID = ("NOQUEUE: ", "reject", "proxy-")
_REFUSALS = frozenset({"reject", "milter-reject", "proxy-reject", "discard", "milter-discard"})
_HOLDS = frozenset({"hold", "milter-hold"})
# What these log has been allowed through; the mail's fate is in other lines.
_REMARKS = frozenset(
    [
        "reject_warning",
        "warn",
        "warning",
        "info",
        "filter",
        "redirect",
        "prepend",
        "replace",
        "bcc",
        "strip",
        "ignore",
        "pass",
        "proxy-accept",
        "milter-header-redirect",
        "milter-quarantine",
        "delay",
        "dunno",
        "delete",
        "client",
        "trigger",
    ]
)
STATUS = {
    "sent": SENT,
    "deferred": DEFERRED,
    "bounced": BOUNCED,
    "SOFTBOUNCE": DEFERRED,
    "softbounce": DEFERRED,
    "expired": EXPIRED,
    "force-expired": EXPIRED,
}


@lru_cache(maxsize=4096)
def read_relay(text: str) -> Relay:
    """``name[ip]:port``, ``name[socket]``, ``ip:port``, a transport's name, or ``none``, taken apart."""
    if text in ("none", ""):
        return Relay(text, None, None, None, None)
    match = _RELAY.fullmatch(text)
    if match is not None:
        inside = match["inside"]
        if "/" in inside:
            return Relay(text, match["host"], None, match["port"], inside)
        return Relay(text, match["host"], inside, match["port"], None)
    host, colon, port = text.rpartition(":")
    if colon and port.isdecimal():
        return Relay(text, host, host if host.replace(".", "").isdecimal() else None, port, None)
    return Relay(text, text, None, None, None)


def next_queue_id(reply: str) -> str | None:
    """The ID in ``… queued as X`` or ``forwarded as X``, the last one if a filter quotes another server's."""
    found = _NEXT_ID.findall(reply)
    return found[-1] if found else None


def read_rare(body: str, at_us: int, host: str, program: Program, offset: int) -> Record | str | None:
    """A body's record, the name of its shape if it carries no message's fate, or None if it is not understood."""
    if body.startswith(_NO_ID):
        action = _ACTION.fullmatch(body)
        return None if action is None else _read_action(action, at_us, host, program, offset)
    match = _WITH_ID.fullmatch(body)
    if match is None:
        return None
    queue_id, text = match[1], match[2]
    key = text.partition("=")[0]
    if key in ("to", "from", "client", "uid", "message-id", "resent-message-id"):
        return _read_fields(key, queue_id, text, at_us, host, program, offset)
    if text == "removed":
        if program.service == "postsuper":
            return Deleted(at_us, host, program, queue_id, None, "deleted with postsuper", offset)
        return Removed(at_us, host, program, queue_id, offset)
    if text in ("placed on hold", "placed on hold by postsuper"):
        return Held(at_us, host, program, queue_id, "placed on hold", offset)
    if text in ("released from hold", "requeued"):
        return Released(at_us, host, program, queue_id, text, offset)
    if (notice := _NOTICE.fullmatch(text)) is not None:
        return NonDelivery(at_us, host, program, queue_id, notice[2].replace(" ", "-"), notice[1], notice[3], offset)
    if (said := _HOST_SAID.fullmatch(text)) is not None:
        relay = read_relay(said["host"] or said["peer"])
        return HostSaid(at_us, host, program, queue_id, relay, said["said"] or text, offset)
    if (action := _ACTION.fullmatch(body)) is not None:
        return _read_action(action, at_us, host, program, offset)
    return None


def _read_fields(
    key: str, queue_id: str, text: str, at_us: int, host: str, program: Program, offset: int
) -> Record | None:
    if key == "to":
        match = _ATTEMPT.fullmatch(text)
        return None if match is None else _read_attempt(match, queue_id, at_us, host, program, offset)
    if key == "from":
        if (match := _FROM_ACTIVE.fullmatch(text)) is not None:
            sender = match[1] if match[1] is not None else match[2]
            return Queued(at_us, host, program, queue_id, sender, int(match[3]), int(match[4]), offset)
        if (match := _EXPIRED.fullmatch(text)) is not None:
            sender = match[1] if match[1] is not None else match[2]
            return QueueExpired(at_us, host, program, queue_id, sender, match[3] is not None, offset)
        return None
    if key == "uid":
        match = _PICKUP.fullmatch(text)
        if match is None:
            return None
        uid, sender = int(match[1]), match[2]
        return Client(at_us, host, program, queue_id, None, None, None, None, None, match[3], None, uid, sender, offset)
    if key == "client":
        match = _CLIENT.fullmatch(text)
        return None if match is None else _read_client(match, queue_id, at_us, host, program, offset)
    match = _MESSAGE_ID.fullmatch(text)
    if match is None:
        return None
    return MessageId(at_us, host, program, queue_id, unbracket(match[2]), match[1] is not None, offset)


def unbracket(message_id: str) -> str:
    """A Message-ID without its angle brackets; as logged if they are not a pair."""
    if message_id.startswith("<") and message_id.endswith(">"):
        return message_id[1:-1]
    return message_id


def _read_client(match: re.Match[str], queue_id: str, at_us: int, host: str, program: Program, offset: int) -> Client:
    peer = read_relay(match[1])
    fields = dict(field.partition("=")[::2] for field in match[2].split(", ") if field)
    return Client(
        at_us,
        host,
        program,
        queue_id,
        peer.host,
        peer.ip,
        fields.get("sasl_method"),
        fields.get("sasl_username"),
        fields.get("sasl_sender"),
        fields.get("orig_queue_id"),
        fields.get("orig_client"),
        None,
        None,
        offset,
    )


def _read_attempt(
    match: re.Match[str], queue_id: str, at_us: int, host: str, program: Program, offset: int
) -> Attempt | Probe | None:
    recipient = match["to"] if match["to"] is not None else match["bare_to"]
    original = match["orig"] if match["orig"] is not None else match["bare_orig"]
    relay = read_relay(match["relay"] or "")
    reply = match["text"] or ""
    if reply.startswith("("):
        end = reply.rfind(")")
        reply = reply[1:end] if end > 0 else reply[1:]
    status = STATUS.get(match["status"])
    if status is None:
        if not match["status"].startswith(("deliverable", "undeliverable")):
            return None
        return Probe(at_us, host, program, queue_id, recipient, relay, match["status"], match["dsn"], reply, offset)
    try:
        delay_s = float(match["delay"]) if match["delay"] is not None else None
    except ValueError:
        delay_s = None
    return Attempt(
        at_us,
        host,
        program,
        queue_id,
        recipient,
        original,
        relay,
        delay_s,
        match["delays"],
        match["dsn"],
        status,
        reply,
        program.service,
        match["tls"],
        int(match["conn_use"]) if match["conn_use"] else None,
        next_queue_id(reply) if status is SENT else None,
        None,
        None,
        False,
        offset,
    )


def _read_action(match: re.Match[str], at_us: int, host: str, program: Program, offset: int) -> Record | str | None:
    action, rest, queue_id = match["action"], match["rest"], match["id"] or ""
    if action in _REMARKS:
        return f"access {action}"
    if action in _HOLDS:
        return Held(at_us, host, program, queue_id, rest, offset) if queue_id else f"access {action}"
    if action not in _REFUSALS:
        return None
    tail = _TAIL.fullmatch(rest)
    head = tail["head"] if tail is not None else rest
    if (content := _CONTENT.fullmatch(head)) is not None:
        stage, client = content["stage"], content["client"]
        text = (tail["text"] if tail is not None else None) or head
    elif (smtp := _STAGE.fullmatch(head)) is not None:
        stage, client, text = smtp["stage"], smtp["client"], smtp["text"]
    else:
        return None
    peer = read_relay(client or "")
    codes = _CODES.match(text)
    code, dsn = codes.groups() if codes is not None else (None, None)
    return Rejected(
        at_us,
        host,
        program,
        queue_id,
        action,
        stage,
        peer.host,
        peer.ip,
        int(code) if code else None,
        dsn,
        text,
        tail["from"] if tail is not None else None,
        tail["to"] if tail is not None else None,
        tail["proto"] if tail is not None else None,
        tail["helo"] if tail is not None else None,
        offset,
    )
