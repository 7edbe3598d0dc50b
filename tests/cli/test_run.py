"""``postwake run``: every service in one process group, from nothing to an orderly end."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postwake.keyfile import add_key
from postwake_lab.ports import free_ports, wait_for_port
from postwake_lab.services import children


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of its own on free ports, with a key and without a store."""
    ports = free_ports(4)
    path = tmp_path / "postwake.toml"
    path.write_text(
        f'[store]\npath = "{tmp_path}/postwake.db"\nspool_dir = "{tmp_path}/spool"\n'
        f'[tracking]\nurl = "http://127.0.0.1:{ports[0]}"\nsender_domains = ["example.com"]\nkeys = "{tmp_path}/keys"\n'
        f'[milter]\nsocket = "{tmp_path}/milter.sock"\nworkers = 1\n'
        f'[logparse]\npath = "{tmp_path}/mail.log"\n'
        f'[pixelserver]\nlisten = "127.0.0.1:{ports[0]}"\n'
        f'[metrics]\nmilter = "127.0.0.1:{ports[1]}"\nlogparse = "127.0.0.1:{ports[2]}"\n'
        f'pixelserver = "127.0.0.1:{ports[3]}"\n'
    )
    add_key(tmp_path / "keys", "2026-01-01T00:00:00Z")
    return path


@pytest.fixture
def group(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``postwake run``, killed with all it started if the test leaves it running."""
    command = [sys.executable, "-m", "postwake_cli", "--config", str(config), "run"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield process
    if process.poll() is None:
        for child in children(process.pid):
            subprocess.run(["kill", "-9", str(child)], check=False)
        process.kill()
        process.wait()


def ports_of(config: Path) -> list[int]:
    """Return the four ports that the configuration names: the pixel server's, then the metrics'."""
    lines = [line for line in config.read_text().splitlines() if "127.0.0.1:" in line and "url" not in line]
    return [int(line.rpartition(":")[2].strip('"')) for line in lines]


def status_of(port: int, path: str) -> int:
    """Return the HTTP status of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def test_run_makes_the_store_and_starts_everything(config: Path, group: subprocess.Popen[bytes]) -> None:
    """From nothing: the store is made, every service answers; SIGTERM ends all of them with status 0."""
    ports = ports_of(config)
    for port in ports:
        wait_for_port(port, 30)

    assert status_of(ports[0], "/healthz") == 200
    assert [status_of(port, "/metrics") for port in ports[1:]] == [200, 200, 200]
    assert (config.parent / "milter.sock").is_socket()

    started = children(group.pid)
    group.send_signal(signal.SIGTERM)
    assert group.wait(30) == 0
    # multiprocessing's resource tracker notices the end of what it watched over a moment later.
    deadline = time.monotonic() + 10
    while left := [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left


def test_run_ends_when_the_configuration_is_wrong(config: Path, group: subprocess.Popen[bytes]) -> None:
    """A service that cannot use its configuration ends the group with status 78, once, instead of starting for ever."""
    group.kill()
    group.wait()
    (config.parent / "keys").unlink()

    done = subprocess.run(
        [sys.executable, "-m", "postwake_cli", "--config", str(config), "run"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 78
    assert "postwake key new" in done.stderr
    assert "Traceback" not in done.stderr
