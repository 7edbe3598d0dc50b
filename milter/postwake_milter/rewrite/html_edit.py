"""Edit one HTML part: wrap its links, insert the pixel, prove that nothing else changed.

:func:`edit_html` takes a document's bytes and gives edits, spans of the original with their replacements. An edit
replaces the bytes of an ``href`` value inside its quotes, takes out a service's attribute or mark, or inserts the
pixel; no other byte changes, and what cannot be verified (:mod:`.judge`) is not edited.

It does so in two steps. :func:`draft_html` decides everything and has it judged, with stand-ins where this message's
own URLs will be; :meth:`HtmlDraft.replacements` puts the URLs in. So a document that comes again, as the same
newsletter does for each of its recipients, need not be judged again (:mod:`.memory`). The judgement holds for the URLs
because they are of a stand-in's letters: plain ASCII without quotes, spaces, ``&``, ``<`` or ``>``, so that they
stand in any quoting, in none, and in XHTML as they are. One that is not is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final, Protocol

from .charref import decode_attribute
from .html_scan import Attribute, Edit, Scan, Tag, apply_edits, attributes, scan_html
from .judge import CommentChange, Judge, LinkChange, html_end_tags
from .links import (
    MAX_CONTENT_BYTES,
    OPT_OUTS,
    SERVICE_ATTRIBUTES,
    UNSUBSCRIBES,
    Link,
    LinkRules,
    Skip,
    anchor_skip,
    browser_url,
    clean_url,
    decode_href,
    host_of,
    opt_outs,
    rules_skip,
    url_skip,
)
from .marks import Cleaned, clean_html, put_back
from .pixel import BOTTOM, PixelPosition, candidates, pixel_tag, shows_at, wanted

__all__ = ["Edit", "HtmlPlan", "HtmlResult", "Link", "Mint", "apply_edits", "edit_html"]

HTML_NOT_VERIFIABLE: Final = "html-not-verifiable"
"""The edited document, or the original, could not be verified: nothing was edited."""
PIXEL_NOT_VERIFIABLE: Final = "pixel-not-verifiable"
"""No position for (one of) the pixels could be verified: the links were wrapped without it."""
MARK_NOT_VERIFIABLE: Final = "mark-not-verifiable"
"""Without a service's marks (:mod:`.marks`) the document did not prove to be the same one: they stayed."""

_STAND_IN: Final = "https://stand-in.postwake.invalid"
_URLS: Final = re.compile(r"[A-Za-z0-9:/._~%?=+\[\]-]*")
_PIXEL_ATTRIBUTE: Final = re.compile(rb'([a-z]+)="([^"]*)"')
_LINK_ATTRIBUTES: Final = frozenset((b"href", b"rel", *OPT_OUTS, *SERVICE_ATTRIBUTES))
_in_order: Final = attrgetter("start", "end")


class Mint(Protocol):
    """Makes the URLs that stand in the mail."""

    def open_url(self, position: int) -> str:
        """Return the URL of the pixel at *position*: 0 bottom, 1 top."""
        ...

    def click_url(self, link: int, destination: str) -> str:
        """Return the URL that counts a click on link number *link* and leads on to *destination*."""
        ...


@dataclass(frozen=True, slots=True)
class HtmlPlan:
    """What to do with a part: *opens* and *clicks* say what is counted; the rest is as in :class:`.links.LinkRules`."""

    opens: bool
    clicks: bool
    pixel_position: PixelPosition = "bottom"
    own_hosts: frozenset[str] = frozenset()
    excluded_hosts: tuple[str, ...] = ()
    skip_visible_url: bool = True
    skip_unsubscribe: bool = True
    unsubscribe_targets: frozenset[str] = frozenset()
    pixel_mark: str = ""
    """What the sender's own mark for the pixel's place is, if there is one: see :mod:`.marks`."""


@dataclass(frozen=True, slots=True)
class HtmlResult:
    """What was done.

    *edits*: sorted, without overlap, in offsets of the original. *links*: those that were wrapped, in document order.
    *pixels*: how many went in. *skipped*: links left alone, counted by reason (:class:`.links.Skip`). *reason*: why
    less was done than planned, :data:`HTML_NOT_VERIFIABLE`, :data:`PIXEL_NOT_VERIFIABLE` or
    :data:`MARK_NOT_VERIFIABLE`; None if nothing is missing.
    """

    edits: tuple[Edit, ...]
    links: tuple[Link, ...]
    pixels: int
    skipped: dict[str, int]
    reason: str | None


