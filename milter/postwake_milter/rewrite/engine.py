"""Rewrite a message: the way in for the milter, and through :mod:`.whole_message` for ``postwake rewrite``.

:func:`rewrite` takes a message as the milter has it, fields and body, and says what changes. It is pure. The promise:
outside the spans that are edited, every byte is the one that came in; what is new in an edited part is decoded again
and compared before it is used; and when anything is in doubt the original goes out, with the name of the reason
(:mod:`.reasons`).
"""

from __future__ import annotations

from binascii import a2b_qp
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

from postwake.tokens import Privacy

from . import marks, never_touch, text_plain, unsubscribe
from .charsets import editable
from .content import Content, describe
from .control import Control, read_control
from .header_changes import HeaderChange, encoding_change, removals, unsubscribe_changes
from .headers import Fields, RawField
from .html_edit import HtmlDraft, HtmlPlan, draft_html
from .html_edit import Mint as HtmlMint
from .html_scan import Edit, apply_edits
from .links import LinkRules, Skip
from .memory import Known, Memory
from .mime_parts import Part, StructureError, same_outline, split
from .pixel import PixelPosition
from .placing import TRANSFER_CHECK_FAILED, Span, TransferError, line_ending
from .quoted_style import encode_quoted_printable
from .transfer import open_body, overlong_line


@dataclass(frozen=True, slots=True)
class Plan:
    """What configuration wants of a message of a tracked sender. The message's own header fields have the last word
    about opens, clicks, text and privacy."""

    opens: bool = True
    clicks: bool = True
    text_clicks: bool = False
    pixel_position: PixelPosition = "bottom"
    own_hosts: frozenset[str] = frozenset()
    excluded_hosts: tuple[str, ...] = ()
    skip_visible_url: bool = True
    skip_unsubscribe: bool = True
    allow_dkim_signed: bool = False
    list_unsubscribe: Literal["off", "add", "wrap"] = "off"
    shared: bool = False
    """Several recipients get this body: one-click unsubscribing could not say who left, so it is never offered."""
    max_message_bytes: int = 10_485_760
    pixel_mark: str = ""
    """The sender's own mark for the pixel's place, see :mod:`.marks`."""


class Mint(HtmlMint, unsubscribe.UnsubscribeMint, Protocol):
    """Makes the URLs that go into one message: plain ASCII, without quotes, spaces, ``&``, ``<`` or ``>``."""

    @property
    def host(self) -> str:
        """The host that they lead to, lower case."""
        ...


@dataclass(slots=True)
class Rewritten:
    """What becomes of a message."""

    tracked: bool
    """At least one pixel, link or unsubscribe address of ours is in it."""
    untracked_reason: str | None
    body: bytes | None
    """The new body; None if it stays as it is."""
    header_changes: tuple[HeaderChange, ...]
    destinations: tuple[str, ...]
    """Where the links that are wrapped lead to; each one's index is its place."""
    opens: int
    """Pixels placed."""
    links_skipped: dict[str, int]
    """What was left alone: links and List-Unsubscribe by reason, and of a tracked message ``part-…``: the texts that
    were to be edited and are not, or not as was meant."""
    parts_rewritten: int
    part_reasons: dict[str, int]
    """Why parts were left as they came, or in part so: reason to count."""
    control: Control


_counts = partial(defaultdict[str, int], int)
"""Makes an empty count of reasons; a Counter takes ten times as long to make."""


@dataclass(slots=True)
class _Work:
    """What has been decided so far for one message."""

    opens: bool
    clicks: bool
    text: bool
    edits: list[Edit] = field(default_factory=list)  # over the body
    destinations: list[str] = field(default_factory=list)
    pixels: int = 0
    pixelled: list[Part] = field(default_factory=list)
    """The parts that have them."""
    skipped: dict[str, int] = field(default_factory=_counts)
    kept: dict[str, Skip] = field(default_factory=dict)
    """What links of HTML parts lead to that are to be left alone, and why."""
    parts_rewritten: int = 0
    reasons: dict[str, int] = field(default_factory=_counts)
    encoding: bytes | None = None
    """The message's own new Content-Transfer-Encoding."""
    blocked: dict[str, int] = field(default_factory=_counts)
    """Why texts that were to be edited are not, or not as was meant, in the order in which it came up."""

    def block(self, reason: str) -> None:
        """Count *reason* why a text that was to be edited is not, or not as was meant."""
        self.reasons[reason] += 1
        self.blocked[reason] += 1


