#!/usr/bin/env python3
"""What a milter costs, through a real Postfix on UNIX sockets: added latency at one session, messages/s at twenty.

    PYTHONPATH=lab .venv/bin/python bench/milter_speed.py [--rounds 3] [--only 26kB]

One run, one Postfix, one smtpd service for each of: no milter; a pymilter that takes every message and does nothing;
one that adds a field and gives the body back 4 % longer, which is what Postfix charges any milter that rewrites;
OpenDKIM signing with a 2048-bit RSA key; Postwake rewriting and committing a row. They take turns, so that whatever
else the machine does hurts all alike; medians over the rounds are compared. Needs root, postfix, opendkim; takes under
three minutes.

smtp-source sends one message again and again, as a newsletter comes once for each recipient: Postwake then knows its
HTML from the message before. What mail costs of which no two are alike is shown by a second Postwake that remembers
nothing (``milter.remember_bytes = 0``).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from postwake_lab import mails
from postwake_lab.opendkim import OpenDkim
from postwake_lab.ports import free_ports
from postwake_lab.postfix import Postfix
from postwake_lab.services import Services

POSTWAKE = ("Postwake", "Postwake, all unlike")
VARIANTS = ("no milter", "do-nothing pymilter", "body-replacing pymilter", "OpenDKIM 2048", *POSTWAKE)
SESSIONS = 20
SIZES = {"26kB": (26_000, 7, 150, 600), "100kB": (100_000, 60, 60, 240)}
"""Name: bytes, links, messages for latency and for throughput in one round."""
_SERVICE = "127.0.0.1:{port} inet n - n - 40 smtpd -o {{ smtpd_milters = {milters} }} -o syslog_name=postfix/{name}\n"


def serve_pymilter(socket: str, *, replacing: bool) -> None:
    """Serve *socket* with a pymilter that is given what Postwake is given, and does nothing, or gives the body back."""
    import Milter

    class Nothing(Milter.Base):  # type: ignore[misc]
        @Milter.noreply
        def connect(self, *_: object) -> int:
            return int(Milter.CONTINUE)

        @Milter.noreply
        def envfrom(self, *_: object) -> int:
            self.chunks: list[bytes] = []
            return int(Milter.CONTINUE)

        @Milter.noreply
        def envrcpt(self, *_: object) -> int:
            return int(Milter.CONTINUE)

        @Milter.noreply
        def header(self, *_: object) -> int:
            return int(Milter.CONTINUE)

        def body(self, chunk: bytes) -> int:
            if replacing:
                self.chunks.append(chunk)
            return int(Milter.CONTINUE)

        def eom(self) -> int:
            if replacing:
                body = b"".join(self.chunks)
                self.addheader("X-Replaced", "0" * 32)
                self.replacebody(body + body[: len(body) // 25])
            return int(Milter.ACCEPT)

    os.umask(0o007)
    Milter.factory = Nothing
    if replacing:
        Milter.set_flags(Milter.ADDHDRS | Milter.CHGBODY)
    Milter.runmilter("nothing", f"unix:{socket}", timeout=0)


def send(port: int, path: Path, sessions: int, count: int) -> float:
    """Send the message at *path* *count* times over *sessions* sessions; return the seconds it took."""
    command = ["smtp-source", "-d", "-s", str(sessions), "-m", str(count), "-F", str(path)]
    command += ["-f", "news@example.com", "-t", "ada@discard.test", f"127.0.0.1:{port}"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"smtp-source: {done.stderr.strip()}")
    return time.perf_counter() - started


def measure(name: str, ports: dict[str, int], directory: Path, rounds: int, drained: Callable[[], None]) -> None:
    """Measure one message size and print the table."""
    size, links, few, many = SIZES[name]
    path = directory / "message"
    # smtp-source ends the lines itself
    path.write_bytes(mails.of_size(size, links).replace(b"\r\n", b"\n"))
    latency: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    rate: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for variant in VARIANTS:  # warm
        send(ports[variant], path, SESSIONS, 40)
    for number in range(rounds):
        for variant in VARIANTS if number % 2 == 0 else VARIANTS[::-1]:
            latency[variant].append(send(ports[variant], path, 1, few) / few * 1000)
            drained()
        for variant in VARIANTS if number % 2 == 0 else VARIANTS[::-1]:
            rate[variant].append(many / send(ports[variant], path, SESSIONS, many))
            drained()
    medians = {variant: statistics.median(latency[variant]) for variant in VARIANTS}
    rates = {variant: statistics.median(rate[variant]) for variant in VARIANTS}
    plain = medians["no milter"]
    print(f"\n{name} message, {links} links; {rounds} rounds, medians")
    print(f"{'':22}{'ms a message':>14}{'added ms':>10}{'messages/s':>12}   (1 session; {SESSIONS} sessions)")
    for variant in VARIANTS:
        print(f"{variant:22}{medians[variant]:14.2f}{medians[variant] - plain:10.2f}{rates[variant]:12.0f}")
    for name in POSTWAKE:
        added = (medians[name] - plain) / max(medians["OpenDKIM 2048"] - plain, 1e-6)
        signed, nothing = rates[name] / rates["OpenDKIM 2048"], rates[name] / rates["do-nothing pymilter"]
        print(f"{name}:")
        print(f"  added latency, by OpenDKIM's:           {added:.2f}   (wanted: at most 1)")
        print(f"  throughput, by OpenDKIM's:              {signed:.2f}   (at least 1)")
        print(f"  throughput, by a do-nothing pymilter's: {nothing:.2f}   (at least 0.7)", flush=True)
    floor = rates["body-replacing pymilter"] / rates["do-nothing pymilter"]
    print(f"body-replacing pymilter, by a do-nothing pymilter's: {floor:.2f}", flush=True)


def main() -> int:
    """Lay everything out, measure, take it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SIZES)
    parser.add_argument("--serve", metavar="SOCKET", help=argparse.SUPPRESS)
    parser.add_argument("--replacing", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_pymilter(arguments.serve, replacing=arguments.replacing)
        return 0
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postwake-bench-")))
        directory.chmod(0o755)
        ports = dict(zip(VARIANTS, free_ports(len(VARIANTS)), strict=True))
        spare, *ports_of_services = free_ports(9)
        own = ("bench/nothing.sock", "bench/replacing.sock")
        sockets_of = ("", *own, "bench/dkim.sock", "postwake/milter.sock", "postwake/forgetful.sock")
        milters = {name: f"unix:{path}" if path else "" for name, path in zip(VARIANTS, sockets_of, strict=True)}
        services = "".join(
            _SERVICE.format(port=ports[variant], milters=milters[variant], name=f"s{number}")
            for number, variant in enumerate(VARIANTS)
        )
        postfix = Postfix(directory / "postfix", spare, main={"default_transport": "discard"}, master_extra=services)
        sockets = postfix.queue / "bench"
        dkim = OpenDkim(directory / "dkim", sockets / "dkim.sock")
        for number, (name, settings) in enumerate(zip(POSTWAKE, ("", "remember_bytes = 0"), strict=True)):
            pixel, *metrics = ports_of_services[4 * number : 4 * number + 4]
            postwake = Services(
                directory / f"postwake-{number}",
                postfix.log,
                postfix.queue / milters[name].removeprefix("unix:"),
                pixel,
                (metrics[0], metrics[1], metrics[2]),
                milter=settings,
            )
            stack.callback(postwake.close)
            postwake.start("milter")
        stack.enter_context(dkim)
        for number, path in enumerate(own):
            command = [sys.executable, __file__, "--serve", str(postfix.queue / path), *["--replacing"][:number]]
            serving = subprocess.Popen(command)
            stack.callback(serving.wait)
            stack.callback(serving.kill)
            deadline = time.monotonic() + 20
            while not (postfix.queue / path).is_socket():
                if serving.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(command)} does not come up")
                time.sleep(0.05)
            shutil.chown(postfix.queue / path, group="postfix")
        stack.enter_context(postfix)

        def drained() -> None:
            deadline = time.monotonic() + 60
            while postfix.queue_size() and time.monotonic() < deadline:
                time.sleep(0.02)

        for name in [arguments.only] if arguments.only else SIZES:
            measure(name, ports, directory, arguments.rounds, drained)
    return 0


if __name__ == "__main__":
    sys.exit(main())
