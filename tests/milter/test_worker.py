"""The worker's own decisions."""

from __future__ import annotations

import pytest

from postwake_milter.worker import gather_s


@pytest.mark.parametrize(
    ("begun", "waiting", "expected_s"),
    [
        pytest.param(1, 1, 0.0, id="alone"),
        pytest.param(3, 1, 0.0, id="a few"),
        pytest.param(9, 1, 0.006, id="many on their way"),
        pytest.param(9, 8, 0.0, id="nearly all are there"),
        pytest.param(500, 1, 0.01, id="never long"),
        pytest.param(0, 3, 0.0, id="of messages that have been given up"),
    ],
)
def test_gathering(begun: int, waiting: int, expected_s: float) -> None:
    """A row waits for those that are on their way, unless they are few, and never long."""
    assert gather_s(begun, waiting) == pytest.approx(expected_s)
