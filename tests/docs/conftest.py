"""Shared by the tests of the documentation: the generator, the pages, and the command lines they show."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def make_docs() -> ModuleType:
    """contrib/make-docs.py as a module."""
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "contrib/make-docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_docs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """README, CHANGELOG and every page of docs and contrib, by path."""
    paths = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("contrib/**/*.md")]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(paths)}


class Shown(NamedTuple):
    """A command line that a page shows."""

    page: str
    line: str
    words: tuple[str, ...]
    """What follows the program's name."""
    is_whole: bool
    """Whether it stands in a block to be copied, rather than within a sentence, where arguments may be left out."""


def code_of(page: str) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of code of a page, and whether each is a line of a block."""
    fenced = re.findall(r"^ *```\w*\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```\w*\n.*?^ *```", "", page, flags=re.MULTILINE | re.DOTALL)
    # A block is indented by four, or by four within a list item, and a blank line stands before it.
    for block in [*fenced, *re.findall(r"(?:^|\n)\n((?: {4,}\S.*(?:\n|$))(?: {4,}.*(?:\n|$)|\n(?= {4}))*)", prose)]:
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            yield line.strip(), True
    for text in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^ {4,}.*$", "", prose, flags=re.MULTILINE)):
        yield text, False


def commands_in(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of each call of ``postwake`` in a shell *line*."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>()")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return
    call: list[str] | None = None
    start = True
    for number, word in enumerate(words):
        if word and set(word) <= set("|;&()"):
            if call is not None:
                yield tuple(call)
            call, start = None, True
        elif call is not None:
            if set(word) <= set("<>") and word:
                yield tuple(call)
                call = None
            else:
                call.append(word)
        elif start and (word == "postwake" or re.fullmatch(r"/[\w./-]*bin/postwake", word)):
            call = []
        elif word not in ("sudo", "-u") and not (number and words[number - 1] == "-u") and "=" not in word:
            start = False
    if call is not None:
        yield tuple(call)


@pytest.fixture(scope="session")
def shown(pages: dict[str, str]) -> list[Shown]:
    """Every call of ``postwake`` in README and docs that is meant literally."""
    found = []
    for page, text in pages.items():
        if page == "docs/cli.md":  # made from the code, and full of metavariables
            continue
        for line, is_whole in code_of(text):
            if "postwake" not in line or "…" in line:
                continue
            found += [Shown(page, line, words, is_whole) for words in commands_in(line)]
    return found
