"""main.cf as bytes: where a parameter is defined, and edits that leave every other byte as it was.

The format (postconf(5)): empty lines and lines whose first printing character is ``#`` are ignored; a line that begins
with white space continues the one before; ``name = value``; the last definition of a name counts. ``postconf -e`` would
join continued lines and drop the comments between them; this does not.

Pure: text in, text out. Read files as latin-1, which takes every byte and gives it back.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from postwake_operate import milter_list

_NAME = re.compile(r"([^\s=#][^\s=]*)[ \t]*=")


class Definition(NamedTuple):
    """One definition of a parameter."""

    start: int
    end: int
    """Behind its last line's newline. Comments and empty lines at its end belong to what follows."""
    value: int
    """Where its value begins."""


class Edit(NamedTuple):
    """One changed parameter: *before* was replaced by *after*. An empty *before*: it was added at the end."""

    parameter: str
    before: str
    after: str


def find(text: str, parameter: str) -> Definition | None:
    """Return the definition of *parameter* that counts, the last; None if there is none."""
    found = None
    current: tuple[int, int] | None = None  # start and value of the wanted definition we are in
    end = position = 0
    for line in _lines(text):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            if line[0] not in " \t":
                if current is not None:
                    found = Definition(current[0], end, current[1])
                match = _NAME.match(line)
                wanted = match is not None and match[1] == parameter
                current = (position, position + match.end()) if wanted and match is not None else None
            end = position + len(line)
        position += len(line)
    return Definition(current[0], end, current[1]) if current is not None else found


def _lines(text: str) -> list[str]:
    # Not splitlines(): it also splits at form feeds and at 0x85, which Postfix does not.
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def add_milter(text: str, parameter: str, ours: str) -> tuple[str, Edit]:
    """Put the entry *ours* into the list *parameter*, where it belongs; return the new text and the edit."""
    where = find(text, parameter)
    if where is None:
        added = f"{'' if not text or text.endswith(chr(10)) else chr(10)}{parameter} = {ours}\n"
        return text + added, Edit(parameter, "", added)
    definition = text[where.start : where.end]
    value = where.value - where.start
    milters = milter_list.parse(definition, value)
    if not milters:  # `smtpd_milters =`: it says none
        body = definition[:value].rstrip() + f" {ours}" + definition[len(definition.rstrip("\r\n")) :]
    else:
        index = milter_list.place(milters)
        if index < len(milters):
            at = milters[index].start
            body = f"{definition[:at]}{ours}, {definition[at:]}"
        else:
            at = milters[-1].end
            body = f"{definition[:at]}, {ours}{definition[at:]}"
    return text[: where.start] + body + text[where.end :], Edit(parameter, definition, body)


def take_back(text: str, edit: Edit, addresses: frozenset[str]) -> str:
    """Undo *edit* in *text*, which may have been edited since: then only our entry is taken out.

    Everything is as it was if the definition still reads as the edit left it.
    """
    where = find(text, edit.parameter)
    if where is None:
        return text
    current = text[where.start : where.end]
    if edit.before and current == edit.after:
        return text[: where.start] + edit.before + text[where.end :]
    if not edit.before and text.endswith(edit.after):
        return text[: -len(edit.after)]
    if not edit.before and current == edit.after.lstrip("\n"):
        return text[: where.start] + text[where.end :]
    left, others = _without(current, where.value - where.start, addresses)
    if not others and not edit.before:  # the whole parameter was ours
        left = ""
    return text[: where.start] + left + text[where.end :]


def _without(definition: str, value: int, addresses: frozenset[str]) -> tuple[str, int]:
    """Return *definition* without our entries and a separator beside each, and how many entries are left."""
    while True:
        milters = milter_list.parse(definition, value)
        index = next((n for n, milter in enumerate(milters) if milter.address in addresses), None)
        if index is None:
            return definition, len(milters)
        start, end = milters[index].start, milters[index].end
        if index + 1 < len(milters):
            end = milters[index + 1].start
        elif index:
            start = milters[index - 1].end
        definition = definition[:start] + definition[end:]