_NO_MEMORY = Memory(0)
_UNCOUNTED = frozenset(("privacy-off", "disabled-by-header", "tracking-off", "auto-generated"))
"""Why nothing is counted in a message whose text is the sender's own all the same: marks are taken out of it."""


def rewrite(
    fields: Sequence[RawField],
    body: bytes | None,
    plan: Plan,
    mint: Mint,
    memory: Memory = _NO_MEMORY,
    eol: bytes = b"\r\n",
) -> Rewritten:
    """Return what becomes of the message with *fields* and *body*.

    *fields* are name and value as they came, the value with its leading space, folded with CRLF or bare LF. *body* is
    None where it was too large to be fetched. With *memory*, parts that it has seen before are quicker, and come out
    the same. *eol* ends new lines where the body has no line break to copy. What *mint* raises passes through; nothing
    else is raised, whatever the message.
    """
    fields = fields if isinstance(fields, Fields) else Fields(fields)
    control = read_control(fields)
    content = describe(fields)
    reason = never_touch.untouchable(fields, content, allow_dkim_signed=plan.allow_dkim_signed)
    if reason is not None:
        return untouched(reason, control, ())
    if control.pixel_on_top is not None:
        plan = replace(plan, pixel_position="top" if control.pixel_on_top else "bottom")
    if control.pixel_mark is not None:
        plan = replace(plan, pixel_mark=control.pixel_mark)
    work = _Work(*_wanted(plan, control))
    how = _list_unsubscribe_mode(plan, control)
    uncounted = _declined(fields, content, control, work, "off" if plan.shared else how)
    if uncounted is not None:
        if uncounted not in _UNCOUNTED or never_touch.automatic(fields, content) not in (None, "auto-generated"):
            return untouched(uncounted, control, removals(control))
        work.opens = work.clicks = work.text = False
    if body is None or len(body) > plan.max_message_bytes:
        return untouched(uncounted or "too-large", control, removals(control))
    new_body: bytes | None = None
    try:
        new_body, reason = _rewrite_body(fields, body, content, plan, mint, work, memory, eol)
    except StructureError as error:
        reason = error.reason
    if reason == "inline-pgp" and uncounted is None:
        return untouched(reason, control, ())
    if not (work.opens or work.clicks or work.text):
        reason = None  # nothing was to be counted in the body
    if new_body is None:
        work = _Work(
            work.opens,
            work.clicks,
            work.text,
            skipped=work.skipped,
            reasons=work.reasons,
            blocked=work.blocked,
        )
    changes = list(removals(control))
    if work.encoding is not None:
        changes += encoding_change(fields, work.encoding)
    unsubscribed = False
    if how != "off" and uncounted is None:
        written = unsubscribe.list_unsubscribe(fields, how, plan.own_hosts, mint)
        skipped = "shared" if plan.shared and written.value is not None else written.skipped
        if skipped is not None:
            work.skipped[f"list-unsubscribe-{skipped}"] += 1
        elif written.value is not None:
            changes += unsubscribe_changes(fields, written.value)
            unsubscribed = True
    tracked = bool(work.pixels or work.destinations or unsubscribed)
    why = uncounted or reason or next(iter(work.blocked), "nothing-to-track")
    if tracked:
        if reason is not None:
            work.block(reason)
        # What is missing of a tracked message is told beside its links.
        _add(work.skipped, {f"part-{name}": count for name, count in work.blocked.items()})
    return Rewritten(
        tracked,
        None if tracked else why,
        new_body,
        tuple(changes),
        tuple(work.destinations),
        work.pixels,
        dict(work.skipped),
        work.parts_rewritten,
        dict(work.reasons),
        control,
    )


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        counts[name] += count


def untouched(reason: str, control: Control, changes: tuple[HeaderChange, ...]) -> Rewritten:
    """Return what becomes of a message that goes out as it came but for *changes*, and why."""
    return Rewritten(False, reason, None, changes, (), 0, {}, 0, {}, control)


def _wanted(plan: Plan, control: Control) -> tuple[bool, bool, bool]:
    """Return whether opens, clicks and clicks in text are wanted: the message's own word goes first."""
    if control.privacy is Privacy.OFF:
        return False, False, False
    opens = plan.opens if control.track_opens is None else control.track_opens
    clicks = plan.clicks if control.track_clicks is None else control.track_clicks
    text = plan.text_clicks and clicks if control.track_text is None else control.track_text
    return opens, clicks, text


