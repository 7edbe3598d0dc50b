"""Backfill: logs of the past, oldest first, restartable, and nothing twice."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import DataError, NoInputError, UnavailableError
from postwake_logparse.backfill_files import BackfillSource, cursor_name, examine, oldest_first
from postwake_logparse.file_identity import FileState


def no_stamp(line: bytes, mtime_us: int) -> None:
    """Know nothing about lines."""


class Store:
    """Cursors and lines, committed together."""

    def __init__(self) -> None:
        self.cursors: dict[str, str] = {}
        self.followed: dict[str, str] = {}
        self.lines: list[str] = []

    def backfill(self, *paths: Path, chunks: int = 10**9, max_bytes: int = 1 << 20) -> BackfillSource:
        """Backfill *paths*, in this order, stopping after so many *chunks*; return the source, closed."""
        source = BackfillSource(
            [examine(path) for path in paths],
            lambda file_id: self.cursors.get(cursor_name(file_id)),
            self.followed.get,
        )
        for _ in range(chunks):
            chunk = source.read(max_bytes)
            if chunk is None:
                break
            assert chunk.end - chunk.start == len(chunk.data)
            assert chunk.cursor.source == cursor_name(chunk.file_id)
            self.lines += chunk.data.decode(errors="replace").splitlines()
            self.cursors[chunk.cursor.source] = chunk.cursor.state
        source.close()
        return source


def test_oldest_first_by_the_first_stamp(log: Any) -> None:
    """Names and times of modification do not count when the first lines say when they were written."""
    for name, line in (("a", "3 three"), ("b", "1 one"), ("c", "2 two")):
        log.write(line, to=log.directory / name)
    files = [examine(log.directory / name) for name in "abc"]
    ordered = oldest_first(files, lambda line, mtime_us: int(line.split()[0]))
    assert [file.path.name for file in ordered] == ["b", "c", "a"]
    times = iter([30, 10, 20])
    files = [file._replace(mtime_us=next(times)) for file in files]
    assert [file.path.name for file in oldest_first(files, no_stamp)] == ["b", "c", "a"]


@pytest.mark.parametrize("extension", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_plain_and_compressed(log: Any, extension: str) -> None:
    """The same lines, the same identity and the same offsets, whatever the compression, whatever the name."""
    lines = [f"line {number} {'x' * 50}" for number in range(3000)]
    log.write(*lines, to=log.rotated(1))
    plain = examine(log.rotated(1))
    if extension:
        log.compress(1, extension)
    misnamed = log.rotated(1, extension).rename(log.directory / "archive")
    assert examine(misnamed).compression == extension
    assert examine(misnamed).file_id == plain.file_id
    store = Store()
    source = store.backfill(misnamed, max_bytes=10_000)
    assert store.lines == lines
    assert FileState.from_json("", store.cursors[cursor_name(plain.file_id)]).offset == plain.size_bytes
    assert source.ended


def test_interrupted_and_continued(log: Any) -> None:
    """Killed after any chunk, it goes on behind it, also when the file was compressed and renamed meanwhile."""
    expected = [f"a {number}" for number in range(100)] + [f"b {number}" for number in range(100)]
    log.write(*expected[:100], to=log.rotated(2))
    log.write(*expected[100:], to=log.rotated(1))
    store = Store()
    for _ in range(5):
        store.backfill(log.rotated(2), log.rotated(1), chunks=1, max_bytes=100)
    log.shift()
    log.compress(3)
    log.compress(2, ".xz")
    for _ in range(5):
        store.backfill(log.rotated(3, ".gz"), log.rotated(2, ".xz"), chunks=1, max_bytes=100)
    store.backfill(log.rotated(3, ".gz"), log.rotated(2, ".xz"), max_bytes=100)
    assert store.lines == expected


def test_again_gives_nothing_and_growth_gives_the_rest(log: Any) -> None:
    """Idempotent; and a file that has grown gives what is new, a copy of it nothing."""
    log.write("one", "two")
    store = Store()
    store.backfill(log.path)
    store.backfill(log.path)
    assert store.lines == ["one", "two"]
    log.write("three")
    copy = log.directory / "copy"
    copy.write_bytes(log.path.read_bytes())
    store.backfill(copy, log.path)
    assert store.lines == ["one", "two", "three"]


def test_other_log_with_the_same_first_line(log: Any) -> None:
    """It begins like one that was read and goes on differently: said, not guessed."""
    log.write("same", "one")
    log.write("same", "two", to=log.rotated(1))
    store = Store()
    source = store.backfill(log.path, log.rotated(1))
    assert store.lines == ["same", "one"]
    assert "mail.log.1: begins like a log that was ingested before" in source.stats.last_error


def test_followed_from_its_beginning(log: Any, follow: Callable[..., Any]) -> None:
    """A file that was followed from its first line is the follower's, also once it is rotated and compressed."""
    follower = follow()
    log.write("one", "two")
    chunk = None
    while (more := follower.source.read()) is not None:
        chunk = more
    assert chunk is not None
    store = Store()
    store.followed[chunk.file_id] = chunk.cursor.state
    log.rotate()
    log.compress(1)
    source = store.backfill(log.rotated(1, ".gz"))
    assert store.lines == []
    assert source.files_skipped == 1


