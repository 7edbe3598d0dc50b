"""Print the confusion table of the labelled requests and sequences: what they are against what we say.

Run by ``make who-table``; docs/who.md shows its output. Exit status 1 if a person is called a machine.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from postwake.events import EventType
from postwake_pixelserver.burst import Seen, judge
from postwake_pixelserver.who import Rules, read_rules

GOLDEN = Path(__file__).parents[1] / "golden" / "who"
KINDS = ("human", "machine", "unknown")


def request_table() -> Counter[tuple[str, str]]:
    """Count (truth, verdict) of the single requests."""
    rules = read_rules()
    table: Counter[tuple[str, str]] = Counter()
    for case in tomllib.loads((GOLDEN / "requests.toml").read_text(encoding="utf-8"))["request"]:
        headers = dict(case.get("headers", {}))
        if "agent" in case:
            headers["user-agent"] = case["agent"]
        verdict = rules.classify(case["kind"], case.get("method", "GET"), headers, case.get("client", "203.0.113.5"))
        table[case["truth"], verdict.who.label] += 1
    return table


def read_sequences() -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the agents by the names that the sequences use, and the sequences."""
    text = tomllib.loads((GOLDEN / "sequences.toml").read_text(encoding="utf-8"))
    return text["agents"], text["sequence"]


def first_verdicts(case: dict[str, Any], agents: dict[str, str], rules: Rules, t0_us: int = 0) -> list[Seen]:
    """Return the hits of a sequence as they are stored: each with the verdict on the request itself."""
    hits = []
    for number, (at_s, what, client, agent, *_, sign) in enumerate([*row, "GET"][:8] for row in case["hits"]):
        name, _, value = sign.partition(": ")
        headers = {"user-agent": agents[agent]} | ({name: value} if value else {})
        kind = "open" if what == "open" else "click"
        verdict = rules.classify(kind, "GET" if value else sign, headers, client)
        type_, link = (EventType.OPENED, 0) if what == "open" else (EventType.CLICKED, what)
        at_us = t0_us + round(at_s * 1e6)
        hits.append(Seen(number, at_us, type_, link, verdict.who, client, agents[agent], verdict.reason))
    return hits


def last_verdicts(case: dict[str, Any], hits: list[Seen], t0_us: int = 0) -> list[tuple[str, str]]:
    """Return verdict and reason of each hit after all of them were judged together."""
    delivered_at_us = t0_us if case.get("delivered", True) else None
    found = judge(hits, delivered_at_us=delivered_at_us, links=case["links"], shared=case.get("shared", False))
    changed = {item.event: (item.who.label, item.reason) for item in found}
    return [changed.get(hit.event, (hit.who.label, hit.reason)) for hit in hits]


def sequence_table() -> Counter[tuple[str, str]]:
    """Count (truth, verdict) of the hits in the sequences."""
    rules, table = read_rules(), Counter[tuple[str, str]]()
    agents, cases = read_sequences()
    for case in cases:
        verdicts = last_verdicts(case, first_verdicts(case, agents, rules))
        table.update((row[4], who) for row, (who, _) in zip(case["hits"], verdicts, strict=True))
    return table


def show(title: str, table: Counter[tuple[str, str]]) -> None:
    """Print *table* as a Markdown table."""
    print(f"\n{title}: {table.total()} hits\n")
    print("| in truth \\ verdict | " + " | ".join(KINDS) + " |")
    print("| --- |" + " ---: |" * len(KINDS))
    for truth in KINDS:
        print(f"| {truth} | " + " | ".join(str(table[truth, verdict]) for verdict in KINDS) + " |")


def main() -> int:
    """Print both tables."""
    requests, sequences = request_table(), sequence_table()
    show("Single requests", requests)
    show("Sequences, after time and bursts", sequences)
    return 1 if requests["human", "machine"] or sequences["human", "machine"] else 0


if __name__ == "__main__":
    sys.exit(main())
