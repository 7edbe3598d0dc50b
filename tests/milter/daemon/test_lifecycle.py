"""Starting, reloading, dying and stopping, without a mail lost on the way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake.keyfile import add_key, read_keys
from postwake.tokens import Purpose
from postwake_lab import mails

RECEIPT = mails.receipt(1, "ada@accept.test")


def key_used(daemon: Any, packets: list[tuple[bytes, bytes]]) -> int:
    """Return the ID of the key that signed the link in what the daemon answered."""
    body = b"".join(data for letter, data in packets if letter == b"b").replace(b"=\r\n", b"")
    match = re.search(rb"/c/([A-Za-z0-9_-]+)", body)
    assert match is not None
    token = read_keys(daemon.directory / "keys").verify(Purpose.CLICK, match[1].decode())
    assert token is not None
    return token.key_id


def is_alive(pid: int) -> bool:
    """Whether the process runs: one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_reload_keeps_connections(make_daemon: Callable[..., Any]) -> None:
    """SIGHUP brings a new key and configuration to the next message of a connection that stays open."""
    daemon = make_daemon()
    client = daemon.client()
    client.connect()
    assert key_used(daemon, client.message(RECEIPT, b"4Q1")) == 1
    client.envelope()  # a message is under way during the reload
    body = client.header(RECEIPT)

    workers = daemon.workers()
    add_key(daemon.directory / "keys", "2026-02-01T00:00:00Z")
    daemon.configure(tracking="opens = false")
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_log("state=reloaded")
    client.body(body)
    packets = client.end(b"4Q2")

    assert key_used(daemon, packets) == 2
    assert daemon.rows("SELECT queue_id, pixels, links FROM message ORDER BY id") == [("4Q1", 1, 1), ("4Q2", 0, 1)]
    assert daemon.workers() == workers


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        pytest.param(lambda d: d.configure(tracking='opens = "maybe"'), "tracking.opens", id="wrong-type"),
        pytest.param(lambda d: d.config.write_text("[tracking"), "not TOML", id="not-toml"),
        pytest.param(lambda d: (d.directory / "keys").write_text("1 x y\n"), "keys:1", id="broken-keys"),
        pytest.param(lambda d: (d.directory / "keys").unlink(), "cannot read the signing keys", id="keys-gone"),
    ],
)
def test_broken_reload_is_refused(
    make_daemon: Callable[..., Any], spoil: Callable[[Any], object], complaint: str
) -> None:
    """What is wrong is said, and the old configuration and keys go on working."""
    daemon = make_daemon()
    client = daemon.client()
    client.connect()
    spoil(daemon)
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_log("reload=refused")

    assert [letter for letter, _ in client.message(RECEIPT, b"4Q1")] == [b"h", b"b", b"a"]
    assert complaint in daemon.log.read_text()
    assert daemon.process.poll() is None


def test_a_killed_worker_is_started_anew(make_daemon: Callable[..., Any]) -> None:
    """A worker that dies is replaced; connections made meanwhile wait and are served."""
    daemon = make_daemon(workers=1)
    [worker] = daemon.workers()
    os.kill(worker, signal.SIGKILL)
    client = daemon.client()
    client.connect()

    assert [letter for letter, _ in client.message(RECEIPT, b"4Q1")] == [b"h", b"b", b"a"]
    assert daemon.workers() != [worker]
    assert "state=died status=-9" in daemon.log.read_text()


def test_stop_drains(make_daemon: Callable[..., Any]) -> None:
    """A message that is being handled when the daemon is told to stop gets its verdict; the exit status is 0."""
    daemon = make_daemon()
    client = daemon.client()
    client.connect()
    client.envelope()
    body = client.header(mails.of_size(400_000, 200))
    client.body(body)
    client.macros(b"E", b"i", b"4Qlast")
    client.send(b"E")
    daemon.signal(signal.SIGTERM)

    letters = []
    while not letters or letters[-1] not in b"actrd":
        letters.append(client.receive()[0])

    assert letters[0] == b"h"
    assert letters[-1] == b"a"
    assert set(letters[1:-1]) == {b"b"}
    assert daemon.process.wait(25) == 0
    assert daemon.rows("SELECT queue_id, tracked FROM message") == [("4Qlast", 1)]
    assert "Traceback" not in daemon.log.read_text()


