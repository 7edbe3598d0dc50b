"""Postwake's own services, as processes, with a configuration for the lab."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postwake.keyfile import add_key
from postwake_lab.ports import wait_for_port

_CONFIG = """
[store]
path = "{directory}/postwake.db"
spool_dir = "{directory}/spool"
[tracking]
url = "{url}"
sender_domains = {domains}
keys = "{directory}/keys"
{tracking}
[mta]
local_domains = {local_domains}
[milter]
socket = "{socket}"
socket_group = "postfix"
workers = {workers}
{milter}
[logparse]
path = "{log}"
mta = "{mta}"
[pixelserver]
listen = "127.0.0.1:{pixel_port}"
{pixelserver}
[metrics]
milter = "127.0.0.1:{metrics[0]}"
logparse = "127.0.0.1:{metrics[1]}"
pixelserver = "127.0.0.1:{metrics[2]}"
"""


@dataclass
class Services:
    """The services of one lab. ``command`` runs the ``postwake`` command with its configuration."""

    directory: Path
    log: Path
    socket: Path
    pixel_port: int
    metrics_ports: tuple[int, int, int]
    domains: tuple[str, ...] = ("example.com",)
    local_domains: tuple[str, ...] = ()
    workers: int = 1
    mta: str = "postfix"
    tracking: str = ""
    pixelserver: str = ""
    milter: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        """Write configuration and keys, and make the store."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.socket.parent, group="postfix")
        self.socket.parent.chmod(0o750)
        self.config = self.directory / "postwake.toml"
        self.url = self.url or f"http://127.0.0.1:{self.pixel_port}"
        self.write_config()
        if not (self.directory / "keys").exists():
            add_key(self.directory / "keys", "2026-01-01T00:00:00Z")
        self.output = (self.directory / "services.log").open("ab")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.command("db", "migrate")

    def write_config(self) -> None:
        """Write the configuration file anew."""
        fields: Mapping[str, Any] = {
            "directory": self.directory,
            "url": self.url,
            "domains": list(self.domains),
            "tracking": self.tracking,
            "local_domains": list(self.local_domains),
            "socket": self.socket,
            "workers": self.workers,
            "milter": self.milter,
            "log": self.log,
            "mta": self.mta,
            "pixel_port": self.pixel_port,
            "pixelserver": self.pixelserver,
            "metrics": self.metrics_ports,
        }
        text = _CONFIG.format(**fields).replace("'", '"')
        tomllib.loads(text)
        self.config.write_text(text)

    def argv(self, *arguments: str) -> list[str]:
        """Return the command line of the ``postwake`` command with our configuration."""
        return [sys.executable, "-m", "postwake_cli", "--config", str(self.config), *arguments]

    def command(self, *arguments: str, check: bool = True) -> str:
        """Run the command; return what it wrote to standard output."""
        done = subprocess.run(self.argv(*arguments), capture_output=True, text=True, check=False)
        if check and done.returncode not in (0, 1):
            raise RuntimeError(f"postwake {' '.join(arguments)}: status {done.returncode}: {done.stderr}")
        return done.stdout

    def start(self, *names: str) -> None:
        """Start services (all three if none is named) and wait until each answers."""
        for name in names or ("milter", "logparse", "pixelserver"):
            self._processes[name] = subprocess.Popen(self.argv(name), stderr=self.output, stdout=self.output)
        for name in names or ("milter", "logparse", "pixelserver"):
            self.wait_ready(name)

    def wait_ready(self, name: str) -> None:
        """Wait until service *name* answers."""
        wait_for_port(self.metrics_ports[("milter", "logparse", "pixelserver").index(name)])
        if name == "pixelserver":
            wait_for_port(self.pixel_port)

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """Return the process of service *name*."""
        return self._processes[name]

    def kill(self, name: str) -> None:
        """Kill -9 the service and all its worker processes."""
        process = self._processes.pop(name)
        for child in children(process.pid):
            _kill(child)
        process.kill()
        process.wait()

    def stop(self, *names: str) -> None:
        """Stop services (all if none is named) as systemd would."""
        chosen = [self._processes.pop(name) for name in names or tuple(self._processes)]
        for process in chosen:
            process.send_signal(signal.SIGTERM)
        for process in chosen:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                for child in children(process.pid):
                    _kill(child)
                process.kill()
                process.wait()

    def close(self) -> None:
        """Stop everything."""
        self.stop()
        self.output.close()

    def settle(self, query: str, expected: object, timeout_s: float = 60.0) -> None:
        """Wait until *query* (one value) on the store gives *expected*; TimeoutError says what it gives instead."""
        from postwake.store.connection import open_reader

        deadline = time.monotonic() + timeout_s
        while True:
            connection = open_reader(self.directory / "postwake.db")
            try:
                found = connection.execute(query).fetchone()[0]
            finally:
                connection.close()
            if found == expected:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{query}: {found!r} after {timeout_s:.0f} s: expected {expected!r}")
            time.sleep(0.1)


def children(pid: int) -> list[int]:
    """Return the process IDs of the children of *pid*, and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(path.parent.name)
            found += [child, *children(child)]
    return found


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
