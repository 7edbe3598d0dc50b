"""A judge of rewriting that shares nothing with the code under test: the standard library's email, and html5lib.

:func:`check` takes a message before and after and raises :class:`ChangedError` if anything differs that is no link,
pixel or field of ours. The tests load it, and so does bench/fuzz_rewrite.py.
"""

from __future__ import annotations

import base64
import email
import email.message
import email.policy
import quopri
import re
import warnings
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import html5lib

HOST = "track.example.test"
_OURS = re.compile(rf"https://{re.escape(HOST)}/c/[0-9]+\.([A-Za-z0-9_-]*)")
_PIXEL = f"https://{HOST}/o/"
_OURS_OR_PIXEL = re.compile(
    rf'https://{re.escape(HOST)}/c/[0-9]+\.[A-Za-z0-9_-]*|<img src="https://{re.escape(HOST)}/o/[0-9]\.gif"[^>]*>'
)
_OPT_OUTS = {
    *("clicktracking", "data-pm-no-track", "ses:no-track", "disable-tracking", "data-msys-clicktrack"),
    *("data-mautic-disable-tracking", "mautic:disable-tracking", "mc:disable-tracking", "data-no-track"),
    *("ses:tags", "ses:custom-path", "data-msys-linkname", "data-msys-sublink", "data-msys-unsubscribe"),
}
_HTML_MARKS = re.compile(
    r"(?i:(?<=http)|(?<=https))(?i:(?<!<http)(?<!<https))(?:\+|&#43;|&#[xX]2[bB];|&plus;)notrack(?=://)|\{\{ses:openTracker\}\}"
)
_TEXT_MARKS = re.compile(
    r"(?:(?<=http)|(?<=https))\+notrack(?=://)|\{\{ses:openTracker\}\}"
    r'|\[\[(?:[ \t]*data-msys-[a-z]+[ \t]*=[ \t]*(?:"[^"\[\]\r\n]*"|[^\s"\[\]]*))+[ \t]*\]\]',
    re.IGNORECASE,
)
_OUR_FIELDS = {"x-postwake-id", "list-unsubscribe", "list-unsubscribe-post", "content-transfer-encoding"}


class ChangedError(AssertionError):
    """A byte changed that should not have."""


class JudgedMint:
    """Makes URLs from which the judge reads the destination back."""

    host = HOST

    def open_url(self, position: int) -> str:
        """Return a pixel's URL."""
        return f"{_PIXEL}{position}.gif"

    def click_url(self, link: int, destination: str) -> str:
        """Return a link's URL, the destination in it."""
        return f"https://{HOST}/c/{link}." + base64.urlsafe_b64encode(destination.encode()).decode().rstrip("=")

    def unsubscribe_url(self, original: str | None) -> str:
        """Return an unsubscribe URL, the sender's own target in it."""
        return f"https://{HOST}/u/" + base64.urlsafe_b64encode((original or "").encode()).decode().rstrip("=")


def destination(token: str) -> str:
    """Return what :meth:`JudgedMint.click_url` was given."""
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()


def check(before: bytes, after: bytes, removed: set[str]) -> int:
    """Compare two messages, the fields called *removed* (lower case) aside; return how many parts differ by edits."""
    old = _parse(before)
    new = _parse(after)
    old_parts, new_parts = list(old.walk()), list(new.walk())
    if len(old_parts) != len(new_parts):
        raise ChangedError(f"{len(old_parts)} parts became {len(new_parts)}")
    edited = 0
    for index, (one, two) in enumerate(zip(old_parts, new_parts, strict=True)):
        _same_fields(one, two, _OUR_FIELDS | removed if index == 0 else {"content-transfer-encoding"})
        if (one.preamble, one.epilogue) != (two.preamble, two.epilogue):
            raise ChangedError("preamble or epilogue differs")
        if one.is_multipart():
            continue
        if _raw(one) == _raw(two):
            continue
        edited += 1
        was, now = _content(one), _content(two)
        kind = one.get_content_type().partition("(")[0].strip()  # the library leaves comments in
        if kind == "text/html":
            same_html(was, now)
        elif kind == "text/plain":
            same_text(was, now)
        else:
            raise ChangedError(f"a {kind} part differs")
    return edited


