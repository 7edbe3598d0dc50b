"""Known crawlers, found sooner than by trying every expression of the list."""

from __future__ import annotations

import crawleruseragents
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake_pixelserver.crawlers import is_crawler

ENTRIES = crawleruseragents.CRAWLER_USER_AGENTS_DATA
INSTANCES = sorted({instance for entry in ENTRIES for instance in entry.get("instances", ())})
PIECES = [entry["pattern"].replace("\\", "") for entry in ENTRIES]


def test_every_agent_of_the_list() -> None:
    """Every agent that the list gives as an example of a crawler is one."""
    assert len(INSTANCES) > 1000
    assert [instance for instance in INSTANCES if not is_crawler(instance)] == []


@pytest.mark.parametrize(
    "agent",
    [
        "",
        "-",
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    ],
    ids=["none", "hyphen", "firefox", "iphone"],
)
def test_people(agent: str) -> None:
    """What people have is none."""
    assert not is_crawler(agent)


@given(st.lists(st.sampled_from(PIECES) | st.sampled_from(INSTANCES) | st.text(max_size=9), max_size=3), st.data())
def test_as_the_list_says(pieces: list[str], data: st.DataObject) -> None:
    """Whatever the agent, the answer is that of the library that keeps the list."""
    agent = "".join(pieces)
    start = data.draw(st.integers(0, len(agent)))
    agent = agent[start : data.draw(st.integers(start, len(agent)))]
    assert is_crawler(agent) == crawleruseragents.is_crawler(agent)
