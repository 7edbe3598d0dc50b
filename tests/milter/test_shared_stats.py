"""Counters that worker processes share with the one that serves them."""

from __future__ import annotations

import os

import pytest
from prometheus_client import CollectorRegistry

from postwake_milter.shared_stats import OUTCOMES, SharedStats


@pytest.fixture
def registry() -> tuple[CollectorRegistry, SharedStats]:
    """A registry with the counters of two workers."""
    registry, stats = CollectorRegistry(), SharedStats(2)
    registry.register(stats)
    return registry, stats


def test_every_outcome_exists_at_zero(registry: tuple[CollectorRegistry, SharedStats]) -> None:
    """Series are there before anything happened, so that rates can be taken from the start."""
    found = {
        name: registry[0].get_sample_value("postwake_milter_messages_total", {"outcome": name}) for name in OUTCOMES
    }
    assert found == dict.fromkeys(OUTCOMES, 0.0)


def test_workers_add_up(registry: tuple[CollectorRegistry, SharedStats]) -> None:
    """What several workers count is served as one sum, messages and seconds."""
    collected, stats = registry
    stats.worker(0).count("tracked", 0.25)
    stats.worker(1).count("tracked", 0.5, 3)
    stats.worker(1).count("failed", 0.0)

    assert collected.get_sample_value("postwake_milter_messages_total", {"outcome": "tracked"}) == 2
    assert collected.get_sample_value("postwake_milter_messages_total", {"outcome": "failed"}) == 1
    assert collected.get_sample_value("postwake_milter_malformed_controls_total") == 3
    assert collected.get_sample_value("postwake_milter_duration_seconds_count") == 3
    assert collected.get_sample_value("postwake_milter_duration_seconds_sum") == 0.75


@pytest.mark.parametrize(
    ("seconds", "bound", "above"),
    [
        pytest.param(0.001, "0.001", 1.0, id="on-the-bound"),
        pytest.param(0.0011, "0.001", 0.0, id="above-it"),
        pytest.param(99.0, "10.0", 0.0, id="beyond-the-last"),
        pytest.param(99.0, "+Inf", 1.0, id="all"),
    ],
)
def test_buckets(registry: tuple[CollectorRegistry, SharedStats], seconds: float, bound: str, above: float) -> None:
    """A duration is in every bucket whose bound it does not exceed."""
    registry[1].worker(0).count("tracked", seconds)
    assert registry[0].get_sample_value("postwake_milter_duration_seconds_bucket", {"le": bound}) == above


def test_a_worker_that_is_started_anew_goes_on_counting(registry: tuple[CollectorRegistry, SharedStats]) -> None:
    """Counts of a worker that died are not lost: its successor adds to them, from another process too."""
    collected, stats = registry
    for _ in range(2):
        process = os.fork()
        if process == 0:
            stats.worker(0).count("untracked", 0.0)
            os._exit(0)
        os.waitpid(process, 0)
    assert collected.get_sample_value("postwake_milter_messages_total", {"outcome": "untracked"}) == 2
