"""kill -9 between every pair of statements: what was committed stays, what was not is read again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Make = Callable[..., Any]
KILLED = 9


def follow_until_killed(log: Any, parts: tuple[str, ...], statement: int) -> int:
    """Follow a growing log in a process of its own that ends before its *statement*-th statement.

    Return the exit status: 0 if it came to the end of the log before.
    """
    pid = os.fork()
    if pid == 0:
        seen = 0

        def count(_: str) -> None:
            nonlocal seen
            seen += 1
            if seen == statement:
                os._exit(KILLED)

        try:
            follower = log.follower(count)
            for part in parts:
                log.write(part)
                assert follower.step(0)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_killed_between_any_two_statements(
    make_log: Make,
    busy_log: tuple[str, ...],
    log_of_notices: str,
    contents: Callable[[Path], Any],
    miscounted: Callable[[Path], Any],
) -> None:
    """Wherever it is killed, a restarted service leaves the store of one that never was."""
    whole = make_log()
    parts = (log_of_notices, *busy_log)
    assert follow_until_killed(whole, parts, 0) == 0
    expected = contents(whole.store)
    assert len(expected["event"]) > 20
    statement, status = 0, KILLED
    while status == KILLED:
        statement += 1
        log = make_log()
        status = follow_until_killed(log, parts, statement)
        assert status in (0, KILLED), f"the child failed at statement {statement}"
        written = log.path.read_text(encoding="utf-8") if log.path.exists() else ""
        log.write("".join(parts)[len(written) :])
        follower = log.follower()
        while follower.step(0):
            pass
        follower.close()
        assert contents(log.store) == expected, f"killed before statement {statement}"
    assert miscounted(log.store) == {}
    assert statement > 60
