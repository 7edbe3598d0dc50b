"""Print the confusion table of the labelled requests and sequences: what they are against what we say.

Run by ``make who-table``; docs/who.md shows its output. Exit status 1 if a person is called a machine.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from pathlib import Path

from postwake.events import EventType, Who
from postwake_pixelserver.burst import Seen, judge
from postwake_pixelserver.who import read_rules

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


def sequence_table() -> Counter[tuple[str, str]]:
    """Count (truth, verdict) of the hits in the sequences, all of which begin as a browser's."""
    table: Counter[tuple[str, str]] = Counter()
    for case in tomllib.loads((GOLDEN / "sequences.toml").read_text(encoding="utf-8"))["sequence"]:
        hits = [
            Seen(
                number,
                round(at_s * 1e6),
                EventType.OPENED if what == "open" else EventType.CLICKED,
                0 if what == "open" else what,
                Who.HUMAN,
                client,
                agent,
            )
            for number, (at_s, what, client, agent, *_) in enumerate(case["hits"])
        ]
        delivered_at_us = 0 if case.get("delivered", True) else None
        found = judge(hits, delivered_at_us=delivered_at_us, links=case["links"], shared=case.get("shared", False))
        machines = {relabeling.event for relabeling in found}
        for number, row in enumerate(case["hits"]):
            table[row[4], "machine" if number in machines else "human"] += 1
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
