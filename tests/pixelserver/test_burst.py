"""Time since delivery and bursts turn verdicts around, once, and only towards machine."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.events import EventType, Who
from postwake_pixelserver.burst import Seen, judge
from postwake_pixelserver.who import read_rules

confusion = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("confusion.py"))))
AGENTS, SEQUENCES = confusion.read_sequences()
RULES = read_rules()
T0_US = 1_795_000_000_000_000


def seen(
    number: int, at_s: float, what: object, client: str, agent: str, who: Who = Who.HUMAN, reason: str = "browser"
) -> Seen:
    """Return a stored hit *at_s* seconds after delivery."""
    kind = EventType.OPENED if what == "open" else EventType.CLICKED
    link = 0 if what == "open" else int(str(what))
    return Seen(number, T0_US + round(at_s * 1e6), kind, link, who, client, agent, reason)


@pytest.mark.parametrize("case", SEQUENCES, ids=[case["id"] for case in SEQUENCES])
def test_labelled_sequence(case: dict[str, Any]) -> None:
    """Each published sequence gets the verdicts and reasons that the table says."""
    hits = confusion.first_verdicts(case, AGENTS, RULES, T0_US)
    expected = [(row[5], row[6] or hit.reason) for row, hit in zip(case["hits"], hits, strict=True)]
    assert confusion.last_verdicts(case, hits, T0_US) == expected


def test_sequences_are_labelled() -> None:
    """IDs are unique; every sequence has its source, every hit its truth, and a reason wherever the verdict changed."""
    assert len({case["id"] for case in SEQUENCES}) == len(SEQUENCES)
    for case in SEQUENCES:
        assert case["source"], case["id"]
        for row, hit in zip(case["hits"], confusion.first_verdicts(case, AGENTS, RULES), strict=True):
            assert row[4] in ("human", "machine", "unknown"), case["id"]
            assert bool(row[6]) == (row[5] != hit.who.label), (case["id"], row)


HITS = st.lists(
    st.builds(
        seen,
        st.integers(0, 10_000),
        st.floats(-20, 120, allow_nan=False),
        st.sampled_from(["open", 1, 2, 3, 4]),
        st.sampled_from(["198.51.100.9", "203.0.113.5", "192.0.2.1", "~abc", ""]),
        st.sampled_from(["A", "B", ""]),
        st.sampled_from(list(Who)),
        st.sampled_from(["browser", "prefetch", "link-preview"]),
    ),
    max_size=25,
    unique_by=lambda hit: hit.event,
)


@settings(max_examples=200)
@given(HITS, st.booleans(), st.integers(0, 5), st.booleans())
def test_judging_again_changes_nothing(hits: list[Seen], delivered: bool, links: int, shared: bool) -> None:
    """Relabelings only lead towards machine, and once applied there are none left to make."""
    options = {"delivered_at_us": T0_US if delivered else None, "links": links, "shared": shared}
    found = {relabeling.event: relabeling for relabeling in judge(hits, **options)}
    for hit in hits:
        if hit.event in found:
            now = found[hit.event].who
            assert (hit.who, now) in {(Who.HUMAN, Who.UNKNOWN), (Who.HUMAN, Who.MACHINE), (Who.UNKNOWN, Who.MACHINE)}
    after = [
        replace(hit, **{k: getattr(found[hit.event], k) for k in ("who", "reason")}) if hit.event in found else hit
        for hit in hits
    ]
    assert judge(after, **options) == []


@settings(max_examples=100)
@given(HITS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_order_of_hits_does_not_matter(hits: list[Seen], links: int, random: object) -> None:
    """The store may return hits in any order."""
    shuffled = list(hits)
    random.shuffle(shuffled)
    options = {"delivered_at_us": T0_US, "links": links, "shared": False}
    assert judge(hits, **options) == judge(shuffled, **options)
