"""The files that a log's rotation leaves beside it, newest first.

Names understood, for a log ``mail.log``: ``mail.log.1`` (logrotate, savelog, newsyslog), ``mail.log.01`` (exicyclog),
``mail.log-20261122`` and ``mail.log.2026-11-22`` (``dateext``, with or without a time or a Unix time behind),
``mail.log.20261122-053000`` (Postfix's own ``postfix logrotate``), ``mail.1.log`` and ``mail-20261122.log``
(``extension .log``), each with .gz, .bz2, .xz or .zst behind it. Case matters and nothing else is looked at:
``mail.log.old.bak`` is somebody's own copy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")

_SUFFIX = r"""
    [.\-_](?:
        (?P<number>\d{1,3})                                   # .1, .01: the smaller the newer
      | (?P<date>\d{4}-?\d{2}-?\d{2}(?:[-_.T]?\d[\d:\-]*)?    # -20261122, .2026-11-22, .20261122-053000
          | \d{9,11})                                         # -1795325400: dateformat -%s
    )
"""


class Sibling(NamedTuple):
    """A rotated file beside a log."""

    path: Path
    device: int
    inode: int
    mtime_us: int
    size: int
    compression: str
    """``.gz`` and so on, or empty."""


def list_siblings(path: Path, archive_dirs: Iterable[Path] = ()) -> list[Sibling]:
    """Return the rotated files of the log at *path*, newest first.

    Looks beside *path*, beside the file that *path* is a symbolic link to, and in *archive_dirs* (logrotate's
    ``olddir``). What *path* itself leads to is never among them. Where a plain file and a compressed one differ in
    nothing but the compression, the compressor is still at work and the plain one counts. Numbered names are ordered
    by number and dated ones by date; where both kinds exist, by time of modification.

    Directories that do not exist, and files that vanish meanwhile, are left out; other :class:`OSError` are raised.
    """
    resolved = Path(os.path.realpath(path))
    places = {(path.parent, path.name): None, (resolved.parent, resolved.name): None}
    places |= {(directory, name): None for directory in archive_dirs for name in (path.name, resolved.name)}
    found: dict[Path, tuple[Sibling, str, str]] = {}
    live = _identity(path)
    seen: set[tuple[int, int]] = set()
    for directory, name in places:
        pattern = _pattern(name)
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match is None:
                continue
            try:
                info = entry.stat()
            except FileNotFoundError:
                continue
            identity = (info.st_dev, info.st_ino)
            if not entry.is_file() or identity == live or identity in seen:
                continue
            compression = match["compression"] or ""
            plain_name = directory / (entry.name[: -len(compression)] if compression else entry.name)
            if plain_name in found and not found[plain_name][0].compression:
                continue
            seen.add(identity)
            sibling = Sibling(Path(entry.path), *identity, info.st_mtime_ns // 1000, info.st_size, compression)
            number = match["number1"] or match["number2"] or ""
            found[plain_name] = (sibling, number, match["date1"] or match["date2"] or "")
    values = list(found.values())
    if all(number for _, number, _ in values):
        values.sort(key=lambda value: int(value[1]))
    elif all(date for _, _, date in values):
        values.sort(key=lambda value: re.sub(r"\D", "", value[2]), reverse=True)
    else:
        values.sort(key=lambda value: value[0].mtime_us, reverse=True)
    return [sibling for sibling, _, _ in values]


def _pattern(name: str) -> re.Pattern[str]:
    stem, dot, extension = name.rpartition(".")
    behind = _numbered_groups(1)
    before = _numbered_groups(2)
    alternatives = re.escape(name) + behind
    if stem and dot:
        alternatives += "|" + re.escape(stem) + before + re.escape(f".{extension}")
    else:
        alternatives += "|" + r"(?!)" + before  # keeps the group names; never matches
    compressions = "|".join(re.escape(compression) for compression in COMPRESSIONS)
    return re.compile(f"(?:{alternatives})(?P<compression>{compressions})?", re.VERBOSE)


def _numbered_groups(index: int) -> str:
    return _SUFFIX.replace("<number>", f"<number{index}>").replace("<date>", f"<date{index}>")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino
