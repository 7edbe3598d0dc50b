"""Every form of a report says the same, and what became of mail adds up to its recipients."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Show = Callable[..., str]
FATES = {"": 1, "deleted": 2, "250 2.0.0 Ok": 4, "450 4.2.0 later": 8, "550 5.1.1 no such user": 16}
"""How many recipients had which, each count another power of two."""
PERIOD = ("--since", "2026-11-22", "--until", "2026-11-23")


@pytest.fixture
def show(make_store: Callable[[list[Any]], Path], tmp_path: Path) -> Show:
    """Run ``postwake report`` on a store in which some mail met each fate."""
    store = make_store([(f"u{n}@example.net", reply) for reply, count in FATES.items() for n in range(count)])
    config = tmp_path / "postwake.toml"
    config.write_text(f'[store]\npath = "{store}"\n')

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "postwake_cli", "--config", str(config), "report", *PERIOD, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return run


def test_json(show: Show) -> None:
    """The states of the JSON document add up to its recipients."""
    found = json.loads(show("--json"))
    assert found["recipients"] == sum(found["states"].values()) == 31
    assert found["states"] == {"queued": 1, "deleted": 2, "sent": 4, "deferred": 8, "bounced": 16}


def test_summary(show: Show) -> None:
    """The summary's lines do, deleted mail included."""
    lines = re.findall(r"^(\w+) +(\d+) +[\d.]+ % of recipients$", show(), re.MULTILINE)
    assert {label: int(n) for label, n in lines} == {"Sent": 4, "Deferred": 8, "Queued": 1, "Bounced": 16, "Deleted": 2}


@pytest.mark.parametrize("by", ["sender-domain", "recipient-domain"])
def test_by(by: str, show: Show) -> None:
    """So does each line of a table."""
    head, line, *_ = show("--by", by).splitlines()
    assert head.split() == [by, "recipients", "sent", "deferred", "queued", "deleted", "bounced", "opened", "clicked"]
    assert [int(cell) for cell in re.findall(r"(?<!\S)\d+(?!\S)", line)][:6] == [31, 4, 8, 1, 2, 16]


def test_text(show: Show) -> None:
    """So do the figures at the head of the whole report, which says of what its rates are shares."""
    text = show("--text")
    figures = dict(re.findall(r"^(Recipients|Sent|Bounced|Still on their way|Deleted) +(\d+)\b", text, re.MULTILINE))
    assert figures == {"Recipients": "31", "Sent": "4", "Bounced": "16", "Still on their way": "9", "Deleted": "2"}
    assert "shares of all that was sent, tracked or not" in " ".join(text.split())


def test_html(show: Show) -> None:
    """And those of the page."""
    page = show("--html", "-")
    figures = {name: int(n) for name, n in re.findall(r'data-measure="(\w+)">(\d+)<', page)}
    parts = ("sent", "bounced", "waiting", "deleted")
    assert figures["recipients"] == sum(figures[name] for name in parts) == 31
    assert "shares of all that was sent, tracked or not" in page
