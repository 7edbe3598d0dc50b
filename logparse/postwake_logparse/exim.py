"""Exim's mainlog (and rejectlog), from blocks of it to records: as a file, in syslog's clothes, or from journald.

Every line of Exim starts with Exim's own stamp, then perhaps ``[pid]``, then perhaps a message ID of 16 (up to 4.96) or
23 (from 4.97) characters. A flag of two characters after the ID tells a fate; what has no flag is a remark. In syslog's
form, Exim cuts long lines into ``[1/4] …`` pieces, and writes a refusal twice: pieces are joined and twins dropped.
"""

from __future__ import annotations

import gc
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator

from postwake_logparse.exim_fields import PROGRAM, fold, read_arrival, read_not_sent, read_sent
from postwake_logparse.record import (
    BOUNCED,
    DEFERRED,
    Deleted,
    Held,
    HostSaid,
    Record,
    Rejected,
    Relay,
    Released,
    Removed,
)
from postwake_logparse.shapes import Tally, chunks
from postwake_logparse.stamp import StampReader
from postwake_logparse.syslog import decode, split_line

MESSAGE_ID = r"[0-9A-Za-z]{6}-[0-9A-Za-z]{6}-[0-9A-Za-z]{2}|[0-9A-Za-z]{6}-[0-9A-Za-z]{11}-[0-9A-Za-z]{4}"

_STAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?: [+-][0-9]{4})?"
_TEXT = (
    rf"(?:\[[0-9]+\] )?(?:(?P<id>{MESSAGE_ID}) (?:(?P<flag><=|=>|->|>>|\*>|\*\*|==|\(=) (?P<fields>.*)|(?P<remark>.*))"
    r"|(?P<server>.*))"
)
_LINE = re.compile(rf"(?:(?P<stamp>{_STAMP}) {_TEXT}|(?P<whole>.*))\n")
_STAMPED = re.compile(rf"(?P<stamp>{_STAMP}) (?P<text>.*)", re.DOTALL)
_BARE_TEXT = re.compile(_TEXT + r"\n")
# Behind a stamp that looks like Exim's own but is syslog's, a space in place of RFC 3339's "T".
_SYSLOG = re.compile(r"(?P<host>[^ \[\]=]+) exim[^ \[\]:]*\[(?P<pid>[0-9]+)\]: (?P<body>.*)", re.DOTALL)
# What rejectlog adds to a line: the envelope, the header lines with their kind, and a rule.
_REJECTED_HEADER = re.compile(r"Envelope-(?:from|to): <|[A-Z* ] [A-Za-z0-9-]+:|[ \t]|-{20,}")
_PIECE = re.compile(r"\[([0-9]+)([/\\])([0-9]+)\] (.*)", re.DOTALL)
# Exim's MAX_SYSLOG_LEN: it cuts there, be it in the middle of a word.
PIECE_BYTES = 870
MAX_LOST_SPACES = 3
# Unfinished lines are kept for the processes that wrote last; a process that dies between pieces leaves one behind.
MAX_OPEN_PIECES = 256

_PEER = r"(?:H=(?:(?P<name>[^ (\[][^ ]*) |)(?:\((?P<helo>.*?)\) |)\[(?P<ip>[^\]]*)\](?::[^ ]+|) )?"
_REFUSED = re.compile(
    _PEER + r"(?:I=[^ ]+ |)(?:U=[^ ]+ |)(?:Ci=[^ ]+ |)(?:P=[^ ]+ |)(?:X=[^ ]+ |)(?:CV=[^ ]+ |)(?:DN=\"[^\"]*\" |"
    r")(?:SNI=[^ ]+ |)"
    r"(?:A=[^ ]+ |)(?:F=(?:<(?P<sender>.*?)>|(?P<bare_sender>[^ <>]+)) |)(?:A=[^ ]+ |)(?:PRX=[^ ]+ |)"
    r"(?:(?P<how>temporarily |)rejected (?P<stage>RCPT|MAIL|after DATA|DATA|EHLO or HELO|HELO|EHLO|ETRN|VRFY|"
    r"EXPN|AUTH|STARTTLS|"
    r"connection|by non-SMTP ACL|by local_scan\(\)|from|BDAT|ATRN|predata|after DATA by local_scan\(\))(?P<to>.*)"
    r"|(?P<verb>RCPT|MAIL|DATA|after DATA) ?(?P<discard_to><.*?>|)[^:]*: discarded(?P<why>.*)"
    r"|(?P<dropped>discarded|blackholed) (?:by|in) .*)",
    re.DOTALL,
)
_REFUSED_TO = re.compile(r"(?: <(?P<to>[^>]*)>| (?P<bare>[^ :]+@[^ :]+))?[^:]*(?:: ?(?P<text>.*))?", re.DOTALL)
_FROM_TO = re.compile(r" <(?P<sender>[^>]*)>(?: H=\S+)?.*?(?:: (?P<text>.*))", re.DOTALL)
_CODES = re.compile(r"([245][0-9]{2})[ -](?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?= |$))?")
_HOST_SAID = re.compile(
    r"H=(?P<host>[^ ]+) \[(?P<ip>[^\]]*)\](?::(?P<port>[0-9]\w*|PORT_\w+))?(?: I=[^ ]+?)?:? (?P<text>.+)", re.DOTALL
)
_OPERATOR = re.compile(r"(?P<act>cancelled|removed) by (?P<by>[^ ]+)", re.DOTALL)

