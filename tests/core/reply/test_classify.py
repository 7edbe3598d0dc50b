"""Verdicts: kind, fault, category and provider of replies, and what status, codes and relay add."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.reply import CATEGORIES, FAULTS, classify_lines, default_classifier

CLASSIFIER = default_classifier()

TABLE = [
    # reply, kind, fault, category
    ("550 5.1.1 <u@example.com>... User Unknown", "hard", "recipient", "bad-mailbox"),
    ("550 sorry, no mailbox here by that name (#5.1.1)", "hard", "recipient", "bad-mailbox"),
    ("550 5.7.1 No such user!", "hard", "recipient", "bad-mailbox"),
    (
        "450 4.1.1 <u@example.com>: Recipient address rejected: User unknown in local recipient table",
        "soft",
        "recipient",
        "bad-mailbox",
    ),
    ("550 5.1.2 <u@example.invalid>... Host unknown (Name server: host not found)", "hard", "recipient", "bad-domain"),
    ("553 mail.example.invalid does not exist", "hard", "recipient", "bad-domain"),
    ("556 5.1.10 Recipient address has null MX", "hard", "recipient", "bad-domain"),
    ("552 5.2.2 Over quota", "soft", "recipient", "mailbox-full"),
    ("550 5.2.1 Account disabled", "soft", "recipient", "inactive-mailbox"),
    ("451 4.7.1 Greylisting in action, please come back in 5 minutes", "soft", "greylisting", "greylisted"),
    ("550 5.7.1 Greylisted, try again", "soft", "greylisting", "greylisted"),
    ("421 4.7.0 Too many connections", "soft", "sender", "rate-limited"),
    ("554 5.7.1 Client host [192.0.2.3] blocked using bl.example.org", "hard", "sender", "blocklisted"),
    (
        "550 5.7.1 <u@example.com>: Recipient address rejected: User blocked by DMARC policy",
        "hard",
        "sender",
        "authentication",
    ),
    ("550 5.1.1 sender address rejected: user unknown in example.net", "hard", "sender", "policy"),
    ("550 5.1.8 Sender address rejected: Domain not found", "hard", "sender", "policy"),
    ("554 5.7.1 Virus found: Eicar", "hard", "sender", "virus"),
    ("554 5.7.1 This is spam", "hard", "sender", "spam"),
    ("552 5.3.4 Message too big for system", "hard", "sender", "size"),
    ("554 5.7.1 <u@example.com>: Relay access denied", "hard", "unknown", "relaying"),
    ("554 5.4.6 Too many hops", "hard", "unknown", "routing"),
    ("Connection refused", "soft", "network", "network"),
    ("lost connection with mx.example.com[192.0.2.1] while sending RCPT TO", "soft", "network", "network"),
    ("retry timeout exceeded", "soft", "network", "expired"),
    ("503 5.5.1 need MAIL before RCPT", "hard", "sender", "protocol"),
    ("530 5.7.0 Authentication required", "hard", "sender", "authentication"),
    ("550 xyzzy", "hard", "unknown", "unclassified"),
    ("440 xyzzy", "soft", "unknown", "unclassified"),
    ("xyzzy", "soft", "unknown", "unclassified"),
    ("550 5.1.1 xyzzy", "hard", "recipient", "bad-mailbox"),
    ("551 5.3.0 xyzzy", "hard", "unknown", "unclassified"),
]


@pytest.mark.parametrize(("text", "kind", "fault", "category"), TABLE, ids=[row[0][:40] for row in TABLE])
def test_verdict(text: str, kind: str, fault: str, category: str) -> None:
    """What any server may say is understood without knowing the server."""
    verdict = CLASSIFIER.classify(text)
    assert (verdict.kind, verdict.fault, verdict.category) == (kind, fault, category)
    assert verdict.is_dead_address == (kind == "hard" and fault == "recipient")


@pytest.mark.parametrize(
    ("text", "provider"),
    [
        ("host gmail-smtp-in.l.google.com[192.0.2.1] said: 550 xyzzy", "Gmail"),
        ("550 xyzzy - gsmtp", "Gmail"),
        ("host example-com.mail.protection.outlook.com[192.0.2.1] said: 550 xyzzy", "Microsoft"),
        ("host mta7.am0.yahoodns.net[192.0.2.1] said: 550 xyzzy", "Yahoo"),
        ("host mx01.mail.icloud.com[192.0.2.1] said: 550 xyzzy", "Apple"),
        ("host mx00.emig.gmx.net[192.0.2.1] said: 550 xyzzy", "GMX/Web.de"),
        ("host smtp-in.orange.fr[192.0.2.1] said: 550 xyzzy", "Orange"),
        ("host mx1.comcast.net[192.0.2.1] said: 550 xyzzy", "Comcast"),
        ("host eu-smtp-inbound-1.mimecast.com[192.0.2.1] said: 550 xyzzy", "Mimecast"),
        ("host mx0a-1.pphosted.com[192.0.2.1] said: 550 xyzzy", "Proofpoint"),
        ("554 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "Spamhaus"),
        (
            "H=mx01.mail.icloud.com [192.0.2.1]: SMTP error from remote mail server after RCPT TO:<u@me.com>: 550 x",
            "Apple",
        ),
        ("host mx.notgoogle.com[192.0.2.1] said: 550 xyzzy", None),
        ("550 xyzzy", None),
    ],
)
def test_provider(text: str, provider: str | None) -> None:
    """The provider is known by its host's name, or else by its own way of speaking."""
    assert CLASSIFIER.classify(text).provider == provider


