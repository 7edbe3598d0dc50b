#!/usr/bin/env python3
"""What the per-recipient split of contrib/postfix costs: the same mail to N recipients, shared body against split.

    PYTHONPATH=lab .venv/bin/python bench/milter_split.py [--recipients 3] [--messages 200]

Counted from the first message sent to the empty queue; milter on, next hop Postfix's own discard. Needs root, postfix.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from postwake_lab import mails
from postwake_lab.ports import free_ports
from postwake_lab.world import World

CONTRIB = Path(__file__).parents[1] / "contrib" / "postfix"


def fragment(name: str, port: int) -> str:
    """Return a fragment without its comments, its port replaced."""
    return re.sub(r"(?m)^#.*\n", "", (CONTRIB / name).read_text()).replace("10027", str(port))


def run(split: bool, recipients: int, messages: int) -> tuple[float, int]:
    """Return seconds until everything was delivered, and bytes that the store took."""
    [port] = free_ports(1)
    main = {"default_transport": "discard"}
    if split:
        lines = re.split(r"\n(?=\S)", fragment("main.cf.split", port).strip())
        main |= {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    with tempfile.TemporaryDirectory(prefix="postwake-split-") as name:
        directory = Path(name)
        path = directory / "message"
        path.write_bytes(mails.of_size(26_000, 7).replace(b"\r\n", b"\n"))
        extra = fragment("master.cf.split", port) if split else ""
        world = World(directory, {"accept.test": "accept"}, main=main, master_extra=extra)
        try:
            world.start("milter")
            started = time.perf_counter()
            command = ["smtp-source", "-d", "-s", "10", "-m", str(messages), "-r", str(recipients), "-F", str(path)]
            command += ["-f", "news@example.com", "-t", "ada@discard.test", f"127.0.0.1:{world.postfix.port}"]
            subprocess.run(command, check=True, capture_output=True, timeout=100)
            while world.postfix.queue_size() and time.perf_counter() - started < 100:
                time.sleep(0.02)
            return time.perf_counter() - started, (world.services.directory / "postwake.db-wal").stat().st_size
        finally:
            world.stop()


def main() -> int:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipients", type=int, default=3)
    parser.add_argument("--messages", type=int, default=200)
    arguments = parser.parse_args()
    figures = {split: run(split, arguments.recipients, arguments.messages) for split in (False, True)}
    print(f"{arguments.messages} messages of 26 kB to {arguments.recipients} recipients each")
    for split, (seconds, _) in figures.items():
        rate = arguments.messages / seconds
        print(f"{'split' if split else 'shared body':12} {seconds:7.2f} s  {rate:7.1f} messages/s")
    print(f"split / shared: {figures[True][0] / figures[False][0]:.2f} times as long")
    return 0


if __name__ == "__main__":
    sys.exit(main())
