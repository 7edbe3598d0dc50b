"""Tokens: what stands in the URLs we put into mail.

A token is self-contained, so that a redirect needs no database and no destination can be forged (no open
redirect)::

    token     = base64url( body mac )            no padding, canonical
    body      = version(1) key-id(1) flags(1) tracking-id(16) recipient(varint) link(varint) url(rest, UTF-8)
    mac       = HMAC-SHA256(key, purpose body) truncated to 16 bytes (RFC 2104 section 5)
    flags     = bits 0-1: privacy mode

The purpose (``o``, ``c``, ``u``) is signed but not carried: it is the path the token stands under, so a pixel's
token cannot be used as a link. ``recipient`` is 0 when several recipients share the body, else the 1-based
index of the recipient in the transaction; no address ever appears in a URL.

Keys rotate: a :class:`KeyRing` signs with its newest key and verifies with all it lists.

Pure: no clock, no I/O. :mod:`postwake.keyfile` reads rings from disk.
"""

from __future__ import annotations

import binascii
import enum
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

VERSION = 1
MAC_BYTES = 16
_HEAD_BYTES = 19
MAX_URL_BYTES = 2000
"""Longest destination we sign. With it a token stays under 2.8 kB, well inside every server's request line."""

MAX_INDEX = 2**31 - 1
"""Highest recipient or link index: more than any message has, and at most five bytes of a token."""

_ALPHABET = re.compile(r"[A-Za-z0-9_-]+\Z")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_TO_URL = bytes.maketrans(b"+/", b"-_")
_ONE_BYTE = [bytes((number,)) for number in range(0x80)]
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_MAX_TEXT = (_HEAD_BYTES + 10 + MAX_URL_BYTES + MAC_BYTES) * 4 // 3 + 4


class Purpose(enum.StrEnum):
    """What a token may be used for: the letter of its path."""

    OPEN = "o"
    CLICK = "c"
    UNSUBSCRIBE = "u"


_SIGNED = {purpose: purpose.value.encode("ascii") for purpose in Purpose}


class Privacy(enum.IntEnum):
    """How much may be recorded of a reader, from most to least. Fixed in the token when the mail is sent."""

    FULL = 0
    PSEUDONYMOUS = 1
    ANONYMOUS = 2
    OFF = 3

    @classmethod
    def parse(cls, text: str) -> Privacy:
        """Return the mode that *text* names in configuration or a header; ValueError if there is none."""
        try:
            return cls[text.strip().upper()]
        except KeyError:
            raise ValueError(f"privacy mode {text!r}: expected full, pseudonymous, anonymous or off") from None


_PRIVACY = tuple(Privacy)


class Token(NamedTuple):
    """What a verified token says."""

    tracking_id: bytes
    recipient: int = 0
    """1-based index of the recipient in the transaction, or 0: shared by several."""
    link: int = 0
    """Index of the link in the message, or of the pixel (0 bottom, 1 top)."""
    url: str = ""
    """Where a click goes; for unsubscribing, the sender's own List-Unsubscribe target, if there was one."""
    privacy: Privacy = Privacy.FULL
    key_id: int = 0
    """The key that signed it; ignored when signing."""


