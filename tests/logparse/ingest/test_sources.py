"""`postwake logparse` on each kind of source, as a process: standard input, sockets, the journal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def start(past: Any, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Return a function that starts the log parser with keys of its section."""

    def run(keys: str, **options: Any) -> subprocess.Popen[bytes]:
        configuration = tmp_path / "postwake.toml"
        configuration.write_text(
            f'[store]\npath = "{past.store}"\n[tracking]\nurl = "https://t.example.org"\n'
            f'[metrics]\nlogparse = ""\n[logparse]\ntimezone = "UTC"\n{keys}'
        )
        command = [sys.executable, "-m", "postwake_cli", "--config", str(configuration), "logparse"]
        return subprocess.Popen(command, **options)

    return run


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], patience_s: float = 30.0) -> None:
    """Wait until *condition* holds; the process must live."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_standard_input_to_its_end(past: Any, start: Callable[..., Any], make_mail: Callable[[int], bytes]) -> None:
    """What is piped in is in the store at the end, with status 0; each batch is a line on stderr, without addresses."""
    process = start('source = "stdin"\n', stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    _, said = process.communicate(b"".join(make_mail(number) for number in range(50)), timeout=60)
    assert re.search(rb"source=stdin records=\d+ lag_bytes=\d+\n", said)
    assert b"@" not in said
    assert process.returncode == 0
    assert past.stored() == dict.fromkeys(range(50), 1)


@pytest.mark.parametrize("kind", ["datagram", "stream"])
def test_unix_socket(
    past: Any, start: Callable[..., Any], make_mail: Callable[[int], bytes], tmp_path: Path, kind: str
) -> None:
    """Syslog messages on a UNIX socket of either kind arrive; SIGTERM ends the process and removes the socket."""
    path = tmp_path / "log.sock"
    process = start(f'source = "socket"\nlisten = "{path}"\nlisten_type = "{kind}"\n')
    try:
        wait_for(path.exists, process)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM) as sender:
            sender.settimeout(20)
            sender.connect(str(path))
            for number in range(50):
                for line in make_mail(number).splitlines(keepends=True):
                    sender.send(b"<22>" + (line.rstrip(b"\n") if kind == "datagram" else line))
            wait_for(lambda: len(past.stored()) == 50, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not path.exists()
    finally:
        process.kill()
        process.wait()
    assert past.stored() == dict.fromkeys(range(50), 1)


REMOTE = Path("/lib/systemd/systemd-journal-remote")


@pytest.mark.skipif(
    not REMOTE.exists() or shutil.which("journalctl") is None,
    reason="needs journalctl and systemd-journal-remote (which writes a journal from an export)",
)
def test_journal(past: Any, start: Callable[..., Any], make_mail: Callable[[int], bytes], tmp_path: Path) -> None:
    """The real journalctl feeds the store; after kill -9 the next process goes on behind journald's own cursor."""
    journal = tmp_path / "journal"
    journal.mkdir()
    wrapper = tmp_path / "bin" / "journalctl"  # the service reads the machine's journal: this leads it to ours
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("journalctl")} --directory={journal} "$@"\n')
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    at_us = 1_795_325_400_000_000

    def write(number: int, *mails: int) -> None:
        entries = b""
        for mail in mails:
            for index, line in enumerate(make_mail(mail).splitlines()):
                tag, _, message = line[19:].partition(b"[7]: ")
                fields = (
                    f"__REALTIME_TIMESTAMP={at_us + mail * 1000 + index}\n__MONOTONIC_TIMESTAMP={mail * 1000 + index}\n"
                    f"_BOOT_ID=5a1d8b1c2e3f4a5b8c7d6e5f4a3b2c1d\n_HOSTNAME=mx\nSYSLOG_FACILITY=2\nSYSLOG_PID=7\n"
                    f"SYSLOG_IDENTIFIER={tag.decode()}\nMESSAGE={message.decode()}\n\n"
                )
                entries += fields.encode()
        (tmp_path / "export").write_bytes(entries)
        target = journal / f"system@{number}.journal"
        subprocess.run([REMOTE, f"--output={target}", tmp_path / "export"], check=True, capture_output=True)

    write(1, *range(20))
    process = start('source = "journal"\n', env=environment)
    try:
        wait_for(lambda: len(past.stored()) == 20, process)
    finally:
        process.kill()
        process.wait()
    write(2, *range(20, 30))
    process = start('source = "journal"\n', env=environment)
    try:
        wait_for(lambda: len(past.stored()) == 30, process)
    finally:
        process.terminate()
        process.wait(20)
    assert past.stored() == dict.fromkeys(range(30), 1)


def test_socket_that_systemd_opened(past: Any, make_mail: Callable[[int], bytes], tmp_path: Path) -> None:
    """A passed socket is used, keeps what came before the start, and its file is left to systemd."""
    path = tmp_path / "log.sock"
    configuration = tmp_path / "postwake.toml"
    configuration.write_text(
        f'[store]\npath = "{past.store}"\n[tracking]\nurl = "https://t.example.org"\n[metrics]\nlogparse = ""\n'
        f'[logparse]\ntimezone = "UTC"\nsource = "socket"\nlisten = "{path}"\n'
    )
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        listener.bind(str(path))
        for line in make_mail(7).splitlines():
            sender.sendto(b"<22>" + line, str(path))
        # What systemd does between fork and exec.
        passing = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3, inheritable=True);"
            " os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv(sys.argv[2], sys.argv[2:])"
        )
        service = [sys.executable, "-m", "postwake_cli", "--config", str(configuration), "logparse"]
        process = subprocess.Popen(
            [sys.executable, "-c", passing, str(listener.fileno()), *service], pass_fds=[listener.fileno()]
        )
        try:
            wait_for(lambda: len(past.stored()) == 1, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
        assert path.exists()
