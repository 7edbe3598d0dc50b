"""What each kind of log means: the story that the store tells of it, however the log was read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Make = Callable[..., Any]


def test_the_store_tells_what_happened(
    scenario: Any, make_world: Make, story: Callable[[Path], str], miscounted: Callable[[Path], dict[Any, Any]]
) -> None:
    """Each scenario's log becomes its story, and every count is what the tables add up to."""
    world = make_world(scenario.mta, scenario.local_domains)
    world.run(scenario.steps)
    assert story(world.path) == scenario.expected
    assert miscounted(world.path) == {}


def test_line_by_line_is_the_same(scenario: Any, make_world: Make, contents: Callable[[Path], Any]) -> None:
    """A log read a line at a time gives the rows that it gives in one block."""
    whole, single = (make_world(scenario.mta, scenario.local_domains) for _ in range(2))
    whole.run(scenario.steps)
    single.run(scenario.steps, cuts=range(len(scenario.steps)))
    assert contents(single.path) == contents(whole.path)


def test_a_restart_after_every_line_is_the_same(
    scenario: Any, make_world: Make, contents: Callable[[Path], Any]
) -> None:
    """A log parser that starts anew before each line gives the rows of one that never stopped."""
    whole, restarted = (make_world(scenario.mta, scenario.local_domains) for _ in range(2))
    whole.run(scenario.steps)
    restarted.run(scenario.steps, restarts=range(len(scenario.steps)))
    assert contents(restarted.path) == contents(whole.path)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_blocks_and_restarts_are_the_same(
    scenario: Any, make_world: Make, contents: Callable[[Path], Any], data: st.DataObject
) -> None:
    """Wherever blocks end and the log parser starts anew, the rows are the same."""
    places = st.sets(st.integers(0, len(scenario.steps) - 1))
    whole, other = (make_world(scenario.mta, scenario.local_domains) for _ in range(2))
    whole.run(scenario.steps)
    other.run(scenario.steps, cuts=data.draw(places, "cuts"), restarts=data.draw(places, "restarts"))
    assert contents(other.path) == contents(whole.path)
