"""One whole message: policy, rewriting, and the event that is recorded of it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from postwake.events import Accepted, Direction, Requeued
from postwake.tokens import KeyRing, Privacy, Purpose, Token
from postwake_milter.handle import Envelope, Handled, Handler
from postwake_milter.policy import Origin

Make = Callable[..., Envelope]
OUTSIDE = Origin("203.0.113.9")


def accepted(handled: Handled) -> Accepted:
    """Return the event of a message that was met for the first time."""
    assert isinstance(handled.event, Accepted)
    return handled.event


def click_token(handled: Handled, ring: KeyRing) -> Token:
    """Return what the first wrapped link says."""
    assert handled.body is not None
    match = re.search(rb"/c/([A-Za-z0-9_-]+)", handled.body)
    assert match is not None
    token = ring.verify(Purpose.CLICK, match[1].decode())
    assert token is not None
    return token


def test_tracked(make_handler: Callable[..., Handler], make_envelope: Make) -> None:
    """A tracked message gets pixel, link and stamp, and an event that says everything about it."""
    handled = make_handler().handle(
        make_envelope((b"X-Tag", b" autumn"), (b"X-Metadata-Order", b" 7"), (b"X-Campaign", b" new"))
    )

    assert handled.outcome == "tracked"
    assert [(change.name, change.index) for change in handled.header_changes][-1] == (b"X-Postwake-ID", 0)
    assert handled.header_changes[-1].value == bytes(range(16)).hex().encode()
    event = accepted(handled)
    assert (event.tracked, event.untracked_reason, event.pixels, event.links) == (True, "", 1, 1)
    assert (event.campaign, event.parts_rewritten) == ("new", 1)
    assert (event.subject, event.message_id, event.domain) == ("Grüße", "1@example.com", "example.com")
    assert (event.tag, event.metadata, event.direction) == ("autumn", {"order": "7"}, Direction.OUTBOUND)
    assert (event.queue_id, event.host, event.client) == ("4Q1", "mx.example.com", "localhost[127.0.0.1]")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param({"origin": OUTSIDE}, "inbound", id="outside"),
        pytest.param({"origin": OUTSIDE, "sender": ""}, "inbound", id="bounce-coming-in"),
        pytest.param({"sender": ""}, "null-sender", id="bounce-going-out"),
        pytest.param(
            {"sender": "a@other.test", "header_from": b" a@other.test"}, "sender-not-configured", id="other-domain"
        ),
        pytest.param(
            {"sender": "a@other.test", "header_from": b" =?utf-8?q?a=40example.com=2C?= <a@other.test>"},
            "sender-not-configured",
            id="encoded-address-of-ours-for-a-name",
        ),
        pytest.param({"body_skipped": "body-not-offered"}, "body-not-offered", id="body-not-offered"),
        pytest.param({"body": b"<html>\r\n", "origin": OUTSIDE}, "inbound", id="inbound-before-anything-else"),
    ],
)
def test_not_tracked_by_policy(
    make_handler: Callable[..., Handler], make_envelope: Make, options: dict[str, object], reason: str
) -> None:
    """What is not ours to track goes out as it came: no field is added or taken away, and the reason is recorded."""
    handled = make_handler().handle(make_envelope((b"X-Tag", b" keep"), **options))

    assert (handled.outcome, handled.body, handled.header_changes) == ("untracked", None, ())
    event = accepted(handled)
    assert (event.tracked, event.untracked_reason, event.tag, event.campaign) == (False, reason, "", "")
    assert (event.pixels, event.links, event.parts_rewritten) == (0, 0, 0)


def test_marks_go_from_mail_that_is_not_tracked(make_handler: Callable[..., Handler], make_envelope: Make) -> None:
    """A link that a service's mark makes a dead one is mended, without a stamp; the reason is the one it always was."""
    body = b'<html><body><a href="https+notrack://example.com/reset">x</a></body></html>\r\n'
    handled = make_handler().handle(make_envelope((b"X-Track-Privacy", b" off"), body=body))

    assert handled.body == body.replace(b"+notrack", b"")
    assert [(change.name, change.value) for change in handled.header_changes] == [(b"X-Track-Privacy", None)]
    event = accepted(handled)
    assert (handled.outcome, event.tracked, event.untracked_reason) == ("untracked", False, "privacy-off")
    assert (event.links, event.pixels, event.links_skipped) == (0, 0, {})


@pytest.mark.parametrize("reason", ["too-large", "busy"])
def test_too_large(make_handler: Callable[..., Handler], make_envelope: Make, reason: str) -> None:
    """A body too large to be fetched, or held now, stays; what the header says is heeded, and not shown to readers."""
    fields = [
        (b"X-Tag", b" autumn"),
        (b"X-SMTPAPI", b' {"to": ["bo@accept.test"]}'),
        (b"X-Track-Privacy", b" anonymous"),
    ]
    handled = make_handler().handle(make_envelope(*fields, body_skipped=reason))

    assert (handled.outcome, handled.body) == ("untracked", None)
    assert sorted((change.name, change.value) for change in handled.header_changes) == [
        (b"X-SMTPAPI", None),
        (b"X-Tag", None),
        (b"X-Track-Privacy", None),
    ]
    event = accepted(handled)
    assert (event.tracked, event.untracked_reason, event.tag) == (False, reason, "autumn")
    assert event.privacy is Privacy.ANONYMOUS