@dataclass(frozen=True, slots=True)
class HtmlDraft:
    """A document whose edits are decided and verified, but for the URLs of the message that it is for.

    *spans*: what is replaced, sorted, without overlap, in offsets of the original. *destinations*: of the links that
    are wrapped, in document order. *pixels*, *skipped*, *reason*: see :class:`HtmlResult`.
    """

    spans: tuple[tuple[int, int], ...]
    destinations: tuple[str, ...]
    urls: frozenset[str]
    """All that links of the document lead to: of :attr:`HtmlPlan.unsubscribe_targets`, others change nothing."""
    kept: dict[str, Skip]
    """What links lead to that opt out, or say that they unsubscribe, and why: see :class:`.links.LinkRules`."""
    pixels: int
    skipped: dict[str, int]
    reason: str | None
    _fillings: tuple[int | None, ...]
    """What comes into each span: the link of that number, the pixel at -1 - position, or nothing."""
    _fragile: dict[int, bytes]
    """Links without quotes at the end of a tag in a comment, and their bytes: ``-->`` would end the comment, so that in
    the one message of four thousand whose URL ends in ``--`` such a link stays as it is."""

    @classmethod
    def nothing(cls, reason: str | None, clicks: _Clicks | None = None) -> HtmlDraft:
        """Return the draft of a document that is left as it is."""
        clicks = clicks or _Clicks()
        return cls((), (), frozenset(clicks.urls), clicks.kept, 0, _counted(clicks.skipped), reason, (), {})

    def replacements(self, mint: Mint, first_link: int = 0) -> list[bytes]:
        """Return what takes the place of each span; links are numbered from *first_link*.

        What *mint* raises passes through; ValueError if a URL of its is not what was promised.
        """
        links = [mint.click_url(number, url) for number, url in enumerate(self.destinations, first_link)]
        pixels = {
            filling: mint.open_url(-1 - filling) for filling in self._fillings if filling is not None and filling < 0
        }
        urls = "".join([*links, *pixels.values()])
        if not _URLS.fullmatch(urls):
            raise ValueError(f"{urls!r}: expected URLs of ASCII letters, digits and :/._~%?=+[]-")
        new = [url.encode("ascii") for url in links]
        for number, value in self._fragile.items():
            if new[number].endswith(b"--"):
                new[number] = value
        return [
            b"" if filling is None else new[filling] if filling >= 0 else pixel_tag(pixels[filling])
            for filling in self._fillings
        ]


@dataclass(slots=True)
class _Clicks:
    """The click edits of a document and what the judge must know of them."""

    edits: list[Edit] = field(default_factory=list)
    destinations: list[str] = field(default_factory=list)
    urls: set[str] = field(default_factory=set)
    kept: dict[str, Skip] = field(default_factory=dict)
    fragile: dict[int, bytes] = field(default_factory=dict)
    """Links that a URL ending in ``--`` must not go into, and their bytes: see :class:`HtmlDraft`."""
    changes: list[LinkChange] = field(default_factory=list)
    comments: list[CommentChange] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def edit_html(html: bytes, plan: HtmlPlan, mint: Mint, *, first_link: int = 0, codec: str = "utf-8") -> HtmlResult:
    """Return the edits that make *html* count opens and clicks as *plan* says.

    *html* is the decoded part in the ASCII-compatible charset *codec*. Links are numbered from *first_link*; a
    destination that stands twice has two numbers. Never raises for any bytes; what *mint* raises passes through.
    """
    draft = draft_html(html, plan, host_of(mint.open_url(BOTTOM)), codec=codec)
    replacements = draft.replacements(mint, first_link)
    edits = tuple(Edit(start, end, new) for (start, end), new in zip(draft.spans, replacements, strict=True))
    links = tuple(Link(number, url) for number, url in enumerate(draft.destinations, first_link))
    return HtmlResult(edits, links, draft.pixels, draft.skipped, draft.reason)


