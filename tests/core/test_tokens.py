"""Tokens: only what we signed, for what we signed it, unchanged to the last bit."""

from __future__ import annotations

import base64
import hmac
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.tokens import MAX_INDEX, MAX_URL_BYTES, KeyRing, Privacy, Purpose, Token

KEY = bytes(range(32))
ID = bytes(range(16))
ALPHABET = string.ascii_letters + string.digits + "-_"
RING = KeyRing({7: KEY})

urls = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=[chr(n) for n in (*range(32), 127)]))
tokens = st.builds(
    Token,
    tracking_id=st.binary(min_size=16, max_size=16),
    recipient=st.integers(0, MAX_INDEX),
    link=st.integers(0, MAX_INDEX),
    url=urls.filter(lambda url: len(url.encode()) <= MAX_URL_BYTES),
    privacy=st.sampled_from(Privacy),
    key_id=st.just(7),
)


@given(tokens, st.sampled_from(Purpose))
@settings(max_examples=200, deadline=None)
def test_round_trip(token: Token, purpose: Purpose) -> None:
    """What is signed is read back exactly, as the purpose it was signed for and as no other."""
    text = RING.sign(purpose, token)
    assert RING.verify(purpose, text) == token
    assert RING.find(text) == (purpose, token)
    assert [other for other in Purpose if RING.verify(other, text)] == [purpose]


def test_every_bit_counts() -> None:
    """A token with any single bit of its bytes turned over is refused."""
    text = RING.sign(Purpose.CLICK, Token(ID, 1, 2, "https://example.com/?a=b&c=d"))
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        forged = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
        assert RING.verify(Purpose.CLICK, forged) is None, bit


@pytest.mark.parametrize("url", ["", "x", "xy", "https://example.com/"], ids=["none", "1", "2", "url"])
def test_every_character_counts(url: str) -> None:
    """A token with any single character replaced by any other is refused, the unused bits of the last one included."""
    text = RING.sign(Purpose.OPEN, Token(ID, url=url))
    for place in range(len(text)):
        for letter in ALPHABET:
            if letter != text[place]:
                assert RING.verify(Purpose.OPEN, text[:place] + letter + text[place + 1 :]) is None, (place, letter)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text[:-1], id="one-character-short"),
        pytest.param(lambda text: text[:20], id="head-only"),
        pytest.param(lambda text: text + "A", id="one-longer"),
        pytest.param(lambda text: text + "AAAA", id="four-longer"),
        pytest.param(lambda text: text + "=", id="padded"),
        pytest.param(lambda text: text + "\n", id="newline"),
        pytest.param(lambda text: " " + text, id="space"),
        pytest.param(lambda text: text + "." + text, id="twice"),
        pytest.param(lambda text: text * 200, id="over-long"),
        pytest.param(lambda text: text[:-1] + "\u0661", id="arabic-digit"),
        pytest.param(lambda text: text[:-1] + "\ud800", id="surrogate"),
        pytest.param(lambda text: text.replace("A", "+", 1), id="plain-base64"),
    ],
)
def test_other_text_is_refused(change) -> None:
    """Text that is not exactly a token is None, never an exception."""
    text = RING.sign(Purpose.CLICK, Token(ID, url="https://example.com/"))
    assert "A" in text
    assert RING.verify(Purpose.CLICK, change(text)) is None


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused(text: str) -> None:
    """Any text at all is None."""
    assert RING.find(text) is None


def test_other_keys() -> None:
    """A token of an unknown key, or of a key with our key's number and other bytes, is refused."""
    other = KeyRing({7: KEY[::-1]})
    unknown = KeyRing({8: KEY})
    token = Token(ID, url="https://example.com/")
    assert RING.verify(Purpose.CLICK, other.sign(Purpose.CLICK, token)) is None
    assert RING.verify(Purpose.CLICK, unknown.sign(Purpose.CLICK, token)) is None


def test_rotation() -> None:
    """The newest key signs, every listed one verifies, one taken away no longer does."""
    old, new = KeyRing({200: KEY}), KeyRing({200: KEY, 3: KEY[::-1]})
    token = Token(ID)
    text = old.sign(Purpose.OPEN, token)
    assert new.newest == 3
    signed = new.verify(Purpose.OPEN, new.sign(Purpose.OPEN, token))
    assert signed is not None
    assert signed.key_id == 3
    assert new.verify(Purpose.OPEN, text) is not None
    assert KeyRing({3: KEY[::-1]}).verify(Purpose.OPEN, text) is None


@pytest.mark.parametrize(
    ("token", "said"),
    [
        pytest.param(Token(ID, url="h" * (MAX_URL_BYTES + 1)), "at most 2000", id="long-url"),
        pytest.param(Token(ID, url="é" * (MAX_URL_BYTES // 2 + 1)), "2002 bytes", id="long-in-bytes"),
        pytest.param(Token(ID, url="https://example.com/\r\nSet-Cookie: a=b"), "control", id="header-injection"),
        pytest.param(Token(ID, url="https://example.com/\x00"), "control", id="nul"),
        pytest.param(Token(ID, url="https://example.com/\x7f"), "control", id="delete"),
        pytest.param(Token(ID, url="https://example.com/\ud800"), "surrogates", id="surrogate"),
        pytest.param(Token(ID[:15]), "expected 16", id="short-id"),
        pytest.param(Token(ID, recipient=-1), "expected 0", id="negative-recipient"),
        pytest.param(Token(ID, link=2**31), "expected 0", id="link-beyond-31-bits"),
    ],
)
def test_what_cannot_be_carried(token: Token, said: str) -> None:
    """A token that could not be read back is not signed: ValueError says why."""
    with pytest.raises(ValueError, match=said):
        RING.sign(Purpose.CLICK, token)


def test_the_longest_verifies() -> None:
    """The longest URL with the highest indexes is within what verify() looks at, and under 2.8 kB."""
    token = Token(ID, MAX_INDEX, MAX_INDEX, "h" * MAX_URL_BYTES, key_id=7)
    text = RING.sign(Purpose.CLICK, token)
    assert RING.verify(Purpose.CLICK, text) == token
    assert len(text) < 2800


@pytest.mark.parametrize(
    "keys",
    [{}, {256: KEY}, {-1: KEY}, {1: KEY[:15]}],
    ids=["none", "id-256", "id-negative", "short-key"],
)
def test_unusable_rings(keys: dict[int, bytes]) -> None:
    """A ring without a usable key is a ValueError, at once."""
    with pytest.raises(ValueError, match=r"key"):
        KeyRing(keys)


@pytest.mark.parametrize("text", ["full", " Anonymous ", "OFF", "pseudonymous"])
def test_privacy_names(text: str) -> None:
    """Privacy modes are read whatever their case."""
    assert Privacy.parse(text).name == text.strip().upper()


def test_privacy_unknown() -> None:
    """Another word is a ValueError that lists the modes."""
    with pytest.raises(ValueError, match="full, pseudonymous, anonymous or off"):
        Privacy.parse("some")


@given(st.binary(min_size=16, max_size=200), tokens, st.sampled_from(Purpose))
@settings(max_examples=100, deadline=None)
def test_the_mac_is_hmac_sha256(key: bytes, token: Token, purpose: Purpose) -> None:
    """The last 16 bytes are HMAC-SHA256 of the purpose and all bytes before, whatever the key's length."""
    text = KeyRing({7: key}).sign(purpose, token)
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert raw[-16:] == hmac.digest(key, purpose.value.encode() + raw[:-16], "sha256")[:16]
