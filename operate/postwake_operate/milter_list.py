"""The value of ``smtpd_milters``: addresses or ``{ address, option=value }``, separated by commas and white space.

Pure: text in, values out. Offsets are in the text that went in, so that an edit can leave every other byte alone. The
text may be a definition as it stands in main.cf, comment lines between continued lines included (postconf(5),
"FILE FORMAT"; MILTER_README, "Advanced milter configuration").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SIGNER_NAME = re.compile(r"dkim|rspamd|openarc|amavis|authentication_milter", re.IGNORECASE)
_SIGNER_PORTS = {8891: "OpenDKIM", 12301: "OpenDKIM", 8892: "dkimpy-milter", 8893: "dkimpy-milter", 11332: "rspamd"}
"""What the packages and the common guides use. opendmarc's is 8893 too, on some systems: it signs nothing, but standing
before it does no harm."""
_NO_SIGNER_NAME = re.compile(r"opendmarc|spamass|clamav|clmilter|greylist|policyd|spf", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Milter:
    """One entry."""

    text: str
    """As it stands there."""
    start: int
    end: int
    address: str
    """Such as ``unix:postwake/milter.sock``; ``$name`` when it is a reference."""
    options: dict[str, str] = field(default_factory=dict)

    @property
    def signer(self) -> str | None:
        """The name of the signing milter that this is, as far as name or port tell; None if it is none."""
        if _NO_SIGNER_NAME.search(self.address):
            return None
        found = _SIGNER_NAME.search(self.address)
        if found:
            return found[0].lower()
        kind, _, rest = self.address.partition(":")
        port = rest.rpartition(":")[2]
        return _SIGNER_PORTS.get(int(port)) if kind == "inet" and port.isdecimal() else None

    @property
    def may_sign(self) -> bool:
        """Whether it cannot be told that it does not sign: ours had better stand before it."""
        return _NO_SIGNER_NAME.search(self.address) is None


def parse(text: str, start: int = 0) -> list[Milter]:
    """Return the entries of *text* from offset *start* on. ValueError for a brace that is not closed."""
    found = []
    position = start
    while position < len(text):
        char = text[position]
        if char in ", \t\r\n":
            position += 1
        elif char == "#" and _begins_line(text, position):
            position = _line_end(text, position)
        else:
            end = _entry_end(text, position)
            found.append(_milter(text[position:end], position, end))
            position = end
    return found


def _begins_line(text: str, position: int) -> bool:
    return not text[text.rfind("\n", 0, position) + 1 : position].strip() and "\n" in text[:position]


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _entry_end(text: str, start: int) -> int:
    depth = 0
    for position in range(start, len(text)):
        char = text[position]
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return position + 1
        elif depth == 0 and char in ", \t\r\n":
            return position
    if depth:
        raise ValueError(f"{text[start:].strip()!r}: expected a closing brace")
    return len(text)


def _milter(text: str, start: int, end: int) -> Milter:
    if not text.startswith("{"):
        return Milter(text, start, end, text)
    words = [word.strip() for word in re.split(r"[,\r\n]", text[1:-1]) if word.strip()]
    address, *rest = words or [""]
    # White space separates too: `{ inet:host:1 default_action=accept }`
    address, *more = address.split()
    options = dict(word.partition("=")[::2] for word in (*more, *rest))
    return Milter(text, start, end, address, {name.strip(): value.strip() for name, value in options.items()})


def find(milters: list[Milter], addresses: frozenset[str]) -> Milter | None:
    """Return the first entry whose address is one of *addresses*."""
    return next((milter for milter in milters if milter.address in addresses), None)


def place(milters: list[Milter]) -> int:
    """Return the index before which ours belongs.

    Before the first that signs; if none is known to, before the first that might. Those known not to sign keep their
    place before us: a virus scanner's refusal comes before our work.
    """
    for wanted in ("signer", "may_sign"):
        for index, milter in enumerate(milters):
            if getattr(milter, wanted):
                return index
    return len(milters)


def problem_of_order(milters: list[Milter], addresses: frozenset[str]) -> str | None:
    """Return the address of the first signer that stands before ours (we would break what it signs), or None."""
    for milter in milters:
        if milter.address in addresses:
            return None
        if milter.signer:
            return milter.address
    return None
