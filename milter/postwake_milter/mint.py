"""The signed URLs of one message."""

from __future__ import annotations

from functools import partial

from postwake.tokens import KeyRing, Privacy, Purpose
from postwake_milter.rewrite.links import host_of


class TokenMint:
    """Makes the tracking URLs of one message; satisfies the engine's ``Mint``."""

    def __init__(self, keys: KeyRing, base_url: str, tracking_id: bytes, recipient: int, privacy: Privacy) -> None:
        """Take where the URLs point (no trailing slash) and whose they are (*recipient* 0: shared)."""
        self._base_url = base_url
        whose = 0 if privacy >= Privacy.ANONYMOUS else recipient
        self._signer = partial(keys.signer, tracking_id=tracking_id, recipient=whose, privacy=privacy)
        self._sign_click = self._signer(Purpose.CLICK)

    @property
    def host(self) -> str:
        """The host that the URLs lead to."""
        return host_of(self._base_url)

    def open_url(self, position: int) -> str:
        """Return the pixel's URL; *position* 0 is the bottom one, 1 the top one."""
        return f"{self._base_url}/o/{self._signer(Purpose.OPEN)(position, '')}.gif"

    def click_url(self, link: int, destination: str) -> str:
        """Return the URL that leads to *destination*; ValueError if a token cannot carry it."""
        return f"{self._base_url}/c/{self._sign_click(link, destination)}"

    def unsubscribe_url(self, original: str | None) -> str:
        """Return the URL that unsubscribes, keeping the sender's own target."""
        return f"{self._base_url}/u/{self._signer(Purpose.UNSUBSCRIBE)(0, original or '')}"
