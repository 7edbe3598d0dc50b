"""A report as one HTML page that needs nothing else: no script, no style sheet, no picture from anywhere.

Pure: figures in, text out. Everything that came from mail, servers or configuration is escaped, and characters that
cannot be printed (controls, direction overrides) are replaced, for a subject or a reply is written by strangers.
The page forbids itself scripts and connections (Content-Security-Policy), should one get through all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from postwake.store.queries import Report
from postwake_console import people, words
from postwake_console.report_data import MAX_LINES, Line, ReportData
from postwake_console.svg import Series, lines, stacked_bars
from postwake_console.words import Figure

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
.card>span{color:var(--soft);font-size:.88em;display:block}.up{color:var(--up)!important}
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
h3{font-size:1em;margin:1.4em 0 .3em}figure{margin:0;overflow-x:auto}.replies td:first-child{min-width:15em}
@media(max-width:640px){body{margin:1em auto}figure svg[role]{min-width:620px}.card b{font-size:1.3em}}
@media print{:root{color-scheme:light;--text:#000;--soft:#444;--line:#bbb;--back:#fff;--card:#fff;
--c1:#2f7fb8;--c2:#c9a227;--c3:#c0392b;--c4:#9aa5b1;--up:#1d7a45;--down:#b03024}body{margin:0;max-width:none;font-size:11px;padding:0}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}.cards{grid-template-columns:repeat(4,1fr)}
.card{border:1px solid var(--line)}.scroll,figure{overflow:visible}h2,h3{break-after:avoid}
tr,.card,figure{break-inside:avoid}}
"""


def render(data: ReportData, title: str = "Postwake report") -> str:
    """Return the page."""
    period = words.period(data)
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="soft">Mail accepted from {period}, and what has become of it.'
        " Trends compare with the period of the same length before.</p>",
        _cards(data),
        _plots(data),
        _slices(data),
        *(_lines_table(name, data.lines.get(name, ())) for name in _TITLES),
        _replies(data),
        _people(data),
        f"<footer>Made by Postwake on {words.time(data.made_at_us)} UTC. {words.OF_WHAT} Opens and clicks count"
        " people, each once, as far as they can be told from machines; hits count every request. The newest mail has"
        " had the least time to be opened.</footer>",
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
    return escape(words.printable(value), quote=True)


def _axis(value: float) -> str:
    return words.count(value) if value == int(value) else f"{value:g}"


def _percentage(value: float) -> str:
    return f"{round(value, 1):g} %"


# Parts


def _cards(data: ReportData) -> str:
    return f'<div class="cards">{"".join(_card(figure) for figure in words.headline(data))}</div>'


def _card(figure: Figure) -> str:
    exact = f'<span class="n" data-measure="{figure.name}">{words.count(figure.value)}</span>'
    numbers = f"<b>{figure.rate}</b><span>{exact}</span>" if figure.rate else f"<b>{exact}</b>"
    mark = {1: ' class="up"', -1: ' class="down"'}.get(figure.good, "")
    trend = f"<span{mark}>{figure.trend or 'nothing to compare with'}</span>"
    return f'<div class="card">{figure.label}{numbers}{trend}</div>'


def _plots(data: ReportData) -> str:
    labels, reports = words.labels(data), [piece.report for piece in data.slices]
    unit = words.unit(data)

    def rate(part: int, whole: int) -> float | None:
        return 100 * part / whole if whole else None

    states = (
        Series("sent", [words.sent(report) for report in reports], 1),
        Series("on their way", [words.waiting(report) for report in reports], 2),
        Series("bounced", [words.bounced(report) for report in reports], 3),
        Series("deleted", [words.deleted(report) for report in reports], 4),
    )
    rates = (
        Series("opened", [rate(words.engaged(report, "opened_human"), words.sent(report)) for report in reports], 1),
        Series("clicked", [rate(words.engaged(report, "clicked_human"), words.sent(report)) for report in reports], 2),
        Series("bounced", [rate(words.bounced(report), report.recipients) for report in reports], 3),
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
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    texts: frozenset[int] = frozenset(),
    *,
    kind: str = "numbers",
) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{tag} class="text">{cell}</{tag}>' if number in texts else f"<{tag}>{cell}</{tag}>"
            for number, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    note = f"<caption>{caption}</caption>" if caption else ""
    top = f"{note}<thead><tr>{cells('th', head)}</tr></thead>"
    return f'<div class="scroll {kind}"><table>{top}<tbody>\n{body}\n</tbody></table></div>'


