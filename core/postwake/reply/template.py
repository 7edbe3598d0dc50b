"""Separate what varies in a reply (hosts, addresses, IPs, identifiers) from its wording.

A receiving server says the same few hundred sentences all day, each time with another recipient, client address and
queue ID in it. `templated` replaces those by single placeholder characters, so that a parse or a verdict is computed
once per wording and the variants share it. Nothing is lost: `restore` puts the original values back, and `canonical`
puts fixed specimens in their place, which is the text that rules are matched against (docs/classification.md).

Placeholders are private-use characters, one per value, numbered in order of appearance; private-use characters that
were already in the text become U+FFFD first.
"""

from __future__ import annotations

import re

PEER_BASE, ADDRESS_BASE, IP_BASE, OPAQUE_BASE = 0xE000, 0xE100, 0xE200, 0xE300
_BASES = {"peer": PEER_BASE, "exim": PEER_BASE, "address": ADDRESS_BASE, "ip": IP_BASE, "stamp": OPAQUE_BASE}
_PER_KIND = 256
"""Placeholders of one kind. A reply with more variable parts than this keeps the rest as they are."""

_SPECIMEN = {
    PEER_BASE: "host.example[192.0.2.1]",
    ADDRESS_BASE: "user@example.com",
    IP_BASE: "192.0.2.1",
    OPAQUE_BASE: "X1",
}

# Redacted addresses ("[x.xx.xx.xx]", "[#.#.#.#]") are common in quoted replies: their fillers count as digits.
_BRACKETED = r"\[(?:IPv6:)?(?=[^\]]{0,45}[.:/])(?:[0-9A-Fa-fx#*.:]{2,45}|/?[\w.-]{0,40}/[\w./-]{1,100})\](?::\d{1,5})?"
_VARIABLE = re.compile(
    rf"""
      (?P<peer>(?<![\w.-])[A-Za-z0-9_][A-Za-z0-9_.-]{{0,254}}{_BRACKETED})
    | (?P<exim>(?<![\w.-])(?![245]\.\d{{1,3}}\.\d{{1,4}}\ )   # an enhanced code is no host's name
        [A-Za-z0-9_-]+\.[A-Za-z0-9_.-]{{1,250}}\ (?:\([^\s()]{{1,255}}\)\ )?{_BRACKETED})
    | (?P<address>(?<![^\s<("'\[:,=])(?:"[^"\s]{{1,64}}"|[^\s<>@()":;,\[\]]{{1,128}})@[A-Za-z0-9._-]{{1,253}}(?<![.-]))
    | (?P<ip>(?<![\w.])(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?![\w.]*\d)
        | (?:[0-9A-Fa-f]{{1,4}}:){{3,7}}[0-9A-Fa-f:.]{{0,40}}))
    | (?P<stamp>\b\d{{4}}-\d\d-\d\dT[\d:.]{{5,20}}Z?
        | (?<![\w.-])[0-9A-Za-z][0-9A-Za-z_-]{{4,80}}\.\d+(?=\ -\ gsmtp)   # Gmail's transaction identifier
        | (?<![\w-])(?=[A-Za-z]{{0,40}}\d)[0-9A-Za-z]{{12,128}}(?![\w])    # queue IDs and hashes hold a digit
        | (?<![\w])\d{{4,}}-\d{{2,}}(?:-\d+)?(?!\w)                       # amavisd's id=20025-09
        | (?<!\w)\d{{7,}}(?!\w))
    """,
    re.VERBOSE,
)
_PRIVATE = re.compile("[\ue000-\ue3ff]")


def templated(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the wording of `text` with placeholders, and the values that they stand for, in order."""
    values: list[str] = []
    text = _PRIVATE.sub("\ufffd", text)

    def replace(match: re.Match[str]) -> str:
        if len(values) == _PER_KIND:
            return match.group()
        values.append(match.group())
        kind = match.lastgroup
        assert kind is not None, "every alternative is named"
        return chr(_BASES[kind] + len(values) - 1)

    return _VARIABLE.sub(replace, text), tuple(values)


def restore(template: str, values: tuple[str, ...]) -> str:
    """Put the original values back into (a part of) a template."""
    return _PRIVATE.sub(lambda match: values[(ord(match.group()) - PEER_BASE) % _PER_KIND], template)


def canonical(template: str) -> str:
    """Put a fixed specimen in place of each value: the text that rules are matched against."""
    return _PRIVATE.sub(lambda match: _SPECIMEN[ord(match.group()) & ~(_PER_KIND - 1)], template)
