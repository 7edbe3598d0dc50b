"""make demo: mail through a real Postfix with our milter, read by pretended readers, told as one story.

Ends with status 0 only if what the servers at the other end and the readers counted is what ``postwake report`` says.
Leaves no process and no file behind, unless KEEP=1.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import smtplib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from postwake_lab import mails
from postwake_lab.reader import fetch, tracked_urls
from postwake_lab.world import World

RECIPIENTS = [
    *(f"{name}@accept.test" for name in ("ada", "bertil", "chiara", "diego", "elif", "fatou")),
    *(f"{name}@later.test" for name in ("goran", "hana", "ines")),
    *(f"{name}@gone.test" for name in ("jonas", "kim", "lea")),
]
RECEIPTS = ("ada@accept.test", "goran@later.test", "jonas@gone.test")
READING_PAUSE_S = 12
"""People open mail some time after it came. Hits within seconds of the delivery are scanners' (docs/who.md)."""

_started = time.monotonic()


def say(text: str) -> None:
    """Show progress."""
    print(f"[{time.monotonic() - _started:5.1f} s] {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the demo; return the exit status."""
    directory = Path(tempfile.mkdtemp(prefix="postwake-demo-"))
    directory.chmod(0o755)
    keep = os.environ.get("KEEP") == "1"
    lab = Lab(directory)
    try:
        lab.start()
        problems = lab.play()
        if keep:
            _invite(lab)
    finally:
        lab.stop()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    for problem in problems:
        print(f"DOES NOT ADD UP: {problem}")
    if keep:
        print(f"\nKept: {directory}")
    print("\nEverything adds up." if not problems else f"\n{len(problems)} figures do not add up.")
    return 1 if problems else 0


class Lab(World):
    """The world of the demo."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory, {"accept.test": "accept", "later.test": "450", "gone.test": "550", "example.com": "accept"}
        )
        self.opened: Counter[str] = Counter()
        self.clicked: Counter[str] = Counter()
        self.dead: list[str] = []

    def start(self, *services: str) -> None:
        """Start everything, telling what."""
        say("starting Postwake, and four servers that stand for the internet: accepting, 450 at first, 550, and home")
        say(f"starting a private Postfix on 127.0.0.1:{self.postfix.port} with our milter in its main.cf")
        super().start(*services)

    def play(self) -> list[str]:
        """Send, wait, read, and return what does not add up."""
        messages = self._send()
        say("the first attempts: waiting until each was sent, put off or refused")
        wait_for(lambda: self._states().get("queued", 0) == 0, "every delivery to be tried")
        first = self._states()
        say(f"after the first attempts: {_words(first)}")
        self.sinks["later.test"].become("accept")
        say("later.test accepts now: waiting for Postfix to try again")
        wait_for(lambda: self._flush_and_look() == 0, "the queue to empty")
        wait_for(lambda: self._states().get("deferred", 0) == 0, "the log to be read")
        say(f"settled: {_words(self._states())}; readers begin in {READING_PAUSE_S} s")
        time.sleep(READING_PAUSE_S)
        self._read()
        hits = sum(self.opened.values()) + sum(self.clicked.values())
        wait_for(lambda: sum(self._report()["hits"].values()) == hits, "every hit to be in the store")
        return self._tell(messages, first)

    def _send(self) -> int:
        say(f"sending a newsletter to {len(RECIPIENTS)}, a receipt to {len(RECEIPTS)}, one mail to two at once")
        with smtplib.SMTP("127.0.0.1", self.postfix.port) as client:
            for number, recipient in enumerate(RECIPIENTS, 1):
                client.sendmail("news@example.com", [recipient], mails.newsletter(number, recipient))
            both = ["ada@accept.test", "bertil@accept.test"]
            client.sendmail("news@example.com", both, mails.newsletter(99, "all@accept.test"))
        for number, recipient in enumerate(RECEIPTS, 101):
            receipt = mails.receipt(number, recipient).replace(b"\r\n", b"\n")
            self.postfix.sendmail(receipt, "shop@example.com", [recipient])
        return len(RECIPIENTS) + 1 + len(RECEIPTS)

    def _flush_and_look(self) -> int:
        self.postfix.flush()
        return self.postfix.queue_size()

    def _read(self) -> None:
        """Open and click as people would: some look twice, some click, some never open."""
        for number, delivered in enumerate(self._delivered()):
            pixels, links = tracked_urls(delivered.message)
            if number % 4 == 3:
                continue  # a reader whose client loads no images
            for _ in range(2 if number % 3 == 0 else 1):
                for pixel in pixels:
                    fetch(pixel)
                    self.opened[pixel] += 1
            if links and number % 2 == 0:
                self._click(links[number % len(links)])

    def _click(self, link: str) -> None:
        status, fields, _ = fetch(link)
        self.clicked[link] += 1
        wanted = {_ascii(item) for item in mails.LINKS}
        location = unquote(fields.get("location", ""))
        if status != 307 or (location not in {unquote(item) for item in wanted} and "/orders/" not in location):
            self.dead.append(f"{link}: status {status}, Location {location!r}")

    def _delivered(self) -> list[Any]:
        return [item for name in ("accept.test", "later.test") for item in self.sinks[name].delivered()]

    def _report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.services.command("report", "--json"))
        return found

    def _states(self) -> dict[str, int]:
        states: dict[str, int] = self._report()["states"]
        return {state: n for state, n in states.items() if n}

    def _tell(self, messages: int, first: dict[str, int]) -> list[str]:
        report = self._report()
        taken = sum(len(item.recipients) for item in self._delivered())
        refused = sum(recipient.endswith("@gone.test") for recipient in (*RECIPIENTS, *RECEIPTS))
        put_off = sum(recipient.endswith("@later.test") for recipient in (*RECIPIENTS, *RECEIPTS))
        _title("One message's story: postwake message goran@later.test")
        print(self.services.command("message", "--limit", "1", "goran@later.test").rstrip())
        _title("What became of all of them: postwake report")
        print(self.services.command("report").rstrip())
        _title("What Prometheus scrapes")
        for port in self.services.metrics_ports:
            print("\n".join(_metrics(port)))
        checks = (
            ("messages accepted", report["messages"], messages),
            ("deliveries sent", report["states"].get("sent", 0), taken),
            ("deliveries bounced", report["states"].get("bounced", 0), refused),
            ("deliveries deferred at first", first.get("deferred", 0), put_off),
            (
                "opens",
                sum(n for name, n in report["hits"].items() if name.startswith("opened.")),
                sum(self.opened.values()),
            ),
            (
                "clicks",
                sum(n for name, n in report["hits"].items() if name.startswith("clicked.")),
                sum(self.clicked.values()),
            ),
            ("messages clicked in", report["engaged"].get("clicked_any", 0), len(self.clicked)),
            ("dead links", len(self.dead), 0),
        )
        _title("Counted at the other end, and what the store says")
        for what, stored, counted in checks:
            print(f"  {what:<30} {counted:>5} {stored:>5}  {'ok' if stored == counted else 'NO'}")
        _title("Where to look next")
        print("  README.md: the same beside your own Postfix, in ten minutes")
        print("  KEEP=1 make demo: keep everything running, with the commands to look around")
        return [
            f"{what}: counted {counted}, stored {stored}" for what, stored, counted in checks if stored != counted
        ] + self.dead


def wait_for(is_so: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Wait until *is_so*; TimeoutError names *what*."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.2)


def _metrics(port: int) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    wanted = (
        "postwake_mail_total",
        "postwake_engagement_verdicts",
        "postwake_milter_messages_total",
        "postwake_log_lines_total",
    )
    return [line for line in lines if line.startswith(wanted) and not line.endswith(" 0.0")]


def _title(text: str) -> None:
    print(f"\n=== {text}\n", flush=True)


def _words(states: dict[str, int]) -> str:
    return ", ".join(f"{n} {state}" for state, n in sorted(states.items()))


def _ascii(url: str) -> str:
    return quote(url, safe=":/?#[]@!$&'()*+,;=%")


def _invite(lab: Lab) -> None:
    command = " ".join(lab.services.argv())
    print(f"\nEverything still runs. Look around with\n\n  {command} report\n\nand press Enter here to stop.")
    if sys.stdin.isatty():
        sys.stdin.readline()


if __name__ == "__main__":
    sys.exit(main())