_HEAD = ("recipients", "sent", "bounced", "", "on the way", "opened", "", "clicked", "", "unsubscribed")


def _row(report: Report) -> list[str]:
    sent, bounced = words.sent(report), words.bounced(report)
    opened, clicked = words.engaged(report, "opened_human"), words.engaged(report, "clicked_human")
    return [
        *(
            words.count(report.recipients),
            words.count(sent),
            words.count(bounced),
            words.percent(bounced, report.recipients),
        ),
        *(
            words.count(words.waiting(report)),
            words.count(opened),
            words.percent(opened, sent),
            words.count(clicked),
            words.percent(clicked, sent),
        ),
        words.count(words.engaged(report, "unsubscribed")),
    ]


def _slices(data: ReportData) -> str:
    rows = [[label, *_row(piece.report)] for label, piece in zip(words.labels(data), data.slices, strict=True)]
    rows = [row for row, piece in zip(rows, data.slices, strict=True) if piece.report.recipients]
    total = ["<b>total</b>", *(f"<b>{cell}</b>" for cell in _row(data.total))]
    return "<h2>In numbers</h2>\n" + _table("", ("accepted", *_HEAD), [*rows, total])


def _lines_table(name: str, found: Sequence[Line]) -> str:
    shown = [line for line in found if line.now.recipients][:MAX_LINES]
    if not shown:
        return ""
    left_out = sum(1 for line in found if line.now.recipients) - len(shown)
    caption = f"The {MAX_LINES} with most recipients; {words.count(left_out)} more are left out." if left_out else ""
    rows = [
        [
            _text(line.key),
            *_row(line.now),
            words.change(line.now.recipients, line.before.recipients),
            words.points(
                (words.bounced(line.now), line.now.recipients), (words.bounced(line.before), line.before.recipients)
            ),
        ]
        for line in shown
    ]
    head = ("", *_HEAD, "recipients, trend", "bounced, trend")
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
                words.count(int(reply["n"])),
            ]
        )
    head = ("reply, and what to do", "category", "kind", "attempts")
    table = _table("", head, rows, frozenset({1, 2}), kind="replies")
    return f"<h2>What refused mail said, most often first</h2>\n{table}"


def _people(data: ReportData) -> str:
    kinds = people.kinds(data)
    if not kinds or data.people is None:
        return ""
    parts = [f'<h2>{people.TITLE}</h2>\n<p class="soft">{people.NOTE}</p>']
    for kind in kinds:
        group = kind.group
        title = f'<h3>{kind.title}: <span data-people="{kind.title.lower()}">{words.count(group.count)}</span></h3>'
        most = f"<br>{_text(people.domains(group))}" if group.count else ""
        parts.append(f"{title}\n<p>{kind.sentence}{most}</p>")
        if data.people.with_addresses and group.rows:
            rows = [[_text(cell) for cell in kind.cells(row)] for row in group.rows]
            left_out = group.count - len(rows)
            caption = f"{words.count(left_out)} more are left out." if left_out else ""
            parts.append(_table(caption, kind.head, rows, frozenset(range(len(kind.head)))))
    for title, sentence, command in people.left_out(data):
        parts.append(f"<h3>{title}</h3>\n<p>{sentence} <code>{command}</code></p>")
    return "\n".join(parts)
