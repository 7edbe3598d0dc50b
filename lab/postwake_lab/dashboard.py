"""make dashboard: the queries of contrib/grafana/postwake.json, asked of a real Prometheus about real mail.

Not Grafana's own drawing: each panel has the place, the title and the queries of the dashboard, plotted as SVG. Some
minutes of traffic through a private Postfix: a provider begins to put mail off, then blocks us, and takes mail again;
people and scanners open and click.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import smtplib
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from postwake_console.svg import nice_ceiling
from postwake_lab import mails
from postwake_lab.prometheus import Prometheus
from postwake_lab.reader import BROWSER, fetch, tracked_urls
from postwake_lab.sink import Behaviour, Delivered
from postwake_lab.world import World

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "contrib/grafana/postwake.json"
HOST = "mail.example.com"
COLUMN, ROW, GAP = 44, 26, 6
POINTS = 45
COLOURS = ("#2f7fb8", "#c9a227", "#c0392b", "#5b8c5a", "#8e6bb0", "#d9822b", "#4aa3a2", "#9aa5b1")
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#5b6675}.t{font-size:12px;font-weight:600;fill:#1c2430}"
    ".b{font-size:26px;font-weight:600;fill:#1c2430}.r{font-size:15px;font-weight:600;fill:#1c2430}"
    ".p{fill:#fff;stroke:#d9dee5}.g{stroke:#e6eaef}polyline{fill:none;stroke-width:1.5}"
)


def main() -> int:
    """Send for MINUTES (4), draw into docs/dashboard.svg; return 1 if a query had no answer that should have one."""
    length_s = 60 * float(os.environ.get("MINUTES", "4"))
    directory = Path(tempfile.mkdtemp(prefix="postwake-dashboard-"))
    try:
        domains: dict[str, Behaviour] = {"accept.test": "accept", "provider.test": "accept", "gone.test": "550"}
        world = World(directory, domains, sender_domains=("example.com", "example.org"))
        with world, Prometheus(directory / "prometheus", world.services.metrics_ports, host=HOST) as prometheus:
            start_s = time.time() + 5
            _traffic(world, length_s)
            end_s = time.time()
            picture, silent = draw(json.loads(DASHBOARD.read_text(encoding="utf-8")), prometheus, start_s, end_s)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    (ROOT / "docs/dashboard.svg").write_text(picture, encoding="utf-8")
    print(f"docs/dashboard.svg: {len(picture)} bytes; without an answer: {', '.join(silent) or 'none'}")
    return 1 if silent else 0


def _traffic(world: World, length_s: float) -> None:
    dice = random.Random(7)
    began, number = time.monotonic(), 0
    seen: set[bytes] = set()
    waiting: list[tuple[float, str, str]] = []
    changes: list[tuple[float, Behaviour]] = [(0.35, "450"), (0.55, "blocked"), (0.75, "accept")]
    with ThreadPoolExecutor(2) as readers:
        while (now := time.monotonic() - began) < length_s:
            if changes and now > changes[0][0] * length_s:
                world.sinks["provider.test"].become(changes.pop(0)[1])
            with smtplib.SMTP("127.0.0.1", world.postfix.port) as client:
                for _ in range(dice.randrange(2, 7)):
                    number += 1
                    to = f"u{number % 97}@{dice.choice(['accept.test'] * 5 + ['provider.test'] * 4 + ['gone.test'])}"
                    sender = dice.choice(["news@example.com"] * 3 + ["shop@example.org"])
                    if dice.random() < 0.1:
                        message = mails.plain(number, to, sender=sender)
                    else:
                        message = mails.newsletter(number, to).replace(b"news@example.com", sender.encode())
                    client.sendmail(sender, [to], message)
            for item in _new(world, seen):
                pixels, links = tracked_urls(item.message)
                if pixels and dice.random() < 0.6:
                    waiting.append((now + 12 + dice.random() * 20, pixels[0], BROWSER))
                if links and dice.random() < 0.25:
                    waiting.append((now + 15 + dice.random() * 20, dice.choice(links), BROWSER))
                if links and dice.random() < 0.08:  # a scanner looks at once
                    waiting += [(now, link, "curl/8.5.0") for link in links[:3]]
            for due in [item for item in waiting if item[0] <= now]:
                waiting.remove(due)
                readers.submit(partial(fetch, due[1], user_agent=due[2]))
            time.sleep(1)
    world.postfix.flush()


def _new(world: World, seen: set[bytes]) -> list[Delivered]:
    """Return what arrived since the last look, by message."""
    try:
        delivered = world.delivered("accept.test", "provider.test")
    except FileNotFoundError:  # a sink that is stopped takes back what it was receiving
        return []
    new = [item for item in delivered if item.message not in seen]
    seen.update(item.message for item in new)
    return new


def draw(dashboard: dict[str, Any], prometheus: Prometheus, start_s: float, end_s: float) -> tuple[str, list[str]]:
    """Return the picture, and the titles of panels without any answer."""
    parts, silent, bottom = [], [], 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        x, y = place["x"] * COLUMN, place["y"] * ROW
        width, height = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        bottom = max(bottom, y + height)
        title = escape(panel["title"])
        if panel["type"] == "row":
            parts.append(f'<text class="r" x="{x + 4}" y="{y + 18}">{title}</text>')
            continue
        parts.append(f'<g transform="translate({x},{y})"><rect class="p" width="{width}" height="{height}" rx="4"/>')
        parts.append(f'<text class="t" x="8" y="17">{title}</text>')
        unit = _UNITS[panel["fieldConfig"]["defaults"].get("unit", "short")]
        if panel["type"] == "stat":
            body = _stat(panel, prometheus, start_s, end_s, unit)
        else:
            body = _lines(panel, prometheus, (start_s, end_s), (width, height), unit)
        if not body:
            silent.append(panel["title"])
            body = f'<text x="{width / 2:.0f}" y="{height / 2:.0f}" text-anchor="middle">nothing</text>'
        parts.append(f"{body}</g>")
    width = 24 * COLUMN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {width} {bottom + 8}" role="img"'
        f' aria-label="The queries of the dashboard, plotted"><style>{_STYLE}</style>'
        f'<rect x="-4" y="-4" width="{width}" height="{bottom + 8}" fill="#f5f7fa"/>{"".join(parts)}</svg>\n',
        silent,
    )


def _expression(target: dict[str, Any], range_s: float) -> str:
    text = str(target["expr"]).replace("$host", ".+").replace("$__rate_interval", "20s")
    return text.replace("$__range", f"{range_s:.0f}s")


def _name(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), legend).strip()


def _stat(
    panel: dict[str, Any], prometheus: Prometheus, start_s: float, end_s: float, unit: Callable[[float], str]
) -> str:
    found = []
    for target in panel["targets"]:
        for series in prometheus.query(_expression(target, end_s - start_s), end_s):
            value = float(series["value"][1])
            found.append((_name(target["legendFormat"], series["metric"]), unit(value)))
    if len(found) == 1 and not found[0][0]:
        return f'<text class="b" x="8" y="62">{found[0][1]}</text>'
    return "".join(
        f'<text x="8" y="{40 + 17 * number}">{escape(name)}: {value}</text>'
        for number, (name, value) in enumerate(found)
    )


def _lines(
    panel: dict[str, Any],
    prometheus: Prometheus,
    span_s: tuple[float, float],
    size: tuple[int, int],
    unit: Callable[[float], str],
) -> str:
    start_s, end_s = span_s
    found: list[tuple[str, list[tuple[float, float]]]] = []
    for target in panel["targets"]:
        expression = _expression(target, end_s - start_s)
        for series in prometheus.query_range(expression, start_s, end_s, (end_s - start_s) / POINTS):
            values = [(at, float(value)) for at, value in series["values"] if value not in ("NaN", "+Inf", "-Inf")]
            if values:
                found.append((_name(target["legendFormat"], series["metric"]), values))
    if not found:
        return ""
    left, top, right, bottom = 52.0, 28.0, size[0] - 10.0, size[1] - 40.0
    highest = max(value for _, values in found for _, value in values)
    most = nice_ceiling(highest)
    parts = []
    for quarter in (0, 2, 4):
        y = bottom - (bottom - top) * quarter / 4
        parts.append(f'<line class="g" x1="{left}" y1="{y:.0f}" x2="{right}" y2="{y:.0f}"/>')
        parts.append(f'<text x="{left - 5}" y="{y + 4:.0f}" text-anchor="end">{unit(most * quarter / 4)}</text>')
    x = 8.0
    for number, (name, values) in enumerate(sorted(found, key=lambda item: -max(v for _, v in item[1]))[:8]):
        colour = COLOURS[number]
        points = " ".join(
            f"{left + (right - left) * (at - start_s) / (end_s - start_s):.0f},"
            f"{bottom - (bottom - top) * max(0.0, value) / most:.0f}"
            for at, value in values
        )
        parts.append(f'<polyline stroke="{colour}" points="{points}"/>')
        if x + 6.2 * len(name) < size[0] - 20:
            parts.append(f'<rect x="{x:.0f}" y="{size[1] - 19}" width="9" height="9" fill="{colour}"/>')
            parts.append(f'<text x="{x + 13:.0f}" y="{size[1] - 11}">{escape(name)}</text>')
        x += 26 + 6.2 * len(name)
    return "".join(parts)


def _short(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 10 or value == int(value) else f"{value:.2g}"


def _bytes(value: float) -> str:
    for name in ("B", "kB", "MB", "GB"):
        if value < 1000 or name == "GB":
            return f"{value:.3g} {name}"
        value /= 1000
    raise AssertionError


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms" if 0 < value < 1 else f"{value:.3g} s"


_UNITS: dict[str, Callable[[float], str]] = {
    "short": _short,
    "bytes": _bytes,
    "s": _seconds,
    "percentunit": lambda value: f"{100 * value:.3g} %",
}


if __name__ == "__main__":
    sys.exit(main())
