"""The grammar takes replies apart: Postfix's, Exim's and bare SMTP, folded or not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.reply import Reply, parse_reply
from postwake.reply.grammar import _fast, parse_by_grammar
from postwake.reply.template import canonical, restore, templated

# text, then host, address, stage, code, dsn, message
TABLE = [
    pytest.param(
        "host mx.example.com[192.0.2.1] said: 550 5.1.1 <u@example.com>: Recipient address rejected: User unknown "
        "(in reply to RCPT TO command)",
        ("mx.example.com", "192.0.2.1", "RCPT TO", 550, "5.1.1"),
        "<u@example.com>: Recipient address rejected: User unknown",
        id="postfix-said",
    ),
    pytest.param(
        "host mx.example.com[2001:db8::1]:25 said: 550-5.7.1 [2001:db8::2      12] first line of it 550-5.7.1 and "
        "550 5.7.1 its end abc-20020a05.12 - gsmtp (in reply to end of DATA command)",
        ("mx.example.com", "2001:db8::1", "end of DATA", 550, "5.7.1"),
        "[2001:db8::2 12] first line of it and its end abc-20020a05.12 - gsmtp",
        id="postfix-said-folded-ipv6",
    ),
    pytest.param(
        "host lists[private/dovecot-lmtp] said: 550 5.1.1 <a@example.com> User doesn't exist: a@example.com "
        "(in reply to RCPT TO command)",
        ("lists", "private/dovecot-lmtp", "RCPT TO", 550, "5.1.1"),
        "<a@example.com> User doesn't exist: a@example.com",
        id="postfix-lmtp-socket",
    ),
    pytest.param(
        "host mx.example.com[192.0.2.1] said: 421 closing (in reply to end of DATA command)",
        ("mx.example.com", "192.0.2.1", "end of DATA", 421, None),
        "closing",
        id="postfix-said-no-dsn",
    ),
    pytest.param(
        "host mx.example.com[192.0.2.1] said: 550 5.7.25 [192.0.2.9] no PTR (in reply to end of DATA command)",
        ("mx.example.com", "192.0.2.1", "end of DATA", 550, "5.7.25"),
        "[192.0.2.9] no PTR",
        id="postfix-said-enhanced-code-before-an-address-is-no-host",
    ),
    pytest.param(
        "host mx.example.com[192.0.2.1] said: 451-one#012451-two#012451 4.7.1 three (in reply to RCPT TO command)",
        ("mx.example.com", "192.0.2.1", "RCPT TO", 451, "4.7.1"),
        "one two three",
        id="postfix-said-newlines-as-rsyslog-writes-them",
    ),
    pytest.param(
        "450-4-first 450 4.2.1 the last line alone has the enhanced code",
        (None, None, None, 450, "4.2.1"),
        "4-first the last line alone has the enhanced code",
        id="enhanced-code-on-the-last-line-alone",
    ),
    pytest.param(
        "Diagnostic-Code: smtp; 550 5.1.1 User unknown",
        (None, None, None, 550, "5.1.1"),
        "User unknown",
        id="whole-field",
    ),
    pytest.param(
        "The response from the remote server was: 550 5.1.1 User unknown",
        (None, None, None, 550, "5.1.1"),
        "User unknown",
        id="gmail-quotes-a-server",
    ),
    pytest.param(
        "Remote Server returned '< #5.1.1 smtp;550 5.1.1 User unknown>'",
        (None, None, None, 550, "5.1.1"),
        "User unknown>'",
        id="exchange-quotes-a-server",
    ),
    pytest.param(
        "SASL authentication failed; server smtp.example.com[192.0.2.1] said: 535 5.7.8 Error: bad",
        ("smtp.example.com", "192.0.2.1", None, 535, "5.7.8"),
        "Error: bad",
        id="postfix-sasl",
    ),
    pytest.param(
        "connect to mx.example.com[192.0.2.1]:25: Connection refused",
        ("mx.example.com", "192.0.2.1", "connect", None, None),
        "Connection refused",
        id="postfix-connect",
    ),
    pytest.param(
        "connect to mx.example.com[192.0.2.1]: No route to host",
        ("mx.example.com", "192.0.2.1", "connect", None, None),
        "No route to host",
        id="postfix-connect-old-no-port",
    ),
    pytest.param(
        "host mx.example.com[192.0.2.1] refused to talk to me: 554 5.7.1 not authorized",
        ("mx.example.com", "192.0.2.1", "greeting", 554, "5.7.1"),
        "not authorized",
        id="postfix-refused",
    ),
    pytest.param(
        "delivery temporarily suspended: connect to mx.example.com[192.0.2.1]: server refused to talk to me: 421 busy",
        ("mx.example.com", "192.0.2.1", "greeting", 421, None),
        "busy",
        id="postfix-suspended-refused",
    ),
    pytest.param(
        "delivery temporarily suspended: lost connection with mx.example.com[192.0.2.1] while sending RCPT TO",
        ("mx.example.com", "192.0.2.1", "RCPT TO", None, None),
        "lost connection",
        id="postfix-lost-connection",
    ),
    pytest.param(
        "lost connection with mx.example.com[192.0.2.1] while receiving the initial server greeting",
        ("mx.example.com", "192.0.2.1", "greeting", None, None),
        "lost connection",
        id="postfix-lost-greeting",
    ),
    pytest.param(
        "conversation with mx.example.com[192.0.2.1] timed out while sending end of data -- message may be sent more "
        "than once",
        ("mx.example.com", "192.0.2.1", "end of DATA", None, None),
        "timed out",
        id="postfix-timed-out",
    ),
    pytest.param(
        "Host or domain name not found. Name service error for name=example.invalid type=MX: Host not found",
        ("example.invalid", None, None, None, None),
        "Host or domain name not found. Name service error for name=example.invalid type=MX: Host not found",
        id="postfix-name-service",
    ),
    pytest.param(
        "mail for example.com loops back to myself",
        ("example.com", None, None, None, None),
        "loops back to myself",
        id="postfix-loops",
    ),
    pytest.param('unknown user: "friend"', (None, None, None, None, None), "unknown user", id="postfix-unknown-user"),
    pytest.param(
        "TLS is required, but was not offered by host mx.example.com[192.0.2.1]",
        ("mx.example.com", "192.0.2.1", None, None, None),
        "TLS is required, but was not offered",
        id="postfix-tls",
    ),
    pytest.param(
        "Cannot start TLS: handshake failure",
        (None, None, None, None, None),
        "Cannot start TLS: handshake failure",
        id="postfix-tls-handshake",
    ),
    pytest.param(
        "mailbox is full: /var/mail/u: mailbox size limit exceeded",
        (None, None, None, None, None),
        "mailbox is full: /var/mail/u: mailbox size limit exceeded",
        id="local-text",
    ),
    pytest.param(
        r"SMTP error from remote mail server after RCPT TO:<x@example.com>: 550-5.7.26 This \"is\" line one\n"
        r"550-5.7.26 and two.\n550 5.7.26 End.",
        (None, None, "RCPT TO", 550, "5.7.26"),
        r"This \"is\" line one and two. End.",
        id="exim-escaped-lines",
    ),
    pytest.param(
        "H=mx.example.com [192.0.2.1]:25: SMTP error from remote mail server after pipelined end of data: 451 4.7.0 "
        "Later",
        ("mx.example.com", "192.0.2.1", "end of DATA", 451, "4.7.0"),
        "Later",
        id="exim-host-pipelined",
    ),
    pytest.param(
        "defer (-44) H=mx.example.com [192.0.2.1]:25 I=[192.0.2.9]:4410 DT=0.003s: SMTP error from remote mail server "
        "after RCPT TO:<x@example.com>: 450 4.2.1 busy",
        ("mx.example.com", "192.0.2.1", "RCPT TO", 450, "4.2.1"),
        "busy",
        id="exim-defer-fields",
    ),
    pytest.param(
        "host mx.example.com [192.0.2.1] SMTP error from remote mail server after MAIL FROM:<u@example.com> SIZE=2022: "
        "553 5.7.1 no",
        ("mx.example.com", "192.0.2.1", "MAIL FROM", 553, "5.7.1"),
        "no",
        id="exim-mail-from-size",
    ),
    pytest.param(
        "SMTP error from remote mail server after initial connection: host mx.example.com [192.0.2.1]: 554 go",
        ("mx.example.com", "192.0.2.1", "greeting", 554, None),
        "go",
        id="exim-old-host-behind",
    ),
    pytest.param(
        "LMTP error after end of data: 450 Number 2 is delayed",
        (None, None, "end of DATA", 450, None),
        "Number 2 is delayed",
        id="exim-lmtp",
    ),
    pytest.param(
        "defer (111): Connection refused", (None, None, None, None, None), "Connection refused", id="exim-errno"
    ),
    pytest.param(
        "SMTP timeout after RCPT TO:<b@example.com>",
        (None, None, "RCPT TO", None, None),
        "SMTP timeout",
        id="exim-timeout",
    ),
    pytest.param(
        "H=mx.example.com [192.0.2.1]: Remote host closed connection in response to EHLO mail.example.net",
        ("mx.example.com", "192.0.2.1", "EHLO", None, None),
        "Remote host closed connection",
        id="exim-closed",
    ),
    pytest.param(": Unrouteable address", (None, None, None, None, None), "Unrouteable address", id="exim-bare-colon"),
    pytest.param(
        "host mx.example.com[192.0.2.1] said: 450 4.1.1 unverified: host in.example.com[192.0.2.2] said: 450 no "
        "(in reply to RCPT TO command) (in reply to end of DATA command)",
        ("mx.example.com", "192.0.2.1", "end of DATA", 450, "4.1.1"),
        "unverified: host in.example.com[192.0.2.2] said: 450 no (in reply to RCPT TO command)",
        id="a-quoted-reply-keeps-its-own-stage",
    ),
    pytest.param("Unrouteable address", (None, None, None, None, None), "Unrouteable address", id="exim-unrouteable"),
    pytest.param("retry timeout exceeded", (None, None, None, None, None), "retry timeout exceeded", id="exim-retry"),
    pytest.param("550 5.1.1", (None, None, None, 550, "5.1.1"), "", id="codes-only"),
    pytest.param("550", (None, None, None, 550, None), "", id="code-only"),
    pytest.param("4.7.32 rate limited", (None, None, None, None, "4.7.32"), "rate limited", id="dsn-only"),
    pytest.param("550 #5.1.0 Address rejected.", (None, None, None, 550, "5.1.0"), "Address rejected.", id="hash-dsn"),
    pytest.param(
        "550 No such user (#5.1.1)", (None, None, None, 550, "5.1.1"), "No such user (#5.1.1)", id="dsn-behind"
    ),
    pytest.param(
        "450 try again, it said 5.1.1 before",
        (None, None, None, 450, None),
        "try again, it said 5.1.1 before",
        id="dsn-of-another-class-is-a-quotation",
    ),
    pytest.param("450 from 192.0.2.5 later", (None, None, None, 450, None), "from 192.0.2.5 later", id="ip-is-no-dsn"),
    pytest.param(
        "smtp; 550-first\n 550 last", (None, None, None, 550, None), "first last", id="diagnostic-code-with-line-break"
    ),
    pytest.param(
        "5.1.0 - Unknown address error 550-'5.7.1 <u@example.com>... Access denied' (delivery attempts: 0)",
        (None, None, None, 550, "5.7.1"),
        "<u@example.com>... Access denied (Unknown address error)",
        id="ironport",
    ),
    pytest.param(
        "220-mx.example.com 421 4.2.1 refused", (None, None, None, 421, "4.2.1"), "refused", id="greeting-that-turns"
    ),
    pytest.param(
        "192.0.2.1 does not like recipient. Remote host said: 550 5.1.1 no",
        (None, None, None, 550, "5.1.1"),
        "no",
        id="qmail",
    ),
    pytest.param(
        "554-gmx.net (mxgmx104) Nemesis ESMTP Service not available 554-No SMTP service 554 Bye",
        (None, None, None, 554, None),
        "gmx.net (mxgmx104) Nemesis ESMTP Service not available No SMTP service Bye",
        id="folded-without-dsn",
    ),
    pytest.param(
        "250 2.0.0 Ok: queued as 153053D", (None, None, None, 250, "2.0.0"), "Ok: queued as 153053D", id="success"
    ),
    pytest.param("", (None, None, None, None, None), "", id="empty"),
]


@pytest.mark.parametrize(("text", "parts", "message"), TABLE)
def test_reply_is_taken_apart(text: str, parts: tuple[object, ...], message: str) -> None:
    """Each shape gives its host, address, stage, codes and message, and keeps the text as it was."""
    reply = parse_reply(text)
    assert (reply.host, reply.address, reply.stage, reply.code, reply.dsn) == parts
    assert reply.message == message
    assert reply.text == text


_WORDS = st.lists(
    st.sampled_from(
        [
            "user",
            "unknown",
            "mailbox",
            "full",
            "<a@example.com>",
            "192.0.2.7",
            "mx.example.com[192.0.2.1]",
            "5.1.1",
            "550",
            "said:",
            "host",
            "X9F31A20C44D7",
            "-",
            "(#5.1.1)",
            "in",
            "reply",
            "Überlauf",
            "554-",
            "\\n",
            "'quoted'",
            "H=",
            "(in reply to RCPT TO command)",
            "smtp;",
            "<<<",
        ]
    ),
    max_size=12,
).map(" ".join)


@given(
    code=st.sampled_from(["550", "421", "452"]),
    dsn=st.sampled_from(["", "5.1.1 ", "4.2.2 "]),
    words=_WORDS,
    framed=st.booleans(),
    stage=st.sampled_from(["", " (in reply to RCPT TO command)", " (in reply to end of DATA command)"]),
)
@settings(max_examples=300, deadline=None)
def test_fast_way_agrees_with_the_grammar(code: str, dsn: str, words: str, framed: bool, stage: str) -> None:
    """Where the regular expressions take a reply, the grammar takes it apart in the same way."""
    text = f"host mx.example.com[192.0.2.1] said: {code} {dsn}{words}{stage}" if framed else f"{code} {dsn}{words}"
    template, _ = templated(text)
    fast = _fast(template)
    if fast is not None:
        assert fast == parse_by_grammar(template)


@pytest.mark.parametrize(
    "text",
    [
        "host mx.example.com[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)",
        "550 5.1.1 no such user",
    ],
)
def test_common_shapes_take_the_fast_way(text: str) -> None:
    """The two commonest shapes do not need the grammar."""
    assert _fast(templated(text)[0]) is not None


@given(st.text(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_reply(text: str) -> None:
    """No text makes the grammar fail, and the fields stay within their sets."""
    reply = parse_reply(text)
    assert isinstance(reply, Reply)
    assert reply.text == text
    assert reply.code is None or 200 <= reply.code < 600
    assert reply.stage in {
        None,
        "connect",
        "greeting",
        "EHLO",
        "HELO",
        "LHLO",
        "STARTTLS",
        "AUTH",
        "MAIL FROM",
        "RCPT TO",
        "DATA",
        "end of DATA",
        "QUIT",
    }


@given(st.text(max_size=400) | _WORDS)
@settings(max_examples=300, deadline=None)
def test_template_keeps_every_value(text: str) -> None:
    """Taking the variable parts out and putting them back gives the text again (private-use characters apart)."""
    template, values = templated(text)
    clean = "".join("\ufffd" if "\ue000" <= character <= "\ue3ff" else character for character in text)
    assert restore(template, values) == clean


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            "host mx1.example.com[192.0.2.1] said: 550 5.1.1 <a@example.com>: unknown",
            "host mail.example.org[2001:db8::5]:25 said: 550 5.1.1 <someone.else@example.net>: unknown",
            id="hosts-and-addresses",
        ),
        pytest.param(
            "550 5.7.1 blocked v14si1155795plk.134 - gsmtp",
            "550 5.7.1 blocked ffacd0b85a97d-43b3.5 - gsmtp",
            id="gmail",
        ),
        pytest.param("554 id=20025-09 - SPAM", "554 id=21733-12 - SPAM", id="amavisd"),
        pytest.param("451 greylisted 4bYzKd1Q2Wz9fZk", "451 greylisted 4bZ0AA33kLz2xYq", id="queue-ids"),
        pytest.param("421 [192.0.2.5] deferred", "421 [198.51.100.77] deferred", id="ips"),
    ],
)
def test_variants_share_a_template(one: str, other: str) -> None:
    """Replies that differ in hosts, addresses and identifiers only are parsed and judged once."""
    assert templated(one)[0] == templated(other)[0]


@pytest.mark.parametrize(
    "word", ["OFR006_102", "S3150", "TSS04", "zen.spamhaus.org", "4.7.650", "DOC-1369#550", "NoSuchUser", "BL000000"]
)
def test_telling_words_are_not_taken_for_identifiers(word: str) -> None:
    """The codes by which providers name a reason stay in the text that rules see."""
    assert word in canonical(templated(f"550 because of {word} here")[0])
