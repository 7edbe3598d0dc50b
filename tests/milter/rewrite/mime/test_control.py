"""Control fields of every dialect mean what the service's documentation says; wild ones never raise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.tokens import Privacy
from postwake_milter.rewrite import control as module
from postwake_milter.rewrite.control import Control, read_control
from postwake_milter.rewrite.control_values import MAX_JSON_BYTES, MAX_METADATA, MAX_TAGS
from postwake_milter.rewrite.headers import Fields

Expected = dict[str, object]

SENDGRID_FOLDED = (
    '{"category": ["a", "b"], "unique_args": {"u": "1"},\r\n "filters": {"clicktrack": {"settings": {"enable": 0}},'
    ' "opentrack": {"settings": {"enable": 1}}}}'
)
SENDGRID_STRINGS = (
    '{"category": "one", "filters": {"clicktrack": {"settings": {"enable": "1", "enable_text": true}},'
    ' "subscriptiontrack": {"settings": {"enable": 1}}}}'
)
SPARKPOST = (
    '{"campaign_id": "c", "tags": ["t"], "metadata": {"m": true},'
    ' "options": {"open_tracking": false, "click_tracking": true}}'
)

DIALECTS = [
    pytest.param([("X-Track-Opens", "no")], {"track_opens": False}, id="own-opens-no"),
    pytest.param([("X-Track-Clicks", " TRUE ")], {"track_clicks": True}, id="own-clicks-true"),
    pytest.param([("X-Track-Opens", "=?utf-8?b?Tm8=?=")], {"track_opens": False}, id="own-opens-encoded"),
    pytest.param(
        [("X-Track-Privacy", "=?utf-8?q?off?="), ("X-Track-Privacy", "full")],
        {"privacy": Privacy.OFF},
        id="own-privacy-encoded",
    ),
    pytest.param(
        [("X-PM-TrackLinks", "=?utf-8?q?TextOnly?=")],
        {"track_clicks": False, "track_text": True},
        id="postmark-encoded",
    ),
    pytest.param(
        [("X-Mailgun-Track-Clicks", "=?utf-8?q?no?=")],
        {"track_clicks": False, "track_text": False},
        id="mailgun-encoded",
    ),
    pytest.param([("X-Mailjet-TrackOpen", "=?utf-8?q?account=5Fdefault?=")], {}, id="mailjet-encoded"),
    pytest.param(
        [("X-MC-Track", "=?utf-8?q?opens=2C_clicks=5Fhtmlonly?=")],
        {"track_opens": True, "track_clicks": True, "track_text": False},
        id="mandrill-encoded",
    ),
    pytest.param([("X-Track-Text", "on")], {"track_text": True}, id="own-text"),
    pytest.param([("X-Track-Unsubscribe", "yes")], {"unsubscribe": True}, id="own-unsubscribe"),
    pytest.param([("X-Track-Privacy", "Anonymous")], {"privacy": Privacy.ANONYMOUS}, id="own-privacy"),
    pytest.param(
        [("X-Track-Privacy", "off"), ("X-Track-Privacy", "full")], {"privacy": Privacy.OFF}, id="privacy-strictest"
    ),
    pytest.param([("X-Tag", "a, b"), ("x-tag", "c")], {"tags": ("a", "b", "c")}, id="own-tags"),
    pytest.param(
        [("X-Campaign", "=?utf-8?q?Fr=C3=BChling?=")], {"campaign": "Fr\u00fchling"}, id="own-campaign-encoded"
    ),
    pytest.param([("X-Metadata-Order-ID", "42")], {"metadata": {"order-id": "42"}}, id="own-metadata"),
    pytest.param([("X-PM-TrackOpens", "true")], {"track_opens": True}, id="postmark-opens"),
    pytest.param([("X-PM-TrackLinks", "None")], {"track_clicks": False, "track_text": False}, id="postmark-none"),
    pytest.param([("X-PM-TrackLinks", "HtmlAndText")], {"track_clicks": True, "track_text": True}, id="postmark-both"),
    pytest.param([("X-PM-TrackLinks", "HtmlOnly")], {"track_clicks": True, "track_text": False}, id="postmark-html"),
    pytest.param([("X-PM-TrackLinks", "TextOnly")], {"track_clicks": False, "track_text": True}, id="postmark-text"),
    pytest.param([("X-PM-Tag", "a, b")], {"tags": ("a, b",)}, id="postmark-tag-with-comma"),
    pytest.param([("X-PM-Metadata-color", "blue")], {"metadata": {"color": "blue"}}, id="postmark-metadata"),
    pytest.param(
        [("X-Mailgun-Track", "no")],
        {"track_opens": False, "track_clicks": False, "track_text": False},
        id="mailgun-both-off",
    ),
    pytest.param(
        [("X-Mailgun-Track", "yes")], {"track_opens": True, "track_clicks": True, "track_text": True}, id="mailgun-both"
    ),
    pytest.param(
        [("X-Mailgun-Track", "htmlonly")],
        {"track_opens": True, "track_clicks": True, "track_text": False},
        id="mailgun-both-htmlonly",
    ),
    pytest.param(
        [("X-Mailgun-Track-Clicks", "yes")], {"track_clicks": True, "track_text": True}, id="mailgun-clicks-in-text-too"
    ),
    pytest.param(
        [("X-Mailgun-Track-Clicks", "yes"), ("X-Track-Text", "no")],
        {"track_clicks": True, "track_text": False},
        id="mailgun-clicks-but-own-text-off",
    ),
    pytest.param(
        [("X-Mailgun-Track-Clicks", "htmlonly")], {"track_clicks": True, "track_text": False}, id="mailgun-htmlonly"
    ),
    pytest.param([("X-Mailgun-Track-Opens", "yes")], {"track_opens": True}, id="mailgun-opens"),
    pytest.param([("X-Mailgun-Track-Pixel-Location-Top", "yes")], {"pixel_on_top": True}, id="mailgun-pixel"),
    pytest.param([("X-Mailgun-Recipient-Variables", '{"b@x.example": {}}')], {}, id="mailgun-other-recipients"),
    pytest.param([("X-Mailjet-TrackOpen", "account_default")], {}, id="mailjet-opens-default"),
    pytest.param([("X-Mailjet-TrackClick", "account_default")], {}, id="mailjet-clicks-default"),
    pytest.param(
        [("X-Mailjet-TrackOpen", "disabled"), ("X-Mailjet-TrackClick", "enabled")],
        {"track_opens": False, "track_clicks": True},
        id="mailjet-words",
    ),
    pytest.param([("X-Mailgun-Tag", "a"), ("X-Mailgun-Tag", "b")], {"tags": ("a", "b")}, id="mailgun-tags"),
    pytest.param(
        [("X-Mailgun-Variables", '{"id": 7, "o": {"a": [1]}}')],
        {"metadata": {"id": "7", "o": '{"a":[1]}'}},
        id="mailgun-variables",
    ),
    pytest.param(
        [("X-SMTPAPI", SENDGRID_FOLDED)],
        {
            "tags": ("a", "b"),
            "metadata": {"u": "1"},
            "track_clicks": False,
            "track_text": False,
            "track_opens": True,
        },
        id="sendgrid",
    ),
    pytest.param(
        [("X-SMTPAPI", SENDGRID_STRINGS)],
        {"tags": ("one",), "track_clicks": True, "track_text": True, "unsubscribe": True},
        id="sendgrid-strings",
    ),
    pytest.param(
        [("X-MSYS-API", SPARKPOST)],
        {
            "campaign": "c",
            "tags": ("t",),
            "metadata": {"m": "true"},
            "track_opens": False,
            "track_clicks": True,
            "track_text": True,
        },
        id="sparkpost",
    ),
    pytest.param(
        [("X-MSYS-API", '{"options": {"click_tracking": false}}')],
        {"track_clicks": False, "track_text": False},
        id="sparkpost-clicks-off",
    ),
    pytest.param(
        [("X-MC-Track", "opens, clicks_all")],
        {"track_opens": True, "track_clicks": True, "track_text": True},
        id="mandrill-all",
    ),
    pytest.param(
        [("X-MC-Track", "clicks_htmlonly")],
        {"track_opens": False, "track_clicks": True, "track_text": False},
        id="mandrill-html",
    ),
    pytest.param(
        [("X-MC-Track", "opens,clicks_textonly")],
        {"track_opens": True, "track_clicks": False, "track_text": True},
        id="mandrill-text",
    ),
    pytest.param(
        [("X-MC-Track", "noclicks")],
        {"track_opens": False, "track_clicks": False, "track_text": False},
        id="mandrill-any-other-word-is-off",
    ),
    pytest.param(
        [
            *[("X-MC-Tags", "a, b"), ("X-MC-Metadata", '{"id": 7}'), ("X-MC-GoogleAnalyticsCampaign", "spring")],
            *[("X-MC-Metadata", '{"_rcpt": "a@x.example", "id": 8}'), ("X-MC-MergeVars", '{"_rcpt": "a@x.example"}')],
            *[("X-MC-Autotext", "yes"), ("X-MC-Subaccount", "s")],
        ],
        {"tags": ("a", "b"), "metadata": {"id": "7"}, "campaign": "spring"},
        id="mandrill-the-rest",
    ),
    pytest.param(
        [("X-SMTPAPI", '{"filters": {"opentrack": {"settings": {"enable": 1, "replace": "%open%"}}}}')],
        {"track_opens": True, "pixel_mark": "%open%"},
        id="sendgrid-pixel",
    ),
    pytest.param(
        [("X-SMTPAPI", '{"filters": {"opentrack": {"settings": {"replace": "<p>"}}}}')], {}, id="sendgrid-pixel-markup"
    ),
    pytest.param([("X-Mailin-Tag", "a, b")], {"tags": ("a, b",)}, id="brevo-tag"),
    pytest.param([("X-Mailin-custom", "k:v|w:x")], {"metadata": {"custom": "k:v|w:x"}}, id="brevo-custom"),
    pytest.param([("X-Postal-Tag", "receipt")], {"tags": ("receipt",)}, id="postal-tag"),
    pytest.param(
        [("X-SES-MESSAGE-TAGS", "campaign=book, x=y")],
        {"metadata": {"campaign": "book", "x": "y"}, "campaign": "book"},
        id="ses-tags",
    ),
    pytest.param([("X-SES-CONFIGURATION-SET", "Set")], {"metadata": {"configuration-set": "Set"}}, id="ses-set"),
    pytest.param(
        [("X-Mailjet-Campaign", "c"), ("X-Mailjet-TrackOpen", "0"), ("X-Mailjet-TrackClick", "1")],
        {"campaign": "c", "track_opens": False, "track_clicks": True},
        id="mailjet",
    ),
    pytest.param(
        [("X-MJ-CustomID", "7"), ("X-MJ-EventPayload", "<a/>")],
        {"metadata": {"custom-id": "7", "event-payload": "<a/>"}},
        id="mailjet-ids",
    ),
    pytest.param(
        [("X-PM-TrackOpens", "true"), ("X-Mailgun-Track-Opens", "no")],
        {"track_opens": False},
        id="off-wins-among-services",
    ),
    pytest.param([("X-PM-TrackOpens", "false"), ("X-Track-Opens", "yes")], {"track_opens": True}, id="own-wins"),
    pytest.param([("X-Other", "yes"), ("Subject", "x")], {"remove": ()}, id="others-are-not-ours"),
]


def _read(fields: list[tuple[str, str]]) -> Control:
    return read_control(Fields((name.encode(), b" " + value.encode()) for name, value in fields))


@pytest.mark.parametrize(("fields", "expected"), DIALECTS)
def test_dialects(fields: list[tuple[str, str]], expected: Expected) -> None:
    """Each field asks for what its service's documentation says, and for nothing else."""
    control = _read(fields)

    asked = ("track_opens", "track_clicks", "track_text", "tags", "campaign", "metadata", "unsubscribe", "privacy")
    for name in (*asked, "pixel_on_top", "pixel_mark"):
        default = getattr(Control(), name)
        assert getattr(control, name) == expected.get(name, default), name
    assert not control.malformed


