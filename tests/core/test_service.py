"""Signals, readiness and logging of a daemon, in real processes."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from postwake.service import _Formatter, _Handler, notify, watchdog_s

_DAEMON = """
import sys
from postwake.service import Signals, notify
def reload():
    print("reloaded", flush=True)
signals = Signals(reload if sys.argv[1] == "reload" else None)
notify("READY=1")
print("ready", flush=True)
signals.wait((lambda: False) if sys.argv[1] == "dead" else (lambda: True))
print("stopping", signals.stopping, flush=True)
"""


@pytest.fixture
def manager(tmp_path: Path):
    """The service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(20)
        yield receiver


def start(how: str, manager: socket.socket, **environment: str) -> subprocess.Popen[str]:
    """Start the daemon and wait until it says that it is ready."""
    child = subprocess.Popen(
        [sys.executable, "-c", _DAEMON, how],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NOTIFY_SOCKET": manager.getsockname(), **environment},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    assert manager.recv(1000) == b"READY=1"
    return child


def end(child: subprocess.Popen[str]) -> str:
    """Return what the daemon says until its end."""
    assert child.stdout is not None
    said = child.stdout.read()  # not communicate(), which would miss what readline() has buffered
    assert child.wait(20) == 0
    child.stdout.close()
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_stop(number: signal.Signals, manager: socket.socket) -> None:
    """SIGTERM and SIGINT end the waiting at once, and the service manager is told."""
    child = start("reload", manager)
    child.send_signal(number)
    assert end(child) == "stopping True\n"
    assert manager.recv(1000) == b"STOPPING=1"


def test_reload(manager: socket.socket) -> None:
    """SIGHUP reloads, between RELOADING with the monotonic time and READY, as often as it is sent."""
    child = start("reload", manager)
    assert child.stdout is not None
    for _ in range(2):
        child.send_signal(signal.SIGHUP)
        assert child.stdout.readline() == "reloaded\n"
        state, stamp = manager.recv(1000).decode().split("\n")
        assert (state, stamp.split("=")[0]) == ("RELOADING=1", "MONOTONIC_USEC")
        assert manager.recv(1000) == b"READY=1"
    child.terminate()
    assert end(child) == "stopping True\n"


def test_without_anything_to_reload(manager: socket.socket) -> None:
    """A daemon that has nothing to reload survives SIGHUP."""
    child = start("nothing", manager)
    child.send_signal(signal.SIGHUP)
    child.terminate()
    assert end(child) == "stopping True\n"


def test_when_the_work_has_died(manager: socket.socket) -> None:
    """Waiting ends when what is waited for is no longer alive, and no signal is pretended."""
    child = start("dead", manager)
    assert end(child) == "stopping False\n"


def test_watchdog_is_fed_in_time(manager: socket.socket) -> None:
    """A watchdog of a fifth of a second is fed every tenth: more often than the loop would look by itself."""
    child = start("reload", manager, WATCHDOG_USEC="200000")
    manager.settimeout(0.2)
    assert [manager.recv(1000) for _ in range(4)] == [b"WATCHDOG=1"] * 4
    child.terminate()
    end(child)


@pytest.mark.parametrize(
    ("microseconds", "process", "expected"),
    [
        ("", None, None),
        ("0", None, None),
        ("abc", None, None),
        ("²", None, None),
        ("30000000", None, 15.0),
        ("30000000", "1", None),
        ("30000000", str(os.getpid()), 15.0),
    ],
    ids=["empty", "zero", "letters", "superscript", "anybody", "somebody-else", "this-process"],
)
def test_watchdog(
    microseconds: str, process: str | None, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog is fed at half its time, if it is meant for this process."""
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if process:
        monkeypatch.setenv("WATCHDOG_PID", process)
    assert watchdog_s() == expected


def test_abstract_socket_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address with @ is an abstract one; without a manager, or with a dead one, nothing happens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0postwake-test-{os.getpid()}")
        receiver.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@postwake-test-{os.getpid()}")
        notify("READY=1")
        assert receiver.recv(100) == b"READY=1"
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_each_record_has_its_time() -> None:
    """The time that is written is that of the record, to the second, whichever came before."""
    formatter = _Formatter(journal=False)
    written = []
    for at_s in (0, 1, 1.5, 0):
        record = logging.LogRecord("postwake", logging.INFO, "f", 1, "x", (), None)
        record.created = at_s
        written.append(formatter.format(record))
    expected = [time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at_s)) for at_s in (0, 1, 1, 0)]
    assert written == [f"{at} postwake: x" for at in expected]


def _handle_of_python_3_13(handler: logging.Handler, record: logging.LogRecord) -> bool:
    assert handler.lock is not None
    with handler.lock:
        handler.emit(record)
    return True


def test_one_write_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record goes to standard error whole, in one write, whatever characters are in it and whichever Python it is."""
    monkeypatch.setattr(logging.Handler, "handle", _handle_of_python_3_13)
    reader, writer = os.pipe()
    before = os.dup(2)
    os.dup2(writer, 2)
    try:
        handler = _Handler()
        handler.setFormatter(_Formatter(journal=True))
        handler.handle(logging.LogRecord("postwake", logging.INFO, "f", 1, "sender=%s", ("a\udcff",), None))
    finally:
        os.dup2(before, 2)
        for descriptor in (before, writer):
            os.close(descriptor)
    assert os.read(reader, 100) == b"<6>postwake: sender=a\\udcff\n"
    os.close(reader)


@pytest.mark.parametrize("journal", [True, False])
def test_no_line_passes_for_a_record(journal: bool) -> None:
    """Text with newlines in it, which a stranger may have written, stays recognisably within its record."""
    record = logging.LogRecord("postwake", logging.WARNING, "f", 1, "a=%s", ("b\r\n<0>forged\u2028line",), None)
    lines = _Formatter(journal=journal).format(record).split("\n")
    assert len(lines) == 3
    assert lines[0].startswith("<4>postwake: a=b") is journal
    assert all(line.startswith("<4>  " if journal else "  ") for line in lines[1:])
