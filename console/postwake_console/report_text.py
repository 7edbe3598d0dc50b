"""A report as plain text: for a terminal, and for the readers of mail who want no HTML. Pure: figures in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import fill
from unicodedata import combining, east_asian_width

from postwake.store.queries import Report
from postwake_console import people, words
from postwake_console.report_data import MAX_LINES, Line, ReportData

WIDTH = 78
"""Mail is read in 80 columns, and quoted with two."""
_TITLES = {"sender_domain": "Sender domains", "tag": "Tags", "recipient_domain": "Recipient domains"}
_KEY_WIDTH = 24


def render(data: ReportData, title: str = "Postwake report") -> str:
    """Return the report, lines of :data:`WIDTH` columns but for what others said."""
    parts = [
        [
            title,
            fill(
                f"Mail accepted {words.period(data)}, and what has become of it until {words.time(data.made_at_us)}."
                " Trends compare with the period of the same length before.",
                WIDTH,
            ),
        ],
        _headline(data),
        _slices(data),
        *(_lines(name, data.lines.get(name, ())) for name in _TITLES),
        _replies(data),
        _people(data),
        [
            fill(
                f"{words.OF_WHAT} Opens and clicks count people, each once, as far as they can be told from machines."
                " The newest mail has had the least time to be opened.",
                WIDTH,
            )
        ],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _headline(data: ReportData) -> list[str]:
    return [
        f"{figure.label:<18} {words.count(figure.value):>10} {figure.rate:>8}  {figure.trend}".rstrip()
        for figure in words.headline(data)
    ]


def _heading(text: str) -> list[str]:
    return [text, "-" * len(text)]


def _slices(data: ReportData) -> list[str]:
    """One line a slice with mail in it, with a bar as long as its share of the fullest one."""
    shown = [
        (label, piece.report)
        for label, piece in zip(words.labels(data), data.slices, strict=True)
        if piece.report.recipients
    ]
    if not shown:
        return []
    most = max(report.recipients for _, report in shown)
    rows = [(label, _bar(report.recipients / most, 12), *_row(report)) for label, report in shown]
    return [*_heading(f"By {words.unit(data)} of acceptance"), *_table(("", "", *_HEAD), rows, texts=2)]


def _bar(share: float, columns: int) -> str:
    eighths = max(1, round(share * columns * 8))
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8].strip())


_HEAD = ("recip.", "sent", "bounced", "opened", "clicked")


def _row(report: Report) -> tuple[str, ...]:
    sent, bounced = words.sent(report), words.bounced(report)
    shares = (
        (bounced, report.recipients),
        (words.engaged(report, "opened_human"), sent),
        (words.engaged(report, "clicked_human"), sent),
    )
    return (
        *(words.count(report.recipients), words.count(sent)),
        *(f"{words.count(part)} {words.percent(part, whole):>7}" for part, whole in shares),
    )


def _lines(name: str, found: Sequence[Line]) -> list[str]:
    shown = [line for line in found if line.now.recipients]
    if not shown:
        return []
    rows = [
        (_cut(line.key), *_row(line.now), words.change(line.now.recipients, line.before.recipients))
        for line in shown[:MAX_LINES]
    ]
    head = ("", *_HEAD, "trend")
    left_out = len(shown) - len(rows)
    return [
        *_heading(_TITLES[name]),
        *_table(head, rows, texts=1),
        *([f"and {words.count(left_out)} more"] if left_out else []),
    ]


def _replies(data: ReportData) -> list[str]:
    if not data.replies:
        return ["Nothing was refused or put off in this period."]
    lines = _heading("What refused mail said, most often first")
    for reply in data.replies:
        who = f" {words.printable(reply['provider'])}" if reply["provider"] else ""
        lines.append(f"{words.count(int(reply['n'])):>6}  {reply['category']}, {reply['kind']}{who}")
        lines.append(_indented(words.printable(reply["example"])))
        advice = data.advice.get(str(reply["rule"] or ""), "")
        if advice:
            lines.append(_indented(f"→ {words.printable(advice)}"))
    return lines


def _indented(text: str) -> str:
    return fill(text, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8, break_long_words=False)


def _people(data: ReportData) -> list[str]:
    kinds = people.kinds(data)
    if not kinds or data.people is None:
        return []
    lines = [*_heading(people.TITLE), fill(people.NOTE, WIDTH)]
    for kind in kinds:
        lines += ["", f"{kind.title}: {words.count(kind.group.count)}", fill(kind.sentence, WIDTH)]
        if kind.group.count:
            lines.append(_indented(people.domains(kind.group)))
        if data.people.with_addresses and kind.group.rows:
            rows = [tuple(words.printable(cell) for cell in kind.cells(row)) for row in kind.group.rows]
            lines += _table(kind.head, rows, texts=len(kind.head))
            left_out = kind.group.count - len(rows)
            lines += [f"and {words.count(left_out)} more"] if left_out else []
    for title, sentence, command in people.left_out(data):
        lines += ["", title, fill(sentence, WIDTH), f"    {command}"]
    return lines


def _columns(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _cut(text: str) -> str:
    """Return a key that fits its column, its middle left out: a domain is known by its end."""
    text = words.printable(text)
    if _columns(text) <= _KEY_WIDTH:
        return text
    head = tail = ""
    for char in text:
        if _columns(head + char) > 8:
            break
        head += char
    for char in reversed(text):
        if _columns(head + char + tail) > _KEY_WIDTH - 1:
            break
        tail = char + tail
    return f"{head}…{tail}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int) -> Iterator[str]:
    """Yield aligned lines; the first *texts* columns begin at the left, the others end at the right."""
    cells = [head, *rows]
    widths = [max(_columns(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        padded = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - _columns(cell))
            padded.append(cell + gap if column < texts else gap + cell)
        yield " ".join(padded).rstrip()
