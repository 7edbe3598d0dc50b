"""The engine's decisions: what is tracked, what is left alone and under which name, and which fields change."""

from __future__ import annotations

import base64
import email
import quopri
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from postwake.config import Config
from postwake_milter import policy
from postwake_milter.rewrite import html_edit, reasons
from postwake_milter.rewrite.engine import Mint, Plan
from postwake_milter.rewrite.header_changes import HeaderChange
from postwake_milter.rewrite.whole_message import rewrite_message

STAMP = b"0197e0d5f3b87cc08a11223344556677"
HTML = b'<html><body><p>Hi <a href="https://example.com/?a=1&amp;b=2">there</a></p></body></html>\n'
PGP = b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n"


def _mail(*fields: bytes, body: bytes = HTML) -> bytes:
    return b"\n".join([b"From: a@example.com", b"Subject: s", *fields, b"", body])


def _html(*fields: bytes, body: bytes = HTML) -> bytes:
    return _mail(b"MIME-Version: 1.0", b"Content-Type: text/html; charset=utf-8", *fields, body=body)


def _multipart(kind: bytes, *parts: bytes, fields: tuple[bytes, ...] = ()) -> bytes:
    body = b"".join(b"--=_b\n" + part + b"\n" for part in parts) + b"--=_b--\n"
    return _mail(b"MIME-Version: 1.0", b"Content-Type: multipart/" + kind + b'; boundary="=_b"', *fields, body=body)


HTML_PART = b"Content-Type: text/html; charset=utf-8\n\n" + HTML
PLAIN_PART = b"Content-Type: text/plain; charset=utf-8\n\nhello https://example.com/x\n"

NEVER = [
    pytest.param(_html(b"X-Postwake-ID: " + STAMP), "already-stamped", id="already-stamped"),
    pytest.param(_html(b"DKIM-Signature: v=1; b=x"), "dkim-signed", id="dkim-signed"),
    pytest.param(_html(b"dkim-signature: v=1; b=x"), "dkim-signed", id="dkim-signed-lower-case"),
    pytest.param(_html(b"ARC-Seal: i=1"), "arc-sealed", id="arc-seal"),
    pytest.param(_multipart(b"signed; protocol=x", HTML_PART, PLAIN_PART), "signed", id="multipart-signed"),
    pytest.param(_multipart(b"encrypted", HTML_PART), "encrypted", id="multipart-encrypted"),
    pytest.param(_mail(b"Content-Type: application/pkcs7-mime; smime-type=signed-data"), "smime", id="smime"),
    pytest.param(_html(b"X-Odd: a\rb"), "malformed-headers", id="bare-cr-in-a-field"),
    pytest.param(b"From a@example.com\r\r\n\nno field\n", "malformed-headers", id="bare-cr-behind-the-mbox-line"),
    pytest.param(_html().replace(b"\n\n", b"\n", 1), "malformed-headers", id="no-empty-line"),
    pytest.param(_mail(b"Content-Type: text/plain", body=PGP), "inline-pgp", id="pgp-plain"),
    pytest.param(
        _multipart(b"alternative", b"Content-Type: text/plain\n\n" + PGP, HTML_PART), "inline-pgp", id="pgp-alternative"
    ),
    pytest.param(
        _multipart(
            b"alternative",
            b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(PGP),
            HTML_PART,
        ),
        "inline-pgp",
        id="pgp-in-base64",
    ),
    pytest.param(
        _mail(
            b"Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable",
            body=PGP.replace(b"-----B", b"=2D----B").replace(b"N PGP M", b"N=20PGP M"),
        ),
        "inline-pgp",
        id="pgp-in-escapes",
    ),
    pytest.param(_html(body=HTML.replace(b"<p>", b"<p>" + PGP.replace(b"\n", b"<br>\n"))), "inline-pgp", id="pgp-html"),
]


@pytest.mark.parametrize(("raw", "reason"), NEVER)
def test_not_one_byte_changes(raw: bytes, reason: str, plan: Plan, mint: Mint) -> None:
    """Signed, encrypted and finished mail goes out as the same bytes, control fields of ours included."""
    raw = raw.replace(b"Subject: s", b"Subject: s\nX-Tag: keep\nX-PM-Tag: keep")
    eager = replace(plan, text_clicks=True, list_unsubscribe="wrap")
    after, result = rewrite_message(raw, eager, mint, stamp=STAMP)

    assert after == raw
    assert (result.tracked, result.untracked_reason) == (False, reason)
    assert reason in reasons.UNTRACKED_REASONS
    assert result.header_changes == ()


