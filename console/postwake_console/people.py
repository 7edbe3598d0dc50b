"""What a report says of recipients to think about: for each kind of them a title, a sentence and a table's cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from postwake.store.recipients import MIN_MESSAGES, Group
from postwake_console import words
from postwake_console.report_data import ReportData

Row = Mapping[str, Any]

TITLE = "Addresses to think about"
NOTE = "Postwake holds no mail back: taking an address off a list is yours to do."


class Kind(NamedTuple):
    """One kind of recipients."""

    title: str
    sentence: str
    group: Group
    head: tuple[str, ...]
    cells: Callable[[Row], tuple[str, ...]]
    """The cells of a table's line, if the report names addresses."""


def kinds(data: ReportData) -> list[Kind]:
    """Return the kinds the report was asked for, with what they hold."""
    people = data.people
    if people is None:
        return []
    found = [
        Kind(
            "Unsubscribed",
            "They pressed the button in this period, and have not come back.",
            people.unsubscribed,
            ("address", "when", "sender domain", "tag"),
            lambda row: (_address(row), _day(row["at"]), row["sender_domain"] or "", row["tag"] or ""),
        )
    ]
    if people.dead is not None:
        found.append(
            Kind(
                "Dead",
                "Mail of this period bounced for good by the address's own fault, and nobody took any since.",
                people.dead,
                ("address", "when", "category", "reply"),
                lambda row: (_address(row), _day(row["at"]), row["category"] or "", _codes(row)),
            )
        )
    if people.inactive is not None:
        found.append(
            Kind(
                "Inactive",
                f"They took {MIN_MESSAGES} tracked messages or more in {people.inactive_days} days, and no human opened"
                " one or clicked in it. Who reads without pictures, or behind a privacy proxy, is among them: look at"
                " the other hits before you strike anybody off.",
                people.inactive,
                ("address", "last mail", "messages", "other hits"),
                lambda row: (_address(row), _day(row["last_at"]), str(row["messages"]), str(row["other_hits"])),
            )
        )
    return found


class LeftOut(NamedTuple):
    """A kind of recipients that nobody was made to wait for."""

    title: str
    sentence: str
    """It ends where :attr:`command` follows."""
    command: str


def left_out(data: ReportData) -> list[LeftOut]:
    """Return the kinds that the report was asked for and does not have."""
    people = data.people
    if people is None:
        return []
    since, until = f" --since {words.moment(data.since_us)}", f" --until {words.moment(data.until_us)}"
    if data.until_us >= data.made_at_us:
        until = ""
    options = {"dead": since + until, "inactive": f"{until} --inactive-days {people.inactive_days}"}
    return [
        LeftOut(
            f"{name.capitalize()}: left out",
            f"Some {words.count(count)} deliveries would have to be read for it. A report by mail has the list, and"
            " this prints it:",
            f"postwake report --list {name}{options[name]}",
        )
        for name, count in people.left_out.items()
    ]


def domains(group: Group) -> str:
    """Return the domains with most of them, and how many."""
    return ", ".join(f"{words.printable(domain or '(unknown)')} {words.count(n)}" for domain, n in group.domains[:8])


def _address(row: Row) -> str:
    return row["recipient"] or "(one of several who share a body)"


def _day(at: str) -> str:
    return at[:10]


def _codes(row: Row) -> str:
    return " ".join(str(part) for part in (row["code"], row["dsn"]) if part)
