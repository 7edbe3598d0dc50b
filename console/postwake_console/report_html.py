"""A report as one HTML page that needs nothing else: no script, no style sheet, no picture from anywhere.

Pure: figures in, text out. Everything that came from mail, servers or configuration is escaped, and characters that
cannot be printed (controls, direction overrides) are replaced, for a subject or a reply is written by strangers.
The page forbids itself scripts and connections (Content-Security-Policy), should one get through all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from postwake.store.queries import Report
from postwake.store.schema import DAY_US, HOUR_US
from postwake_console.report_data import Line, ReportData
from postwake_console.svg import Series, lines, stacked_bars

MAX_LINES = 25
"""Lines of a table; what is left out is said."""

_TITLES = {"sender_domain": "Sender domains", "tag": "Tags", "recipient_domain": "Recipient domains"}
_WHO = {"human": 1, "unknown": 2, "machine": 4}
"""Who, and the colour: machines are grey."""

_STYLE = """
:root{color-scheme:light dark;--text:#1c2430;--soft:#5b6675;--line:#d9dee5;--back:#fff;--card:#f5f7fa;
--c1:#2f7fb8;--c2:#c9a227;--c3:#c0392b;--c4:#9aa5b1;--up:#1d7a45;--down:#b03024}
@media (prefers-color-scheme:dark){:root{--text:#e4e8ee;--soft:#9aa6b5;--line:#37414e;--back:#161b22;--card:#1f2630;
--c1:#5aa9e0;--c2:#e0bf55;--c3:#e57368;--c4:#6f7b89;--up:#62c48d;--down:#ef8277}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:1040px;margin:2em auto;
padding:0 1em}
h1{font-size:1.5em;margin:0}h2{font-size:1.15em;margin:2em 0 .5em}p.soft,td.soft,caption{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.7em;margin:1.2em 0}
.card{background:var(--card);border-radius:6px;padding:.7em .9em}.card b{display:block;font-size:1.5em;font-weight:600}
.card span{color:var(--soft);font-size:.88em;display:block}.up{color:var(--up)!important}
.down{color:var(--down)!important}
table{border-collapse:collapse;width:100%;font-size:.93em}th,td{padding:.32em .45em;text-align:right;
border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:500}
td{white-space:nowrap}th:first-child,td:first-child,td.text,th.text{text-align:left}
td:first-child{min-width:9em;overflow-wrap:anywhere;white-space:normal}
caption{text-align:left;padding:.3em 0}
.scroll{overflow-x:auto}svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--soft)}.grid{stroke:var(--line)}
.c1{fill:var(--c1)}.c2{fill:var(--c2)}.c3{fill:var(--c3)}.c4{fill:var(--c4)}.s1,.s2,.s3{fill:none;stroke-width:2}
.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}.legend{margin:.1em 0 0;padding-left:3.5em}
.legend span{margin-right:1.4em;white-space:nowrap}svg.key{width:.8em;height:.8em}code{font-size:.92em}
footer{margin:3em 0 1em;color:var(--soft);font-size:.88em}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}tr,.card,figure{break-inside:avoid}}figure{margin:0}
"""


def render(data: ReportData, title: str = "Postwake report") -> str:
    """Return the page."""
    period = f"{_time(data.since_us)} to {_time(data.until_us)} (UTC)"
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="soft">Mail accepted from {period}, and what has become of it.'
        " Trends compare with the period of the same length before.</p>",
        _cards(data),
        _plots(data),
        _slices(data),
        *(_lines_table(name, data.lines.get(name, ())) for name in _TITLES),
        _replies(data),
        f"<footer>Made by Postwake on {_time(data.made_at_us)} UTC. Opens and clicks count people, each once, as far as"
        " they can be told from machines; hits count every request.</footer>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="robots" content="noindex">\n'
        f"<title>{_text(title)}: {period}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


# Numbers


def _text(value: object) -> str:
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))
    return escape(shown, quote=True)


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _axis(value: float) -> str:
    return _count(value) if value == int(value) else f"{value:g}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _percentage(value: float) -> str:
    return f"{round(value, 1):g} %"


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, tz=UTC).strftime("%Y-%m-%d %H:%M")


def _bounced(report: Report) -> int:
    return report.states.get("bounced", 0) + report.states.get("expired", 0)


def _waiting(report: Report) -> int:
    return report.states.get("queued", 0) + report.states.get("deferred", 0)


def _sent(report: Report) -> int:
    return report.states.get("sent", 0)


def _engaged(report: Report, name: str) -> int:
    return report.engaged.get(name, 0)


def _change(now: int, before: int) -> str:
    """Return how a count changed, in percent of what it was."""
    if not before:
        return "new" if now else "as before"
    return f"{100 * (now - before) / before:+.0f} %".replace("-", "−")


def _points(now: tuple[int, int], before: tuple[int, int]) -> str:
    """Return how a rate changed, in percentage points; empty if one of the two has nothing to be a part of."""
    if not now[1] or not before[1]:
        return ""
    points = 100 * (now[0] / now[1] - before[0] / before[1])
    return f"{points:+.1f} points".replace("-", "−") if abs(points) >= 0.05 else "as before"


# Parts


def _cards(data: ReportData) -> str:
    now, before = data.total, data.before
    cards = [
        _card("messages", "Messages", _count(now.messages), _change(now.messages, before.messages)),
        _card("recipients", "Recipients", _count(now.recipients), _change(now.recipients, before.recipients)),
    ]
    recipients, recipients_before = now.recipients, before.recipients
    rates = [
        ("sent", "Sent", _sent(now), recipients, _sent(before), recipients_before, 1),
        ("bounced", "Bounced", _bounced(now), recipients, _bounced(before), recipients_before, -1),
        ("waiting", "Still on their way", _waiting(now), recipients, _waiting(before), recipients_before, 0),
    ]
    for name, label, good in (
        ("opened_human", "Opened", 1),
        ("clicked_human", "Clicked", 1),
        ("unsubscribed", "Unsubscribed", -1),
        ("complained", "Complained", -1),
    ):
        rates.append((name, label, _engaged(now, name), _sent(now), _engaged(before, name), _sent(before), good))
    for name, label, part, whole, part_before, whole_before, good in rates:
        trend = _points((part, whole), (part_before, whole_before))
        better = {"+": good, "−": -good}.get(trend[:1], 0)
        mark = {1: "up", -1: "down"}.get(better, "")
        cards.append(_card(name, label, _percent(part, whole), trend, _count(part), mark))
    return f'<div class="cards">{"".join(cards)}</div>'


def _card(name: str, label: str, value: str, trend: str, count: str = "", mark: str = "") -> str:
    exact = f'<span><span class="n" data-measure="{name}">{count}</span></span>' if count else ""
    bold = f"<b>{value}</b>" if count else f'<b class="n" data-measure="{name}">{value}</b>'
    change = f'<span class="{mark}">{trend}</span>' if mark else f"<span>{trend or 'nothing to compare with'}</span>"
    return f'<div class="card">{label}{bold}{exact}{change}</div>'


def _labels(data: ReportData) -> list[str]:
    form = "%d %b %H:%M" if data.slice_us == HOUR_US else "%d %b" if data.slice_us < 28 * DAY_US else "%d %b %Y"
    return [datetime.fromtimestamp(piece.start_us / 1e6, tz=UTC).strftime(form) for piece in data.slices]


def _plots(data: ReportData) -> str:
    labels, reports = _labels(data), [piece.report for piece in data.slices]
    unit = {HOUR_US: "hour", DAY_US: "day", 7 * DAY_US: "week"}.get(data.slice_us, "part")

    def rate(part: int, whole: int) -> float | None:
        return 100 * part / whole if whole else None

    states = (
        Series("sent", [_sent(report) for report in reports], 1),
        Series("on their way", [_waiting(report) for report in reports], 2),
        Series("bounced", [_bounced(report) for report in reports], 3),
        Series("deleted", [report.states.get("deleted", 0) for report in reports], 4),
    )
    rates = (
        Series("opened", [rate(_engaged(report, "opened_human"), _sent(report)) for report in reports], 1),
        Series("clicked", [rate(_engaged(report, "clicked_human"), _sent(report)) for report in reports], 2),
        Series("bounced", [rate(_bounced(report), report.recipients) for report in reports], 3),
    )
    parts = [
        f"<h2>Delivery, by {unit} of acceptance</h2>",
        f"<figure>{stacked_bars('What became of mail', labels, states, _axis)}</figure>",
        f"<h2>Rates, by {unit} of acceptance</h2>",
        f"<figure>{lines('Rates of opening, clicking and bouncing', labels, rates, _percentage)}</figure>",
    ]
    for kind, title in (("opened", "Opens"), ("clicked", "Clicks")):
        hits = [
            Series(who, [report.hits.get(f"{kind}.{who}", 0) for report in reports], colour)
            for who, colour in _WHO.items()
        ]
        parts += [
            f"<h2>{title}, by {unit} they happened in, and by who</h2>",
            f"<figure>{stacked_bars(title, labels, hits, _axis)}</figure>",
        ]
    return "\n".join(parts)


def _table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], texts: frozenset[int] = frozenset()
) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="text">{cell}</{tag}>' if number in texts else f"<{tag}>{cell}</{tag}>"
            for number, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    note = f"<caption>{caption}</caption>" if caption else ""
    top = f"{note}<thead><tr>{cells('th', head)}</tr></thead>"
    return f'<div class="scroll"><table>{top}<tbody>\n{body}\n</tbody></table></div>'


_HEAD = ("recipients", "sent", "bounced", "", "on the way", "opened", "", "clicked", "", "unsubscribed")
_HEAD_DELIVERY = 5
"""So many of them are about delivery: who of a recipient domain opened what is not counted."""


def _row(report: Report) -> list[str]:
    sent, bounced = _sent(report), _bounced(report)
    opened, clicked = _engaged(report, "opened_human"), _engaged(report, "clicked_human")
    return [
        *(_count(report.recipients), _count(sent), _count(bounced), _percent(bounced, report.recipients)),
        *(_count(_waiting(report)), _count(opened), _percent(opened, sent), _count(clicked), _percent(clicked, sent)),
        _count(_engaged(report, "unsubscribed")),
    ]


def _slices(data: ReportData) -> str:
    rows = [[label, *_row(piece.report)] for label, piece in zip(_labels(data), data.slices, strict=True)]
    rows = [row for row, piece in zip(rows, data.slices, strict=True) if piece.report.recipients]
    total = ["<b>total</b>", *(f"<b>{cell}</b>" for cell in _row(data.total))]
    return "<h2>In numbers</h2>\n" + _table("", ("accepted", *_HEAD), [*rows, total])


def _lines_table(name: str, found: Sequence[Line]) -> str:
    shown = [line for line in found if line.now.recipients][:MAX_LINES]
    if not shown:
        return ""
    left_out = sum(1 for line in found if line.now.recipients) - len(shown)
    caption = f"The {MAX_LINES} with most recipients; {_count(left_out)} more are left out." if left_out else ""
    columns = _HEAD_DELIVERY if name == "recipient_domain" else len(_HEAD)
    rows = [
        [
            _text(line.key),
            *_row(line.now)[:columns],
            _change(line.now.recipients, line.before.recipients),
            _points((_bounced(line.now), line.now.recipients), (_bounced(line.before), line.before.recipients)),
        ]
        for line in shown
    ]
    head = ("", *_HEAD[:columns], "recipients, trend", "bounced, trend")
    return f"<h2>{_TITLES[name]}</h2>\n" + _table(caption, head, rows)


def _replies(data: ReportData) -> str:
    if not data.replies:
        return "<h2>What refused mail said</h2>\n<p>Nothing was refused or put off in this period.</p>"
    rows = []
    for reply in data.replies:
        text = _text(reply["example"])
        advice = _text(data.advice.get(str(reply["rule"] or ""), ""))
        who = f" {_text(reply['provider'])}" if reply["provider"] else ""
        rows.append(
            [
                f"<code>{text}</code><br>{advice}" if advice else f"<code>{text}</code>",
                f"{_text(reply['category'])}{who}",
                _text(reply["kind"]),
                _count(int(reply["n"])),
            ]
        )
    head = ("reply, and what to do", "category", "kind", "attempts")
    return "<h2>What refused mail said, most often first</h2>\n" + _table("", head, rows, frozenset({1, 2}))