def draft_html(html: bytes, plan: HtmlPlan, tracking_host: str, *, codec: str = "utf-8") -> HtmlDraft:
    """Decide and verify what :func:`edit_html` does, for any mint whose URLs lead to *tracking_host*."""
    cleaned = clean_html(html, plan.pixel_mark)
    if cleaned is None:
        return _draft(Cleaned(html), plan, tracking_host, codec)
    draft = _draft(cleaned, plan, tracking_host, codec)
    spans, fillings = put_back(draft.spans, draft._fillings, cleaned.removed)
    reason = draft.reason or (None if cleaned.removed else MARK_NOT_VERIFIABLE)
    return replace(draft, spans=spans, _fillings=fillings, reason=reason)


def _draft(cleaned: Cleaned, plan: HtmlPlan, tracking_host: str, codec: str) -> HtmlDraft:
    """Do what :func:`draft_html` does, for a document without marks."""
    html = cleaned.html
    scan = scan_html(html)
    clicks = _clicks(html, scan, plan, tracking_host, codec, cleaned.opted_out) if plan.clicks else _Clicks()
    pixels = wanted(plan.pixel_position) if plan.opens else ()
    if not clicks.edits and not pixels:
        return HtmlDraft.nothing(None, clicks)

    ignored = html_end_tags(html, scan)
    judge = Judge(apply_edits(html, ignored), clicks.changes, clicks.comments)
    if not judge.can_judge:
        return HtmlDraft.nothing(HTML_NOT_VERIFIABLE, clicks)
    offers = {pixel: candidates(html, scan, pixel) for pixel in pixels}
    if pixels and cleaned.pixel_at >= 0 and shows_at(scan, cleaned.pixel_at):
        offers[pixels[0]].insert(0, cleaned.pixel_at)
    tags = {pixel: pixel_tag(_pixel_stand_in(pixel)) for pixel in pixels}

    def verified(places: dict[int, int]) -> tuple[Edit, ...] | None:
        # Both pixels may land on one spot: the top one goes first.
        inserts = [Edit(at, at, tags[pixel]) for pixel, at in sorted(places.items(), reverse=True)]
        edits = sorted([*clicks.edits, *inserts], key=_in_order)
        result = apply_edits(html, sorted([*edits, *ignored], key=_in_order))
        expected = {}
        for pixel in places:
            attrs = {name.decode(): value.decode() for name, value in _PIXEL_ATTRIBUTE.findall(tags[pixel])}
            expected[attrs["src"]] = attrs
        accepted = judge.accepts(result, expected)
        return tuple(edits) if accepted else None

    # The usual case first, in one go: everything where it is best.
    places = {pixel: offers[pixel][0] for pixel in pixels if offers[pixel]}
    edits = verified(places) if len(places) == len(pixels) else None
    if edits is None:
        places = {}
        edits = verified(places) if clicks.edits else ()
        if edits is None:
            return HtmlDraft.nothing(HTML_NOT_VERIFIABLE, clicks)
        for pixel in pixels:
            for at in offers[pixel]:
                attempt = verified({**places, pixel: at})
                if attempt is not None:
                    places[pixel], edits = at, attempt
                    break
    reason = None if len(places) == len(pixels) else PIXEL_NOT_VERIFIABLE
    spans = tuple((edit.start, edit.end) for edit in edits)
    what = {_link_stand_in(number): number for number in range(len(clicks.destinations))}
    what |= {tag: -1 - pixel for pixel, tag in tags.items()}
    fillings = tuple(what.get(edit.replacement) for edit in edits)
    return replace(
        HtmlDraft.nothing(reason, clicks),
        spans=spans,
        destinations=tuple(clicks.destinations),
        pixels=len(places),
        _fillings=fillings,
        _fragile=clicks.fragile,
    )


def _counted(skipped: Counter[str]) -> dict[str, int]:
    return {str(reason): count for reason, count in skipped.items()}


def _link_stand_in(number: int) -> bytes:
    """Return the URL that link *number* has before the judge."""
    return f"{_STAND_IN}/c/{number}".encode()


def _pixel_stand_in(pixel: int) -> str:
    return f"{_STAND_IN}/o/{pixel}"


