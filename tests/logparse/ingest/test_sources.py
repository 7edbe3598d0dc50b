"""`postwake logparse` on each kind of source, as a process: standard input, sockets, the journal."""

from __future__ import annotations

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
    """What is piped in is in the store when the process ends, with status 0."""
    process = start('source = "stdin"\n', stdin=subprocess.PIPE)
    process.communicate(b"".join(make_mail(number) for number in range(50)), timeout=60)
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
