"""How results are written: NDJSON lines, one JSON document, or a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

Block = TypeVar("Block")


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def ndjson(rows: Iterable[dict[str, Any]]) -> None:
    """Write each row as one line of JSON, in UTF-8 whatever the locale.

    Flushed at the end; rows that are made from input that comes slowly need :func:`flushing` around the input.
    """
    write = sys.stdout.buffer.write
    for row in rows:
        write(_compact(row).encode("utf-8", "backslashreplace") + b"\n")
    sys.stdout.buffer.flush()


def flushing(blocks: Iterable[Block]) -> Iterator[Block]:
    """Give the input's blocks on; what was written because of one is out before the next is waited for."""
    for block in blocks:
        yield block
        sys.stdout.buffer.flush()


def document(value: Any) -> None:
    """Write one JSON document."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], right: frozenset[int] = frozenset()) -> None:
    """Write aligned columns; those numbered in *right* end at the right."""
    cells = [list(map(printable, head)), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        parts = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(parts).rstrip())


def printable(value: object) -> str:
    """Return *value* as text that cannot move the cursor: what servers and senders say ends up on a terminal."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def percent(part: int, whole: int) -> str:
    """Return *part* of *whole* for people, ``–`` if there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def local_time(at: str) -> str:
    """Return an RFC 3339 UTC time of the store as local time for people, to the second, with its offset from UTC."""
    return datetime.fromisoformat(at).astimezone().isoformat(" ", "seconds")


_MOST_US = 62_135_596_800_000_000
"""From the year 1 to 1970, which is as far back as a date can say, and fits SQLite's integers."""
_LAST_US = 253_402_297_200_000_000
"""The last whole hour that a date can say, in the year 9999: periods are taken in whole hours."""


def parse_period(text: str, now_us: int) -> int:
    """Return the time in microseconds that *text* names: ``7d``, ``12h``, ``30m`` ago, or an ISO date or time (UTC)."""
    units_s = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    try:
        if text[-1:] in units_s and text[:-1].isdigit():
            at_us = now_us - int(text[:-1]) * units_s[text[-1]] * 1_000_000
            if at_us < -_MOST_US:
                raise ValueError
            return at_us
        at = datetime.fromisoformat(text)
        at_us = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
        if at_us > _LAST_US:
            raise ValueError
        return at_us
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r}: expected 30m, 12h, 7d, 2w or a date such as 2026-11-22") from None