def test_several_tags(make_handler: Callable[..., Handler], make_envelope: Make) -> None:
    """The first tag is the message's; of several, none is lost."""
    event = accepted(make_handler().handle(make_envelope((b"X-Tag", "grün, autumn".encode()), (b"X-PM-Tag", b"a, b"))))

    assert (event.tag, event.metadata) == ("grün", {"tags": '["grün", "autumn", "a, b"]'})


@pytest.mark.parametrize(
    ("options", "domain"),
    [
        pytest.param({"origin": Origin("203.0.113.9", "ada")}, "example.com", id="authenticated"),
        pytest.param({"origin": Origin("")}, "example.com", id="sendmail"),
        pytest.param({"sender": "bounce@esp.test"}, "example.com", id="from-field-decides"),
        pytest.param({"sender": "a@news.example.com"}, "news.example.com", id="envelope-goes-first"),
        pytest.param(
            {"sender": "bounce@esp.test", "header_from": b" =?utf-8?b?U2hvcA==?= <a@EXAMPLE.com>"},
            "example.com",
            id="encoded-display-name",
        ),
        pytest.param(
            {"sender": "bounce@esp.test", "header_from": b" =?utf-8?q?info=40shop.test?=\r\n <a@example.com>"},
            "example.com",
            id="encoded-address-for-a-name",
        ),
    ],
)
def test_tracked_under_a_domain(
    make_handler: Callable[..., Handler], make_envelope: Make, options: dict[str, object], domain: str
) -> None:
    """A message counts under the domain that made it ours."""
    event = accepted(make_handler().handle(make_envelope(**options)))
    assert (event.tracked, event.domain) == (True, domain)


@pytest.mark.parametrize(
    ("recipients", "index"),
    [
        pytest.param(("ada@accept.test",), 1, id="one"),
        pytest.param(("ada@accept.test", "ADA@accept.test"), 1, id="the-same-twice"),
        pytest.param(("ada@accept.test", "bo@accept.test"), 0, id="two-share-it"),
        pytest.param((), 0, id="none-known"),
    ],
)
def test_recipient_in_tokens(
    make_handler: Callable[..., Handler], make_envelope: Make, ring: KeyRing, recipients: tuple[str, ...], index: int
) -> None:
    """A token names the recipient only where there is exactly one."""
    assert click_token(make_handler().handle(make_envelope(recipients=recipients)), ring).recipient == index


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        pytest.param([(b"X-Track-Opens", b" yes")], 0, id="understood"),
        pytest.param([(b"X-Track-Opens", b" perhaps"), (b"X-Track-Privacy", b" nonsense")], 2, id="two-that-are-not"),
    ],
)
def test_controls_that_say_nothing_are_counted(
    make_handler: Callable[..., Handler], make_envelope: Make, fields: list[tuple[bytes, bytes]], count: int
) -> None:
    """What a header field asks for and cannot be read is counted, and the message is tracked as configured."""
    handled = make_handler().handle(make_envelope(*fields))
    assert (handled.malformed_controls, handled.outcome) == (count, "tracked")


@pytest.mark.parametrize(
    ("configured", "asked", "privacy"),
    [
        pytest.param("full", [], Privacy.FULL, id="configured"),
        pytest.param("full", [b" anonymous"], Privacy.ANONYMOUS, id="stricter-is-honoured"),
        pytest.param("anonymous", [b" full"], Privacy.ANONYMOUS, id="laxer-is-not"),
        pytest.param("pseudonymous", [b" nonsense"], Privacy.PSEUDONYMOUS, id="malformed-is-ignored"),
        pytest.param("full", [b" =?utf-8?q?anonymous?="], Privacy.ANONYMOUS, id="encoded"),
        pytest.param("full", [b" full", b" x", b" anonymous"], Privacy.ANONYMOUS, id="strictest-of-several"),
    ],
)
def test_privacy_header(
    make_handler: Callable[..., Handler],
    make_envelope: Make,
    ring: KeyRing,
    configured: str,
    asked: list[bytes],
    privacy: Privacy,
) -> None:
    """The more restrictive of configuration and message holds, in the tokens and in the event."""
    fields = [(b"X-Track-Privacy", value) for value in asked]
    handled = make_handler(tracking={"privacy": configured}).handle(make_envelope(*fields))

    assert click_token(handled, ring).privacy is privacy
    assert accepted(handled).privacy is privacy


def test_privacy_off_by_header(make_handler: Callable[..., Handler], make_envelope: Make) -> None:
    """A message that asks for no tracking at all gets none, and its own control fields are still removed."""
    handled = make_handler().handle(make_envelope((b"X-Track-Privacy", b" off")))

    assert accepted(handled).untracked_reason == "privacy-off"
    assert handled.body is None
    assert [change.value for change in handled.header_changes] == [None]