def test_unsubscribing_alone_leaves_inline_pgp_as_it_is(plan: Plan, mint: Mint) -> None:
    """Where nothing is counted but a one-click address is added, a PGP message is found all the same."""
    raw = _mail(b"Content-Type: text/plain", body=PGP)
    added = replace(plan, opens=False, clicks=False, list_unsubscribe="add")
    after, result = rewrite_message(raw, added, mint, stamp=STAMP)

    assert (after, result.untracked_reason) == (raw, "inline-pgp")


DECLINED = [
    pytest.param(_html(b"Auto-Submitted: auto-replied"), "auto-replied", id="auto-replied"),
    pytest.param(_html(b"Auto-Submitted: auto-replied (vacation)"), "auto-replied", id="auto-replied-comment"),
    pytest.param(_html(b"Auto-Submitted: auto-notified; x=y"), "auto-replied", id="auto-notified"),
    pytest.param(_html(b"Auto-Submitted: auto-generated"), "auto-generated", id="auto-generated"),
    pytest.param(_html(b"Precedence: auto_reply"), "auto-replied", id="precedence"),
    pytest.param(_html(b"X-Autoreply: yes"), "auto-replied", id="x-autoreply"),
    pytest.param(_multipart(b"report; report-type=delivery-status", HTML_PART), "delivery-report", id="report"),
    pytest.param(_html(b"X-Track-Privacy: off"), "privacy-off", id="privacy-off"),
    pytest.param(_html(b"X-Mailgun-Track: no"), "disabled-by-header", id="off-by-header"),
    pytest.param(_mail(), "no-html", id="no-html"),
    pytest.param(_mail(b"Content-Type: image/png"), "no-html", id="one-image"),
    pytest.param(_mail(b"Content-Type: message/rfc822"), "attached-message", id="only-a-message"),
    pytest.param(_mail(b"Content-Type: multipart/mixed"), "malformed-mime", id="no-boundary"),
    pytest.param(
        _multipart(b"mixed", HTML_PART, fields=(b"Content-Transfer-Encoding: base64",)),
        "malformed-mime",
        id="encoded-multipart",
    ),
    pytest.param(
        _multipart(b"mixed", HTML_PART, b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; x"),
        "delivery-report",
        id="report-in-mixed",
    ),
    pytest.param(_html(b"X-Failed-Recipients: b@example.com"), "delivery-report", id="failed-recipients"),
    pytest.param(_html(b"X-Autogenerated: Reply"), "auto-replied", id="x-autogenerated"),
    pytest.param(_multipart(b"mixed; boundary=other", HTML_PART), "ambiguous-structure", id="two-boundaries"),
    pytest.param(
        _multipart(b"mixed", HTML_PART).replace(b'"=_b"', b'"=_b"\x0c'),
        "ambiguous-structure",
        id="form-feed-after-boundary",
    ),
    pytest.param(_html(b"Content-Type: text/plain"), "ambiguous-headers", id="two-types"),
    pytest.param(_html(b"Content-Transfer-Encoding: x-uuencode"), "unknown-transfer-encoding", id="uuencode"),
    pytest.param(
        _html(b"Content-Transfer-Encoding: quoted-printable"), "malformed-quoted-printable", id="not-really-qp"
    ),
    pytest.param(_html(b"Content-Transfer-Encoding: base64"), "malformed-base64", id="not-really-base64"),
    pytest.param(_html(body=b"\xe4" + HTML), "charset-mismatch", id="not-really-utf-8"),
    pytest.param(_mail(b"Content-Type: text/html", body=b"\xe4" + HTML), "charset-undeclared", id="undeclared"),
    pytest.param(_mail(b"Content-Type: text/html; charset=utf-16", body=HTML), "charset-not-ascii", id="utf-16"),
    pytest.param(_mail(b"Content-Type: text/html; charset=x-what", body=HTML), "charset-unknown", id="unknown-charset"),
    pytest.param(_html(b"Content-Disposition: attachment; filename=x.html"), "attachment", id="attachment"),
    pytest.param(
        _multipart(b"mixed", PLAIN_PART, HTML_PART.replace(b"utf-8", b"utf-8; name=x.html")), "attachment", id="named"
    ),
    pytest.param(
        _multipart(b"mixed", b"Content-Disposition: inline; filename=x.html\n" + HTML_PART),
        "attachment",
        id="inline-file",
    ),
    pytest.param(
        _multipart(b"mixed", b"Content-Disposition: strange\n" + HTML_PART), "attachment", id="unknown-disposition"
    ),
    pytest.param(
        _multipart(b"related", b"Content-Type: image/gif\n\nGIF", HTML_PART), "related-resource", id="resource"
    ),
    pytest.param(
        _multipart(b"mixed", b"Content-Type: text/html\noops\n\n" + HTML), "malformed-headers", id="broken-part-header"
    ),
    pytest.param(
        _multipart(b"mixed", b"Content-Type: text/html\nX-Odd : 1\n\n" + HTML),
        "malformed-headers",
        id="spaced-part-field",
    ),
]


@pytest.mark.parametrize(("raw", "reason"), DECLINED)
def test_left_alone_under_a_name(raw: bytes, reason: str, plan: Plan, mint: Mint) -> None:
    """What is not tracked says why, keeps its body byte for byte, and loses its control fields alone."""
    marked = raw.replace(b"Subject: s", b"Subject: s\nX-Tag: gone")
    after, result = rewrite_message(marked, plan, mint, stamp=STAMP)

    assert (result.tracked, result.untracked_reason) == (False, reason)
    assert reason in reasons.UNTRACKED_REASONS
    assert result.body is None
    kept = [line for line in raw.split(b"\n") if not line.startswith((b"X-Track-", b"X-Mailgun-"))]
    assert after == b"\n".join(kept)


def test_off_for_the_sender(plan: Plan, mint: Mint) -> None:
    """A sender without opens, clicks and unsubscribing is untracked, unless the message itself asks."""
    off = replace(plan, opens=False, clicks=False)

    assert rewrite_message(_html(), off, mint, stamp=None)[1].untracked_reason == "tracking-off"
    asked = rewrite_message(_html(b"X-PM-TrackOpens: true"), off, mint, stamp=None)[1]
    assert (asked.tracked, asked.opens, asked.destinations) == (True, 1, ())


def test_auto_generated_mail_that_asks_for_tracking(plan: Plan, mint: Mint) -> None:
    """An invoice may say auto-generated and still want opens; an automatic reply never gets them."""
    assert rewrite_message(_html(b"Auto-Submitted: auto-generated", b"X-Track-Opens: yes"), plan, mint, stamp=None)[
        1
    ].tracked
    assert not rewrite_message(_html(b"Auto-Submitted: auto-replied", b"X-Track-Opens: yes"), plan, mint, stamp=None)[
        1
    ].tracked
    assert rewrite_message(_html(b"Auto-Submitted: no"), plan, mint, stamp=None)[1].tracked


def test_too_large(plan: Plan, mint: Mint) -> None:
    """A body over the limit is not read; one at the limit is."""
    size = len(HTML)

    assert rewrite_message(_html(), replace(plan, max_message_bytes=size), mint, stamp=None)[1].tracked
    small = rewrite_message(_html(), replace(plan, max_message_bytes=size - 1), mint, stamp=None)[1]
    assert small.untracked_reason == "too-large"


def test_dkim_signed_when_allowed(plan: Plan, mint: Mint) -> None:
    """Configuration may say that the signature does not matter."""
    allowed = replace(plan, allow_dkim_signed=True)

    assert rewrite_message(_html(b"DKIM-Signature: v=1"), allowed, mint, stamp=None)[1].tracked


def test_a_stamp_that_is_none_does_not_stop_tracking(plan: Plan, mint: Mint) -> None:
    """Only a plausible tracking ID means that the mail was here before."""
    assert rewrite_message(_html(b"X-Postwake-ID: forged"), plan, mint, stamp=None)[1].tracked


# --- Structure ---


def test_signed_part_inside_a_mixed_message(plan: Plan, mint: Mint) -> None:
    """A signed subtree stays byte for byte while the rest of the message is tracked."""
    signed = (
        b"Content-Type: multipart/signed; boundary=s\n\n--s\n"
        + HTML_PART
        + b"\n--s\nContent-Type: application/pgp-signature\n\nxx\n--s--\n"
    )
    raw = _multipart(b"mixed", signed, HTML_PART)
    after, result = rewrite_message(raw, plan, mint, stamp=STAMP)

    assert result.tracked
    assert result.parts_rewritten == 1
    assert signed in after
    assert result.part_reasons["signed"] == 2


def test_attached_message_stays(plan: Plan, mint: Mint) -> None:
    """A forwarded message is not ours to edit, though it holds HTML with links."""
    attached = b"Content-Type: message/rfc822\n\n" + _html()
    after, result = rewrite_message(_multipart(b"mixed", HTML_PART, attached), plan, mint, stamp=STAMP)

    assert attached in after
    assert result.part_reasons == {"attached-message": 1}
    assert len(result.destinations) == 1


def test_one_pixel_for_several_html_parts(plan: Plan, mint: Mint) -> None:
    """HTML shown in two pieces is one body: one pixel, and links numbered through."""
    after, result = rewrite_message(_multipart(b"mixed", HTML_PART, HTML_PART), plan, mint, stamp=None)

    assert result.opens == 1
    assert [after.count(b"/c/%d." % number) for number in range(3)] == [1, 1, 0]
    assert result.parts_rewritten == 2


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(_multipart(b"alternative", PLAIN_PART, HTML_PART, HTML_PART), id="two"),
        pytest.param(
            _multipart(
                b"alternative",
                HTML_PART,
                b'Content-Type: multipart/mixed; boundary="in"\n\n--in\n'
                + HTML_PART
                + b"\n--in\n"
                + HTML_PART
                + b"--in--",
            ),
            id="one-and-two-in-a-row",
        ),
    ],
)
def test_each_alternative_has_its_pixel(raw: bytes, plan: Plan, mint: Mint) -> None:
    """Of alternatives a reader sees one, and nobody knows which: each has the pixel, the same one."""
    after, result = rewrite_message(raw, plan, mint, stamp=None)

    assert result.opens == 2
    pixels = [
        part.get_payload().count("/o/0.gif")
        for part in email.message_from_bytes(after).walk()
        if not part.is_multipart()
    ]
    assert [count for count in pixels if count] == [1, 1]