def test_remove_counts_fields_of_a_name() -> None:
    """Fields to remove are named as written, and counted without regard to case, as libmilter counts."""
    control = _read(
        [
            ("X-Tag", "a"),
            ("Subject", "s"),
            ("x-tag", "b"),
            ("X-PM-Tag", "c"),
            ("X-Metadata-A", "1"),
            ("X-Metadata-A", "2"),
        ]
    )

    assert control.remove == (
        (b"X-Tag", 1),
        (b"x-tag", 2),
        (b"X-PM-Tag", 1),
        (b"X-Metadata-A", 1),
        (b"X-Metadata-A", 2),
    )
    assert control.metadata == {"a": "1"}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("X-Track-Opens", "maybe", "'maybe': expected yes or no"),
        ("X-Track-Opens", "", "'': expected yes or no"),
        ("X-Track-Privacy", "some", "expected full, pseudonymous"),
        ("X-PM-TrackLinks", "All", "expected None, HtmlAndText"),
        ("X-SMTPAPI", "{", "not JSON"),
        ("X-SMTPAPI", "[1]", "not a JSON object"),
        ("X-SMTPAPI", '{"a":' * 3000, "not JSON"),
        ("X-MSYS-API", '{"a": "' + "x" * MAX_JSON_BYTES + '"}', f"at most {MAX_JSON_BYTES}"),
        ("X-Mailgun-Variables", "a=b", "not JSON"),
        ("X-SES-MESSAGE-TAGS", "a=b, c", "expected name=value"),
        ("X-MC-Metadata", "id=7", "not JSON"),
        ("X-Mailgun-Track", "html", "expected yes, no or htmlonly"),
        ("X-Metadata-", "x", "no key"),
    ],
)
def test_malformed_fields_are_named_and_removed(name: str, value: str, why: str) -> None:
    """What cannot be read is reported with its field, still taken out, and asks for nothing."""
    control = _read([(name, value)])

    assert [field for field, _ in control.malformed] == [name]
    assert why in control.malformed[0][1]
    assert control.remove == ((name.encode(), 1),)
    assert control.track_opens is None


