"""Take apart what a receiving server, or the sending MTA itself, said about a delivery.

The text is what stands in the parentheses of a Postfix delivery line (`status=bounced (…)`), behind the colon of an
Exim `**` or `==` line, in the Diagnostic-Code of a delivery status notification (RFC 3464 section 2.3.6), or a bare
SMTP reply (RFC 5321 section 4.2). Sources of the phrases: Postfix `src/smtp/smtp_proto.c`, `smtp_connect.c`,
`smtp_addr.c`, `smtp_trouble.c`, `src/local/`; Exim `src/transports/smtp.c`, `src/deliver.c`, `src/route.c`; qmail's
`qmail-remote.c`.

The grammar is pyparsing's. It costs some 100 to 300 µs a reply, so it runs once per wording (see template.py), and the
two commonest shapes are taken by one regular expression each; the tests hold both ways to the same answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

import pyparsing as pp

from postwake.reply.template import restore, templated

MAX_REPLY_CHARS = 4096
"""A reply is read up to here: eight full SMTP lines (RFC 5321 section 4.5.3.1.5); what follows is never the reason."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply taken apart. Whatever the text does not say is None.

    `host` and `address` are the remote server's name and IP address (for a failed look-up or a loop: the domain).
    `stage` is where in the dialogue it happened, in Postfix's words whichever MTA wrote it: `connect`, `greeting`,
    `EHLO`, `HELO`, `LHLO`, `STARTTLS`, `AUTH`, `MAIL FROM`, `RCPT TO`, `DATA`, `end of DATA`, `QUIT`.
    `code` is the basic reply code, `dsn` the enhanced status code. `message` is the human part on one line, without
    host, codes, continuation prefixes and stage. `text` is the input as it was.
    """

    text: str
    host: str | None
    address: str | None
    stage: str | None
    code: int | None
    dsn: str | None
    message: str


def parse_reply(text: str) -> Reply:
    """Take `text` apart; any text is accepted, what is not understood is its own `message`."""
    template, values = templated(text[:MAX_REPLY_CHARS])
    return reply_of(text, parse_template(template), values)


def reply_of(text: str, parsed: Reply, values: tuple[str, ...]) -> Reply:
    """Fill a parsed template with this text's own values."""
    host, address = parsed.host, parsed.address
    if host is not None:
        host, address = _split_peer(restore(host, values))
    return replace(parsed, text=text, host=host, address=address, message=restore(parsed.message, values))


@lru_cache(maxsize=8192)
def parse_template(template: str) -> Reply:
    """Parse a wording; `host` and `message` of the result still hold placeholders."""
    return _fast(template) or parse_by_grammar(template)


def parse_by_grammar(template: str) -> Reply:
    """Parse a wording with the pyparsing grammar alone."""
    return _reply(template, _REPLY.parse_string(_tidy(template)).as_dict())


# --- terminals -------------------------------------------------------------------------------------------------------

_CODE = r"(?:[2-5][0-5]\d|57\d)"  # 57x is nobody's standard, and some servers' custom
_DSN = r"[245]\.\d{1,3}\.\d{1,4}(?![\d.])"
_STAGE_TAIL = r"\(in reply to (?P<stage>.{2,40}?)(?: command)?\)"

_STAGES: tuple[tuple[str, str], ...] = (
    # First match wins: "end of DATA" before "DATA".
    (
        r"end of (?:data|message)|message body|data block|message content|final dot|end-of-data|BDAT|<CRLF>",
        "end of DATA",
    ),
    (r"greeting|initial connection|banner", "greeting"),
    (r"EHLO", "EHLO"),
    (r"LHLO", "LHLO"),
    (r"HELO", "HELO"),
    (r"STARTTLS|TLS", "STARTTLS"),
    (r"AUTH", "AUTH"),
    (r"MAIL FROM", "MAIL FROM"),
    (r"RCPT TO", "RCPT TO"),
    (r"DATA", "DATA"),
    (r"QUIT|RSET", "QUIT"),
)
_STAGE_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), name) for pattern, name in _STAGES)


