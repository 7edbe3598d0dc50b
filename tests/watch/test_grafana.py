"""contrib/grafana/postwake.json asks for metrics, labels and recording rules that exist, and Prometheus can read it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def dashboard(root: Path) -> dict[str, Any]:
    """The dashboard."""
    loaded: dict[str, Any] = json.loads((root / "contrib/grafana/postwake.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def queries(dashboard: dict[str, Any]) -> dict[str, str]:
    """Every query, by its panel's title and letter."""
    found = {
        f"{panel['title']}: {target['refId']}": str(target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    found |= {item["name"]: str(item["expr"]) for item in dashboard["annotations"]["list"]}
    return found


def test_every_query_asks_for_what_exists(queries: dict[str, str], check_promql: Callable[[str], None]) -> None:
    """Query by query: its metrics and labels stand in docs/metrics.md or are recorded by our rules."""
    assert len(queries) > 40
    for expression in queries.values():
        check_promql(expression)


def test_every_query_is_promql(queries: dict[str, str], tmp_path: Path) -> None:
    """Prometheus's own parser takes each query, with Grafana's variables filled in."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: Debian's package prometheus has it")
    rules = [
        {"record": f"query:{number}", "expr": re.sub(r"\$__(rate_interval|range)", "5m", expression)}
        for number, expression in enumerate(queries.values())
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_legends_name_labels_the_query_keeps(dashboard: dict[str, Any]) -> None:
    """A label in a legend that the query has aggregated away would be an empty word."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            groups = re.findall(r"by \(([^)]*)\)", target["expr"])
            if groups:
                assert wanted <= set(groups[0].split(", ")), f"{panel['title']}: {target['legendFormat']}"


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    """Each panel has a place of its own and an id of its own, and the four subjects are there."""
    panels = dashboard["panels"]
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert (x, y) not in taken, f"{panel['title']} covers {taken[x, y]}"
                taken[x, y] = panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Delivery", "Engagement", "Providers and categories", "Health"]


def test_host_can_be_chosen(dashboard: dict[str, Any], queries: dict[str, str]) -> None:
    """Every query is narrowed to the chosen host, and no data source is built in."""
    assert [name for name, expression in queries.items() if 'host=~"$host"' not in expression] == []
    sources = {target["datasource"]["uid"] for panel in dashboard["panels"] for target in panel.get("targets", ())}
    assert sources == {"${datasource}"}
