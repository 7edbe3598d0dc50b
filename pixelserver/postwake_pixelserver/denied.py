"""Destinations that links no longer lead to: the emergency stop for an abused or phished link.

The file holds one entry a line; ``#`` begins a comment:

- ``shop.example`` denies that host, exactly (not its subdomains);
- ``https://shop.example/landing/`` denies every URL that begins so, scheme and host compared without case.

A denied link answers like an unsigned one: 404, the same constant body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from postwake.errors import ConfigError
from postwake_pixelserver.destination import host, location

_HOST = re.compile(r"[a-z0-9_.-]+|\[[0-9a-f:.]+\]")


class DeniedDestinations:
    """A set of denied hosts and URL prefixes; immutable."""

    def __init__(self, hosts: Iterable[str] = (), prefixes: Iterable[str] = ()) -> None:
        self._hosts = frozenset(hosts)
        self._prefixes = tuple(_fold(prefix) for prefix in prefixes)

    def __contains__(self, target: object) -> bool:
        """Whether *target*, a ``Location`` value, may not be gone to."""
        if not isinstance(target, str) or not (self._hosts or self._prefixes):
            return False
        return host(target) in self._hosts or bool(self._prefixes and _fold(target).startswith(self._prefixes))

    def __len__(self) -> int:
        return len(self._hosts) + len(self._prefixes)


def _fold(url: str) -> str:
    """Lower the case of scheme and host and write backslashes before the query as browsers read them."""
    head, mark, tail = url.partition("?")
    head = head.replace("\\", "/")
    scheme, colon, rest = head.partition(":")
    authority, slash, path = rest.lstrip("/").partition("/")
    authority = authority.rpartition("@")[2].lower()
    default = ":443" if scheme.lower() == "https" else ":80"
    return (
        f"{scheme.lower()}{colon}//{authority.removesuffix(default)}{slash or ('/' if mark else '')}{path}{mark}{tail}"
    )


def parse_denied(text: str, origin: str) -> DeniedDestinations:
    """Read the lines of a deny list; :class:`ConfigError` names every line that is neither host nor URL."""
    hosts: list[str] = []
    prefixes: list[str] = []
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = re.split(r"\s#|^#", line, maxsplit=1)[0].strip()
        if not entry:
            continue
        if "://" in entry:
            prefix = location(entry)
            if prefix is None:
                problems.append(f"{origin}:{number}: {entry!r}: expected a host or an http or https URL prefix")
            else:
                prefixes.append(prefix)
            continue
        name = host(location(f"http://{entry}/") or "")
        if "/" in entry or not _HOST.fullmatch(name):
            problems.append(f"{origin}:{number}: {entry!r}: expected a host or an http or https URL prefix")
        else:
            hosts.append(name)
    if problems:
        raise ConfigError(*problems)
    return DeniedDestinations(hosts, prefixes)


def read_denied(path: Path | None) -> DeniedDestinations:
    """Read the deny list at *path* (None: nothing is denied); :class:`ConfigError` if it cannot be read or used."""
    if path is None:
        return DeniedDestinations()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{path}: cannot read the denied destinations: {reason}") from None
    return parse_denied(text, str(path))