@pytest.mark.parametrize(("value", "position"), [(b"yes", b"<body><img"), (b"no", b"/></body>")])
def test_the_message_says_where_its_pixel_goes(plan: Plan, mint: Mint, value: bytes, position: bytes) -> None:
    """Mailgun's field goes before the configuration, and is taken out."""
    raw = _html(b"X-Mailgun-Track-Pixel-Location-Top: " + value)
    after, result = rewrite_message(raw, replace(plan, pixel_position="both"), mint, stamp=STAMP)

    assert result.opens == 1
    assert position in after
    assert b"X-Mailgun" not in after


def test_text_clicks(plan: Plan, mint: Mint) -> None:
    """Plain text is rewritten when asked for, by configuration or by the message, and never gets a pixel."""
    raw = _multipart(b"alternative", PLAIN_PART, HTML_PART)

    assert len(rewrite_message(raw, plan, mint, stamp=None)[1].destinations) == 1
    result = rewrite_message(raw, replace(plan, text_clicks=True), mint, stamp=None)[1]
    assert list(result.destinations) == ["https://example.com/?a=1&b=2", "https://example.com/x"]
    only_text = raw.replace(b"Subject: s", b"Subject: s\nX-PM-TrackLinks: TextOnly\nX-Track-Opens: no")
    result = rewrite_message(only_text, plan, mint, stamp=None)[1]
    assert list(result.destinations) == ["https://example.com/x"]