def _stage(words: str | None) -> str | None:
    if not words:
        return None
    for pattern, name in _STAGE_PATTERNS:
        if pattern.search(words):
            return name
    return None


def _phrase(pattern: str) -> pp.ParserElement:
    return pp.Regex(pattern, flags=re.IGNORECASE)


_host = pp.Regex(r"[\ue000-\ue0ff](?::\d+)?|(?:[\w.*-]+|\[[^\]\s]+\])(?: ?\[[^\]\s]*\])?(?::\d+)?")("host")
_code = pp.Regex(_CODE)("code")
_dsn = pp.Optional(pp.Regex(rf"\(?#?(?P<dsn>{_DSN})\)?:?"))
# Up to Postfix's own closing remark; one further inside belongs to a server that is quoted.
_text = pp.Regex(r"(?s:.*?)(?=\s*\(in reply to [^)]{2,60}\)[\s),.;:]*\Z|\Z)").leave_whitespace()("message")
_rest = pp.Regex(r"(?s:.*)")("message")
_in_reply_to = pp.Optional(pp.Regex(_STAGE_TAIL))
_while = pp.Optional(pp.Regex(r"while (?P<stage>.*)"))
_strerror = pp.Regex(r"(?s:.*)")("message")

# --- what a server said ----------------------------------------------------------------------------------------------

# 550 5.1.1 <…> User unknown, 550-5.7.1 first line 550 5.7.1 last line, 550-"first line, 554-host (id) Nemesis…
_server_reply = _code + pp.Regex(r"[- ]|(?=['\"<(:,])|\Z").leave_whitespace()("separator") + _dsn + _text + _in_reply_to
# 220-greeting 421 4.2.1 refused: the server changed its mind within its greeting; the last code counts.
_greeting_reply = pp.Suppress(pp.Regex(r"2\d\d-[^ ]+ (?=[45]\d\d )")) + _server_reply
# 5.1.0 - Unknown address error 550-'5.1.1 no such user' (delivery attempts: 0): IronPort
_ironport = pp.Regex(
    rf"(?:{_DSN}|{_CODE}) - (?P<heading>[^'\d]{{1,80}}?) (?P<code>{_CODE})-?\s?'(?:#?(?P<dsn>{_DSN}))?"
    r"(?P<message>(?s:.*?))'?(?:\s*\(delivery attempts: \d+\))?\Z"
)
# An enhanced code without its basic code: 4.7.32 This mail has been rate limited…
_dsn_only = pp.Regex(rf"#?(?P<dsn>{_DSN})\)?:?(?=\s|\Z)") + _text + _in_reply_to
_said = _ironport | _greeting_reply | _server_reply | _dsn_only | (_text + _in_reply_to)

# --- Postfix's own words ---------------------------------------------------------------------------------------------

_postfix_said = (
    pp.Suppress(_phrase(r"(?:host|SASL (?:\[CACHED\] )?authentication failed; server)(?= \S+ said:)"))
    + _host
    + pp.Suppress(_phrase(r"said:"))
    + _said
)
_postfix_refused = (
    pp.Suppress(pp.Optional(_phrase(r"host|connect to")))
    + _host
    + pp.Suppress(_phrase(r":?\s*(?:server )?refused to talk to me:"))
    + pp.Empty().set_parse_action(pp.replace_with("greeting"))("stage")
    + _said
)
_postfix_connect = (
    pp.Suppress(_phrase("connect to"))
    + _host
    + pp.Suppress(pp.Literal(":"))
    + pp.Empty().set_parse_action(pp.replace_with("connect"))("stage")
    + _strerror
)
_postfix_lost = _phrase("lost connection")("message") + pp.Suppress("with") + _host + _while
_postfix_conversation = (
    pp.Suppress(_phrase("conversation with"))
    + _host
    + pp.Suppress(pp.Optional(":"))
    + _phrase("timed out")("message")
    + _while
)
_postfix_lookup = pp.Regex(
    r"(?P<message>(?:Host or domain name not found\. )?"
    r"Name service error for (?:name=|domain )?(?P<host>[^\s:]+)(?s:.*))"
)
_postfix_loops = pp.Regex(r"mail for (?P<host>\S+) (?P<message>loops back to myself(?s:.*))")
_postfix_unknown = pp.Regex(r"(?P<message>unknown user): (?s:.*)")
_postfix_tls = pp.Regex(
    r"(?P<message>TLS is required, but (?:was not offered|our TLS engine is unavailable|unavailable))"
    r"(?: by host (?P<host>\S+))?(?s:.*)"
)
_postfix = (
    _postfix_said
    | _postfix_refused
    | _postfix_connect
    | _postfix_lost
    | _postfix_conversation
    | _postfix_lookup
    | _postfix_loops
    | _postfix_unknown
    | _postfix_tls
)