@pytest.mark.parametrize(
    "value",
    [
        '{"filters": 1}',
        '{"filters": {"clicktrack": 3}}',
        '{"category": {"a": 1}}',
        '{"unique_args": []}',
        '{"filters": {"clicktrack": {"settings": {"enable": []}}}}',
    ],
)
def test_json_of_the_wrong_shape_asks_for_nothing(value: str) -> None:
    """JSON that is well formed but not what the service takes is passed over."""
    control = _read([("X-SMTPAPI", value)])

    assert (control.track_clicks, control.tags, control.metadata) == (None, (), {})


def test_limits() -> None:
    """Tags and metadata are bounded in number and in length, and hold no control characters."""
    control = _read(
        [("X-Tag", ",".join(f"t{n}" for n in range(50))), *[(f"X-Metadata-K{n}", "v" * 5000) for n in range(50)]]
    )

    assert len(control.tags) == MAX_TAGS
    assert len(control.metadata) == MAX_METADATA
    assert max(map(len, control.metadata.values())) == 1024
    assert _read([("X-Mailgun-Variables", '{"a\\u0000b": "c\\nd"}')]).metadata == {"a b": "c d"}


def test_a_service_does_not_crowd_out_our_own() -> None:
    """Of more entries than are kept, those of Postwake's own fields are: they go before a service's in number, too."""
    service = "{" + ",".join(f'"k{n}": {n}' for n in range(MAX_METADATA)) + "}"
    control = _read([("X-Mailgun-Variables", service), ("X-Metadata-K0", "own"), ("X-Metadata-Order", "7")])

    assert len(control.metadata) == MAX_METADATA
    assert (control.metadata["k0"], control.metadata["order"], control.metadata["k1"]) == ("own", "7", "1")