MARKED_TEXT = b'Reset: https+notrack://example.com/r\nsee https://example.com/x[[data-msys-linkname="a"]]\n'
UNMARKED_TEXT = b"Reset: https://example.com/r\nsee https://example.com/x\n"
MARKED_HTML = b'<html><body>{{ses:openTracker}}<p><a href="https+notrack://example.com/r">reset</a></p></body></html>\n'
UNMARKED_HTML = b'<html><body><p><a href="https://example.com/r">reset</a></p></body></html>\n'


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        pytest.param(b"X-Mailgun-Track: no", "disabled-by-header", id="by-header"),
        pytest.param(b"X-Track-Privacy: off", "privacy-off", id="privacy"),
        pytest.param(b"Auto-Submitted: auto-generated", "auto-generated", id="auto-generated"),
        pytest.param(b"X-Other: yes", "tracking-off", id="by-configuration"),
    ],
)
@pytest.mark.parametrize("encoding", [b"8bit", b"base64", b"quoted-printable"])
def test_marks_go_where_nothing_is_counted(
    field: bytes, reason: str, encoding: bytes, plan: Plan, mint: Mint, judge: ModuleType
) -> None:
    """A password reset that says https+notrack:// is a dead link: it is mended, whatever is counted of the mail."""
    encode = {b"base64": base64.encodebytes, b"quoted-printable": _quoted}.get(encoding, bytes)
    head = b"\nContent-Transfer-Encoding: " + encoding + b"\n\n"
    parts = [b"Content-Type: text/plain" + head + encode(MARKED_TEXT), b"Content-Type: text/html" + head]
    raw = _multipart(b"alternative", parts[0], parts[1] + encode(MARKED_HTML), fields=(field,))
    if reason == "tracking-off":
        plan = replace(plan, opens=False, clicks=False)
    after, result = rewrite_message(raw, plan, mint, stamp=STAMP)

    texts = [part.get_payload(decode=True) for part in email.message_from_bytes(after).walk()][1:]
    assert texts == [UNMARKED_TEXT, UNMARKED_HTML]
    assert (result.tracked, result.untracked_reason, result.links_skipped) == (False, reason, {})
    assert b"X-Postwake-ID" not in after
    judge.check(raw, after, {name.decode().lower() for name, _ in result.control.remove})