# --- Exim's own words ------------------------------------------------------------------------------------------------

_exim_host = pp.Optional(pp.Suppress(pp.Regex(r"H=|host ")) + _host) + pp.Suppress(
    pp.ZeroOrMore(pp.Regex(r"(?:I=|DT=|X=|CV=|DN=|A=|Q=)(?:\"[^\"]*\"|\S+)"))
)
_exim_after = (
    _exim_host
    + pp.Suppress(pp.Optional(":"))
    + pp.Suppress(_phrase(r"(?:SMTP|LMTP) error from remote (?:mail server|mailer) after|LMTP error after"))
    # "RCPT TO:<x>:", "MAIL FROM:<x> SIZE=2022:", "end of data:", "initial connection:", "HELO the.host:"
    + pp.Regex(r"(?:pipelined )?(?P<stage>(?:RCPT TO|MAIL FROM):[^\s:]*(?: [A-Z0-9]+(?:=\S*?)?)*|[A-Za-z][^:]{0,80}):")
    + pp.Optional(pp.Suppress(pp.Literal("host")) + _host + pp.Suppress(":"))
    + _said
)
_exim_timeout = (
    _exim_host + pp.Suppress(pp.Optional(":")) + pp.Regex(r"(?P<message>SMTP timeout) after (?P<stage>(?s:.*))")
)
_exim_closed = (
    _exim_host
    + pp.Suppress(pp.Optional(":"))
    + pp.Regex(
        r"(?P<message>Remote host closed connection|Malformed (?:SMTP|LMTP) reply(?: \([^)]*\))?)"
        r" in response to (?P<stage>(?s:.*))"
    )
)
_exim_error = pp.Suppress(pp.Regex(r"H=|host (?=[\ue000-\ue0ff\[])")) + _host + pp.Suppress(pp.Optional(":")) + _rest
_exim = _exim_after | _exim_timeout | _exim_closed | _exim_error

# --- others, and what stands before ----------------------------------------------------------------------------------

# qmail: "192.0.2.1 does not like recipient. Remote host said: 550 …"; sendmail: "<<< 550 …";
# Exchange: "Remote server returned '550 …'", "… '< #5.1.1 smtp;550 …>'"; Gmail: "response from the remote server
# was: 550 …".
_relayed = (
    pp.Suppress(
        pp.Regex(
            rf"(?s:.{{0,300}}?)(?:Remote host said:|<<<|[Rr]emote [Ss]erver (?:returned|was):? ?)\s*"
            rf"['\"]?(?:< ?#{_DSN} smtp; ?)?(?={_CODE}[- ])"
        )
    )
    + _said
)
_prefix = pp.Suppress(
    pp.Regex(
        # The type of a Diagnostic-Code, with PowerMTA's bounce columns before it.
        rf"(?:(?:Diagnostic-Code: ?)?(?!{_CODE}[- ])[a-z0-9.,() -]{{0,80}}(?:smtp|x-postfix|x-unix);\s*"
        r"|delivery temporarily suspended:"
        r"|(?:routing )?defer \(-?\d+\)(?: DT=\S+)?:?"
        r"|\(-?\d+\):?(?= )"
        r"|<?[\ue100-\ue1ff]>?:(?= )"
        r"|#(?=[45]\d\d ))",
        flags=re.IGNORECASE,
    )
)
# Most replies begin with their code: they need not fail at every other alternative first.
_coded = pp.Suppress(pp.Regex(rf"(?={_CODE}[- ])")) + _said
_REPLY = pp.ZeroOrMore(_prefix) + (_coded | _postfix | _exim | _relayed | _said)