def test_already_stamped(make_handler: Callable[..., Handler], make_envelope: Make) -> None:
    """A message that comes back with our stamp is the same message under a new queue ID, and is not touched again."""
    stamped = b" " + bytes(range(16, 32)).hex().upper().encode()
    handled = make_handler().handle(make_envelope((b"x-postwake-id", stamped)))

    assert handled.event == Requeued(1_790_000_000_000_000, bytes(range(16, 32)), "4Q1")
    assert (handled.outcome, handled.body, handled.header_changes) == ("requeued", None, ())


@pytest.mark.parametrize(
    ("field", "options"),
    [
        pytest.param(b" not-a-tracking-id", {}, id="not-an-id"),
        pytest.param(b" " + bytes(16).hex().encode(), {"origin": OUTSIDE}, id="from-outside"),
    ],
)
def test_a_stamp_that_is_none(
    make_handler: Callable[..., Handler], make_envelope: Make, field: bytes, options: dict[str, object]
) -> None:
    """Strangers cannot attach their mail to one of our messages, nor does a broken stamp stand for one."""
    assert isinstance(make_handler().handle(make_envelope((b"X-Postwake-ID", field), **options)).event, Accepted)


@pytest.mark.parametrize(
    ("domain", "url"),
    [("example.com", b"https://track.example.com/"), ("news.example.com", b"https://t.news.example.com/x/")],
)
def test_tracking_host_by_sender_domain(
    make_handler: Callable[..., Handler], make_envelope: Make, domain: str, url: bytes
) -> None:
    """Each sender domain's links go through its own tracking host, and links to any of them are left alone."""
    handler = make_handler(domains={"news.example.com": {"url": "https://t.news.example.com/x"}})
    body = (
        b'<html><body><a href="https://t.news.example.com/x/c/old">x</a><a href="https://y.test/">y</a></body></html>'
    )

    handled = handler.handle(make_envelope(sender=f"a@{domain}", body=body))

    assert handled.body is not None
    assert handled.body.count(url + b"c/") == 1 + (b"news" in url)
    assert accepted(handled).links_skipped == {"own-host": 1}


@pytest.mark.parametrize(
    "url", ["https://t.example.com/a+b", "https://[2001:db8::1]:8443/x", "https://t.example.com/~_%20"]
)
def test_every_tracking_url_there_may_be(make_handler: Callable[..., Handler], make_envelope: Make, url: str) -> None:
    """What the configuration takes for a tracking URL does in mail, and is known for our own."""
    handler = make_handler(tracking={"url": url})
    handled = handler.handle(make_envelope())

    assert handled.body is not None
    assert handled.body.count(url.encode()) == 2
    again = accepted(handler.handle(make_envelope(body=handled.body)))
    assert again.links_skipped == {"own-host": 1}


@pytest.mark.parametrize(
    ("options", "reason", "domain"),
    [
        pytest.param({}, "rewrite-timeout", "example.com", id="tracked-sender"),
        pytest.param({"sender": "bounce@esp.test"}, "rewrite-timeout", "example.com", id="from-field-decides"),
        pytest.param({"origin": OUTSIDE}, "inbound", "example.com", id="nothing-was-to-be-done"),
    ],
)
def test_sent_on_unchanged(
    make_handler: Callable[..., Handler],
    make_envelope: Make,
    options: dict[str, object],
    reason: str,
    domain: str,
) -> None:
    """What goes out as it came for want of time is recorded with that reason, its other facts those it always has."""
    handled = make_handler().unchanged(make_envelope(**options), "rewrite-timeout")

    event = accepted(handled)
    assert (event.untracked_reason, event.tracked, event.subject) == (reason, False, "Grüße")
    assert (event.domain, event.links, handled.body, handled.header_changes) == (domain, 0, None, ())


def test_stamped_mail_is_no_second_message_for_want_of_time(
    make_handler: Callable[..., Handler], make_envelope: Make
) -> None:
    """Who has no time to handle a message that comes back still knows it by its stamp."""
    envelope = make_envelope((b"X-Postwake-ID", b" " + bytes(range(16, 32)).hex().encode()))
    handler = make_handler()

    assert handler.unchanged(envelope, "rewrite-timeout") == handler.handle(envelope)


def test_a_from_field_that_cannot_be_read(make_handler: Callable[..., Handler], make_envelope: Make) -> None:
    """A From field of any shape names no address at worst."""
    handled = make_handler().handle(make_envelope(sender="a@other.test", header_from=b" " + b"(" * 90_000))
    assert accepted(handled).untracked_reason == "sender-not-configured"


def test_long_subject_is_cut(make_handler: Callable[..., Handler], make_envelope: Make) -> None:
    """A subject of any length is stored up to 250 characters."""
    event = accepted(make_handler().handle(make_envelope((b"Subject", b" " + b"x" * 5000))))
    assert event.subject == "x" * 250