def test_halves_of_surrogate_pairs_are_no_text() -> None:
    """JSON can say half a character; nothing that is kept holds one, as no database would take it."""
    control = _read([("X-SMTPAPI", r'{"category": "a\ud800", "unique_args": {"k\udfff": "v\ud800", "o": ["\ud800"]}}')])

    assert control.tags == ("a?",)
    assert control.metadata == {"k?": "v?", "o": '["?"]'}


NAMES = st.sampled_from([*(name.decode() for name in module._READERS), "X-Metadata-k", "X-PM-Metadata-", "Subject"])

WILD = [b'{"filters":{"clicktrack":null}}', b"NaN", b'{"tags":[[]]}', b"{}", b"yes", b"=?utf-8?b?e30=?="]
VALUES = st.one_of(st.binary(max_size=40), st.sampled_from(WILD))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_never_raises(fields: list[tuple[str, bytes]]) -> None:
    """Whatever the fields hold, reading them gives an answer, and every one of ours is removed."""
    control = read_control(Fields((name.encode(), value) for name, value in fields))

    assert len(control.remove) == sum(name != "Subject" for name, _ in fields)


def test_every_field_is_documented() -> None:
    """docs/control-headers.md has every field that is read or removed, so nobody has to read the source."""
    text = (Path(__file__).resolve().parents[4] / "docs" / "control-headers.md").read_text().lower()

    missing = [name for name in (*module._READERS, b"x-metadata-", b"x-pm-metadata-") if name.decode() not in text]
    assert not missing
