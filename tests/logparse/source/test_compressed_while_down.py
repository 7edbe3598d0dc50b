"""Rotated and compressed while the service was down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize("extension", [".gz", ".bz2", ".xz", ".zst"])
def test_offset_is_good_in_the_compressed_file(log: Any, follow: Callable[..., Any], extension: str) -> None:
    """Offset and fingerprint are of the uncompressed content, so the compressed sibling is the same file."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.write("two")
    log.rotate()
    log.compress(1, extension)
    log.write("three")
    follower.restart()
    assert follower.after_grace() == ["two", "three"]
    assert follower.source.stats.read_errors == 0


def test_large_backlog_in_small_memory(log: Any, follow: Callable[..., Any]) -> None:
    """A backlog of several blocks goes through the decompressor block by block."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    expected = [f"{number:06d} {'x' * 200}" for number in range(20_000)]
    log.write(*expected)
    log.rotate()
    log.compress(1)
    log.write("live")
    follower.restart()
    chunk = follower.source.read(1 << 16)
    assert len(chunk.data) <= 1 << 16
    follower.restart()
    assert follower.after_grace() == [*expected, "live"]


def test_compressor_still_at_work(log: Any, follow: Callable[..., Any]) -> None:
    """A plain file beside its unfinished .gz: the plain one counts."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.write("two")
    log.rotate()
    content = log.rotated(1).read_bytes()
    log.compress(1)
    log.rotated(1).write_bytes(content)
    log.rotated(1, ".gz").write_bytes(log.rotated(1, ".gz").read_bytes()[:20])
    log.write("three")
    follower.restart()
    assert follower.after_grace() == ["two", "three"]
    assert follower.source.stats.read_errors == 0


def test_damaged_file_gives_what_it_has(log: Any, follow: Callable[..., Any]) -> None:
    """A compressed file cut short is read as far as it goes, counted with its name, and not waited for for ever."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.write("two")
    log.rotate()
    log.compress(1)
    log.write("three")
    packed = log.rotated(1, ".gz").read_bytes()
    log.rotated(1, ".gz").write_bytes(packed[:-6])  # the check sum is cut off
    follower.restart()
    assert follower.after_grace() + follower.after_grace() == ["two", "three"]
    assert "mail.log.1.gz" in follower.source.stats.last_error


def test_zst_without_its_package(log: Any, follow: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without zstandard a .zst sibling is an error that names the package, and the live log is followed."""
    follower = follow()
    log.write("one")
    follower.poll()
    follower.stop()
    log.rotate()
    log.compress(1, ".zst")
    log.write("two")
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    follower.restart()
    assert follower.after_grace() == ["two"]
    assert "pip install zstandard" in follower.source.stats.last_error
    assert follower.source.stats.files_lost == 1
