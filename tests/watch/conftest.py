"""Shared by the tests of what watches Postwake: what docs/metrics.md promises, and running services."""

from __future__ import annotations

import grp
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from postwake.reply.rules import CATEGORIES
from postwake_lab.ports import free_ports
from postwake_lab.services import Services
from postwake_milter.policy import REASONS
from postwake_milter.rewrite.reasons import UNTRACKED_REASONS

ROOT = Path(__file__).parents[2]

_LINES = (
    "postfix/smtpd[11]: connect from localhost[127.0.0.1]",
    "postfix/smtpd[11]: 4F2A81B3C5: client=localhost[127.0.0.1]",
    "postfix/cleanup[12]: 4F2A81B3C5: message-id=<1@example.com>",
    "postfix/qmgr[13]: 4F2A81B3C5: from=<news@example.com>, size=900, nrcpt=2 (queue active)",
    "postfix/smtp[14]: 4F2A81B3C5: to=<ann@gmail.com>, relay=gmail-smtp-in.l.google.com[192.0.2.7]:25, delay=1,"
    " delays=0.1/0/0.4/0.5, dsn=5.1.1, status=bounced (host gmail-smtp-in.l.google.com[192.0.2.7] said: 550-5.1.1 The"
    " email account that you tried to reach does not exist. (in reply to RCPT TO command))",
    "postfix/smtp[15]: 4F2A81B3C5: to=<bob@example.net>, relay=mx.example.net[192.0.2.8]:25, delay=1,"
    " delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 5D4C3B2A10)",
    "postfix/qmgr[13]: 4F2A81B3C5: removed",
    "postfix/smtpd[11]: something that nobody has ever seen before",
)


def recent_log() -> str:
    """Return a small Postfix log of some minutes ago: a bounce by a provider, a delivery, a line nobody knows."""
    at = datetime.now(UTC) - timedelta(minutes=5)
    return "".join(
        f"{(at + timedelta(seconds=second)).isoformat(timespec='microseconds')} mx {line}\n"
        for second, line in enumerate(_LINES)
    )


class Documented(NamedTuple):
    """One line of a table in docs/metrics.md."""

    type: str
    labels: frozenset[str]
    services: frozenset[str]


def read_page() -> dict[str, Documented]:
    """Return the metrics of docs/metrics.md by the name they are exposed under."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    found = {}
    for name, kind, labels, services in re.findall(
        r"^\| `(postwake_\w+)` \| (\w+) \| ([^|]*)\| ([^|]*) \| [^|]+ \|$", page, re.MULTILINE
    ):
        assert name not in found, f"{name} stands there twice"
        found[name] = Documented(kind, frozenset(re.findall(r"`(\w+)`", labels)), frozenset(services.split(", ")))
    return found


@pytest.fixture(scope="session")
def documented() -> dict[str, Documented]:
    """The metrics of docs/metrics.md."""
    return read_page()


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """All services running on a small log."""
    try:
        grp.getgrnam("postfix")
    except KeyError:
        pytest.skip("there is no group postfix, which the milter's socket is given to")
    if os.geteuid():
        pytest.skip("needs root: the milter's socket is given to the group postfix")
    directory = tmp_path_factory.mktemp("services")
    log = directory / "mail.log"
    log.write_text(recent_log(), encoding="utf-8")
    ports = free_ports(4)
    running = Services(directory / "postwake", log, directory / "milter.sock", ports[0], (ports[1], ports[2], ports[3]))
    try:
        running.start()
        running.settle("SELECT count(*) FROM delivery WHERE state IN (1, 3)", 2)
        yield running
    finally:
        running.close()
        print((running.directory / "services.log").read_text(errors="replace")[-4000:])


def scrape(port: int) -> str:
    """Return the exposition of the listener on *port*."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode("utf-8"))


@pytest.fixture(scope="session")
def expositions(services: Services) -> dict[str, str]:
    """What each service serves, by its name."""
    names = ("milter", "logparse", "pixelserver")
    return {name: scrape(port) for name, port in zip(names, services.metrics_ports, strict=True)}


TARGET_LABELS = frozenset({"host", "instance", "job"})
"""What Prometheus adds to every series, and contrib/prometheus/prometheus.yml."""


def _values() -> dict[tuple[str, str], frozenset[str]]:
    """Return the values that docs/metrics.md lists by label and metric; an empty metric stands for the others."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8").partition("## Labels")[2]
    found = {
        (label, metric): frozenset(re.findall(r"`([\w-]+)`", text))
        for label, metrics, text in re.findall(r"^\| `(\w+)` \| ([^|]*)\| ([^|]+) \|$", page, re.MULTILINE)
        for metric in re.findall(r"`(\w+)`", metrics) or [""]
    }
    found["state", "postwake_domain_mail_total"] = found["state", "postwake_mail_total"]
    for label, values in (("category", CATEGORIES), ("reason", {*REASONS, *UNTRACKED_REASONS})):
        found[label, ""] = frozenset(values)
    return found


def _recorded() -> dict[str, frozenset[str]]:
    """Return the recording rules' names with the labels they keep."""
    text = (ROOT / "contrib/prometheus/postwake-rules.yml").read_text(encoding="utf-8")
    rules = re.findall(r"- record: (\S+)\n\s+expr: (.*?)(?=\n      -|\n  -|\Z)", text, re.DOTALL)
    return {
        name: frozenset(label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", "))
        for name, expression in rules
    }


@pytest.fixture(scope="session")
def check_promql(documented: dict[str, Documented]) -> Callable[[str], None]:
    """Assert that a PromQL expression asks only for metrics and labels that exist."""
    known: dict[str, frozenset[str]] = {name: item.labels for name, item in documented.items()} | _recorded()
    for name, item in documented.items():
        if item.type == "histogram":
            del known[name]
            known |= {f"{name}_bucket": item.labels | {"le"}, f"{name}_sum": item.labels, f"{name}_count": item.labels}
    known["up"] = frozenset()
    values = _values()

    def check(expression: str) -> None:
        bare = re.sub(r"#.*", "", expression)
        found = re.findall(
            r"([a-z_:0-9]*postwake[a-z_:0-9]*|\bup\b)(?!\")(?:\{([^}]*)\})?", re.sub(r'"postwake-[^"]*"', '""', bare)
        )
        assert found, f"no metric in {expression}"
        labels: set[str] = set()
        for name, matchers in found:
            assert name in known, f"{name} in {expression}"
            labels |= known[name]
            asked = set(re.findall(r"(\w+)\s*[=!]~?", matchers))
            for label, value in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', matchers):
                listed = values.get((label, name)) or values.get((label, ""))
                if listed and label in known[name] and not re.search(r"[$.+*]", value):
                    assert set(value.split("|")) <= listed, f'{label}="{value}" of {name} in {expression}'
            assert asked <= known[name] | TARGET_LABELS, f"{asked} of {name} in {expression}"
        for group in re.findall(r"\b(?:by|on|group_left|without|ignoring) ?\(([^)]*)\)", bare):
            assert {label.strip() for label in group.split(",") if label.strip()} <= labels | TARGET_LABELS, expression

    return check
