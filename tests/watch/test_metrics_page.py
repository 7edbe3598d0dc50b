"""docs/metrics.md and what running services serve are the same, both ways."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from postwake.reply.rules import CATEGORIES
from postwake_milter.policy import REASONS
from postwake_milter.rewrite.reasons import UNTRACKED_REASONS

UNBOUNDED_ON_PAGE = {"category", "provider", "sender_domain", "reason", "version"}
"""Labels whose values the page describes instead of listing."""

LABELS_MADE_BY_TYPE = {"le"}


def families(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return type and label names of each metric in an exposition, under its exposed name."""
    found = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = frozenset().union(*(sample.labels for sample in family.samples)) - LABELS_MADE_BY_TYPE
        found[name] = (family.type, labels)
    return found


@pytest.mark.parametrize("service", ["milter", "logparse", "pixelserver"])
def test_page_says_what_each_service_serves(service: str, expositions: dict[str, str], documented: Any) -> None:
    """Every metric a service serves stands on the page with its type and labels, and every one there is served."""
    served = families(expositions[service])
    promised = {name: (item.type, item.labels) for name, item in documented.items() if service in item.services}

    assert served == promised


def test_values_of_labels(expositions: dict[str, str], root: Path) -> None:
    """Each value of a label whose values the page lists is listed, and each listed value is there from the start."""
    page = (root / "docs/metrics.md").read_text(encoding="utf-8").partition("## Labels")[2]
    listed: dict[tuple[str, str], set[str]] = {}
    for label, metrics, text in re.findall(r"^\| `(\w+)` \| ([^|]*)\| ([^|]+) \|$", page, re.MULTILINE):
        for metric in re.findall(r"`(\w+)`", metrics) or [""]:
            listed[label, metric] = set(re.findall(r"`([\w-]+)`", text))
    seen: dict[tuple[str, str], set[str]] = {}
    for text in expositions.values():
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            for sample in family.samples:
                for label, value in sample.labels.items():
                    if label not in UNBOUNDED_ON_PAGE | LABELS_MADE_BY_TYPE and name != "postwake_domain_mail_total":
                        key = (label, name) if (label, name) in listed else (label, "")
                        seen.setdefault(key, set()).add(value)

    wanted = {key: values for key, values in listed.items() if key[0] not in UNBOUNDED_ON_PAGE}
    wanted.pop(("state", "postwake_domain_mail_total"))
    assert seen == wanted


def test_series_are_there_before_anything_happens(expositions: dict[str, str]) -> None:
    """Categories, reasons and the configured domain exist without anything having happened to them."""
    text = expositions["logparse"]
    for category in CATEGORIES:
        assert f'postwake_failures_by_category_total{{category="{category}",state="deferred"}}' in text
    for reason in {*REASONS, *UNTRACKED_REASONS}:
        assert f'postwake_messages_total{{reason="{reason}",tracked="no"}} 0.0' in text
    assert 'postwake_domain_mail_total{sender_domain="example.com",state="complained"} 0.0' in text
    assert 'postwake_domain_mail_total{sender_domain="other",state="sent"} 0.0' in text


def test_what_the_log_said_is_counted(expositions: dict[str, str]) -> None:
    """A bounce and a delivery in the log come out as such, with the category and the line nobody knew."""
    lines = expositions["logparse"].splitlines()

    assert 'postwake_mail_total{direction="outbound",state="sent"} 1.0' in lines
    assert 'postwake_domain_mail_total{sender_domain="example.com",state="bounced"} 1.0' in lines
    assert 'postwake_failures_by_category_total{category="bad-mailbox",state="bounced"} 1.0' in lines
    assert 'postwake_provider_recent_failures{category="bad-mailbox",provider="Gmail"} 1.0' in lines
    assert 'postwake_log_lines_total{result="unparsed"} 1.0' in lines
    assert "postwake_log_lag_bytes 0.0" in lines
    assert "postwake_log_lag_seconds 0.0" in lines
    assert "postwake_store_up 1.0" in lines


def test_no_address_host_or_url_in_a_label(expositions: dict[str, str]) -> None:
    """No label tells of a recipient, a server, a queue ID or a URL."""
    for text in expositions.values():
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                for value in sample.labels.values():
                    assert not re.search(r"@|://|@gmail|google\.com|example\.net|4F2A81B3C5", value), sample


def test_names_follow_the_conventions(documented: Any) -> None:
    """Counters end in _total and nothing else does; times are seconds, sizes bytes; the prefix is ours."""
    for name, item in documented.items():
        assert name.startswith("postwake_")
        assert (item.type == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|us|kb|mb|minutes|hours|count|bucket|sum)(_total)?$", name), name