def _quoted(text: bytes) -> bytes:
    """Encode as quoted-printable, with a soft break in the middle of every mark."""
    return quopri.encodestring(text).replace(b"notrack", b"not=\nrack").replace(b"data-msys", b"data-=\nmsys")


def test_marks_go_from_a_text_that_is_not_counted(plan: Plan, mint: Mint) -> None:
    """Beside HTML whose links are counted, the text is cleaned and not counted; without any, the reason is the same."""
    text = b"Content-Type: text/plain\n\n" + MARKED_TEXT
    after, result = rewrite_message(_multipart(b"alternative", text, HTML_PART), plan, mint, stamp=None)
    assert UNMARKED_TEXT in after
    assert list(result.destinations) == ["https://example.com/?a=1&b=2"]
    after, result = rewrite_message(_mail(b"Content-Type: text/plain", body=MARKED_TEXT), plan, mint, stamp=None)
    assert after.endswith(b"\n\n" + UNMARKED_TEXT)
    assert (result.tracked, result.untracked_reason) == (False, "no-html")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(_html(b"Auto-Submitted: auto-replied", body=MARKED_HTML), "auto-replied", id="auto-replied"),
        pytest.param(
            _html(b"Auto-Submitted: auto-replied", b"X-Track-Privacy: off", body=MARKED_HTML), "privacy-off", id="both"
        ),
        pytest.param(_html(b"DKIM-Signature: v=1; b=x", body=MARKED_HTML), "dkim-signed", id="signed"),
        pytest.param(
            _multipart(b"mixed", b"Content-Disposition: attachment\nContent-Type: text/plain\n\n" + MARKED_TEXT),
            "attachment",
            id="attachment",
        ),
        pytest.param(
            _mail(b"Content-Type: text/plain; charset=utf-16", body=MARKED_TEXT), "no-html", id="charset-of-no-ascii"
        ),
        pytest.param(
            _mail(b"Content-Type: text/plain", b"Content-Transfer-Encoding: base64", body=b"====x"),
            "no-html",
            id="broken",
        ),
        pytest.param(_mail(b"Content-Type: text/plain", body=PGP + MARKED_TEXT), "inline-pgp", id="inline-pgp"),
    ],
)
def test_marks_stay_where_nothing_may_change(raw: bytes, reason: str, plan: Plan, mint: Mint) -> None:
    """What is never touched is not cleaned either, and has the reason that it always had."""
    after, result = rewrite_message(raw, plan, mint, stamp=None)

    assert after.partition(b"\n\n")[2] == raw.partition(b"\n\n")[2]
    assert result.untracked_reason == reason


