"""The wake-up hint: real inotify through watchdog, and what happens without it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from watchdog.events import FileModifiedEvent, FileMovedEvent, FileSystemEvent

from postwake_logparse import wake
from postwake_logparse.source_file import FileSource
from postwake_logparse.wake import DirectoryWaker, PollingWaker

LONG_S = 30.0


@pytest.fixture(autouse=True)
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only an event end a wait, and end it at once."""
    monkeypatch.setattr(wake, "POLL_INTERVAL_S", LONG_S)
    monkeypatch.setattr(wake, "SETTLE_S", 0.0)


@pytest.fixture
def waker(log: Any) -> Iterator[DirectoryWaker]:
    """Return a waker that watches the log's directory."""
    waker = DirectoryWaker([log.path])
    waker.wait(LONG_S)  # the first wait begins to watch and returns at once
    assert list(waker._watched) == [log.directory]
    yield waker
    waker.close()


def waited_s(waker: DirectoryWaker) -> float:
    """Return how long a wait took."""
    before = time.monotonic()
    waker.wait(LONG_S)
    return time.monotonic() - before


def test_write_and_rotation_wake(log: Any, waker: DirectoryWaker) -> None:
    """A line, and a rename, end the wait."""
    log.write("one")
    assert waited_s(waker) < LONG_S / 2
    for _ in range(wake.BUSY_WAITS + 1):
        waker.wait(LONG_S)  # without a watch, then watching again
    log.rotate(create=False)
    assert waited_s(waker) < LONG_S / 2


def test_busy_log_is_not_watched(log: Any, waker: DirectoryWaker) -> None:
    """After a wake-up the watch is lifted for a while: waits are short and no event costs anything."""
    log.write("one")
    waker.wait(LONG_S)
    assert not waker._watched
    assert waker._observer is None
    for _ in range(wake.BUSY_WAITS):
        assert waited_s(waker) < LONG_S / 2
    assert not waker._watched
    waker.wait(LONG_S)
    assert list(waker._watched) == [log.directory]


def test_directory_that_comes_later_or_again(log: Any, waker: DirectoryWaker) -> None:
    """A directory is watched once it exists, and so is another one under the same name."""
    log.directory.rename(log.directory.with_name("old"))
    log.directory.mkdir()
    assert waited_s(waker) < LONG_S / 2, "returns at once, as nothing was watched until now"
    log.write("one")
    assert waited_s(waker) < LONG_S / 2


@pytest.mark.parametrize(
    ("event", "wakes"),
    [
        (FileModifiedEvent("/var/log/mail.log"), True),
        (FileModifiedEvent("/var/log/mail.log.1"), True),
        (FileModifiedEvent("/var/log/syslog"), False),
        (FileMovedEvent("/var/log/new", "/var/log/mail.log"), True),
        (FileMovedEvent("/var/log/mail.log", "/var/log/old"), True),
    ],
    ids=["log", "rotated", "another file", "moved here", "moved away"],
)
def test_whose_events_count(event: FileSystemEvent, wakes: bool) -> None:
    """/var/log is full of other logs: only names that start like ours wake."""
    happened = wake.threading.Event()
    wake._Handler(happened, {"mail.log"}).dispatch(event)
    assert happened.is_set() == wakes


def test_without_watches_it_polls_and_says_so(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When inotify has run out, waits last the polling interval and the reason is there to be shown."""

    def schedule(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(wake.Observer, "schedule", schedule)
    monkeypatch.setattr(wake, "POLL_INTERVAL_S", 0.001)
    waker = DirectoryWaker([log.path])
    assert waited_s(waker) < LONG_S / 2
    assert f"{log.directory}: no notification of changes (No space left on device)" in waker.error
    waker.close()


def test_source_waits_and_ends(log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source makes its own waker at its first wait, passes an injected one the time, and closes it with itself."""
    log.write("one")
    source = FileSource(log.path, None)
    source.wait(LONG_S)
    assert source.stats.read_errors == 0
    source.close()
    source.close()
    polling = PollingWaker()
    source = FileSource(log.path, None, waker=polling)
    monkeypatch.setattr(wake, "POLL_INTERVAL_S", 0.001)
    source.wait(LONG_S)
    source.close()
    assert polling._closed.is_set()


def test_link_and_target_are_watched(log: Any, tmp_path: Path) -> None:
    """For a symbolic link both directories matter: the link may be turned, the file written."""
    target = tmp_path / "data"
    target.mkdir()
    log.path.symlink_to(target / "mail.log")
    source = FileSource(log.path, None)
    (target / "mail.log").touch()
    source.wait(LONG_S)
    assert isinstance(source._waker, DirectoryWaker)
    assert set(source._waker._names) == {log.directory, target}
    source.close()