# --- the fast ways ---------------------------------------------------------------------------------------------------

_PLAIN = r"(?![(#'\"\d\s-])"  # what begins like a code, a quotation or a continuation is the grammar's business
_FAST_SAID = re.compile(
    rf"host (?P<host>[\ue000-\ue0ff]) said: (?P<code>[2-5][0-5]\d) (?P<dsn>{_DSN})? ?(?P<message>{_PLAIN}[^\\\n]*?)\s*"
    r"(?:\(in reply to (?P<stage>[A-Za-z ]{2,40}?)(?: command)?\))?"
)
_FAST_BARE = re.compile(rf"(?P<code>[2-5][0-5]\d) (?P<dsn>{_DSN}) (?P<message>{_PLAIN}[^\\\n]*)", re.IGNORECASE)


def _fast(template: str) -> Reply | None:
    match = _FAST_SAID.fullmatch(template)
    if match is None:
        match = _FAST_BARE.fullmatch(template)
    if match is None or ("(in reply to " in template and not match.groupdict().get("stage")):
        return None
    return _reply(template, match.groupdict())


# --- from tokens to a reply ------------------------------------------------------------------------------------------

_ESCAPED_BREAK = re.compile(r"\\n|\\r|#012(?=[2-5]\d\d[- ])|[\x00-\x20\x7f]+")
_SPACES = re.compile(r" {2,}")
_DSN_SOMEWHERE = re.compile(rf"(?<![\d.\w])({_DSN})")


def _tidy(text: str) -> str:
    """One line: Exim writes the line breaks of a reply as a backslash and an n, rsyslog as #012, Postfix as spaces."""
    return _SPACES.sub(" ", _ESCAPED_BREAK.sub(" ", text)).strip(' "')


def _unfold(message: str, code: str) -> str:
    """Drop the `550-5.7.1 ` in front of each continuation line of a reply that is now on one line."""
    return re.sub(rf"(?:^|[ \"'])\s*{code}[- ](?:#?{_DSN})?\s*", " ", message)


def _reply(template: str, tokens: dict[str, str]) -> Reply:
    code, dsn = tokens.get("code"), tokens.get("dsn")
    message = _tidy(tokens.get("message") or "")
    if code and (tokens.get("separator") == "-" or f" {code}-" in message):
        if not dsn and (later := re.search(rf" {code}[- ]#?({_DSN})", message)) is not None:
            dsn = later.group(1)
        message = _unfold(message, code).strip(" \"'")
    heading = tokens.get("heading")
    if heading:
        message = f"{message} ({heading})"
    if not dsn:
        found = _DSN_SOMEWHERE.search(message)
        # Qmail and others put it at the end, "(#5.1.1)"; one of another class is a quotation, not the verdict.
        if found is not None and (code is None or found.group(1)[0] == code[0]):
            dsn = found.group(1)
    return Reply(
        text=template,
        host=tokens.get("host") or None,
        address=None,
        stage=tokens["stage"] if tokens.get("stage") in {"greeting", "connect"} else _stage(tokens.get("stage")),
        code=int(code) if code else None,
        dsn=dsn or None,
        message=_SPACES.sub(" ", message).removeprefix(": ").strip(),  # Exim's "R=… T=… : text" leaves the colon
    )


_PEER = re.compile(r"(?P<host>[^\[\]\s]*)(?: \([^)]*\))? ?\[(?:IPv6:)?(?P<address>[^\]]*)\](?::\d+)?:?")


def _split_peer(peer: str) -> tuple[str | None, str | None]:
    match = _PEER.fullmatch(peer)
    if match is None:
        return peer.rstrip(":") or None, None
    return match["host"] or None, match["address"] or None