class _Mac:
    """HMAC-SHA256 under one key (RFC 2104 section 2), cut to :data:`MAC_BYTES`.

    Not :func:`hmac.digest`: it gives the interpreter's lock up each time, and in a server that is busy getting it back
    takes a hundred times longer than the MAC. The key's two blocks are hashed once, here.
    """

    def __init__(self, key: bytes) -> None:
        block = (key if len(key) <= 64 else hashlib.sha256(key).digest()).ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def of(self, message: bytes) -> bytes:
        """Return the MAC of *message*."""
        inner, outer = self.begin(message)
        outer.update(inner.digest())
        return outer.digest()[:MAC_BYTES]

    def begin(self, beginning: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
        """Return both hashes of what begins with *beginning*, to be copied: many messages may begin alike."""
        inner = self._inner.copy()
        inner.update(beginning)
        return inner, self._outer.copy()


class KeyRing:
    """The signing keys, newest last; each is at least 16 bytes under an ID of 0 to 255."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        """Take the keys in order of age; ValueError if there is none or one is unusable."""
        if not keys:
            raise ValueError("a key ring needs at least one key")
        for key_id, key in keys.items():
            if not 0 <= key_id <= 255:
                raise ValueError(f"key id {key_id}: expected 0 to 255")
            if len(key) < 16:
                raise ValueError(f"key {key_id} has {len(key)} bytes: expected at least 16")
        self._keys = dict(keys)
        self._newest = next(reversed(self._keys))
        decoy = hashlib.sha256(b"postwake decoy" + self._keys[self._newest]).digest()
        self._macs = {key_id: _Mac(key) for key_id, key in self._keys.items()}
        self._decoy = _Mac(decoy)

    def __reduce__(self) -> tuple[type[KeyRing], tuple[Mapping[int, bytes]]]:
        """Travel to another process as the keys alone: what was hashed of them cannot."""
        return KeyRing, (self._keys,)

    @property
    def newest(self) -> int:
        """The ID of the key that signs."""
        return self._newest

    def sign(self, purpose: Purpose, token: Token) -> str:
        """Return *token* as URL text signed with the newest key; ValueError if the URL cannot be carried."""
        return self.signer(purpose, token.tracking_id, token.recipient, token.privacy)(token.link, token.url)

    def signer(
        self, purpose: Purpose, tracking_id: bytes, recipient: int, privacy: Privacy
    ) -> Callable[[int, str], str]:
        """Return what signs the tokens of one message, given a link's index and URL; see :meth:`sign`."""
        if len(tracking_id) != 16:
            raise ValueError(f"tracking id of {len(tracking_id)} bytes: expected 16")
        head = bytes((VERSION, self._newest, privacy)) + tracking_id + _varint(recipient)
        begun, outside = self._macs[self._newest].begin(_SIGNED[purpose] + head)

        def sign(link: int, url: str) -> str:
            rest = _end(link, url)
            inner, outer = begun.copy(), outside.copy()
            inner.update(rest)
            outer.update(inner.digest())
            raw = head + rest + outer.digest()[:MAC_BYTES]
            return binascii.b2a_base64(raw, newline=False).translate(_TO_URL, b"=").decode("ascii")

        return sign

    def verify(self, purpose: Purpose, text: str) -> Token | None:
        """Return what *text* says if one of our keys signed it for *purpose*, else None.

        The signature is compared in constant time, and a MAC is computed whatever the text looks like, so that
        the answer's time does not tell how far a forgery got.
        """
        raw = _decode(text)
        key = self._macs.get(raw[1], self._decoy) if raw is not None else self._decoy
        body = raw[:-MAC_BYTES] if raw is not None else b""
        mac = key.of(_SIGNED[purpose] + body)
        if raw is None or not hmac.compare_digest(mac, raw[-MAC_BYTES:]) or raw[1] not in self._keys:
            return None
        return _parse(body)

    def find(self, text: str) -> tuple[Purpose, Token] | None:
        """Return the purpose and content of *text*, trying each purpose: for tools, not for answering requests."""
        for purpose in Purpose:
            token = self.verify(purpose, text)
            if token is not None:
                return purpose, token
        return None


@lru_cache(maxsize=1024)
def _end(link: int, url: str) -> bytes:
    """Return a token's end, which every recipient of a newsletter has alike; ValueError if *url* cannot be carried."""
    destination = url.encode("utf-8")
    if len(destination) > MAX_URL_BYTES:
        raise ValueError(f"URL of {len(destination)} bytes: a token carries at most {MAX_URL_BYTES}")
    if _CONTROL.search(destination):
        raise ValueError("URL with a control character: not signed")
    return _varint(link) + destination


def _varint(number: int) -> bytes:
    """Return *number* in LEB128."""
    if 0 <= number <= 0x7F:  # nearly always
        return _ONE_BYTE[number]
    if not 0 <= number <= MAX_INDEX:
        raise ValueError(f"index {number}: expected 0 to {MAX_INDEX}")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    if body[at] < 0x80:  # nearly always
        return body[at], at + 1
    number = shift = 0
    while True:
        byte = body[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _decode(text: str) -> bytes | None:
    """Return the bytes of canonical base64url *text*, or None."""
    if len(text) > _MAX_TEXT or len(text) % 4 == 1 or not _ALPHABET.match(text):
        return None
    padded = text.encode("ascii").translate(_TO_STANDARD) + b"=" * (-len(text) % 4)
    raw = binascii.a2b_base64(padded)
    if len(raw) < _HEAD_BYTES + 2 + MAC_BYTES or raw[0] != VERSION:
        return None
    # The last character has unused bits: only the encoding we would make ourselves is accepted.
    return raw if binascii.b2a_base64(raw, newline=False) == padded else None


def _parse(body: bytes) -> Token | None:
    """Take a signed body apart. It is ours, so a failure here is a key used by something else: None."""
    try:
        recipient, at = _read_varint(body, _HEAD_BYTES)
        link, at = _read_varint(body, at)
        return Token(
            tracking_id=body[3:_HEAD_BYTES],
            recipient=recipient,
            link=link,
            url=body[at:].decode("utf-8"),
            privacy=_PRIVACY[body[2] & 3],
            key_id=body[1],
        )
    except (IndexError, UnicodeDecodeError):
        return None
