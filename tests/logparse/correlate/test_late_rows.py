"""The milter's rows wait in a spool while the log goes on: what becomes of mail is the same whenever they come."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postwake.events import Accepted

KNOWN = {
    "expired": "recipients whom no line names until the queue manager gives up go unsaid",
    "filter_pipe_stamp": "our stamp is met again before the row that it is of",
    "rejected": "the log forgets a mail that was refused as a whole",
    "reuse_log_lags": "several mails wait under one queue ID, and the log is behind all of them",
    "reuse_log_lags_removed_lost": "the same",
}
"""Scenarios in which a late row does make a difference, and why."""


def fates(story: str) -> list[str]:
    """Return each recipient's state of a story, and how often it was tried; not what it was asked for as."""
    found = [re.sub(r" <.*?>| #\d+", "", line) for line in story.lower().splitlines()]
    return sorted(line for line in found if re.fullmatch(r"  \S+ \w+ \d+", line))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_late_rows_change_no_fate(
    milter_scenario: Any,
    make_world: Callable[..., Any],
    story: Callable[[Path], str],
    miscounted: Callable[[Path], Any],
    data: st.DataObject,
) -> None:
    """Each recipient comes to the same, and every count is what the tables add up to."""
    scenario = milter_scenario
    if scenario.name in KNOWN:
        pytest.skip(KNOWN[scenario.name])
    rows = [step for step in scenario.steps if isinstance(step, Accepted)]
    steps = list(scenario.steps)
    for row in rows:
        place = steps.index(row)
        del steps[place]
        steps.insert(data.draw(st.integers(place, len(steps)), row.queue_id), row)
    in_time, late = make_world(scenario.mta), make_world(scenario.mta)
    in_time.run(scenario.steps)
    late.run(steps, restarts=data.draw(st.sets(st.integers(0, len(steps) - 1)), "restarts"))
    assert fates(story(late.path)) == fates(story(in_time.path))
    assert miscounted(late.path) == {}