def test_followed_from_its_end(log: Any, follow: Callable[..., Any]) -> None:
    """What stood in the log before following began is the backfill's, and nothing behind it."""
    log.write("one", "two")
    follower = follow(start="end")
    follower.poll()
    log.write("three")
    chunk = follower.source.read()
    assert chunk.data == b"three\n"
    store = Store()
    store.followed[chunk.file_id] = chunk.cursor.state
    store.backfill(log.path, chunks=1, max_bytes=1)
    store.backfill(log.path)
    store.backfill(log.path)
    assert store.lines == ["one", "two"]


def test_following_goes_on_where_the_backfill_ended(log: Any, follow: Callable[..., Any]) -> None:
    """First `--backfill mail.log*`, then the service: the live log's lines are not read again."""
    log.write("one", "two")
    store = Store()
    store.backfill(log.path)
    log.write("three")
    follower = follow(ingested=lambda file_id: store.cursors.get(cursor_name(file_id)))
    assert follower.poll() == ["three"]


def test_monster_and_partial_lines(log: Any) -> None:
    """The same bounds as in a followed file; a last line without its newline waits for it."""
    log.write("one", "m" * 200_000, "two")
    log.write_raw(b"half")
    store = Store()
    source = store.backfill(log.path)
    assert store.lines == ["one", "two"]
    stats = source.stats
    assert (stats.lines_discarded, stats.partial_lines_abandoned, stats.bytes_discarded) == (1, 1, 200_001 + 4)
    log.write_raw(b" and half\n")
    store.backfill(log.path)
    assert store.lines[-1] == "half and half"


def test_empty_and_damaged_files(log: Any) -> None:
    """An empty file is skipped; a damaged one gives what it has, with an error; the next ones are read."""
    log.write_raw(b"")
    log.write(*(f"one {number}" for number in range(10)), to=log.rotated(1))
    log.compress(1)
    packed = log.rotated(1, ".gz")
    packed.write_bytes(packed.read_bytes()[:-6])
    log.write("two", to=log.rotated(2))
    store = Store()
    source = store.backfill(log.path, packed, log.rotated(2))
    assert store.lines == [*(f"one {number}" for number in range(10)), "two"]
    assert source.files_skipped == 1
    assert "mail.log.1.gz: cannot be decompressed any further" in source.stats.last_error


def test_what_cannot_be_backfilled(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing files, directories, damage from the start, and .zst without its package are errors with the name."""
    with pytest.raises(NoInputError, match=r"mail\.log: cannot be read: No such file"):
        examine(log.path)
    with pytest.raises(NoInputError, match="is a directory"):
        examine(log.directory)
    log.write_raw(b"\x1f\x8b rubbish")
    with pytest.raises(DataError, match=r"mail\.log: cannot be decompressed"):
        examine(log.path)
    log.write("one", to=log.rotated(1))
    log.compress(1, ".zst")
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(UnavailableError, match="pip install zstandard"):
        examine(log.rotated(1, ".zst"))


def test_progress_counts_bytes_on_disk(log: Any) -> None:
    """From nothing to all of it, never backwards; compressed files count as large as they are."""
    log.write(*(f"line {number}" for number in range(20_000)), to=log.rotated(1))
    log.compress(1)
    log.write(*(f"other {number}" for number in range(20_000)))
    files = [examine(log.rotated(1, ".gz")), examine(log.path)]
    source = BackfillSource(files, lambda file_id: None)
    total = sum(file.size_bytes for file in files)
    assert source.progress()[:2] == (0, total)
    seen = []
    while source.read(50_000) is not None:
        seen.append(source.progress().done_bytes)
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert source.progress() == (total, total, 2, 2, None)
    assert source.lag_bytes() == 0


def test_memory_does_not_depend_on_the_size(log: Any) -> None:
    """30 MB in a file that compresses to nearly nothing are read in a few megabytes of memory."""
    log.write(*("x" * 999 for _ in range(30_000)), to=log.rotated(1))
    log.compress(1)
    source = BackfillSource([examine(log.rotated(1, ".gz"))], lambda file_id: None)
    tracemalloc.start()
    try:
        received = 0
        while (chunk := source.read()) is not None:
            received += len(chunk.data)
        assert received == 30_000_000
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_cursor_of_another_release_is_refused(log: Any) -> None:
    """A stored position that is not understood is an error, not a second ingestion."""
    log.write("one")
    store = Store()
    store.cursors[cursor_name(examine(log.path).file_id)] = '{"v":99}'
    with pytest.raises(DataError, match="version 99"):
        store.backfill(log.path)


def test_state_survives_its_json() -> None:
    """Every field of a position comes back from the store as it went in."""
    for state in (FileState(), dataclasses.replace(FileState(), inode=5, offset=7, begin=3, finished=("a", "b"))):
        assert FileState.from_json("x", state.to_json()) == state