_FATE_FLAGS = {"=>", "->", ">>"}

# Remarks with and without a message, by their first words; the first that fits names the shape.
_REMARKS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        (
            "connection",
            r"(?:SMTP (?:connection|call)|no (?:host name|MAIL in SMTP)|unexpected disconnection|"
            r"ident connection|connection (?:from|refused)|lost (?:input|connection)|H=.* (?:lost|closed)|"
            r"TCP/IP|SMTP command timeout|SMTP data timeout|VRFY failed|EXPN failed).*",
        ),
        ("queue run", r"(?:Start|End) (?:'.*' |ODMR )?queue run.*"),
        (
            "life of the daemon",
            r"(?:exim .* daemon started|pid [0-9p]|cwd=|Exim|daemon|listen|socket bind|exec |SIGHUP|using queue).*",
        ),
        (
            "tls",
            r"(?:TLS |tls|\[.*\] SSL|.*TLS error on connection|DANE|H=.* TLS error|.*certificate|.*Certificate|"
            r"SSL|X=).*",
        ),
        ("authentication", r".*authenticator failed for.*"),
        ("warning", r".*Warning: .*"),
        ("dkim and friends", r"(?:DKIM|dkim|PDKIM|ARC|DMARC|SPF|dmarc|spf).*"),
        ("still frozen", r"Message is frozen.*"),
        (
            "spool",
            r"(?:Spool file|spool|no immediate delivery|internal|Delivery deferred|delivery|.* is locked|"
            r"retry data|retry time).*",
        ),
        (
            "operator on one recipient",
            r"(?:recipient|address|sender address) <?.*>? (?:added|marked|changed|removed).*|all addresses marked .*",
        ),
        ("error ignored", r".*: error ignored.*"),
        ("protocol error", r"(?:SMTP (?:syntax|protocol)|.*synchronization error|.*dropped: too many|.*too many ).*"),
        ("sender verification", r".*sender verify (?:fail|defer).*"),
    )
)