def _list_unsubscribe_mode(plan: Plan, control: Control) -> Literal["off", "add", "wrap"]:
    if control.privacy is Privacy.OFF or control.unsubscribe is False:
        return "off"
    if control.unsubscribe and plan.list_unsubscribe == "off":
        return "add"
    return plan.list_unsubscribe


def _declined(fields: Fields, content: Content, control: Control, work: _Work, how: str) -> str | None:
    """Return why the message is not tracked, though its header fields may change; or None."""
    if control.privacy is Privacy.OFF:
        return "privacy-off"
    reason = never_touch.automatic(fields, content)
    if reason is not None and not (reason == "auto-generated" and (control.track_opens or control.track_clicks)):
        return reason
    if not (work.opens or work.clicks or work.text) and how == "off":
        by_header = control.track_opens is False or control.track_clicks is False
        return "disabled-by-header" if by_header else "tracking-off"
    return None


# --- The body ---


def _rewrite_body(
    fields: Sequence[RawField],
    body: bytes,
    content: Content,
    plan: Plan,
    mint: Mint,
    work: _Work,
    memory: Memory,
    eol: bytes,
) -> tuple[bytes | None, str | None]:
    """Return the new body, or None; and perhaps why nothing in it is counted."""
    if content.is_multipart and (not content.boundary or content.encoding != "identity"):
        return None, "malformed-mime"
    parts = split(body, content)
    eol = line_ending(body, eol)

    opened: dict[int, Known] = {}

    def known(part: Part) -> Known:
        if part.body_start not in opened:
            encoded = body[part.body_start : part.body_end]
            opened[part.body_start] = memory.open(encoded, part.content.encoding, eol)
        return opened[part.body_start]

    if any(never_touch.is_report(part.content) and not part.is_top for part in parts):
        return None, "delivery-report"
    for part in parts:
        if never_touch.is_text(part.content) and never_touch.part_reason(part) is None:
            with suppress(TransferError):
                if _holds_pgp(body, part, known):
                    return None, "inline-pgp"
    targets = frozenset(unsubscribe.targets(fields))
    blocked: list[str] = []  # why texts that were wanted are not edited
    others: list[str] = []
    considered = False
    # HTML goes first: what opts out there is left alone in the text, too.
    for part in sorted(parts, key=lambda part: part.content.type == "text/plain") if work.text else parts:
        reason = never_touch.part_reason(part)
        is_wanted = part.content.type == "text/html" and (work.opens or work.clicks)
        is_wanted = is_wanted or (part.content.type == "text/plain" and work.text)
        if reason is not None:
            work.reasons[reason] += 1
            (blocked if is_wanted else others).append(reason)
        elif is_wanted:
            considered = True
            try:
                _rewrite_part(part, known(part), eol, plan, targets, mint, work)
            except TransferError as error:
                work.block(error.reason)
        elif never_touch.is_text(part.content):
            others.insert(0, "no-html")
            with suppress(TransferError):
                if _holds_marks(body, part, known, plan.pixel_mark):
                    _rewrite_part(part, known(part), eol, plan, targets, mint, work)
    why = None if considered else next(iter(blocked or others), "no-html")
    if not work.edits:
        return None, why
    new_body = apply_edits(body, sorted(work.edits, key=lambda edit: edit.start))
    if len(parts) > 1 or content.is_multipart:
        try:
            same = same_outline(parts, split(new_body, content))
        except StructureError:
            same = False
        if not same:
            return None, "structure-check-failed"
    return new_body, why


def _holds_marks(body: bytes, part: Part, known: Callable[[Part], Known], pixel_mark: str) -> bool:
    """Whether a text in which nothing is counted may hold a service's mark. TransferError as in :func:`_holds_pgp`."""
    if part.content.encoding == "base64":
        return marks.may_hold_marks(known(part).opened.decoded, pixel_mark)
    encoded = body[part.body_start : part.body_end]
    quoted = part.content.encoding == "quoted-printable"
    return marks.may_hold_marks(a2b_qp(encoded) if quoted else encoded, pixel_mark)


def _holds_pgp(body: bytes, part: Part, known: Callable[[Part], Known]) -> bool:
    """Whether a text holds an inline PGP message. TransferError if it has to be decoded for that, and cannot be."""
    # Base64 hides it, everything else shows its first line; quoted-printable may have its hyphens and spaces as
    # escapes. HTML is going to be opened anyway, and may be known.
    if part.content.type == "text/html" or part.content.encoding == "base64":
        return known(part).holds_pgp(part.content)
    if any(body.find(hint, part.body_start, part.body_end) >= 0 for hint in (b"BEGIN PGP ", b"BEGIN=20PGP")):
        return known(part).holds_pgp(part.content)
    return False