def _parse(raw: bytes) -> email.message.Message:
    """Parse a message, lines and fields being what they are for an MTA: ``Name :`` is a field."""
    stop = re.search(rb"(?:\A|\n)\r?\n", raw)
    end = stop.start() if stop else len(raw)
    head = re.sub(rb"(?m)^([!-9;-~]+)[ \t]+:", rb"\1:", raw[:end])
    # It takes a comment behind the boundary for a part of it.
    head = re.sub(rb'(?i)(boundary="[^"\r\n]*")(?:\r?\n)?[ \t]+\([^()"\r\n]*\)', rb"\1", head)
    head = re.sub(rb"[\x0b\x0c\x1c-\x1e\x85]", b"?", head)  # it ends lines at these, as str.splitlines() does
    return email.message_from_bytes(head + raw[end:], policy=email.policy.compat32)


def _same_fields(one: email.message.Message, two: email.message.Message, ours: set[str]) -> None:
    was = [(name, value) for name, value in one.raw_items() if name.lower() not in ours]
    now = [(name, value) for name, value in two.raw_items() if name.lower() not in ours]
    if was != now:
        raise ChangedError(f"fields differ: {was!r} became {now!r}")
    if one.get_unixfrom() != two.get_unixfrom():
        raise ChangedError("the mbox line differs")


def _raw(part: email.message.Message) -> bytes:
    """The part's encoded bytes. Not get_payload(), which decodes text and fails on wild charset parameters."""
    payload = part._payload  # type: ignore[attr-defined]
    return payload.encode("ascii", "surrogateescape") if isinstance(payload, str) else b""


def _content(part: email.message.Message) -> str:
    raw = _raw(part)
    encoding = str(part.get("content-transfer-encoding", "")).strip().lower()
    if encoding == "quoted-printable":
        raw = quopri.decodestring(raw)
    elif encoding == "base64":
        raw = base64.b64decode(raw + b"===")
    for charset in (str(part.get_param("charset", "utf-8")), "utf-8"):
        try:
            text = raw.decode(charset)
            if text.encode(charset) == raw:
                return text
        except (LookupError, ValueError):
            continue
    return raw.decode("latin-1")


def same_text(was: str, now: str) -> None:
    """Raise ChangedError unless *now* is *was* with some URLs replaced by ours."""
    restored = _OURS.sub(lambda match: destination(match.group(1)), now)
    if restored == was or _only_marks_gone(was, restored):
        return
    # Of a multipart that never ends, the library takes the last line break for the delimiter's.
    if restored.rstrip("\r\n") != _TEXT_MARKS.sub("", was).rstrip("\r\n"):
        raise ChangedError(f"text differs: {_difference(was, restored)}")


def _only_marks_gone(was: str, now: str) -> bool:
    """Whether *now* is *was* without some of the marks of sending services that stand in it."""
    at = here = 0
    for match in _TEXT_MARKS.finditer(was):
        kept = was[at : match.start()]
        if not now.startswith(kept, here):
            return False
        here += len(kept)
        at = match.start() if now.startswith(match[0], here) else match.end()
    return now[here:] == was[at:]


def same_html(was: str, now: str) -> None:
    """Raise ChangedError unless html5lib sees in *now* the document *was* but for links of ours and pixels, and every
    byte outside them is the same. Marks of sending services are gone from all of it, or from none."""
    cleaned = _HTML_MARKS.sub("", was)
    try:
        _same_html(was, now)
    except ChangedError:
        if cleaned == was:
            raise
        _same_html(cleaned, now)


def _same_html(was: str, now: str) -> None:
    if not any(name in was.lower() for name in _OPT_OUTS):
        # A pixel takes the place of nothing, a link that of a value, which may be anything.
        pieces = [""]
        for piece, ours in zip_longest(_OURS_OR_PIXEL.split(now), _OURS_OR_PIXEL.findall(now), fillvalue="/o/"):
            pieces[-1] += piece
            pieces += [] if "/o/" in ours else [""]
        if not _in_order(pieces, was):
            raise ChangedError("bytes outside the edits differ")
    one, two = list(_events(was, pixels=False)), list(_events(now, pixels=True))
    try:
        _same_events(_merge(one), _merge(two))
    except _OtherShapeError:
        _same_events(_merge(_without_formatting(one)), _merge(_without_formatting(two)))


def _in_order(pieces: list[str], text: str) -> bool:
    """Whether *text* is *pieces*, with anything between them."""
    if not text.startswith(pieces[0]):
        return False
    at = len(pieces[0])
    for piece in pieces[1:-1]:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    if len(pieces) == 1:
        return at == len(text)
    return len(text) - at >= len(pieces[-1]) and text.endswith(pieces[-1])


class _OtherShapeError(ChangedError):
    """Other nodes, or the text in other nodes; not a node with another attribute."""