class EximGrammar:
    """Reads one Exim log. ``tally`` counts what became of the lines; the caller may store and reset it.

    Pieces of a cut syslog line are kept between blocks, in memory alone: a line that was cut exactly where reading
    stopped for good is counted as a remark.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self._pieces: OrderedDict[tuple[str, str], list[str]] = OrderedDict()
        self._last_refusal: dict[tuple[str, str], str] = {}

    def parse_block(self, data: bytes, clock: StampReader) -> Iterator[Record]:
        """The records of a block of whole lines (the last may lack its newline), in order.

        Lazy: the tally is complete when the iterator is exhausted.
        """
        for start, end in chunks(data):
            chunk = data[start:end]
            if not chunk.endswith(b"\n"):
                chunk += b"\n"
            collecting = gc.isenabled()
            gc.disable()  # as in the Postfix grammar
            try:
                records = self._scan(chunk.decode("latin-1"), clock, chunk.isascii(), start)
            finally:
                if collecting:
                    gc.enable()
            yield from records

    def parse_entry(
        self, body: str, *, at_us: int, host: str, tag: str, pid: str = "", offset: int = 0
    ) -> Record | None:
        """The record of one entry whose syslog prefix is apart already (journald), or None; counted like a line."""
        self.tally.lines += 1
        record = self._syslog_text(body, at_us, host, tag, pid, offset)
        if record is not None:
            self.tally.records[type(record).__name__] += 1
        return record

    def _scan(self, text: str, clock: StampReader, ascii_only: bool, base: int) -> list[Record]:
        records: list[Record] = []
        tally = self.tally
        last_stamp = ""
        at_us: int | None = None
        for match in _LINE.finditer(text):
            offset = base + match.start()
            stamp, queue_id, flag, fields, remark, server, _ = match.groups()
            if stamp is None or not (ascii_only or match[0].isascii()):
                record = self._odd_line(match[0], clock, offset)
            else:
                if stamp != last_stamp:
                    at_us = clock.at_us(stamp)
                    last_stamp = stamp
                if at_us is None:
                    tally.unknown(match[0])
                    continue
                record = self._text(queue_id, flag, fields, remark or server, at_us, "", offset)
            if record is not None:
                records.append(record)
        tally.lines += text.count("\n")
        for record_class, count in Counter(map(type, records)).items():
            tally.records[record_class.__name__] += count
        return records

    def _odd_line(self, raw: str, clock: StampReader, offset: int) -> Record | None:
        """A line in syslog's clothes, or with bytes beyond ASCII (``raw`` is Latin-1)."""
        line = decode(raw[:-1].encode("latin-1")).rstrip("\r\0")
        if not line.strip():
            self.tally.shapes["empty"] += 1
            return None
        if (stamped := _STAMPED.fullmatch(line)) is not None:
            at_us = clock.at_us(stamped["stamp"])
            if at_us is None:
                self.tally.unknown(line)
                return None
            match = _BARE_TEXT.fullmatch(stamped["text"] + "\n")
            return None if match is None else self._match(match, at_us, "", offset)
        entry = split_line(line)
        if entry.stamp is None:
            if _REJECTED_HEADER.match(line) is not None:
                self.tally.shapes["header of a rejected message"] += 1
            else:
                self.tally.unknown(line)
            return None
        at_us = clock.at_us(entry.stamp)
        if at_us is None:
            self.tally.unknown(line)
            return None
        return self._syslog_text(entry.body, at_us, entry.host, entry.tag, entry.pid, offset)

    def _syslog_text(self, body: str, at_us: int, host: str, tag: str, pid: str, offset: int) -> Record | None:
        if tag and not tag.startswith("exim"):
            self.tally.shapes["other program"] += 1
            return None
        if body.startswith("["):
            joined = self._join(body, host, pid)
            if joined is None:
                self.tally.shapes["piece of a line"] += 1
                return None
            # The header of a rejected message follows its line: that is for people, not for us.
            body = joined.partition("\n")[0]
        # syslog's own time is the one that all lines of this log share; Exim's stamp may be in another zone.
        stamped = _STAMPED.fullmatch(body)
        text = body if stamped is None else stamped["text"]
        match = _BARE_TEXT.fullmatch(text.partition("\n")[0] + "\n")
        if match is None:
            self.tally.unknown(body)
            return None
        key = (host, pid)
        if pid and "rejected" in text:
            if self._last_refusal.get(key) == text:
                del self._last_refusal[key]
                self.tally.shapes["written twice"] += 1
                return None
            if len(self._last_refusal) >= MAX_OPEN_PIECES:
                self._last_refusal.clear()
            self._last_refusal[key] = text
        return self._match(match, at_us, host, offset)

    def _join(self, body: str, host: str, pid: str) -> str | None:
        """The whole line when ``body`` is its last piece (or no piece at all); None while pieces are missing."""
        piece = _PIECE.fullmatch(body)
        if piece is None:
            return body
        number, ending, total, text = int(piece[1]), piece[2], int(piece[3]), piece[4]
        key = (host, pid)
        so_far = self._pieces.pop(key, [])
        if number != len(so_far) + 1:
            so_far = []
            if number != 1:
                return None
        # A piece that a newline ended (a header of a rejected message) says so with a backslash.
        if number < total:
            if ending == "\\":
                text += "\n"
            else:
                # journald takes a space off the end of an entry: a full piece that is short has lost it.
                missing = PIECE_BYTES - len(text.encode())
                text += " " * missing if missing <= MAX_LOST_SPACES else ""
        so_far.append(text)
        if number >= total:
            return "".join(so_far)
        self._pieces[key] = so_far
        if len(self._pieces) > MAX_OPEN_PIECES:
            self._pieces.popitem(last=False)
        return None

    def _match(self, match: re.Match[str], at_us: int, host: str, offset: int) -> Record | None:
        queue_id, flag, fields, remark, server = match.group("id", "flag", "fields", "remark", "server")
        return self._text(queue_id, flag, fields, remark or server, at_us, host, offset)

    def _text(
        self,
        queue_id: str | None,
        flag: str | None,
        fields: str,
        remark: str | None,
        at_us: int,
        host: str,
        offset: int,
    ) -> Record | None:
        if queue_id is None or flag is None:
            return self._remark(remark or "", at_us, host, queue_id or "", offset)
        record: Record | None
        if flag in _FATE_FLAGS:
            if fields.startswith("blackhole ("):
                return Rejected(
                    at_us,
                    host,
                    PROGRAM,
                    queue_id,
                    "discard",
                    "DATA",
                    None,
                    None,
                    None,
                    None,
                    fields,
                    None,
                    None,
                    None,
                    None,
                    offset,
                )
            record = read_sent(fields, at_us, host, queue_id, offset)
        elif flag in ("<=", "(="):
            record = read_arrival(fields, flag == "(=", at_us, host, queue_id, offset)
        elif flag == "**":
            record = read_not_sent(fields, BOUNCED, at_us, host, queue_id, offset)
        elif flag == "==":
            record = read_not_sent(fields, DEFERRED, at_us, host, queue_id, offset)
        else:
            self.tally.shapes["dry run"] += 1
            return None
        if record is None:
            self.tally.unknown(f"{queue_id} {flag} {fields}")
        return record

    def _remark(self, text: str, at_us: int, host: str, queue_id: str, offset: int) -> Record | None:
        if not queue_id and not host and (syslog := _SYSLOG.fullmatch(text)) is not None:
            return self._syslog_text(syslog["body"], at_us, syslog["host"], "exim", syslog["pid"], offset)
        if queue_id:
            if text.startswith("Completed"):
                return Removed(at_us, host, PROGRAM, queue_id, offset)
            lower = text[:8].lower()
            if lower.startswith("frozen"):
                return Held(at_us, host, PROGRAM, queue_id, text, offset)
            if lower == "unfrozen":
                return Released(at_us, host, PROGRAM, queue_id, text, offset)
            if (act := _OPERATOR.match(text)) is not None:
                return Deleted(at_us, host, PROGRAM, queue_id, act["by"], text, offset)
        if (refused := _REFUSED.fullmatch(text)) is not None:
            return _read_refusal(refused, at_us, host, queue_id, offset)
        for name, pattern in _REMARKS:
            if pattern.fullmatch(text) is not None:
                self.tally.shapes[name] += 1
                return None
        if queue_id and (said := _HOST_SAID.fullmatch(text)) is not None:
            port = f":{said['port']}" if said["port"] else ""
            relay = Relay(f"{said['host']}[{said['ip']}]{port}", said["host"], said["ip"], said["port"], None)
            return HostSaid(at_us, host, PROGRAM, queue_id, relay, fold(said["text"]), offset)
        # The ACLs' log_message and logwrite can say anything; Exim's stamp and the missing flag tell that it is no
        # fate.
        self.tally.shapes["remark on a message" if queue_id else "remark"] += 1
        return None


