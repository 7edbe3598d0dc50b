"""List-Unsubscribe with one click: RFC 2369 section 3.2 and RFC 8058.

The field holds addresses in angle brackets, best first. One click means: an HTTPS address, beside the field
``List-Unsubscribe-Post: List-Unsubscribe=One-Click``, that unsubscribes whoever POSTs to it. RFC 8058 wants both
fields covered by the DKIM signature: the signer comes after us, and must have them in its list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from .headers import RawField, unfold, values
from .links import is_own, url_skip

MAX_FIELD_URL = 900
"""Longest of our URLs that goes into the field: with the name before it, it must fit on a line of 998 octets."""

ONE_CLICK = b"List-Unsubscribe=One-Click"

_TARGET = re.compile(r"<([^<>]*)>|[()]")


class UnsubscribeMint(Protocol):
    """Makes the URLs that unsubscribe."""

    def unsubscribe_url(self, original: str | None) -> str:
        """Return the URL that unsubscribes, keeping the sender's own *original* target to be honoured."""
        ...


@dataclass(frozen=True, slots=True)
class ListUnsubscribe:
    """The fields to write: the new value of List-Unsubscribe, or *skipped*, why there is none."""

    value: bytes | None
    skipped: str | None = None


def targets(fields: Sequence[RawField]) -> list[str]:
    """Return the addresses of every List-Unsubscribe field, white space taken out as RFC 2369 says."""
    found: list[str] = []
    for value in values(fields, b"list-unsubscribe"):
        found += ("".join(target.split()) for target in _addresses(unfold(value)))
    return [target for target in found if target]


def _addresses(text: str) -> list[str]:
    """Return what stands in angle brackets in *text* and in no comment; a comment that never closes is none."""
    outside: list[str] = []
    inside: list[str] = []  # the comments that are open now
    depth = 0
    for match in _TARGET.finditer(text):
        if match[1] is not None:
            (inside if depth else outside).append(match[1])
        elif match[0] == "(":
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                inside.clear()
    return outside + inside


def list_unsubscribe(
    fields: Sequence[RawField], how: Literal["add", "wrap"], own_hosts: frozenset[str], mint: UnsubscribeMint
) -> ListUnsubscribe:
    """Return the List-Unsubscribe field to write, or why the message's own stays.

    ``add`` gives the message a one-click address where it has no web address of its own; ``wrap`` puts ours in place of
    its own, which the token keeps, if it takes one click, so that an unsubscription can be passed on to it. A mailto
    stays in the field either way. Skips: ``has-own`` (add, and there is a web address), ``not-one-click`` (wrap, and it
    is not https, or no List-Unsubscribe-Post says that it may be POSTed to), ``own-host`` (it is ours already),
    ``malformed`` (the field says something else, or something beside that would be lost), ``too-long``, ``not-https``
    (our tracking host is not: RFC 8058 section 3.1 wants an HTTPS address).
    """
    present = values(fields, b"list-unsubscribe")
    found = targets(fields)
    if any(unfold(value) for value in present) and not found:
        return ListUnsubscribe(None, "malformed")
    web = [target for target in found if target.lower().startswith(("https://", "http://"))]
    mails = [target for target in found if target.lower().startswith("mailto:") and target.isascii()]
    if len(web) + len(mails) != len(found):
        return ListUnsubscribe(None, "malformed")
    if any(is_own(target, own_hosts) for target in web):
        return ListUnsubscribe(None, "own-host")
    if web and how == "add":
        return ListUnsubscribe(None, "has-own")
    # Of several, the one a mail client would use for one click: the first that is https.
    original = next((target for target in web if target.lower().startswith("https:")), None)
    if web and (original is None or not _takes_one_click(fields)):
        return ListUnsubscribe(None, "not-one-click")
    if original is not None and (url_skip(original) is not None or not original.isascii()):
        return ListUnsubscribe(None, "malformed")
    url = mint.unsubscribe_url(original)
    if not url.lower().startswith("https:"):
        return ListUnsubscribe(None, "not-https")
    if len(url) > MAX_FIELD_URL or any(len(mail) > MAX_FIELD_URL for mail in mails):
        return ListUnsubscribe(None, "too-long")
    return ListUnsubscribe(b",\n ".join(b"<" + target.encode("ascii") + b">" for target in (url, *mails)))


def _takes_one_click(fields: Sequence[RawField]) -> bool:
    found = values(fields, b"list-unsubscribe-post")
    return any("".join(unfold(value).split()).lower() == ONE_CLICK.decode().lower() for value in found)
