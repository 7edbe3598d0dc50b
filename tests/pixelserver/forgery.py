"""Forge tokens by the hundred thousand and have every one refused; measure whether refusing takes telling times.

Run by ``make fuzz-tokens``. The forger has what a forger has (genuine tokens of many messages and purposes, and those
of a key that was taken away) and knows the format, but no key. Exit status 1 if one forgery is believed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

from postwake.tokens import KeyRing, Privacy, Purpose, Token

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
STRANGE = "=+/%. \0\n\r\té️Ａ¡"
KEY, REVOKED, FOREIGN = b"k" * 32, b"r" * 32, b"f" * 32
RING = KeyRing({1: bytes(32), 7: KEY})


def encode(raw: bytes) -> str:
    """Return *raw* as a token's text."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return a genuine token's bytes."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Forger:
    """Makes forgeries, each of a named kind, from a stock of genuine tokens."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._stock = [(purpose, RING.sign(purpose, self._token())) for purpose in Purpose for _ in range(60)]
        self.genuine = frozenset(self._stock)
        self._kinds: dict[str, Callable[[str, bytes, Purpose], str]] = {
            "character changed": self._character_changed,
            "character put in": self._character_put_in,
            "character left out": self._character_left_out,
            "bit flipped": self._bit_flipped,
            "bytes changed": self._bytes_changed,
            "cut off": self._cut_off,
            "lengthened": self._lengthened,
            "body and MAC of two": self._two_tokens,
            "front and rest of two": self._two_fronts,
            "other address": self._other_address,
            "other privacy mode": self._other_privacy,
            "other key ID": self._other_key_id,
            "number written longer": self._long_varint,
            "unused bits": self._unused_bits,
            "MAC by guess": self._guessed_mac,
            "foreign key": lambda *_: KeyRing({7: FOREIGN}).sign(self._chance.choice(list(Purpose)), self._token()),
            "key taken away": lambda *_: KeyRing({3: REVOKED}).sign(self._chance.choice(list(Purpose)), self._token()),
            "another's purpose": lambda text, *_: text,
            "noise": lambda *_: encode(bytes([1, 7]) + self._chance.randbytes(self._chance.randrange(30, 200))),
        }

    def forgeries(self, number: int) -> Iterator[tuple[str, Purpose, str]]:
        """Yield *number* forgeries: kind, the purpose it is offered for, text. None of them is genuine."""
        kinds = list(self._kinds.items())
        made = 0
        while made < number:
            name, make = kinds[made % len(kinds)]
            purpose, text = self._chance.choice(self._stock)
            forged = make(text, decode(text), purpose)
            offered = purpose if self._chance.random() < 0.8 else self._chance.choice(list(Purpose))
            if name == "another's purpose":
                offered = self._chance.choice([other for other in Purpose if other is not purpose])
            if (offered, forged) not in self.genuine:
                made += 1
                yield name, offered, forged

    def _token(self) -> Token:
        chance = self._chance
        url = "https://shop.example/" + "x" * chance.randrange(60) if chance.random() < 0.7 else ""
        return Token(
            chance.randbytes(16), chance.randrange(300), chance.randrange(40), url, chance.choice(list(Privacy))
        )

    def _character_changed(self, text: str, *_: object) -> str:
        at = self._chance.randrange(len(text))
        return text[:at] + self._chance.choice(ALPHABET + STRANGE) + text[at + 1 :]

    def _character_put_in(self, text: str, *_: object) -> str:
        at = self._chance.randrange(len(text) + 1)
        return text[:at] + self._chance.choice(ALPHABET + STRANGE) + text[at:]

    def _character_left_out(self, text: str, *_: object) -> str:
        at = self._chance.randrange(len(text))
        return text[:at] + text[at + 1 :]

    def _bit_flipped(self, _: str, raw: bytes, __: Purpose) -> str:
        out = bytearray(raw)
        for _ in range(self._chance.choice((1, 1, 2, 8))):
            out[self._chance.randrange(len(out))] ^= 1 << self._chance.randrange(8)
        return encode(bytes(out))

    def _bytes_changed(self, _: str, raw: bytes, __: Purpose) -> str:
        at, length = self._chance.randrange(len(raw)), self._chance.randrange(1, 9)
        return encode(raw[:at] + self._chance.randbytes(length) + raw[at + length :])

    def _cut_off(self, text: str, raw: bytes, _: Purpose) -> str:
        n = self._chance.randrange(1, len(raw))
        return self._chance.choice((text[: n + 1], encode(raw[:n]), encode(raw[n:])))

    def _lengthened(self, _: str, raw: bytes, __: Purpose) -> str:
        more = self._chance.randbytes(self._chance.randrange(1, 40))
        return encode(self._chance.choice((raw + more, more + raw, raw[:-16] + more + raw[-16:], raw + raw)))

    def _two_tokens(self, _: str, raw: bytes, __: Purpose) -> str:
        return encode(raw[:-16] + decode(self._chance.choice(self._stock)[1])[-16:])

    def _two_fronts(self, _: str, raw: bytes, __: Purpose) -> str:
        at = self._chance.randrange(1, 40)
        return encode(raw[:at] + decode(self._chance.choice(self._stock)[1])[at:])

    def _other_address(self, _: str, raw: bytes, __: Purpose) -> str:
        return encode(raw[:21] + b"https://evil.example/" + raw[-16:])

    def _other_privacy(self, _: str, raw: bytes, __: Purpose) -> str:
        return encode(raw[:2] + bytes([raw[2] ^ self._chance.randrange(1, 256)]) + raw[3:])

    def _other_key_id(self, _: str, raw: bytes, __: Purpose) -> str:
        return encode(raw[:1] + bytes([(raw[1] + self._chance.randrange(1, 256)) % 256]) + raw[2:])

    def _long_varint(self, _: str, raw: bytes, __: Purpose) -> str:
        return encode(raw[:19] + bytes([raw[19] | 0x80, 0]) + raw[20:])

    def _unused_bits(self, text: str, *_: object) -> str:
        if len(text) % 4 == 0:
            return text + "A"
        return (
            text[:-1]
            + ALPHABET[ALPHABET.index(text[-1]) ^ (1 if len(text) % 4 == 3 else self._chance.randrange(1, 16))]
        )

    def _guessed_mac(self, _: str, raw: bytes, purpose: Purpose) -> str:
        body = raw[:-16]
        signed = purpose.value.encode() + body
        guesses = (
            bytes(16),
            b"\xff" * 16,
            hashlib.sha256(signed).digest()[:16],
            hashlib.md5(signed).digest(),
            hmac.digest(b"", signed, "sha256")[:16],
            hmac.digest(b"secret", signed, "sha256")[:16],
            hmac.digest(body[3:19], signed, "sha256")[:16],
            hmac.digest(bytes(64), body, "sha256")[:16],
        )
        return encode(body + self._chance.choice(guesses))


def attack(number: int, seed: int = 5) -> tuple[Counter[str], list[tuple[str, Purpose, str]]]:
    """Offer *number* forgeries to the ring; return how many of each kind were made, and those that were believed."""
    made, believed = Counter[str](), []
    for kind, purpose, text in Forger(seed).forgeries(number):
        made[kind] += 1
        if RING.verify(purpose, text) is not None:
            believed.append((kind, purpose, text))
    return made, believed


def compare_times(rounds: int) -> tuple[float, float, float]:
    """Return the median times, ns, of refusing a MAC that is wrong in its first or its last byte, and Welch's t.

    The two take turns within each round, so that a busy machine slows both (Reparaz, Balasch, Verbauwhede: "Dude, is my
    code constant time?", 2017; |t| under 4.5 is what it calls no evidence).
    """
    raw = decode(RING.sign(Purpose.CLICK, Token(bytes(16), 1, 1, "https://example.com/" + "x" * 100)))
    wrong = [bytearray(raw), bytearray(raw)]
    wrong[0][-16] ^= 1
    wrong[1][-1] ^= 1
    texts = [encode(bytes(item)) for item in wrong]
    times: list[list[int]] = [[], []]
    chance = random.Random(5)
    for _ in range(rounds):
        for which in chance.sample((0, 1), 2):
            started = time.perf_counter_ns()
            RING.verify(Purpose.CLICK, texts[which])
            times[which].append(time.perf_counter_ns() - started)
    # The slowest tenth is the machine's doing, not the code's.
    kept = [sorted(values)[: rounds * 9 // 10] for values in times]
    means = [statistics.fmean(values) for values in kept]
    spread = sum(statistics.variance(values, mean) / len(values) for values, mean in zip(kept, means, strict=True))
    return statistics.median(times[0]), statistics.median(times[1]), (means[0] - means[1]) / spread**0.5


def main() -> int:
    """Attack and measure, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=300_000)
    options = parser.parse_args()
    started = time.perf_counter()
    made, believed = attack(options.tokens)
    for kind, number in made.items():
        print(f"{kind:<24} {number:>9}")
    print(f"{made.total()} forgeries in {time.perf_counter() - started:.1f} s, believed: {len(believed)}")
    for kind, purpose, text in believed[:20]:
        print(f"  {kind} as {purpose.name}: {text!r}")
    first, last, t = compare_times(options.rounds)
    print(f"refusing: {first:.0f} ns if the MAC's first byte is wrong, {last:.0f} ns if its last is; Welch's t {t:.2f}")
    return 1 if believed or made.total() < options.tokens else 0


if __name__ == "__main__":
    sys.exit(main())
