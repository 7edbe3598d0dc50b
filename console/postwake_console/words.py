"""How a report's figures are said, in HTML and in plain text alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from postwake.store.queries import Report
from postwake.store.schema import DAY_US, HOUR_US
from postwake_console.report_data import ReportData

NOTHING = "–"
OF_WHAT = (
    "What was sent, bounced, is on its way or was deleted adds up to the recipients and is a share of them; opened,"
    " clicked and unsubscribed are shares of all that was sent, tracked or not."
)


def printable(value: object) -> str:
    """Return *value* without characters that do something (controls, direction overrides): strangers wrote it."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))


def count(value: float) -> str:
    """Return a whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(part: int, whole: int) -> str:
    """Return *part* of *whole*, a dash if there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else NOTHING


def time(at_us: int) -> str:
    """Return a time to the minute, UTC."""
    return datetime.fromtimestamp(at_us / 1e6, tz=UTC).strftime("%Y-%m-%d %H:%M")


def moment(at_us: int) -> str:
    """Return a time as ``--since`` and ``--until`` take it."""
    return time(at_us).replace(" ", "T") if at_us % DAY_US else time(at_us)[:10]


def period(data: ReportData) -> str:
    """Return the report's period: see :func:`span`."""
    return span(data.since_us, data.until_us)


def span(since_us: int, until_us: int) -> str:
    """Return a period in words: by its days where it is made of whole ones."""
    if since_us % DAY_US or until_us % DAY_US:
        return f"{time(since_us)} to {time(until_us)} (UTC)"
    first, last = time(since_us)[:10], time(until_us - DAY_US)[:10]
    return f"{first} (UTC)" if first == last else f"{first} to {last} (UTC)"


def sent(report: Report) -> int:
    """Return the deliveries that were taken."""
    return report.states.get("sent", 0)


def bounced(report: Report) -> int:
    """Return the deliveries that failed for good."""
    return report.states.get("bounced", 0) + report.states.get("expired", 0)


def deleted(report: Report) -> int:
    """Return the deliveries that the operator took out of the queue."""
    return report.states.get("deleted", 0)


def waiting(report: Report) -> int:
    """Return the deliveries that are still to come."""
    return report.states.get("queued", 0) + report.states.get("deferred", 0)


def engaged(report: Report, name: str) -> int:
    """Return the readers who did *name*."""
    return report.engaged.get(name, 0)


def change(now: int, before: int) -> str:
    """Return how a count changed, in percent of what it was."""
    if not before:
        return "new" if now else "as before"
    return f"{100 * (now - before) / before:+.0f} %".replace("-", "−")


def points(now: tuple[int, int], before: tuple[int, int]) -> str:
    """Return how a rate changed, in percentage points; empty if one of the two has nothing to be a part of."""
    if not now[1] or not before[1]:
        return ""
    found = 100 * (now[0] / now[1] - before[0] / before[1])
    return f"{found:+.1f} points".replace("-", "−") if abs(found) >= 0.05 else "as before"


class Figure(NamedTuple):
    """One of the figures at a report's head."""

    name: str
    label: str
    value: int
    rate: str
    """The count's share of its whole; empty for what is a whole itself."""
    trend: str
    good: int
    """1 if the trend is good, -1 if it is bad, 0 if it is neither."""


def headline(data: ReportData) -> list[Figure]:
    """Return the figures at the report's head."""
    now, before = data.total, data.before
    figures = [
        Figure("messages", "Messages", now.messages, "", change(now.messages, before.messages), 0),
        Figure("recipients", "Recipients", now.recipients, "", change(now.recipients, before.recipients), 0),
    ]
    of_recipients = [
        ("sent", "Sent", sent, 1),
        ("bounced", "Bounced", bounced, -1),
        ("waiting", "Still on their way", waiting, 0),
    ]
    if deleted(now) or deleted(before):
        of_recipients.append(("deleted", "Deleted", deleted, 0))
    rows = [
        (name, label, (part(now), now.recipients), (part(before), before.recipients), good)
        for name, label, part, good in of_recipients
    ]
    for name, label, good in (
        ("opened_human", "Opened", 1),
        ("clicked_human", "Clicked", 1),
        ("unsubscribed", "Unsubscribed", -1),
        ("complained", "Complained", -1),
    ):
        if name == "complained" and not (engaged(now, name) or engaged(before, name)):
            continue  # nothing reads complaints yet: a zero would say that there were none
        rows.append((name, label, (engaged(now, name), sent(now)), (engaged(before, name), sent(before)), good))
    for name, label, is_now, was, good in rows:
        trend = points(is_now, was)
        better = {"+": good, "−": -good}.get(trend[:1], 0)
        figures.append(Figure(name, label, is_now[0], percent(*is_now), trend, better))
    return figures


def labels(data: ReportData) -> list[str]:
    """Return what each slice of the period is called."""
    form = "%d %b %H:%M" if data.slice_us == HOUR_US else "%d %b" if data.slice_us < 28 * DAY_US else "%d %b %Y"
    return [datetime.fromtimestamp(piece.start_us / 1e6, tz=UTC).strftime(form) for piece in data.slices]


def unit(data: ReportData) -> str:
    """Return what a slice is."""
    return {HOUR_US: "hour", DAY_US: "day", 7 * DAY_US: "week"}.get(data.slice_us, "part")
