"""Every failure of ``test_check`` that a service meets, made to happen to one: its log says what and where."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postwake_lab.disks import fill

Make = Callable[..., Any]


@pytest.fixture
def it(beside: Make) -> Any:
    """A configuration with store, keys and an empty log, and no service that runs."""
    found = beside()
    found.socket.parent.mkdir()
    found.postfix.log.write_text("")
    return found


@contextlib.contextmanager
def started(it: Any, service: str, *, user: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a service, as *user* if that is said; end it afterwards."""
    become = ["setpriv", f"--reuid={user}", "--clear-groups", "--regid=nogroup"] if user else []
    command = [*become, sys.executable, "-m", "postwake_cli", "--config", str(it.config), service]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str], words: str, patience_s: float = 60) -> str:
    """Return the first line with *words* in it."""
    assert process.stdout is not None
    timer = threading.Timer(patience_s, process.kill)
    timer.start()
    try:
        seen = []
        for line in process.stdout:
            seen.append(line)
            if words in line:
                return line
        raise AssertionError("".join(seen))
    finally:
        timer.cancel()


def ended(it: Any, service: str) -> tuple[int, str]:
    """Run a service to its end; return its status and what it said."""
    command = [sys.executable, "-m", "postwake_cli", "--config", str(it.config), service]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_keys_missing(it: Any) -> None:
    """Configuration: it does not mend itself."""
    (it.directory / "keys").unlink()
    status, text = ended(it, "milter")
    assert status == 78
    assert f"{it.directory}/keys: cannot read the signing keys" in text


def test_store_missing(it: Any) -> None:
    """With the command that makes one."""
    it.store.unlink()
    status, text = ended(it, "logparse")
    assert status == 75
    assert f"{it.store}: no store there; `postwake db migrate` makes one" in text


def test_store_corrupt(it: Any) -> None:
    """The file is named, and that it is none of SQLite's."""
    it.store.write_bytes(b"not a database, whatever its name says. " * 500)
    for end in ("-wal", "-shm"):
        it.store.with_name(it.store.name + end).unlink(missing_ok=True)
    status, text = ended(it, "milter")
    assert status == 75
    assert f"{it.store}: cannot open the store: file is not a database" in text


@pytest.mark.parametrize("service", ["milter", "logparse", "pixelserver"])
def test_port_taken(it: Any, service: str) -> None:
    """The metrics listener's port, which a service does not share."""
    port = it.ports[1 + ("milter", "logparse", "pixelserver").index(service)]
    with socket.create_server(("127.0.0.1", port)):
        status, text = ended(it, service)
    assert status == 69
    assert f"127.0.0.1:{port}" in text


def test_no_directory_for_the_socket(it: Any) -> None:
    """The path that was to be made, and why it was not."""
    it.socket.parent.rmdir()
    status, text = ended(it, "milter")
    assert status == 73
    assert f"milter.socket = {it.socket}: cannot listen: No such file or directory" in text


def test_log_unreadable(it: Any) -> None:
    """It is said, with the file, and again no sooner than a minute later; once it can be read it is."""
    shutil.chown(it.store.parent, "nobody", "nogroup")
    for path in it.store.parent.glob("postwake.db*"):
        shutil.chown(path, "nobody", "nogroup")
    it.postfix.log.chmod(0o600)
    with started(it, "logparse", user="nobody") as process:
        line = said(process, "error=")
        assert f"{it.postfix.log}" in line
        assert "Permission denied" in line
        assert process.poll() is None


def test_disk_full(it: Any, make_disk: Callable[..., Path]) -> None:
    """The log parser waits with its log, and says so once."""
    disk = make_disk("1m", it.directory / "disk")
    shutil.copy(it.store, disk / "postwake.db")
    it.config.write_text(it.config.read_text().replace(str(it.store), str(disk / "postwake.db")))
    with started(it, "logparse") as process:
        said(process, "state=ready")
        fill(disk)
        stamp = time.strftime("%b %e %H:%M:%S")
        lines = [
            f"{stamp} mx postfix/qmgr[1]: {n:06X}1: from=<a@example.com>, size=1, nrcpt=1 (queue active)\n"
            for n in range(5000)
        ]
        with it.postfix.log.open("a") as log:
            log.write("".join(lines))
        assert "disk is full" in said(process, "store=unavailable waiting=yes")
        assert process.poll() is None


def test_clock_jumped(it: Any) -> None:
    """Lines of tomorrow are read all the same: what check finds in them is in ``test_check``."""
    tomorrow = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 86_400 + 1800))
    it.postfix.log.write_text(
        f"{tomorrow} mx postfix/qmgr[1]: 4cQ1xyz9: from=<a@example.com>, size=1, nrcpt=1 (queue active)\n"
    )
    os.utime(it.postfix.log)
    with started(it, "logparse") as process:
        said(process, "state=ready")
        for _ in range(300):
            if it.check()["log stamps"][0] == "fail":
                break
            time.sleep(0.1)
        status, found, advice = it.check()["log stamps"]
    assert (status, found) == ("fail", "the newest line read says 24 h from now")  # and some minutes
    assert "logparse.timezone" in advice
