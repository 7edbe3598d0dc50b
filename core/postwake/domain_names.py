"""Domain names as people write them: in their own letters or in ASCII, with or without the final dot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import idna


def spellings(domain: str) -> list[str]:
    """Return *domain* and, if it is an international one, how it is written in ASCII and in its own letters."""
    found = [domain]
    if not domain.isascii() or "xn--" in domain.lower():
        with contextlib.suppress(idna.IDNAError):
            found += [idna.encode(domain, uts46=True).decode("ascii"), idna.decode(domain, uts46=True)]
    return found


def plain(domain: str) -> str:
    """Return *domain* in lower case, without a final dot: as :func:`every_spelling` has it."""
    return domain.lower().removesuffix(".")


def every_spelling(domains: Iterable[str]) -> frozenset[str]:
    """Return all that :func:`plain` makes of the spellings of *domains*: to look domains of addresses up in."""
    return frozenset(plain(spelling) for domain in domains for spelling in spellings(domain))
