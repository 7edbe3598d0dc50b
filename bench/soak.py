"""Two hundred thousand messages through Postfix, the milter and the log parser: is memory flat, are descriptors?

    PYTHONPATH=lab python bench/soak.py [--messages 200000]

Prints resident memory and open descriptors of every process at each tenth, and at the end what the store says: one
message and one sent delivery each, and every untracked_reason with its count.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from postwake.store.connection import open_reader
from postwake_lab import mails
from postwake_lab.services import children
from postwake_lab.world import World

SERVICES = ("milter", "logparse")


def look(world: World) -> dict[str, tuple[int, int]]:
    """Return resident MB and open descriptors of each process."""
    found = {}
    for name in SERVICES:
        process = world.services.process(name).pid
        for number, pid in enumerate((process, *sorted(children(process)))):
            resident = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]
            found[f"{name}/{number}"] = (int(resident) // 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())))
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=200_000)
    count = parser.parse_args().messages
    directory = Path(tempfile.mkdtemp(prefix="postwake-soak-"))
    world = World(directory, {"accept.test": "accept"}, keep_mail=False)
    mail = directory / "mail"
    # smtp-source sends the file as it is and ends it itself.
    mail.write_bytes(mails.newsletter(1, "ada@accept.test").replace(b"\r\n", b"\n"))
    try:
        world.start(*SERVICES)
        started = time.monotonic()
        for tenth in range(10):
            command = ["smtp-source", "-s", "20", "-m", str(count // 10), "-N", "-f", "news@example.com"]
            command += ["-t", "r@accept.test", "-F", str(mail), f"127.0.0.1:{world.postfix.port}"]
            subprocess.run(command, check=True)
            if tenth == 0:
                names = list(look(world))
                print(f"{'messages':>9} {'per s':>6}  " + "  ".join(f"{name:>14}" for name in names))
            seen = look(world)
            rate = count * (tenth + 1) / 10 / (time.monotonic() - started)
            cells = "  ".join(f"{f'{mb} MB {fds} fd':>14}" for mb, fds in seen.values())
            print(f"{count * (tenth + 1) // 10:>9} {rate:>6.0f}  {cells}", flush=True)
        world.services.settle("SELECT count(*) FROM delivery WHERE state = 1", count, 300)
        with closing(open_reader(directory / "postwake" / "postwake.db")) as connection:
            rows = connection.execute(
                "SELECT tracked, untracked_reason, count(*) FROM message GROUP BY 1, 2"
            ).fetchall()
            print("tracked, untracked_reason, messages:", [tuple(row) for row in rows])
        print("services' own log:", (directory / "postwake" / "services.log").read_text()[-1000:])
    finally:
        world.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