def test_told_to_stop_while_it_starts(make_daemon: Callable[..., Any]) -> None:
    """A worker that is told to stop before it serves does so: the signal is not lost, for its parent waits for it."""
    daemon = make_daemon(started=False)
    script = """
import os, signal, socket, sys
from pathlib import Path
from postwake_milter.daemon import _load
from postwake_milter.shared_stats import SharedStats
from postwake_milter.worker import run_worker

def load():
    os.kill(os.getpid(), signal.SIGTERM)
    return _load(Path(sys.argv[1]))

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[2])
listener.listen()
run_worker(listener.fileno(), load, SharedStats(1).worker(0), os.getppid())
"""
    command = [sys.executable, "-c", script, str(daemon.config), str(daemon.socket)]
    assert subprocess.run(command, check=False, timeout=30).returncode == 0


def test_the_supervisor_dies(make_daemon: Callable[..., Any]) -> None:
    """Workers do not outlive a supervisor that was killed: its successor's are the only ones."""
    daemon = make_daemon(workers=2)
    workers = daemon.workers()
    daemon.process.kill()
    daemon.process.wait()
    daemon.wait_until(lambda: not any(map(is_alive, workers)), what="workers gone")

    daemon.start()
    client = daemon.client()
    client.connect()
    assert [letter for letter, _ in client.message(RECEIPT, b"4Q1")] == [b"h", b"b", b"a"]


def test_a_second_daemon_is_refused(make_daemon: Callable[..., Any]) -> None:
    """The socket of a running daemon is not taken away from it: exit status 69."""
    daemon = make_daemon()
    second = subprocess.run(
        [sys.executable, "-m", "postwake_cli", "--config", str(daemon.config), "milter"],
        capture_output=True,
        timeout=60,
    )
    assert second.returncode == 69
    assert b"somebody serves it already" in second.stderr
    client = daemon.client()
    client.connect()
    assert [letter for letter, _ in client.message(RECEIPT, b"4Q1")] == [b"h", b"b", b"a"]


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        pytest.param({"tracking": 'opens = "x"'}, 78, b"tracking.opens", id="configuration"),
        pytest.param({"milter": 'socket_group = "nobody-here"'}, 78, b"milter.socket_group", id="no-such-group"),
        pytest.param({"milter": "workers = 0"}, 78, b"", id="twice-or-zero"),
    ],
)
def test_wrong_configuration(
    make_daemon: Callable[..., Any], options: dict[str, str], status: int, complaint: bytes
) -> None:
    """A wrong configuration is fatal at start, named, with exit status 78."""
    daemon = make_daemon(started=False, **options)
    done = subprocess.run(
        [sys.executable, "-m", "postwake_cli", "--config", str(daemon.config), "milter"],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == status
    assert complaint in done.stderr


def test_slow_rewriting_goes_out_unchanged(make_daemon: Callable[..., Any]) -> None:
    """What is not rewritten within rewrite_timeout_s goes out as it came, recorded with that reason."""
    daemon = make_daemon(milter="rewrite_timeout_s = 0.001")
    client = daemon.client()
    client.connect()
    assert client.message(mails.of_size(500_000, 300), b"4Qslow") == [(b"a", b"")]
    assert daemon.rows("SELECT tracked, untracked_reason FROM message") == [(0, "rewrite-timeout")]


def test_the_store_is_away(make_daemon: Callable[..., Any]) -> None:
    """While the store is away mail is tracked all the same, and its row is there once the store is back."""
    daemon = make_daemon()
    store = daemon.directory / "postwake.db"
    store.rename(daemon.directory / "away")
    client = daemon.client()
    client.connect()
    assert [letter for letter, _ in client.message(RECEIPT, b"4Q1")] == [b"h", b"b", b"a"]

    (daemon.directory / "away").rename(store)
    daemon.wait_until(lambda: daemon.rows("SELECT tracked FROM message") == [(1,)], what="row replayed")