def _same_events(one: list[_Event], two: list[_Event]) -> None:
    if len(one) != len(two):
        raise _OtherShapeError(f"{len(one)} nodes became {len(two)}: {_first_difference(one, two)}")
    for left, right in zip(one, two, strict=True):
        if left[0] == right[0] and _same_node(left, right):
            continue
        same_kind = left[:2] == right[:2] if left[0] == "start" else left[0] == right[0] == "comment"
        raise (ChangedError if same_kind else _OtherShapeError)(f"{left!r} became {right!r}")


_Event = tuple[Any, ...]
_FORMATTING = frozenset(
    ["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"]
)


def _without_formatting(events: list[_Event]) -> list[_Event]:
    """Drop what formats text, and links: where one was never closed a browser opens it anew around whatever follows, so
    around a pixel (HTML, "reconstruct the active formatting elements")."""
    return [event for event in events if event[0] not in ("start", "end") or event[1] not in _FORMATTING]


def _events(html: str, *, pixels: bool) -> Iterator[_Event]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # html5lib warns of its own deprecated constants and of odd names
        tree = html5lib.parse(html, treebuilder="etree", namespaceHTMLElements=False)
    stack: list[Any] = [(tree, False)]
    while stack:
        node, left = stack.pop()
        if isinstance(node, str):
            yield ("text", node)
            continue
        comment = callable(node.tag)
        pixel = pixels and not comment and node.tag == "img" and str(node.get("src", "")).startswith(_PIXEL)
        if left:
            yield ("end", str(node.tag))
            continue
        if comment:
            yield ("comment", node.text or "")
        elif not pixel:
            yield ("start", str(node.tag), dict(node.attrib))
        pending: list[Any] = []
        if not comment:
            if node.text:
                pending.append((node.text, False))
            for child in node:
                pending.append((child, False))
                if child.tail:
                    pending.append((child.tail, False))
            if not pixel:
                pending.append((node, True))
        stack += reversed(pending)


def _merge(events: list[_Event]) -> list[_Event]:
    merged: list[_Event] = []
    for event in events:
        if event[0] == "text" and merged and merged[-1][0] == "text":
            merged[-1] = ("text", merged[-1][1] + event[1])
        else:
            merged.append(event)
    return merged


def _same_node(left: _Event, right: _Event) -> bool:
    if left == right:
        return True
    if left[0] == "comment":
        return _same_comment(left[1], right[1])
    if left[0] != "start" or left[1] != right[1]:
        return False
    was, now = dict(left[2]), dict(right[2])
    for name in _OPT_OUTS & was.keys() - now.keys():
        del was[name]
    match = _OURS.fullmatch(now.get("href", ""))
    if match is None:
        return bool(was == now)
    target = destination(match.group(1))
    targets = (target, target.encode().decode("latin-1"))  # the second where the charset is unknown
    return bool(_as_browser(was.pop("href", "")) in targets and {k: v for k, v in now.items() if k != "href"} == was)


def _as_browser(href: str) -> str:
    href = re.sub(r"[\t\n\r]", "", href.strip("".join(map(chr, range(0x21)))))
    href = re.sub(r"^(https?:)[/\\]{2,}", r"\1//", href, flags=re.IGNORECASE)
    end = min((i for i in (href.find("?"), href.find("#")) if i >= 0), default=len(href))
    return (href[:end].replace("\\", "/") + href[end:]).replace(" ", "%20")


def _same_comment(was: str, now: str) -> bool:
    """Whether *now* is *was* with some quoted values replaced by URLs of ours, opt-outs of either aside."""
    for name in _OPT_OUTS:
        was, now = (re.sub(rf'\s+{name}(?:=(?:"[^"]*"|\'[^\']*\'|[^\s>]*))?', "", text) for text in (was, now))
    pieces = [re.escape(piece) for piece in re.split(_OURS.pattern.replace("(", "(?:"), now)]
    value = r"""(?:(?<=")[^"]*?|(?<=')[^']*?|[^"']*?)"""
    return re.fullmatch(value.join(pieces), was) is not None


def _difference(was: str, now: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
    return f"at {at}: {was[max(0, at - 30) : at + 60]!r} became {now[max(0, at - 30) : at + 60]!r}"


def _first_difference(one: list[_Event], two: list[_Event]) -> str:
    return next(
        (f"{a!r} became {b!r}" for a, b in zip(one, two, strict=False) if a != b and a[0] != "start"), "the end"
    )