def test_marks_are_honoured_and_go(plan: Plan, mint: Mint, judge: ModuleType) -> None:
    """The pixel stands where Amazon's mark stood, and the link that opts out in HTML does so in the text as well."""
    text, html = b"Content-Type: text/plain\n\n" + UNMARKED_TEXT, b"Content-Type: text/html\n\n" + MARKED_HTML
    raw = _multipart(b"alternative", text, html)
    after, result = rewrite_message(raw, replace(plan, text_clicks=True), mint, stamp=None)

    assert list(result.destinations) == ["https://example.com/x"]
    assert b'<body><img src="https://' in after
    assert (result.opens, result.links_skipped) == (1, {"opt-out": 2})
    judge.check(raw, after, set())


def test_sendgrids_mark_for_the_pixel(plan: Plan, mint: Mint) -> None:
    """X-SMTPAPI names the text whose place the pixel takes."""
    api = b'X-SMTPAPI: {"filters": {"opentrack": {"settings": {"enable": 1, "replace": "[pixel]"}}}}'
    after, result = rewrite_message(_html(api, body=b"<p>[pixel]</p><p>x</p>"), plan, mint, stamp=None)

    assert b'<p><img src="https://' in after
    assert (result.opens, b"[pixel]" in after) == (1, False)
    off = replace(plan, opens=False, clicks=False)
    after, result = rewrite_message(_html(api.replace(b": 1", b": 0"), body=b"<p>[pixel]</p>"), off, mint, stamp=None)
    assert (after.partition(b"\n\n")[2], result.untracked_reason) == (b"<p></p>", "disabled-by-header")


@pytest.mark.parametrize(
    ("anchor", "reason"),
    [
        pytest.param(b'<a data-pm-no-track href="https://example.com/x">x</a>', "opt-out", id="opt-out"),
        pytest.param(b'<a href=" https://example.com/x">Abmelden</a>', "unsubscribe", id="unsubscribe"),
        pytest.param(b'<a href="https://example.com/x">https://example.org/</a>', None, id="visible-url"),
    ],
)
def test_the_text_leaves_alone_what_the_html_does(anchor: bytes, reason: str | None, plan: Plan, mint: Mint) -> None:
    """An address that opts out in the HTML part does so in the text part, which has no attributes to say so."""
    html = HTML_PART.replace(b"</p>", b" " + anchor + b"</p>")
    raw = _multipart(b"alternative", PLAIN_PART, html)
    after, result = rewrite_message(raw, replace(plan, text_clicks=True), mint, stamp=None)

    assert (PLAIN_PART in after) == (reason is not None)
    assert result.links_skipped == ({reason: 2} if reason else {"visible-url": 1})


def test_what_is_missing_of_a_tracked_message_is_told(plan: Plan, mint: Mint) -> None:
    """Beside the links left alone stands why a text was not edited, or has no pixel, though the message is tracked."""
    frames = b"<html><frameset><frame src=x></frameset></html><a href=https://example.com/>x</a>"
    raw = _multipart(b"mixed", HTML_PART, HTML_PART.replace(b"<p>", b"<p>\xe4"))
    assert rewrite_message(raw, plan, mint, stamp=None)[1].links_skipped == {"part-charset-mismatch": 1}
    result = rewrite_message(_html(body=frames), plan, mint, stamp=None)[1]
    assert (result.tracked, result.opens, result.links_skipped) == (True, 0, {"part-pixel-not-verifiable": 1})
    untracked = rewrite_message(_html(body=b"\xe4" + HTML), plan, mint, stamp=None)[1]
    assert (untracked.untracked_reason, untracked.links_skipped) == ("charset-mismatch", {})


def test_format_flowed_with_delsp(plan: Plan, mint: Mint) -> None:
    """A URL that a DelSp line break cuts in two is left alone."""
    raw = _mail(b"Content-Type: text/plain; format=flowed; delsp=yes", body=b"https://example.com/long \nrest\n")

    result = rewrite_message(raw, replace(plan, text_clicks=True), mint, stamp=None)[1]
    assert result.links_skipped == {"broken-url": 1}
    assert result.untracked_reason == "nothing-to-track"


# --- Encodings ---

LONG = b"<p>" + b"x" * 900 + b' <a href="https://example.com/">there</a></p>\n'


