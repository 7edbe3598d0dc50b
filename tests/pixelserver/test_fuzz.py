"""Random requests at the real server: an answer to each, never an error of ours, never a redirect we did not sign."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postwake.tokens import KeyRing, Purpose, Token

TOKEN_TEXT = st.text("ABCabc012-_=.%/\\?#;:@ é\x00\r\n", max_size=80)
METHOD = st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "get", "FOO"])
HEADER = st.tuples(
    st.sampled_from(
        ["User-Agent", "Sec-Purpose", "X-Forwarded-For", "Accept-Language", "Cookie", "Range", "Expect", "TE"]
    ),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60),
)


@pytest.fixture(scope="module")
def fuzzed(make_server):
    """A server of its own."""
    return make_server()


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=METHOD,
    route=st.sampled_from(["/c/", "/o/", "/u/", "/", "//", "/c/../", "/%63/"]),
    text=TOKEN_TEXT,
    suffix=st.sampled_from(["", ".gif", "/", "?x=1"]),
    headers=st.lists(HEADER, max_size=4),
)
def test_any_request_gets_a_harmless_answer(fuzzed, method, route, text, suffix, headers) -> None:
    """2xx, 4xx or a closed connection; no Location; the pixel's path always the pixel or a refusal of the request."""
    path = (route + text + suffix).encode("utf-8")
    lines = b"".join(b"%s: %s\r\n" % (name.encode(), value.encode("latin-1")) for name, value in headers)
    try:
        raw = fuzzed.raw(
            method.encode() + b" " + path + b" HTTP/1.1\r\nHost: t\r\nConnection: close\r\n" + lines + b"\r\n"
        )
    except ConnectionError:
        return
    if raw:
        assert raw.split(b" ", 2)[1][:1] in (b"2", b"4"), raw[:200]
        assert b"\nlocation:" not in raw.lower()
        assert b"\nset-cookie:" not in raw.lower()
        assert b"Traceback" not in raw


@settings(max_examples=200, deadline=None)
@given(
    tracking_id=st.binary(min_size=16, max_size=16),
    recipient=st.integers(0, 2**31 - 1),
    link=st.integers(0, 2**31 - 1),
    url=st.text(st.characters(min_codepoint=0x20, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=300),
    purpose=st.sampled_from(list(Purpose)),
)
def test_tokens_come_back_as_they_went(tracking_id, recipient, link, url, purpose) -> None:
    """What was signed for a purpose verifies to the same content for that purpose only."""
    ring = KeyRing({7: b"k" * 32})
    token = Token(tracking_id, recipient, link, url, key_id=7)
    text = ring.sign(purpose, token)
    assert ring.verify(purpose, text) == token
    assert all(ring.verify(other, text) is None for other in Purpose if other is not purpose)


@given(st.text(max_size=200))
def test_no_text_is_a_token_by_accident(text: str) -> None:
    """Verification takes any text and says no."""
    assert KeyRing({7: b"k" * 32}).verify(Purpose.CLICK, text) is None
