"""The measure of linear time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import pytest

# For four times the input a quadratic part makes it 16; allocation and a busy machine spread a linear one around 4.
LIMIT = 9
FLOOR_S = 0.004
"""Times below this are noise."""


def _fastest(run: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


@pytest.fixture
def assert_linear() -> Iterator[Callable[[Callable[[bytes], object], bytes, bytes], None]]:
    """Fail if a function takes out of proportion longer for the second input, four times as large as the first.

    The garbage collector's passes over other tests' objects are kept out of the measurements.
    """

    def check(run: Callable[[bytes], object], small: bytes, big: bytes) -> None:
        for _ in range(3):  # a machine that is busy with something else may spoil one comparison
            ratio = _fastest(lambda: run(big)) / max(_fastest(lambda: run(small)), FLOOR_S)
            if ratio < LIMIT:
                return
        pytest.fail(f"{len(big)} bytes took {ratio:.1f} times as long as {len(small)}")

    gc.collect()
    gc.disable()
    yield check
    gc.enable()
