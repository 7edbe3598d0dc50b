"""Bad tokens are limited per source, in bounded memory."""

from __future__ import annotations

from postwake_pixelserver.limits import BadTokenLimit

MINUTE_US = 60_000_000


def test_burst_then_rate() -> None:
    """A source may send its burst at once, then its rate a minute."""
    limit = BadTokenLimit(per_minute=6, burst=3)
    assert [limit.exceeded("a", 0) for _ in range(5)] == [False, False, False, True, True]
    assert not limit.exceeded("a", 10_000_000)
    assert limit.exceeded("a", 10_000_001)
    assert [limit.exceeded("a", 10 * MINUTE_US) for _ in range(4)] == [False, False, False, True]


def test_sources_do_not_pay_for_each_other() -> None:
    """One source's flood leaves another's allowance alone."""
    limit = BadTokenLimit(per_minute=1, burst=1)
    for _ in range(10):
        limit.exceeded("flood", 0)
    assert not limit.exceeded("other", 0)


def test_memory_is_bounded() -> None:
    """A flood from many addresses is remembered in a fixed number of buckets."""
    limit = BadTokenLimit(max_sources=100)
    for number in range(10_000):
        limit.exceeded(str(number), number)
    assert len(limit) == 100


def test_a_clock_set_back_gives_nothing() -> None:
    """Time running backwards neither refills nor raises."""
    limit = BadTokenLimit(per_minute=60, burst=1)
    assert not limit.exceeded("a", MINUTE_US)
    assert limit.exceeded("a", 0)
