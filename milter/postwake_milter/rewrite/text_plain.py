"""Links in text/plain: which bytes are a URL, and which are the sentence around it.

Only http and https. Punctuation that ends the sentence stays outside, and a closing bracket ends the URL if it was not
opened in it; a URL in angle brackets (RFC 3986 appendix C) is taken whole. Quoted lines are someone else's words. Lines
are never broken or joined, so format=flowed (RFC 3676) flows as before; with DelSp=yes a URL at the end of a flowed
line goes on in the next and is left alone. Services' marks (:mod:`.marks`) are honoured and taken out.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from .html_scan import Edit
from .links import MAX_URL_BYTES, UNSUBSCRIBES, Link, LinkRules, Skip, browser_url, rules_skip, url_skip
from .marks import PIXEL_MARK

_URL_START = re.compile(rb"(?i:https?)(\+notrack)?://(?=[!#-.0-;=?-\[\]-~])")
_URL_RUN = re.compile(rb"[!#-;=?-~]++")
_BRACKET = re.compile(rb"[()\[\]{}]")
# SparkPost's: what attributes say of a link in HTML stands behind it, in one pair of brackets or several.
_ATTRIBUTE = rb'(data-msys-[a-z]{1,20}+)[ \t]{0,8}+=[ \t]{0,8}+("[^"\[\]{}\r\n]{0,250}+"|[^\s"\[\]{}]{0,250}+)'
_ATTRIBUTES = re.compile(rb"(?:\[\[(?:[ \t]{0,8}+" + _ATTRIBUTE.replace(b"(", b"(?:") + rb"){1,8}[ \t]{0,8}+\]\]){1,8}")
_ONE_ATTRIBUTE = re.compile(_ATTRIBUTE)
_PIXEL_MARK = re.compile(re.escape(PIXEL_MARK.encode("ascii")))
_FLOWED_END = re.compile(rb" \r?\n")
_TRAILING = b".,;:!?'*|`"
# Mail programs take these for the sentence's when they end what they make a link of, and a token may end in them.
_NO_END = ("-", "_")
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
    text: bytes, rules: LinkRules, mint: ClickMint, *, delsp: bool = False, first_link: int = 0, wrap: bool = True
) -> TextResult:
    """Return the edits that wrap the links of *text*, the decoded bytes of a text/plain part, and take marks out of it.

    Without *wrap* only the marks go, and no link is counted or skipped.

    *delsp* says that the part is format=flowed with DelSp=yes. Links are numbered from *first_link*. Skips have the
    names of :class:`.links.Skip`, and four more: ``quoted`` (in a line that begins with ``>``), ``broken-url`` (it goes
    on in the next line), ``embedded-url`` (it begins inside a word), ``charset`` (a character outside ASCII follows,
    and whether it is part of the link depends on the program that shows it).
    """
    edits = [Edit(*match.span(), b"") for match in _PIXEL_MARK.finditer(text)]
    links: list[Link] = []
    skipped: Counter[str] = Counter()
    line = end = run_end = 0
    marked = -1  # where the next brackets open that may be marks
    while (match := _URL_START.search(text, end)) is not None:
        start = match.start()
        if start >= run_end:  # else it is the rest of a run that a bracket has ended a URL in
            run = _URL_RUN.match(text, start)
            run_end = run.end() if run is not None else match.end()
        line = max(line, text.rfind(b"\n", line, start) + 1)
        if marked < start:
            marked = text.find(b"[[", start)
            marked = marked if marked >= 0 else len(text)
        bracketed = text[start - 1 : start] == b"<" if start else False
        closed = bracketed and text[run_end : run_end + 1] == b">"
        # Not beyond what may be marks: there may be a URL behind each.
        stop = run_end if closed else _bracket_end(text, start, min(run_end, marked))
        marks = _ATTRIBUTES.match(text, marked) if marked <= stop else None
        if stop == marked and marks is None:
            stop = _bracket_end(text, start, run_end)
        end = stop if marks is None else marked
        if marks is not None or not closed:
            end = start + len(text[start:end].rstrip(_TRAILING))
        if marks is not None:
            stop = marks.end()
        url = text[start:end].decode("ascii")
        reason = _marked_skip(match, marks, rules)
        if reason is None and wrap:
            reason = _text_skip(text, line, start, stop, bracketed=bracketed, delsp=delsp)
            if reason is None:
                reason = Skip.TOO_LONG if len(url) > MAX_URL_BYTES else url_skip(url)
            if reason is None:
                url = browser_url(url)
                reason = rules_skip(url, rules)
        if match[1] and not _inside_word(text, line, start):
            edits.append(Edit(*match.span(1), b""))
        if reason is not None:
            skipped[str(reason)] += 1
        elif wrap:
            index = first_link + len(links)
            ours = mint.click_url(index, url)
            edits.append(Edit(start, end, (ours + "/" if ours.endswith(_NO_END) else ours).encode("ascii")))
            links.append(Link(index, url))
        if marks is not None:
            edits.append(Edit(*marks.span(), b""))
            end = marks.end()
    return TextResult(tuple(sorted(edits)), tuple(links), dict(skipped) if wrap else {})


def _marked_skip(start: re.Match[bytes], marks: re.Match[bytes] | None, rules: LinkRules) -> str | None:
    """Return why the URL that begins with *start* is left alone for its *marks*, or None."""
    if start[1]:
        return Skip.OPT_OUT
    said = {name: value.strip(b'"') for name, value in _ONE_ATTRIBUTE.findall(marks[0])} if marks else {}
    if said.get(b"data-msys-clicktrack") == b"0":
        return Skip.OPT_OUT
    return Skip.UNSUBSCRIBE if rules.skip_unsubscribe and said.get(UNSUBSCRIBES) == b"1" else None


def _text_skip(text: bytes, line: int, start: int, end: int, *, bracketed: bool, delsp: bool) -> str | None:
    """Return why the URL at ``text[start:end]``, in the line from *line* on, cannot be taken for one; or None."""
    if text[line : line + 1] == b">":
        return "quoted"
    if _inside_word(text, line, start):
        return "embedded-url"
    following = text[end : end + 1]
    if following >= b"\x80":
        return Skip.CHARSET
    if bracketed and following in (b"\r", b"\n", b" "):
        return "broken-url"
    if delsp and _FLOWED_END.match(text, end):
        return "broken-url"
    return None


def _inside_word(text: bytes, line: int, start: int) -> bool:
    return start > line and _INSIDE_WORD.match(text, start - 1) is not None


def _bracket_end(text: bytes, start: int, end: int) -> int:
    """Return where the URL at ``text[start:end]`` ends: before the first closing bracket that none in it opened."""
    opened = dict.fromkeys(_CLOSES.values(), 0)
    for match in _BRACKET.finditer(text, start, end):
        bracket = text[match.start()]
        opening = _CLOSES.get(bracket)
        if opening is None:
            opened[bracket] += 1
        elif opened[opening]:
            opened[opening] -= 1
        else:
            return match.start()
    return end
