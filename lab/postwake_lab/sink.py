"""smtp-sink as the internet: a server that takes mail, puts it off, or refuses it, and keeps what it took."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from postwake_lab.ports import wait_for_port

Behaviour = Literal["accept", "450", "550", "blocked"]
_REFUSE = {
    "accept": [],
    "450": ["-r", "rcpt", "-b", "450 4.2.0 Greylisted, please try again in 5 minutes"],
    "blocked": [
        *("-f", "rcpt", "-B"),
        "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider"
        " since part of their network is on our block list (S3140).",
    ],
    "550": ["-f", "rcpt", "-B", "550 5.1.1 Recipient address rejected: User unknown"],
}
_ENVELOPE = re.compile(rb"X-(?:Client-Addr|Client-Proto|Helo-Args|Mail-Args|Rcpt-Args): [^\n]*\n")


@dataclass(frozen=True, slots=True)
class Delivered:
    """One message that a sink took."""

    recipients: tuple[str, ...]
    message: bytes
    """Header and body with LF line ends, as smtp-sink writes them, without its own first lines."""


class Sink:
    """One smtp-sink on a loopback port."""

    def __init__(self, directory: Path, port: int, behaviour: Behaviour = "accept", *, keep: bool = True) -> None:
        """Not started yet. *keep*: write every message to *directory*."""
        self.directory = directory
        self.port = port
        self.behaviour = behaviour
        self._keep = keep
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o777)

    def __enter__(self) -> Sink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        dump = ["-d", str(self.directory / "%s.")] if self._keep else []
        command = ["smtp-sink", "-u", "postfix", *_REFUSE[self.behaviour], *dump, f"127.0.0.1:{self.port}", "256"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        wait_for_port(self.port)

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def become(self, behaviour: Behaviour) -> None:
        """Go on with another behaviour."""
        self.stop()
        self.behaviour = behaviour
        self.start()

    def delivered(self) -> list[Delivered]:
        """Return what it took so far."""
        return [
            delivered
            for path in sorted(self.directory.iterdir())
            if (delivered := _read(path.read_bytes())) is not None
        ]


def _read(raw: bytes) -> Delivered | None:
    recipients = []
    at = 0
    while match := _ENVELOPE.match(raw, at):
        if match[0].startswith(b"X-Rcpt-Args: "):
            recipients.append(match[0].split(b"<", 1)[1].split(b">", 1)[0].decode("utf-8", "surrogateescape"))
        at = match.end()
    if not recipients:
        return None  # the probe of wait_for_port
    return Delivered(tuple(recipients), raw[at:])
