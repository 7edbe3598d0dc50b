"""Links in text/plain: which bytes are a URL, and which are the sentence around it.

Only http and https. Punctuation and closing brackets that end the sentence stay outside; a URL in angle brackets
(RFC 3986 appendix C) is taken whole. Quoted lines are someone else's words. Lines are never broken or joined, so
format=flowed (RFC 3676) flows as before; with DelSp=yes a URL at the end of a flowed line goes on in the next and is
left alone. SparkPost's opt-out after a link, ``[[data-msys-clicktrack="0"]]``, is honoured and taken out.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from .html_scan import Edit
from .links import MAX_URL_BYTES, Link, LinkRules, Skip, browser_url, rules_skip, url_skip

_URL = re.compile(rb"https?://[!#-;=?-~]++", re.IGNORECASE)
_OPT_OUT = re.compile(rb'\[\[\s{0,8}data-msys-clicktrack\s{0,8}=\s{0,8}"?0"?\s{0,8}\]\]', re.IGNORECASE)
_FLOWED_END = re.compile(rb" \r?\n")
_TRAILING = frozenset(b".,;:!?'*_~|`")
_CLOSES = {0x29: 0x28, 0x5D: 0x5B, 0x7D: 0x7B}
# A URL that begins inside a longer word is a piece of something else: another URL, an address, an identifier.
_INSIDE_WORD = re.compile(rb"[0-9A-Za-z=&/%@_.~+\-\x80-\xff]")


class ClickMint(Protocol):
    """Makes the URLs that count clicks."""

    def click_url(self, link: int, destination: str) -> str:
        """Return the URL that counts a click on link number *link* and leads on to *destination*."""
        ...


@dataclass(frozen=True, slots=True)
class TextResult:
    """What was done: *edits* in order, the *links* that were wrapped, and those *skipped*, by reason."""

    edits: tuple[Edit, ...]
    links: tuple[Link, ...]
    skipped: dict[str, int]


def edit_text(
    text: bytes, rules: LinkRules, mint: ClickMint, *, delsp: bool = False, first_link: int = 0
) -> TextResult:
    """Return the edits that wrap the links of *text*, the decoded bytes of a text/plain part.

    *delsp* says that the part is format=flowed with DelSp=yes. Links are numbered from *first_link*. Skips have the
    names of :class:`.links.Skip`, and four more: ``quoted`` (in a line that begins with ``>``), ``broken-url`` (it goes
    on in the next line), ``embedded-url`` (it begins inside a word), ``charset`` (a character outside ASCII follows,
    and whether it is part of the link depends on the program that shows it).
    """
    edits: list[Edit] = []
    links: list[Link] = []
    skipped: Counter[str] = Counter()
    line = 0
    for match in _URL.finditer(text):
        start, end = match.start(), match.end()
        line = max(line, text.rfind(b"\n", line, start) + 1)
        bracketed = text[start - 1 : start] == b"<" if start else False
        if not (bracketed and text[end : end + 1] == b">"):
            end = _without_punctuation(text, start, end)
        opt_out = _OPT_OUT.match(text, text.find(b"[[", start, match.end() + 1)) if b"[[" in match.group() else None
        if opt_out is not None:
            skipped[Skip.OPT_OUT] += 1
            edits.append(Edit(opt_out.start(), opt_out.end(), b""))
            continue
        reason = _text_skip(text, line, start, match.end(), bracketed=bracketed, delsp=delsp)
        url = text[start:end].decode("ascii")
        if reason is None:
            reason = Skip.TOO_LONG if len(url) > MAX_URL_BYTES else url_skip(url)
        if reason is None:
            url = browser_url(url)
            reason = rules_skip(url, rules)
        if reason is not None:
            skipped[str(reason)] += 1
            continue
        index = first_link + len(links)
        edits.append(Edit(start, end, mint.click_url(index, url).encode("ascii")))
        links.append(Link(index, url))
    return TextResult(tuple(edits), tuple(links), dict(skipped))


def _text_skip(text: bytes, line: int, start: int, end: int, *, bracketed: bool, delsp: bool) -> str | None:
    """Return why the URL at ``text[start:end]``, in the line from *line* on, cannot be taken for one; or None."""
    if text[line : line + 1] == b">":
        return "quoted"
    if start > line and _INSIDE_WORD.match(text, start - 1):
        return "embedded-url"
    following = text[end : end + 1]
    if following >= b"\x80":
        return Skip.CHARSET
    if bracketed and following in (b"\r", b"\n", b" "):
        return "broken-url"
    if delsp and _FLOWED_END.match(text, end):
        return "broken-url"
    return None


def _without_punctuation(text: bytes, start: int, end: int) -> int:
    """Return where the URL ends without the punctuation, and the brackets opened before it, that follow it."""
    surplus = {
        close: text.count(close, start, end) - text.count(opening, start, end) for close, opening in _CLOSES.items()
    }
    while end > start:
        last = text[end - 1]
        if last in _CLOSES and surplus[last] > 0:
            surplus[last] -= 1
        elif last not in _TRAILING:
            break
        end -= 1
    return end
