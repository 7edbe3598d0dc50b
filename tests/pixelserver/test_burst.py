"""Time since delivery and bursts turn verdicts around, once, and only towards machine."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postwake.events import EventType, Who
from postwake_pixelserver.burst import Seen, judge

GOLDEN = Path(__file__).parents[1] / "golden" / "who" / "sequences.toml"
SEQUENCES = tomllib.loads(GOLDEN.read_text(encoding="utf-8"))["sequence"]
T0_US = 1_795_000_000_000_000


def seen(number: int, at_s: float, what: object, client: str, agent: str, who: Who = Who.HUMAN) -> Seen:
    """Return a stored hit *at_s* seconds after delivery."""
    kind = EventType.OPENED if what == "open" else EventType.CLICKED
    link = 0 if what == "open" else int(str(what))
    return Seen(number, T0_US + round(at_s * 1e6), kind, link, who, client, agent)


@pytest.mark.parametrize("case", SEQUENCES, ids=[case["id"] for case in SEQUENCES])
def test_labelled_sequence(case: dict[str, object]) -> None:
    """Each published sequence gets the verdicts that the table says, and the relabelings carry its reason."""
    hits = [seen(number, *row[:4]) for number, row in enumerate(case["hits"])]
    found = judge(
        hits,
        delivered_at_us=T0_US if case.get("delivered", True) else None,
        links=case["links"],
        shared=case.get("shared", False),
    )
    expected = {number: row[6] for number, row in enumerate(case["hits"]) if row[6]}
    assert {relabeling.event: relabeling.reason for relabeling in found} == expected
    assert all(relabeling.who is Who.MACHINE for relabeling in found)
    assert [row[5] for row in case["hits"]] == ["machine" if n in expected else "human" for n in range(len(hits))]


HITS = st.lists(
    st.builds(
        seen,
        st.integers(0, 10_000),
        st.floats(-20, 120, allow_nan=False),
        st.sampled_from(["open", 1, 2, 3, 4]),
        st.sampled_from(["198.51.100.9", "203.0.113.5", "192.0.2.1", "~abc", ""]),
        st.sampled_from(["A", "B", ""]),
        st.sampled_from(list(Who)),
    ),
    max_size=25,
    unique_by=lambda hit: hit.event,
)


@settings(max_examples=200)
@given(HITS, st.booleans(), st.integers(0, 5), st.booleans())
def test_judging_again_changes_nothing(hits: list[Seen], delivered: bool, links: int, shared: bool) -> None:
    """Relabelings only make machines of others, and once applied there are none left to make."""
    options = {"delivered_at_us": T0_US if delivered else None, "links": links, "shared": shared}
    found = {relabeling.event: relabeling for relabeling in judge(hits, **options)}
    for hit in hits:
        if hit.event in found:
            assert hit.who is not Who.MACHINE
            assert found[hit.event].who is Who.MACHINE
    after = [
        Seen(h.event, h.at_us, h.type, h.link, Who.MACHINE if h.event in found else h.who, h.client, h.user_agent)
        for h in hits
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
