"""A limit on bad tokens per client, in bounded memory. Good tokens are never limited: a whole company may click from
one address, and a link that answers 429 is a dead link.
"""

from __future__ import annotations

import threading
from collections import OrderedDict


class BadTokenLimit:
    """Counts bad tokens per source in token buckets: *burst* at once, then *per_minute* more.

    At most *max_sources* sources are remembered; the one longest unseen is forgotten first, so that a flood from
    many addresses costs a fixed amount of memory and can at worst win back its own allowance.
    """

    def __init__(self, per_minute: float = 30.0, burst: int = 60, max_sources: int = 20_000) -> None:
        self._per_us = per_minute / 60_000_000
        self._burst = float(burst)
        self._max_sources = max_sources
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def exceeded(self, source: str, now_us: int) -> bool:
        """Count one bad token of *source* at *now_us*; return whether it is one too many."""
        with self._lock:
            level, then_us = self._buckets.pop(source, (self._burst, now_us))
            level = min(self._burst, level + max(0, now_us - then_us) * self._per_us)
            over = level < 1.0
            self._buckets[source] = (level if over else level - 1.0, now_us)
            if len(self._buckets) > self._max_sources:
                self._buckets.popitem(last=False)
            return over

    def __len__(self) -> int:
        return len(self._buckets)
