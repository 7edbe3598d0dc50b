"""A private OpenDKIM that signs: its own key, configuration and UNIX socket."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

SELECTOR = "lab"


class OpenDkim:
    """One opendkim that signs mail of *domain* with RSA; ``start`` and ``stop``, or a ``with`` block."""

    def __init__(
        self, directory: Path, socket: Path, domain: str = "example.com", *, bits: int = 2048, settings: str = ""
    ) -> None:
        """Make key and configuration under *directory*; nothing runs yet. *socket*: where Postfix finds it.

        *settings*: further lines of opendkim.conf.
        """
        self.socket = socket
        self.domain = domain
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["opendkim-genkey", "-D", str(directory), "-d", domain, "-s", SELECTOR, "-b", str(bits)],
            check=True,
            capture_output=True,
        )
        self.key_file = directory / f"{SELECTOR}.private"
        self._record = (directory / f"{SELECTOR}.txt").read_text()
        self.config = directory / "opendkim.conf"
        self.config.write_text(
            f"Mode s\nDomain {domain}\nSelector {SELECTOR}\nKeyFile {self.key_file}\nSocket local:{socket}\n"
            "RequireSafeKeys no\nUMask 007\nCanonicalization relaxed/simple\nSyslog no\nInternalHosts 127.0.0.1\n"
            f"{settings}\n"
        )
        socket.parent.mkdir(parents=True, exist_ok=True)
        shutil.chown(socket.parent, group="postfix")
        socket.parent.chmod(0o750)

    def txt_record(self) -> bytes:
        """Return the public key's TXT record: what a verifier asks the DNS for."""
        return "".join(re.findall(r'"([^"]*)"', self._record)).encode("ascii")

    def __enter__(self) -> OpenDkim:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout_s: float = 20.0) -> None:
        """Start it and wait for its socket."""
        self._process = subprocess.Popen(
            ["/usr/sbin/opendkim", "-f", "-x", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + timeout_s
        while not self.socket.is_socket():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"opendkim does not serve {self.socket} (status {self._process.poll()})")
            time.sleep(0.05)
        shutil.chown(self.socket, group="postfix")

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
