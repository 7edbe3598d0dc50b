"""docs/who.md says what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from postwake_pixelserver import burst
from postwake_pixelserver.who import read_rules

ROOT = Path(__file__).parents[2]


def test_confusion_table_stands_in_the_documentation() -> None:
    """The page shows exactly what the script prints, and no person is called a machine."""
    printed = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("confusion.py"))], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() in (ROOT / "docs" / "who.md").read_text(encoding="utf-8")


def test_every_reason_is_documented() -> None:
    """Each reason that can be stored is explained."""
    page = (ROOT / "docs" / "who.md").read_text(encoding="utf-8")
    reasons = {rule.verdict.reason for rule in read_rules().agents}
    reasons |= {"head", "prefetch", "crawler", "no-agent", "unreadable-agent", "browser", "unfamiliar"}
    reasons |= {"before-delivery", "at-delivery", "burst", "sweep", "scanner-open", "near-burst"}
    assert [reason for reason in sorted(reasons) if f"`{reason}`" not in page] == []


def test_documented_thresholds_are_the_ones_in_use() -> None:
    """The numbers on the page are the constants."""
    page = (ROOT / "docs" / "who.md").read_text(encoding="utf-8")
    second_us = burst.SECOND_US
    assert f"an open within {burst.OPEN_AT_DELIVERY_US // second_us} s" in page
    assert f"a click within {burst.CLICK_AT_DELIVERY_US // second_us} s" in page
    bursts = ", ".join(f"{links} within {span_us // second_us} s" for links, span_us in burst.BURSTS)
    assert f"{bursts}; in a mail with two links" in page
    assert f"both within {burst.PAIR_US / second_us} s" in page
    assert f"within {burst.SWEEP_US // second_us} s, wherever from" in page
    assert f"at least {burst.SWEEP_LINKS} links or {burst.SWEEP_SOURCES} sources" in page
