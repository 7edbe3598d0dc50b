"""The URLs of one message."""

from __future__ import annotations

import pytest

from postwake.tokens import KeyRing, Privacy, Purpose, Token
from postwake_milter.mint import TokenMint

BASE = "https://track.example.com"
ID = bytes(range(16))


@pytest.mark.parametrize(
    ("privacy", "recipient"),
    [
        pytest.param(Privacy.FULL, 1, id="full"),
        pytest.param(Privacy.PSEUDONYMOUS, 1, id="pseudonymous"),
        pytest.param(Privacy.ANONYMOUS, 0, id="anonymous-names-nobody"),
        pytest.param(Privacy.OFF, 0, id="off-names-nobody"),
    ],
)
def test_urls_carry_what_they_must(ring: KeyRing, privacy: Privacy, recipient: int) -> None:
    """Each URL verifies for its own purpose and says message, recipient as far as privacy allows, link and target."""
    mint = TokenMint(ring, BASE, ID, 1, privacy)

    urls = {
        Purpose.OPEN: (mint.open_url(1), Token(ID, recipient, 1, "", privacy, 1)),
        Purpose.CLICK: (mint.click_url(3, "https://x.test/ü"), Token(ID, recipient, 3, "https://x.test/ü", privacy, 1)),
        Purpose.UNSUBSCRIBE: (mint.unsubscribe_url("mailto:a@b"), Token(ID, recipient, 0, "mailto:a@b", privacy, 1)),
    }

    for purpose, (url, token) in urls.items():
        assert url.startswith(f"{BASE}/{purpose}/")
        text = url.rpartition("/")[2].removesuffix(".gif")
        assert ring.verify(purpose, text) == token
        assert [other for other in Purpose if ring.verify(other, text)] == [purpose]


def test_a_pixel_is_a_gif(ring: KeyRing) -> None:
    """Only the pixel's URL ends in .gif."""
    mint = TokenMint(ring, BASE, ID, 1, Privacy.FULL)
    assert [url.endswith(".gif") for url in (mint.open_url(0), mint.click_url(0, "http://x"))] == [True, False]


@pytest.mark.parametrize("url", ["https://x.test/" + "a" * 2000, "https://x.test/\r\nX: y"], ids=["long", "control"])
def test_what_no_token_carries(ring: KeyRing, url: str) -> None:
    """A destination that a token cannot carry is refused, not cut."""
    with pytest.raises(ValueError, match="URL"):
        TokenMint(ring, BASE, ID, 1, Privacy.FULL).click_url(0, url)
