"""What is never rewritten, told from the header fields of a message or a part. Reasons are those of :mod:`.reasons`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from postwake.tracking_id import parse_tracking_id

from .content import Content
from .headers import RawField, parse_parameters, unfold, values
from .mime_parts import Part

STAMP = b"X-Postwake-ID"
"""The field that says which message this is; it is set on every message that was tracked."""

_SMIME = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_PGP = re.compile(rb"(?m)^-----BEGIN PGP (?:SIGNED )?MESSAGE-----[ \t]*\r?$")
_PGP_HINT = b"-----BEGIN PGP "
_UNSEEN = {"text/calendar": "calendar", "text/x-amp-html": "amp"}
_SEALS = (b"arc-seal", b"arc-message-signature")


def untouchable(fields: Sequence[RawField], content: Content, *, allow_dkim_signed: bool) -> str | None:
    """Return why not one byte of the message may change, header fields of ours included; None if some may."""
    if any(parse_tracking_id(unfold(value)) is not None for value in values(fields, STAMP.lower())):
        return "already-stamped"
    kind = container(content)
    if kind is not None:
        return kind
    # Some programs end a line at a bare CR, and would see other fields, or the header's end, in the middle of one.
    if any(b"\r" in value and b"\r" in value.replace(b"\r\n", b"") for _, value in fields):
        return "malformed-headers"
    names = {name.lower() for name, _ in fields}
    if not allow_dkim_signed:
        if b"dkim-signature" in names:
            return "dkim-signed"
        if any(name in names for name in _SEALS):
            return "arc-sealed"
    return None


def container(content: Content) -> str | None:
    """Return why nothing inside an entity of this kind may change, or None."""
    if content.type == "multipart/signed":
        return "signed"
    if content.type == "multipart/encrypted":
        return "encrypted"
    return "smime" if content.type in _SMIME else None


def automatic(fields: Sequence[RawField], content: Content) -> str | None:
    """Return why the message is no mail that someone reads and answers, or None (RFC 3834 section 5).

    ``auto-generated`` is for the caller to weigh: invoices and alerts say so of themselves as well.
    """
    if content.type == "multipart/report":
        return "delivery-report"
    submitted = [parse_parameters(value).value.split(" ")[0] for value in values(fields, b"auto-submitted")]
    generated = False
    for word in submitted:
        if word == "auto-generated":
            generated = True
        elif word not in ("no", ""):
            return "auto-replied"
    if any(unfold(value).lower() in ("auto_reply", "auto-reply") for value in values(fields, b"precedence")):
        return "auto-replied"
    for name in (b"x-autoreply", b"x-autorespond", b"x-autoreply-from", b"x-auto-reply-from"):
        if any(unfold(value).lower() not in ("", "no", "false") for value in values(fields, name)):
            return "auto-replied"
    return "auto-generated" if generated else None


def part_reason(part: Part) -> str | None:
    """Return why *part* is not a text of the message's own that may be edited, as far as its fields tell; or None."""
    content = part.content
    for kind in part.parents:
        if kind == "multipart/signed":
            return "signed"
        if kind == "multipart/encrypted":
            return "encrypted"
        if kind == "multipart/report":
            return "delivery-report"
    inside = container(content)
    if inside is not None:
        return inside
    if content.type.startswith("message/"):
        return "attached-message"
    if content.type in _UNSEEN:
        return _UNSEEN[content.type]
    if content.is_multipart:
        return "malformed-mime"
    # RFC 2183 section 2.8: a disposition that nobody knows is an attachment.
    if content.disposition not in ("", "inline"):
        return "attachment"
    parent = part.parents[-1] if part.parents else ""
    if parent == "multipart/related" and part.position > 0:
        return "related-resource"
    # A file name on a body is a habit of some senders; on anything else it is a file, though it be shown inline.
    is_body = part.is_top or parent == "multipart/alternative" or (part.position == 0 and not content.disposition)
    if content.filename and not is_body:
        return "attachment"
    if part.malformed:
        return "malformed-headers"
    return "ambiguous-headers" if content.ambiguous else None


def is_text(content: Content) -> bool:
    """Whether the entity is text that people read: plain or HTML."""
    return content.type in ("text/html", "text/plain")


def holds_pgp(decoded: bytes) -> bool:
    """Whether a text holds an inline PGP message, signed or encrypted (RFC 4880 section 6.2: on a line of its own)."""
    return _PGP_HINT in decoded and _PGP.search(decoded) is not None