def test_relay_names_the_provider_of_a_bare_reply() -> None:
    """A reply that does not name its server is read as the log's relay said it."""
    verdict = CLASSIFIER.classify("550 5.5.0 mailbox unavailable", relay="mx.mail.protection.outlook.com[192.0.2.1]:25")
    assert (verdict.provider, verdict.rule) == ("Microsoft", "microsoft-mailbox-unavailable")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        pytest.param({}, "hard", id="as-it-stands"),
        pytest.param({"status": "deferred"}, "soft", id="soft-bounce-is-retried"),
        pytest.param({"status": "bounced"}, "hard", id="bounced"),
        pytest.param({"dsn": "4.1.1"}, "hard", id="the-code-of-the-text-outweighs-a-field"),
        pytest.param({"code": 450}, "hard", id="the-text's-own-code-wins"),
    ],
)
def test_status_tempers_a_permanent_reply(arguments: dict[str, object], kind: str) -> None:
    """A 5xx that the MTA keeps in its queue (soft_bounce) is soft; nothing else softens it."""
    assert CLASSIFIER.classify("550 5.1.1 User unknown", **arguments).kind == kind


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("User unknown", {"code": 450}, ("soft", "recipient", "bad-mailbox")),
        ("User unknown", {"dsn": "4.1.1"}, ("soft", "recipient", "bad-mailbox")),
        ("User unknown", {"dsn": "5.1.1"}, ("hard", "recipient", "bad-mailbox")),
        ("xyzzy", {"dsn": "5.1.1"}, ("hard", "recipient", "bad-mailbox")),
        ("xyzzy", {"dsn": "nonsense"}, ("soft", "unknown", "unclassified")),
        ("xyzzy", {"status": "bounced"}, ("hard", "unknown", "unclassified")),
        ("", {"status": "expired"}, ("soft", "unknown", "expired")),
        ("452 4.2.2 mailbox full", {"status": "expired"}, ("soft", "recipient", "mailbox-full")),
    ],
)
def test_fields_help_where_the_text_is_silent(
    text: str, arguments: dict[str, object], expected: tuple[str, ...]
) -> None:
    """Codes and status of the log line or report stand in for what the text does not say."""
    verdict = CLASSIFIER.classify(text, **arguments)
    assert (verdict.kind, verdict.fault, verdict.category) == expected


@pytest.mark.parametrize("text", ["250 2.0.0 Ok: queued as 153053D", "2.0.0 accepted", "250 OK user unknown"])
def test_success_is_not_classified(text: str) -> None:
    """A 2xx reply is no failure, whatever words it holds."""
    assert CLASSIFIER.classify(text).kind == "none"
    assert CLASSIFIER.classify("whatever", status="sent").kind == "none"


def test_lines_become_records() -> None:
    """A record has exactly the documented keys in their order; blank lines give none; success has no verdict."""
    lines = [
        "550 5.1.1 User unknown\n",
        "\n",
        "250 2.0.0 OK\r\n",
        "host gmail-smtp-in.l.google.com[192.0.2.1] said: 421 4.7.0 x",
    ]
    first, second, third = classify_lines(lines, CLASSIFIER)
    assert list(first.items()) == [
        ("reply", "550 5.1.1 User unknown"),
        ("kind", "hard"),
        ("fault", "recipient"),
        ("category", "bad-mailbox"),
        ("code", 550),
        ("dsn", "5.1.1"),
        ("provider", None),
        ("rule", "unknown-user"),
    ]
    assert list(second) == list(first)
    assert (second["reply"], second["kind"], second["category"], second["code"]) == ("250 2.0.0 OK", None, None, 250)
    assert third["provider"] == "Gmail"


