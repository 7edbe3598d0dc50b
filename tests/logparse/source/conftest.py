"""A log directory, a clock that only moves when told, and a reader that commits as the ingester does."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postwake_logparse.source import Cursor
from postwake_logparse.source_file import FileSource


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class Log:
    """The log of a mail server in its directory, and what a server, logrotate and an operator do to it."""

    def __init__(self, directory: Path, name: str = "mail.log") -> None:
        self.directory = directory
        self.path = directory / name

    def write(self, *lines: str | bytes, to: Path | None = None) -> None:
        """Append whole lines."""
        with (to or self.path).open("ab") as file:
            for line in lines:
                file.write((line if isinstance(line, bytes) else line.encode()) + b"\n")

    def write_raw(self, data: bytes, to: Path | None = None) -> None:
        """Append bytes as they are."""
        with (to or self.path).open("ab") as file:
            file.write(data)

    def rotated(self, number: int, extension: str = "") -> Path:
        """Return the path of rotated file *number*."""
        return self.directory / f"{self.path.name}.{number}{extension}"

    def shift(self, keep: int = 9) -> None:
        """Rename .1 to .2 and so on, as logrotate does before it rotates; the last is deleted."""
        rotated = {}
        for path in self.directory.glob(f"{self.path.name}.[0-9]*"):
            number, _, extension = path.name.removeprefix(f"{self.path.name}.").partition(".")
            rotated[int(number), extension] = path
        for (number, extension), path in sorted(rotated.items(), reverse=True):
            if number >= keep:
                path.unlink()
            else:
                path.rename(self.rotated(number + 1, f".{extension}" if extension else ""))

    def rotate(self, create: bool = True, keep: int = 9) -> None:
        """Rotate by renaming."""
        self.shift(keep)
        self.path.rename(self.rotated(1))
        if create:
            self.path.touch()

    def copytruncate(self, keep: int = 9) -> None:
        """Rotate by copying and truncating."""
        self.shift(keep)
        shutil.copyfile(self.path, self.rotated(1))
        with self.path.open("r+b") as file:
            file.truncate(0)

    def compress(self, number: int, extension: str = ".gz") -> None:
        """Compress rotated file *number*, keeping its times, as gzip and the others do."""
        plain, target = self.rotated(number), self.rotated(number, extension)
        data = plain.read_bytes()
        if extension == ".zst":
            packed = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
        else:
            packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[extension](data)
        target.write_bytes(packed)
        shutil.copystat(plain, target)
        plain.unlink()


class Follower:
    """Reads a source and commits lines and cursor together; can be killed at any time."""

    def __init__(self, log: Log, clock: Clock, **options: Any) -> None:
        self.log = log
        self.clock = clock
        self.options = options
        self.cursor: Cursor | None = None
        self.lines: list[bytes] = []
        self.source = self._open()

    def _open(self) -> FileSource:
        return FileSource(self.log.path, self.cursor, clock=self.clock, **self.options)

    def poll(self, max_bytes: int = 1 << 20) -> list[str]:
        """Read all that is there now, commit it and return the new lines."""
        before = len(self.lines)
        while (chunk := self.source.read(max_bytes)) is not None:
            assert not chunk.data or chunk.data.endswith(b"\n")
            self.lines += chunk.data.split(b"\n")[:-1]
            self.cursor = chunk.cursor
        return [line.decode(errors="replace") for line in self.lines[before:]]

    def after_grace(self) -> list[str]:
        """Poll, let the grace for late writers pass, and poll again; return the new lines of both."""
        first = self.poll()
        self.clock.now_s += 6.0
        return first + self.poll()

    def read_uncommitted(self) -> None:
        """Read a chunk and die before the commit."""
        self.source.read()
        self.restart()

    def stop(self) -> None:
        """End the process."""
        self.source.close()

    def restart(self) -> None:
        """Start from the last committed cursor."""
        self.source.close()
        self.source = self._open()


@pytest.fixture
def clock() -> Clock:
    """Return the clock of the sources under test."""
    return Clock()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Return an empty log directory with no log yet."""
    directory = tmp_path / "log"
    directory.mkdir()
    return Log(directory)


@pytest.fixture
def follow(log: Log, clock: Clock) -> Iterator[Callable[..., Follower]]:
    """Return a function that starts following the log."""
    followers: list[Follower] = []

    def start(**options: Any) -> Follower:
        followers.append(Follower(log, clock, **options))
        return followers[-1]

    yield start
    for follower in followers:
        follower.stop()


@pytest.fixture
def make_log() -> type[Log]:
    """Return the class of logs, for tests that need one elsewhere."""
    return Log


@pytest.fixture
def make_follower() -> type[Follower]:
    """Return the class of followers, for tests that need their own."""
    return Follower


@pytest.fixture
def make_clock() -> type[Clock]:
    """Return the class of clocks, for tests that need their own."""
    return Clock
