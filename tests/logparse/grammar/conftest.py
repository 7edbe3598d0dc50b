"""What the tests of the line grammars share: a clock that stands still, grammars, and the way to the corpora."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from postwake_logparse.exim import EximGrammar
from postwake_logparse.postfix import PostfixGrammar
from postwake_logparse.record import Record
from postwake_logparse.stamp import StampReader

REPOSITORY = Path(__file__).parents[3]
# The middle of 2026: a traditional stamp from before July is of this year, one from after it of last year.
REFERENCE_US = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.fixture
def clock() -> StampReader:
    """A stamp reader in UTC whose reference is the middle of 2026."""
    return StampReader(reference_us=REFERENCE_US, timezone="UTC")


@pytest.fixture
def postfix_line(clock: StampReader) -> Callable[[str], tuple[Record | None, PostfixGrammar]]:
    """Read one Postfix line: its record, or None, and the grammar with its tally."""

    def read(line: str) -> tuple[Record | None, PostfixGrammar]:
        grammar = PostfixGrammar()
        records = list(grammar.parse_block(line.encode() + b"\n", clock))
        assert grammar.tally.lines == 1
        return (records[0] if records else None), grammar

    return read


@pytest.fixture
def exim_line(clock: StampReader) -> Callable[[str], tuple[Record | None, EximGrammar]]:
    """Read one Exim line: its record, or None, and the grammar with its tally."""

    def read(line: str) -> tuple[Record | None, EximGrammar]:
        grammar = EximGrammar()
        records = list(grammar.parse_block(line.encode() + b"\n", clock))
        assert grammar.tally.lines == 1
        return (records[0] if records else None), grammar

    return read


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real-world data, which a fresh clone does not have."""
    folder = Path(os.environ.get("POSTWAKE_CORPORA", REPOSITORY / ".." / "shared" / "corpora"))
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}: set POSTWAKE_CORPORA to measure against real logs")
    return folder
