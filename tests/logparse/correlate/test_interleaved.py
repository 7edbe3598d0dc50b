"""Logs of several mails at once, their lines mixed as a busy server mixes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postwake.events import Accepted

Make = Callable[..., Any]
QUEUE_ID = re.compile(r"\bAAAA(\d)\b")


def rename(step: Any, number: int, shared: bool) -> Any:
    """Give a scenario's queue IDs, Message-IDs and tracking IDs to mail *number*.

    *shared* keeps the queue IDs; the mail then comes hours after the one before.
    """
    new_id = rf"A{0 if shared else number}A\1A0"
    later_h = 3 * number if shared else 0
    if isinstance(step, str):
        text = QUEUE_ID.sub(new_id, step)
        text = text[:11] + f"{int(text[11:13]) - 9 + later_h:02}" + text[13:]
        return re.sub(r"message-id=<", f"message-id=<m{number}.", text)
    changes: dict[str, Any] = {
        "tracking_id": bytes([number]) + step.tracking_id[1:],
        "queue_id": QUEUE_ID.sub(new_id, step.queue_id),
        "at_us": step.at_us + (later_h - 9) * 3_600_000_000,
    }
    if isinstance(step, Accepted) and step.message_id:
        changes["message_id"] = f"m{number}.{step.message_id}"
    return replace(step, **changes)


def paragraphs(story: str) -> list[str]:
    """Return what a story says of each message, sorted."""
    found: list[str] = []
    for line in story.splitlines():
        if line.startswith("  "):
            found[-1] += f"\n{line}"
        elif not line.startswith(("queue:", "- ")):
            found.append(line)
    return sorted(found)


def expected_paragraphs(scenario: Any, number: int) -> list[str]:
    """Return what the story of mail *number* says, with its own names."""
    text = QUEUE_ID.sub(rf"A{number}A\1A0", scenario.expected)
    return paragraphs(re.sub(r" id=(?=\S)", f" id=m{number}.", text))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mixed_lines_in_any_blocks(
    postfix_scenarios: tuple[Any, ...],
    make_world: Make,
    story: Callable[[Path], str],
    contents: Callable[[Path], Any],
    miscounted: Callable[[Path], Any],
    data: st.DataObject,
) -> None:
    """However lines of several mails are mixed and read, the same rows, true counts, and of each mail its own story;
    the same rows and true counts, too, when mails one after another have the same queue IDs."""
    chosen = data.draw(st.lists(st.sampled_from(postfix_scenarios), min_size=2, max_size=4), "scenarios")
    local_domains = chosen[0].local_domains
    chosen = [one for one in chosen if one.local_domains == local_domains]
    shared = data.draw(st.booleans(), "shared queue IDs")
    mails = [[rename(step, number, shared) for step in one.steps] for number, one in enumerate(chosen, 1)]
    turns = [number for number, mail in enumerate(mails) for _ in mail]
    order = turns if shared else data.draw(st.permutations(turns), "order")
    steps = [mails[number].pop(0) for number in order]
    places = st.sets(st.integers(0, len(steps) - 1))
    cuts, restarts = data.draw(places, "cuts"), data.draw(places, "restarts")
    whole, other = (make_world(local_domains=local_domains) for _ in range(2))
    whole.run(steps)
    other.run(steps, cuts=cuts, restarts=restarts)
    assert contents(other.path) == contents(whole.path)
    assert miscounted(whole.path) == {}
    if not shared:
        told = [text for number, one in enumerate(chosen, 1) for text in expected_paragraphs(one, number)]
        assert paragraphs(story(whole.path)) == sorted(told)