def _clicks(
    html: bytes, scan: Scan, plan: HtmlPlan, tracking_host: str, codec: str, opted_out: frozenset[int]
) -> _Clicks:
    """Decide for every link, and collect the edits; *opted_out* is that of :class:`.marks.Cleaned`."""
    rules = LinkRules(
        plan.own_hosts, plan.excluded_hosts, plan.skip_visible_url, plan.skip_unsubscribe, plan.unsubscribe_targets
    )
    out = _Clicks()
    in_comments: dict[int, list[Edit]] = {}
    ordinal = -1
    for number, tag in enumerate(scan.tags):
        if tag.is_end or not (tag.name in (b"a", b"area") or (tag.comment >= 0 and tag.name.startswith(b"v:"))):
            continue
        ordinal += tag.comment < 0
        found = attributes(html, tag, _LINK_ATTRIBUTES)
        refused = opt_outs(found, html)
        href = next((a for a in found if a.name == b"href"), None)
        stripped = [*refused, *(a for a in found if a.name in SERVICE_ATTRIBUTES)]
        edits = [_removal(html, attribute) for attribute in stripped]
        value: bytes | None = None
        url: str | None = None
        if href is not None:
            raw = html[href.value_start : href.value_end]
            destination = _destination(raw, rules, codec, out.urls)
            reason = destination if isinstance(destination, Skip) else None
            if refused or (opted_out and href.value_end - len(raw.lstrip()) in opted_out):
                reason = Skip.OPT_OUT
            elif reason is None and stripped and plan.skip_unsubscribe and _unsubscribes(html, stripped):
                reason = Skip.UNSUBSCRIBE
            elif reason is None and tag.name == b"a":
                rel = next((html[a.value_start : a.value_end] for a in found if a.name == b"rel"), b"")
                content = html[tag.end : _content_end(scan.tags, number)]
                reason = anchor_skip(content, rel, rules, tracking_host, codec)
            if reason is not None:
                out.skipped[reason] += 1
                if reason in (Skip.OPT_OUT, Skip.UNSUBSCRIBE) and not isinstance(destination, Skip):
                    out.kept[destination] = reason
            else:
                stand_in = _link_stand_in(len(out.destinations))
                value, url = raw, stand_in.decode()
                bare = html[href.value_end] not in b"\"'"
                if tag.comment >= 0 and (html.startswith(b">", href.value_end) or (bare and stripped)):
                    out.fragile[len(out.destinations)] = raw
                out.destinations.append(destination)
                edits.append(Edit(href.value_start, href.value_end, stand_in))
        if not edits:
            continue
        if len(edits) > 1:
            edits.sort(key=_in_order)
        out.edits += edits
        if tag.comment >= 0:
            in_comments.setdefault(tag.comment, []).extend(edits)
        else:
            out.changes.append(LinkChange(ordinal, value, url, frozenset(a.name.decode("latin-1") for a in stripped)))
    for comment, edits in in_comments.items():
        start, end = scan.comments[comment]
        before = html[start:end]
        out.comments.append(CommentChange(before, apply_edits(before, edits, offset=start)))
    return out


def _destination(raw: bytes, rules: LinkRules, codec: str, urls: set[str]) -> str | Skip:
    """Return where the ``href`` with the bytes *raw* leads, which *urls* gets too, or why its address keeps it out."""
    text = decode_href(raw, codec)
    if text is None:
        # Not ours to decode; but a mailto: or a fragment is none of ours in any charset.
        return url_skip(clean_url(decode_attribute(raw.decode("latin-1")))) or Skip.CHARSET
    url = clean_url(text)
    reason = url_skip(url)
    if reason is not None:
        return reason
    url = browser_url(url)
    urls.add(url)
    return rules_skip(url, rules) or url


def _content_end(tags: list[Tag], number: int) -> int:
    """Return the offset where the content of the anchor ``tags[number]`` ends: the next ``<a`` or ``</a``, or a cap."""
    limit = tags[number].end + MAX_CONTENT_BYTES
    for tag in tags[number + 1 : number + 9]:
        if tag.start >= limit:
            break
        if tag.name == b"a":
            return tag.start
    return limit


def _unsubscribes(html: bytes, stripped: list[Attribute]) -> bool:
    """Whether the first attribute called :data:`.links.UNSUBSCRIBES` says that the link unsubscribes."""
    values = (html[a.value_start : a.value_end] for a in stripped if a.name == UNSUBSCRIBES)
    return next(values, b"").strip() == b"1"


def _removal(html: bytes, attribute: Attribute) -> Edit:
    """Return the edit that takes *attribute* out of its tag together with the whitespace before it.

    The whitespace stays where it parts two attributes that would else run together: ``<a clicktracking="off"href=x>``.
    """
    start, end = attribute.start, attribute.end
    if html[end] in b" \t\n\r\f>":
        while html[start - 1] in b" \t\n\r\f":
            start -= 1
    return Edit(start, end, b"")