def _read_refusal(match: re.Match[str], at_us: int, host: str, queue_id: str, offset: int) -> Rejected:
    sender, recipient, text = match["bare_sender"] or match["sender"], None, match[0]
    if match["stage"] is None:
        action = "discard"
        stage = match["verb"] or "DATA"
        to = match["discard_to"]
        recipient = to[1:-1] if to else None
        text = (match["why"] or text).strip(" :")
    else:
        action = "reject"
        stage = match["stage"]
        if stage == "from":
            stage = "DATA"
            found = _FROM_TO.fullmatch(match["to"])
            if found is not None:
                sender, text = found["sender"], found["text"]
        else:
            found = _REFUSED_TO.fullmatch(match["to"])
            if found is not None:
                recipient = found["to"] if found["to"] is not None else found["bare"]
                text = found["text"] or ""
            if stage == "MAIL" and recipient is not None:
                sender, recipient = recipient, None
        if stage.startswith(("after DATA", "by ")):
            stage = "DATA"
    codes = _CODES.match(text)
    # What Exim answers where the ACL does not say otherwise (exim: src/smtp_in.c, smtp_handle_acl_fail).
    code = int(codes[1]) if codes is not None else (451 if match["how"] else 550)
    return Rejected(
        at_us,
        host,
        PROGRAM,
        queue_id,
        action,
        stage,
        match["name"],
        match["ip"],
        code if action == "reject" else None,
        codes[2] if codes is not None else None,
        fold(text),
        sender,
        recipient,
        None,
        match["helo"],
        offset,
    )