def test_wordings_share_a_verdict() -> None:
    """A reply to another recipient of another host is not judged again."""
    classifier = default_classifier()
    classifier.classify("host mx1.example.com[192.0.2.1] said: 550 5.1.1 <a@example.com>: no such user")
    misses = classifier._judge.cache_info().misses
    classifier.classify("host mx2.example.org[192.0.2.2] said: 550 5.1.1 <b@example.org>: no such user")
    assert classifier._judge.cache_info().misses == misses


SENDERS_FAULT = [
    "blocked using zen.example.org",
    "your IP is blacklisted",
    "DMARC policy",
    "SPF check failed",
    "message is spam",
    "virus detected",
    "sender address rejected",
    "poor reputation",
    "cannot find your reverse hostname",
    "Client host rejected: Access denied",
    "message too large",
    "too many connections",
]


@given(
    code=st.sampled_from(["550", "553", "554", "571"]),
    dsn=st.sampled_from(["", "5.7.1 ", "5.1.1 ", "5.2.0 ", "5.1.0 "]),
    address=st.sampled_from(["", "<u@example.com>: ", "<u@example.com>: Recipient address rejected: "]),
    fault=st.sampled_from(SENDERS_FAULT),
)
@settings(max_examples=300, deadline=None)
def test_senders_fault_never_kills_an_address(code: str, dsn: str, address: str, fault: str) -> None:
    """A permanent reply that blames the sender never calls the recipient dead, whatever code it comes with."""
    assert not CLASSIFIER.classify(f"{code} {dsn}{address}{fault}").is_dead_address


@given(st.text(max_size=300), st.none() | st.integers(200, 599), st.none() | st.sampled_from(["4.2.2", "5.1.1", "x"]))
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_verdict(text: str, code: int | None, dsn: str | None) -> None:
    """No text makes classification fail, and every verdict is within the documented sets."""
    verdict = CLASSIFIER.classify(text, code=code, dsn=dsn)
    assert verdict.kind in {"hard", "soft", "none"}
    assert verdict.fault in FAULTS
    assert verdict.category in CATEGORIES
    assert verdict.advice


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "user ",
        "550-",
        "1.",
        "a@",
        "a.",
        "host ",
        "mailbox is ",
        "sender domain ",
        "ip address ",
        "(",
        "x [1.1.1.1] ",
        "no such recipient connection from ",
    ],
)
def test_cost_is_linear(piece: str) -> None:
    """A text made to be slow costs at most in proportion to its length, and a bounded time in all."""

    def cost(characters: int) -> float:
        started = time.perf_counter()
        default_classifier().classify(piece * (characters // len(piece)))
        return time.perf_counter() - started

    cost(100)
    assert min(cost(100_000) for _ in range(2)) < 0.5


@pytest.mark.parametrize(
    ("stage", "dead"),
    [("MAIL FROM", False), ("EHLO", False), ("STARTTLS", False), ("RCPT TO", True), ("end of DATA", True)],
)
@pytest.mark.parametrize("words", ["550 unknown user", "550 5.1.1 xyzzy", "551 invalid address", "551 xyzzy"])
def test_nothing_said_before_the_recipient_is_about_the_recipient(stage: str, words: str, dead: bool) -> None:
    """Until RCPT TO the server does not know whom the mail is for, so no word of it makes the address dead."""
    verdict = CLASSIFIER.classify(f"host mx.example.com[192.0.2.1] said: {words} (in reply to {stage} command)")
    assert verdict.is_dead_address == dead


def test_a_host_that_takes_no_mail_may_say_so_in_its_greeting() -> None:
    """RFC 7504: a server for a domain without mail may refuse at once; that is about the recipient's domain."""
    text = "host mx.example.com[192.0.2.1] refused to talk to me: 556 this domain does not accept mail"
    verdict = CLASSIFIER.classify(text)
    assert (verdict.category, verdict.is_dead_address) == ("bad-domain", True)


@pytest.mark.parametrize(
    "text",
    [
        "535 5.7.8 Error: authentication failed: user not found",
        "550 your mail server address is invalid",
        "550 This email address is not allowed to send mail",
        "550 IP address not found in DNS",
        "550 Your host is unknown",
    ],
)
def test_words_about_an_address_of_ours(text: str) -> None:
    """Unknown or invalid, said of our address, host or login, does not speak of the recipient."""
    assert not CLASSIFIER.classify(text).is_dead_address