def _rewrite_part(
    part: Part, known: Known, eol: bytes, plan: Plan, targets: frozenset[str], mint: Mint, work: _Work
) -> None:
    """Edit one text part; its edits over the body and everything it counts go into *work*.

    TransferError, with only what was skipped counted, if the edits cannot be encoded.
    """
    first_link = len(work.destinations)
    spans: tuple[Span, ...]
    if part.content.type == "text/html":
        draft = _html_draft(part, known, plan, targets, mint, work)
        _add(work.skipped, draft.skipped)
        work.kept.update(draft.kept)
        if draft.reason is not None:
            work.block(draft.reason)
        spans, pixels, destinations = draft.spans, draft.pixels, draft.destinations
        replacements = draft.replacements(mint, first_link) if spans else []
    else:
        _, reason = editable(part.content.charset, known.opened.decoded)
        if reason is not None:
            if work.text:
                work.block(reason)
            return
        rules = LinkRules(
            plan.own_hosts, plan.excluded_hosts, plan.skip_visible_url, plan.skip_unsubscribe, targets, work.kept
        )
        parameters = part.content.parameters
        flowed = parameters.get("format", "").lower() == "flowed"
        delsp = flowed and parameters.get("delsp", "").lower() == "yes"
        text = text_plain.edit_text(
            known.opened.decoded, rules, mint, delsp=delsp, first_link=first_link, wrap=work.text
        )
        _add(work.skipped, text.skipped)
        spans, pixels = tuple((edit.start, edit.end) for edit in text.edits), 0
        destinations = tuple(link.url for link in text.links)
        replacements = [edit.replacement for edit in text.edits]
    if not spans:
        return
    encoded = _encode(part, known, spans, replacements, eol, work)
    work.edits.append(Edit(part.body_start, part.body_end, encoded))
    work.destinations += destinations
    work.pixels += pixels
    work.pixelled += [part] if pixels else []
    work.parts_rewritten += 1


def _html_draft(part: Part, known: Known, plan: Plan, targets: frozenset[str], mint: Mint, work: _Work) -> HtmlDraft:
    """Return what to do with an HTML part."""
    charset, decoded = part.content.charset, known.opened.decoded
    html_plan = HtmlPlan(
        # One body, one pixel, however many HTML parts are shown in a row.
        opens=work.opens and not any(part.is_shown_with(other) for other in work.pixelled),
        clicks=work.clicks,
        pixel_position=plan.pixel_position,
        own_hosts=plan.own_hosts,
        excluded_hosts=plan.excluded_hosts,
        skip_visible_url=plan.skip_visible_url,
        skip_unsubscribe=plan.skip_unsubscribe,
        pixel_mark=plan.pixel_mark,
    )
    host = mint.host

    def make(targets: frozenset[str]) -> HtmlDraft:
        codec, reason = editable(charset, decoded)
        if reason is not None:
            return HtmlDraft.nothing(reason)
        return draft_html(decoded, replace(html_plan, unsubscribe_targets=targets), host, codec=codec)

    return known.draft((charset, html_plan, host), targets, make)


def _encode(
    part: Part, known: Known, spans: tuple[Span, ...], replacements: list[bytes], eol: bytes, work: _Work
) -> bytes:
    """Return the part's new encoded bytes, which decode to what is meant; TransferError as there.

    A part that was not encoded becomes quoted-printable, and says so, where a line would be too long for SMTP.
    """
    filled = known.place(spans).fill(replacements)
    if part.content.encoding != "identity" or not overlong_line(known.opened.decoded, spans, replacements):
        return filled
    encoded = encode_quoted_printable(filled, eol)
    if open_body(encoded, "quoted-printable", eol).decoded != filled:
        raise TransferError(TRANSFER_CHECK_FAILED)
    _declare_quoted_printable(part, eol, work)
    return encoded


def _declare_quoted_printable(part: Part, eol: bytes, work: _Work) -> None:
    """Change the field that says how the part is encoded, or add it where there is none."""
    if part.is_top:
        work.encoding = b"quoted-printable"
        return
    present = [header for header in part.fields if header.name.lower() == b"content-transfer-encoding"]
    for header in present:  # all, if it stands there twice
        work.edits.append(Edit(header.value_start, header.value_start + len(header.value), b" quoted-printable"))
    if not present:
        new = b"Content-Transfer-Encoding: quoted-printable" + eol
        work.edits.append(Edit(part.header_end, part.header_end, new))