def test_long_line_becomes_quoted_printable(plan: Plan, mint: Mint, judge: ModuleType) -> None:
    """Where a link would pass 998 octets on a line, the part is encoded and its field says so."""
    raw = _html(b"Content-Transfer-Encoding: 8bit", body=LONG)
    after, result = rewrite_message(raw, plan, mint, stamp=STAMP)

    assert HeaderChange(b"Content-Transfer-Encoding", 1, b"quoted-printable") in result.header_changes
    assert max(map(len, after.split(b"\n"))) < 998
    assert judge.check(raw, after, set()) == 1


@pytest.mark.parametrize("in_a_part", [False, True])
def test_long_line_with_the_encoding_said_twice(in_a_part: bool, plan: Plan, mint: Mint, judge: ModuleType) -> None:
    """Every field that says how the text is encoded says what it is now."""
    twice = (b"Content-Transfer-Encoding: 8bit", b"content-transfer-encoding: 8BIT")
    long = b"x" * 950 + HTML
    raw = _html(*twice, body=long)
    if in_a_part:
        raw = _multipart(b"mixed", b"\n".join([b"Content-Type: text/html; charset=utf-8", *twice, b"", long]))
    after, result = rewrite_message(raw, plan, mint, stamp=None)

    assert result.tracked
    assert after.lower().count(b"transfer-encoding: quoted-printable") == 2
    assert judge.check(raw, after, set()) == 1


def test_long_line_without_an_encoding_field(plan: Plan, mint: Mint, judge: ModuleType) -> None:
    """The field is added where there was none, in the message's header or in the part's."""
    top, result = rewrite_message(_html(body=LONG), plan, mint, stamp=None)
    assert result.header_changes == (HeaderChange(b"Content-Transfer-Encoding", 0, b"quoted-printable"),)
    assert email.message_from_bytes(top)["content-transfer-encoding"] == "quoted-printable"

    for part in (HTML_PART, HTML_PART.replace(b"\n\n", b"\nContent-Transfer-Encoding:\t8Bit (sic)\n\n", 1)):
        raw = _multipart(b"mixed", part.replace(HTML, LONG))
        after, _ = rewrite_message(raw, plan, mint, stamp=None)
        assert judge.check(raw, after, set()) == 1
        field = email.message_from_bytes(after).get_payload(0)["content-transfer-encoding"]
        assert field.split()[0] == "quoted-printable"


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
def test_single_part_html(plan: Plan, mint: Mint, judge: ModuleType, eol: bytes, encoding: str) -> None:
    """A message that is nothing but encoded HTML keeps its header and its line endings."""
    body = quopri.encodestring(HTML) if encoding == "quoted-printable" else base64.encodebytes(HTML)
    raw = _html(b"Content-Transfer-Encoding: " + encoding.encode(), body=body).replace(b"\n", eol)
    after, result = rewrite_message(raw, plan, mint, stamp=None)

    assert result.header_changes == ()
    assert after.count(b"\n") == after.count(eol)
    assert judge.check(raw, after, set()) == 1


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
def test_a_body_of_one_line_is_wrapped_as_the_header_ends(plan: Plan, mint: Mint, encoding: str) -> None:
    """New line breaks are the message's own, where the body has none to copy."""
    html = b"<p>one line</p>"
    body = html if encoding == "quoted-printable" else base64.b64encode(html)
    raw = _html(b"Content-Transfer-Encoding: " + encoding.encode(), body=body)
    after, _ = rewrite_message(raw, plan, mint, stamp=None)

    assert after.count(b"\n") > raw.count(b"\n")
    assert b"\r" not in after


# --- Reasons ---


def test_reasons_are_documented() -> None:
    """No sentence is of a reason that the modules do not name; a reason without one fails where a test meets it."""
    folder = Path(html_edit.__file__).parent
    text = "".join(path.read_text() for path in folder.glob("*.py") if path.stem != "reasons")

    for name, sentence in reasons.UNTRACKED_REASONS.items():
        assert f'"{name}"' in text, name
        assert sentence.endswith(".")


def test_reasons_name_keys_that_there_are() -> None:
    """A key that a sentence tells the operator to look at is one of the configuration, in full."""
    for sentence in (*policy.REASONS.values(), *reasons.UNTRACKED_REASONS.values()):
        for key in re.findall(r"[a-z.]*_[a-z._]*[a-z]", sentence):
            section, _, name = key.partition(".")
            assert name in getattr(Config(), section or "mta").__class__.model_fields, key
