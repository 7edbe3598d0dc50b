"""Random histories of a log, its rotation and its reader against the plainest model: the list of lines written."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

EXAMPLES = 250
STEPS = 50
"""250 histories of up to 50 steps: up to 12,500 steps a run; POSTWAKE_HISTORIES=5000 for a long one."""


@pytest.mark.slow
def test_every_line_of_an_undamaged_file_is_received_once_and_in_order(
    make_log: Any, make_follower: Any, make_clock: Any
) -> None:
    """Whatever happens to the log and to us, the lines received are the lines written, in order, each once.

    Lines that the history itself destroyed (truncated without a copy, torn apart by copytruncate) may be missing,
    never doubled. The fragment that copytruncate leaves of a torn line is not a line that anybody wrote.
    """

    class Histories(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.directory = Path(tempfile.mkdtemp(prefix="postwake-histories-"))
            self.log = make_log(self.directory)
            self.clock = make_clock()
            self.follower = make_follower(self.log, self.clock)
            self.follower.poll()  # rotated files that are there before the very first look are not the source's
            self.number = 0
            self.written: list[bytes] = []  # whole lines, in order
            self.damaged: set[bytes] = set()  # written, and allowed to be missing
            self.fragments: set[bytes] = set()  # never written as such, and allowed to be there
            self.partial = b""  # what stands after the last newline of the live file
            self.torn = False  # whether the front of that was cut off by copytruncate
            self.unread_since_truncation: list[bytes] = []
            self.late: Path | None = None  # the file that a writer was not told to leave

        def teardown(self) -> None:
            self.follower.stop()
            shutil.rmtree(self.directory)

        def next_line(self, size: int) -> bytes:
            self.number += 1
            return b"%06d " % self.number + b"x" * size

        def exists(self) -> bool:
            return self.log.path.exists()

        # What the mail server does

        def finish_line(self, rest: bytes) -> None:
            """Record that the line begun in the live file ends with *rest*."""
            line = self.partial + rest
            if self.torn:
                self.fragments.add(line)
                self.torn = False
            else:
                self.written.append(line)
            self.partial = b""

        @precondition(lambda self: self.late is None)
        @rule(count=st.integers(1, 5), size=st.sampled_from([0, 3, 60, 300, 700]))
        def write(self, count: int, size: int) -> None:
            for _ in range(count):
                line = self.next_line(size)
                self.log.write(line)
                self.finish_line(line)

        @precondition(lambda self: self.late is None)
        @rule(size=st.sampled_from([0, 5, 250, 300]))
        def write_partial(self, size: int) -> None:
            data = self.next_line(size) + b" "
            self.log.write_raw(data)
            self.partial += data

        # What logrotate does

        @precondition(lambda self: self.exists() and self.late is None)
        @rule(late=st.booleans(), create=st.booleans())
        def rotate(self, late: bool, create: bool) -> None:
            if self.partial and not late:
                self.log.write_raw(b"\n")
                self.finish_line(b"")
            self.log.rotate(create=create, keep=STEPS)
            self.late = self.log.rotated(1) if late else None

        @precondition(lambda self: self.late is not None)
        @rule(count=st.integers(0, 3))
        def late_writer_finishes(self, count: int) -> None:
            """Write to the renamed file, then turn to the new one: always within the grace of its renaming."""
            assert self.late is not None
            for _ in range(count):
                line = self.next_line(4)
                self.log.write(line, to=self.late)
                self.finish_line(line)
            if self.partial:
                self.log.write_raw(b"\n", to=self.late)
                self.finish_line(b"")
            self.late = None

        @precondition(lambda self: self.exists() and self.late is None)
        @rule()
        def copytruncate(self) -> None:
            if self.partial:
                self.torn = True
                self.partial = b""
            self.log.copytruncate(keep=STEPS)

        @precondition(lambda self: self.late is None)
        @rule(number=st.integers(1, 4), extension=st.sampled_from([".gz", ".gz", ".bz2", ".xz"]))
        def compress(self, number: int, extension: str) -> None:
            if self.log.rotated(number).exists():
                self.log.compress(number, extension)

        # What an operator does

        @precondition(lambda self: self.exists() and self.late is None)
        @rule(delete=st.booleans())
        def destroy(self, delete: bool) -> None:
            """Truncate or delete the log: whatever was not received yet is lost."""
            received = set(self.follower.lines)
            self.damaged |= {line for line in self.written if line not in received}
            self.partial, self.torn = b"", False
            if delete:
                self.log.path.unlink()
            else:
                os.truncate(self.log.path, 0)

        # What the reader does

        @rule(max_bytes=st.sampled_from([1, 100, 1000, 1 << 20]))
        def poll(self, max_bytes: int) -> None:
            self.follower.poll(max_bytes)

        @precondition(lambda self: self.late is None)
        @rule()
        def time_passes(self) -> None:
            self.clock.now_s += 6.0

        @rule()
        def restart(self) -> None:
            self.follower.restart()

        @rule()
        def killed_before_commit(self) -> None:
            self.follower.read_uncommitted()

        @rule()
        def one_chunk(self) -> None:
            chunk = self.follower.source.read(64)
            if chunk is not None:
                self.follower.lines += chunk.data.split(b"\n")[:-1]
                self.follower.cursor = chunk.cursor

        # What must hold

        @invariant()
        def nothing_twice_nothing_invented_nothing_out_of_order(self) -> None:
            received = [line for line in self.follower.lines if line not in self.fragments]
            position = {line: index for index, line in enumerate(self.written)}
            indices = [position[line] for line in received]
            assert indices == sorted(set(indices))

        @precondition(lambda self: self.late is None)
        @rule()
        def everything_arrives_in_the_end(self) -> None:
            for _ in range(30):
                self.follower.poll()
                self.clock.now_s += 6.0
            received = set(self.follower.lines)
            missing = [line for line in self.written if line not in received and line not in self.damaged]
            assert missing == []

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
