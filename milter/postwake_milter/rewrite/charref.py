"""Character references in an attribute's value, decoded by HTML5's rule for attributes.

In goes the text between the quotes, out comes what a browser takes it for. ``html.unescape`` is not that: HTML5
leaves ``&sectionId=1`` alone in an attribute, since a named reference without its semicolon does not count there when
a letter, a digit or ``=`` follows
(https://html.spec.whatwg.org/multipage/parsing.html#named-character-reference-state), where
``html.unescape`` makes ``§ionId=1`` of it: a dead link, seen in real mail.
"""

from __future__ import annotations

import re
from html.entities import html5
from typing import Final

_REFERENCE: Final = re.compile(r"&(?:#(?:[xX]([0-9A-Fa-f]++)|([0-9]++));?|([A-Za-z][A-Za-z0-9]*+)(;|(?![=A-Za-z0-9])))")
_NAMED: Final = html5
_REPLACED: Final = {
    0x80 + i: char
    for i, char in enumerate(bytes(range(0x80, 0xA0)).decode("cp1252", "replace"))
    if char != "\N{REPLACEMENT CHARACTER}"
}
"""Numbers that HTML5 reads as windows-1252; the five that windows-1252 leaves undefined stay what they are."""
_MAX_DIGITS: Final = 7
"""Digits of 0x10FFFF in decimal: longer numbers are out of range, and int() refuses to read very long ones."""


def decode_attribute(text: str) -> str:
    """Return *text*, the value of an attribute, with its character references replaced. Never raises."""
    if text.count("&") == text.count("&amp;"):  # none, or the one that URLs have: no need to look for others
        return text.replace("&amp;", "&")
    return _REFERENCE.sub(_replacement, text)


def _replacement(match: re.Match[str]) -> str:
    hexadecimal, decimal, name, semicolon = match.groups()
    if name is None:
        digits = (hexadecimal or decimal).lstrip("0")
        number = int(digits or "0", 16 if hexadecimal else 10) if len(digits) <= _MAX_DIGITS else -1
        return _character(number)
    if semicolon:
        found = _NAMED.get(name + ";")
        if found is not None:
            return found
        # "&amp" of "&ampx;" is followed by a letter and so stands for itself: only the whole name can count.
        return match[0]
    return _NAMED.get(name, match[0])


def _character(number: int) -> str:
    if not 0 < number <= 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        return "\N{REPLACEMENT CHARACTER}"
    return _REPLACED.get(number) or chr(number)
