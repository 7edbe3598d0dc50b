"""Plots as inline SVG: stacked bars and lines, no script, no font, no picture from anywhere.

Colours are CSS classes (``c1`` …) of the page, so that a dark page is dark. Every shape has a title, which browsers
show when pointed at and screen readers read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 900, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 8, 10, 26
_INNER_WIDTH, _INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
_LABEL_WIDTH = 75
"""Room for one date under the axis."""


class Series(NamedTuple):
    """One row of numbers, one for each slice; None where there is nothing to be said."""

    name: str
    values: Sequence[float | None]
    colour: int
    """The number of its colour in the page's style."""


def nice_ceiling(value: float) -> float:
    """Return the round number that *value* fits under and whose quarters are round, too; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if value <= step * power * (1 + 1e-9))


def stacked_bars(title: str, labels: Sequence[str], series: Sequence[Series], show: Callable[[float], str]) -> str:
    """Return an SVG of one bar a label, the series on top of one another."""
    totals = [sum(item.values[n] or 0 for item in series) for n in range(len(labels))]
    most = max(totals, default=0)
    top = nice_ceiling(most) if most > 8 else 8.0 if most > 4 else 4.0  # counts: no halves on the axis
    step = _INNER_WIDTH / max(1, len(labels))
    width = max(1.0, min(step * 0.8, 60.0))
    parts = []
    for number, label in enumerate(labels):
        x = LEFT + step * (number + 0.5) - width / 2
        y = float(TOP + _INNER_HEIGHT)
        for item in series:
            value = item.values[number] or 0
            height = _INNER_HEIGHT * value / top
            if not height:
                continue
            y -= height
            text = escape(f"{label}: {item.name} {show(value)}")
            parts.append(
                f'<rect class="c{item.colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">'
                f"<title>{text}</title></rect>"
            )
    return _frame(title, labels, top, show, parts) + _legend(series)


def lines(title: str, labels: Sequence[str], series: Sequence[Series], show: Callable[[float], str]) -> str:
    """Return an SVG of one line a series, broken where a value is None."""
    top = nice_ceiling(max((value or 0 for item in series for value in item.values), default=0))
    step = _INNER_WIDTH / max(1, len(labels))
    parts = []
    for item in series:
        path, pen_down = [], False
        for number, value in enumerate(item.values):
            if value is None:
                pen_down = False
                continue
            x, y = LEFT + step * (number + 0.5), TOP + _INNER_HEIGHT * (1 - value / top)
            path.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
            pen_down = True
            text = escape(f"{labels[number]}: {item.name} {show(value)}")
            parts.append(
                f'<circle class="c{item.colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{text}</title></circle>'
            )
        parts.insert(0, f'<path class="s{item.colour}" d="{" ".join(path)}"/>' if path else "")
    return _frame(title, labels, top, show, parts) + _legend(series)


def _frame(title: str, labels: Sequence[str], top: float, show: Callable[[float], str], parts: Sequence[str]) -> str:
    grid = []
    for quarter in range(5):
        y = TOP + _INNER_HEIGHT * (1 - quarter / 4)
        grid.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        text = escape(show(top * quarter / 4))
        grid.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    step = _INNER_WIDTH / max(1, len(labels))
    every = max(1, math.ceil(_LABEL_WIDTH / step))
    for number in range(0, len(labels), every):
        x = LEFT + step * (number + 0.5)
        grid.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(labels[number])}</text>')
    start = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return f"{start}{''.join(grid)}{''.join(parts)}</svg>"


def _legend(series: Sequence[Series]) -> str:
    items = (
        '<span><svg class="key" viewBox="0 0 10 10" aria-hidden="true">'
        f'<rect class="c{item.colour}" width="10" height="10"/></svg> {escape(item.name)}</span>'
        for item in series
    )
    return f'<p class="legend">{" ".join(items)}</p>'
