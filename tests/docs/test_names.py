"""What pages mention by name is there: configuration keys, make's targets, metrics, units, files of the project."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from postwake.config_text import sections
from postwake_milter.policy import REASONS
from postwake_milter.rewrite.reasons import UNTRACKED_REASONS

KEYS = {f"{name}.{key}" for name, _, keys in sections() for key, _, _ in keys}
SECTIONS = "|".join(name for name, _, _ in sections() if name != "domains")


def spans(text: str) -> Iterator[str]:
    """Yield each piece of code of a page: spans within sentences, and lines of blocks."""
    yield from re.findall(r"`([^`\n]+)`", text)
    yield from re.findall(r"^ {4}(.*)$", text, re.MULTILINE)


def units(root: Path) -> set[str]:
    """Return the names of the shipped units."""
    return {path.name for path in (root / "systemd").iterdir()}


def metrics(root: Path) -> set[str]:
    """Return the names of metrics, and what Prometheus makes of a histogram's."""
    page = (root / "docs/metrics.md").read_text(encoding="utf-8")
    found = set(re.findall(r"^\| `(postwake_\w+)` \|", page, re.MULTILINE))
    return found | {f"{name}_{end}" for name in found for end in ("bucket", "sum", "count")}


def targets(root: Path) -> set[str]:
    """Return what make can be asked for."""
    return set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


PACKAGES = {"postwake_milter", "postwake_logparse", "postwake_pixelserver", "postwake_console", "postwake_operate"}
PACKAGES |= {"postwake_cli", "postwake_lab", "postwake_feedback"}
RULES: dict[str, tuple[str, Callable[[Path, str], bool], int]] = {
    "key": (rf"(?<![\w./-])((?:{SECTIONS})\.[a-z_]+)(?![\w./(-])", lambda _, name: name in KEYS, 20),
    "make-target": (r"(?:^|&& |;)\s*make ([a-z-]+)", lambda root, name: name in targets(root), 5),
    "metric": (
        r"(?<![:\w/])(postwake_[a-z0-9_]+)(?![\w…/.])",
        lambda root, name: name in metrics(root) or name in PACKAGES,
        20,
    ),
    "unit": (r"(postwake-[a-z]+\.(?:service|timer))", lambda root, name: name in units(root), 2),
    "file": (
        r"(?<![\w./])((?:bench|contrib|docs|systemd|tests|lab|core|milter|logparse|pixelserver)/[\w./-]*\w/?)",
        lambda root, name: (root / name).exists(),
        4,
    ),
}
"""What such a name looks like within code, whether there is one, and that at least so many are found."""

NOT_OURS = {"store.db", "report.html", "tracking.host", "metrics.md", "milter.sock", "milter.md"}
"""Look like keys and are something else."""


@pytest.mark.parametrize("kind", RULES)
def test_what_is_named_exists(kind: str, pages: dict[str, str], root: Path) -> None:
    """No page names a key, target, metric, unit or file that is gone or misspelt."""
    pattern, exists, least = RULES[kind]
    found = {
        (page, name)
        for page, text in pages.items()
        for code in spans(text)
        for name in re.findall(pattern, code)
        if name not in NOT_OURS
    }
    assert sorted(item for item in found if not exists(root, item[1])) == []
    assert len(found) >= least, "the pages' code was not found"


def test_what_explain_names_exists() -> None:
    """What `postwake explain` blames, or says to set, is a key as it stands in the configuration."""
    named = re.findall(r"[\w.]*\w_\w+", " ".join([*REASONS.values(), *UNTRACKED_REASONS.values()]))

    assert [name for name in named if name not in KEYS] == []
    assert len(named) > 4
