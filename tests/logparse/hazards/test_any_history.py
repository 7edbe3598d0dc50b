"""Random histories of a log, its rotation, the store and the process, against the plainest model: the lines written."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from postwake.errors import StoreUnavailableError
from postwake_logparse.backfill import Backfill, order_files

EXAMPLES = 40
STEPS = 40
"""40 histories of up to 40 steps: up to 1,600 steps a run; POSTWAKE_HISTORIES=2000 for a long one (80,000)."""


@pytest.mark.slow
def test_every_line_of_an_undamaged_file_is_in_the_store_once(make_world: Callable[..., Any]) -> None:
    """Whatever happens, the store has the lines written, each once; those that the history destroyed once at most."""

    class Histories(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.directory = Path(tempfile.mkdtemp(prefix="postwake-histories-"))
            self.world = make_world(self.directory)
            self.world.run()  # rotated files that are there before the very first look are not the follower's
            self.begun: bytes = b""  # what stands after the last newline, and is still to be written of that line
            self.damaged: set[int] = set()
            self.shell: sqlite3.Connection | None = None

        def teardown(self) -> None:
            self.unlock()
            self.world.die()
            shutil.rmtree(self.directory)

        def end_line(self) -> None:
            if self.begun:
                with self.world.path.open("ab") as file:
                    file.write(self.begun)
                self.begun = b""

        # What the mail server does

        @rule(count=st.integers(1, 30), padding=st.sampled_from([0, 30, 700]))
        def write(self, count: int, padding: int) -> None:
            self.end_line()
            self.world.write(count, padding)

        @rule(share=st.floats(0.01, 0.99))
        def write_partial(self, share: float) -> None:
            self.end_line()
            self.world.write(1, 20)
            data = self.world.path.read_bytes()
            last = data[data.rstrip(b"\n").rfind(b"\n") + 1 :]
            cut = max(1, int(len(last) * share))
            os.truncate(self.world.path, len(data) - len(last) + cut)  # nobody has looked meanwhile
            self.begun = last[cut:]

        # What logrotate and operators do

        @precondition(lambda self: self.world.path.exists())
        @rule()
        def rotate(self) -> None:
            self.end_line()
            self.world.rotate()

        @rule(number=st.integers(1, 4))
        def compress(self, number: int) -> None:
            if self.world.rotated(number).exists():
                self.world.compress(number)

        @precondition(lambda self: self.world.path.exists())
        @rule(delete=st.booleans())
        def destroy(self, delete: bool) -> None:
            """Truncate or delete the log: what is not in the store yet may be lost."""
            self.damaged |= set(range(self.world.number)) - set(self.world.stored())
            self.begun = b""
            if delete:
                self.world.path.unlink()
            else:
                os.truncate(self.world.path, 0)

        # What happens to the store

        @precondition(lambda self: self.shell is None)
        @rule()
        def lock(self) -> None:
            self.shell = sqlite3.connect(self.world.store, isolation_level=None)
            self.shell.execute("BEGIN IMMEDIATE")

        @precondition(lambda self: self.shell is not None)
        @rule()
        def unlock(self) -> None:
            if self.shell is not None:
                self.shell.close()
                self.shell = None

        # What the process does

        @rule(steps=st.integers(1, 4))
        def follow(self, steps: int) -> None:
            for _ in range(steps):
                try:
                    self.world.follower.step(0)
                except StoreUnavailableError:
                    assert self.shell is not None

        @rule()
        def time_passes(self) -> None:
            self.world.now_s += 6.0

        @rule()
        def killed(self) -> None:
            self.world.restart()

        @rule()
        def killed_before_the_commit(self) -> None:
            """Everything is written but the commit."""

            def die() -> None:
                raise KeyboardInterrupt

            self.world.ingester._correlator.finish = die
            with contextlib.suppress(KeyboardInterrupt, StoreUnavailableError):
                self.world.follower.step(0)
            self.world.restart()

        @precondition(lambda self: self.shell is None)
        @rule(number=st.integers(1, 3))
        def backfill_what_is_followed(self, number: int) -> None:
            """Asked for a file that is being followed, a backfill leaves it to the follower."""
            names = [self.world.rotated(number), self.world.rotated(number).with_suffix(f".{number}.gz")]
            known = self.world.ingester.followed
            files = [
                file
                for file in order_files([name for name in names if name.exists()], year=None, timezone="UTC")
                if known(file.file_id) is not None
            ]
            before = self.world.stored()
            other = self.world.ingester.__class__(
                self.world.store,
                self.world.ingester._correlator.__class__(self.world.ingester._correlator.outcomes, lambda _ip: False),
            )
            Backfill(files, other, timezone="UTC", sleep=lambda _s: None).run()
            other.close()
            assert self.world.stored() == before

        # What must hold

        @invariant()
        def nothing_twice(self) -> None:
            assert set(self.world.stored().values()) <= {1}

        @precondition(lambda self: self.shell is None)
        @rule()
        def everything_arrives_in_the_end(self) -> None:
            self.end_line()
            for _ in range(10):
                self.world.run()
            assert set(range(self.world.number)) - set(self.world.stored()) <= self.damaged

    examples = int(os.environ.get("POSTWAKE_HISTORIES", EXAMPLES))
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
