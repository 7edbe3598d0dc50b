"""The pixel server's events: once, attributed honestly, counted by who and by whether."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postwake.events import EventType, State, Who
from postwake.store.hits import delivered_at_us, relabel
from postwake.store.transaction import Transactions

Ask = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., Any]


def engaged(ask: Ask) -> dict[str, int]:
    """Return the cohort's counts of readers."""
    rows = ask("SELECT measure, n FROM rollup WHERE basis = 'cohort' AND span = 'all' AND dimension = 'all' AND n <> 0")
    return {measure: n for measure, n in rows if measure not in ("messages", "queued")}


def hits(ask: Ask) -> dict[str, int]:
    """Return the counts of hits."""
    rows = ask("SELECT measure, n FROM rollup WHERE basis = 'event' AND span = 'all' AND dimension = 'all' AND n <> 0")
    return {measure: n for measure, n in rows if measure != "accepted"}


def test_once_by_hit_id(apply: Make, accepted: Make, hit: Make, ask: Ask) -> None:
    """A hit that is applied again, from a spool, changes nothing."""
    apply(accepted(), *[hit(1)] * 3, hit(2))
    assert hits(ask) == {"opened.unknown": 2}
    assert ask("SELECT opens_unknown FROM engagement") == [(2,)]


def test_shared(apply: Make, accepted: Make, hit: Make, ask: Ask) -> None:
    """A hit on a body that several recipients share belongs to none of them, and counts as one reader."""
    apply(accepted(recipients=("a@example.net", "b@example.net")), hit(1, recipient=0), hit(2, recipient=0))
    assert ask("SELECT recipient FROM opens") == [(None,), (None,)]
    assert ask("SELECT recipient_idx, opens_unknown FROM engagement") == [(0, 2)]
    assert engaged(ask) == {"opened_possible": 1, "opened_any": 1}


@pytest.mark.parametrize(
    ("recipients", "index", "expected"),
    [
        pytest.param(("ann@A.example",), 1, {"a.example": 1}, id="one-recipient"),
        pytest.param(("ann@a.example", "bob@b.example"), 2, {"b.example": 1}, id="their-own-token"),
        pytest.param(("ann@a.example", "bob@b.example"), 0, {}, id="shared-by-two-domains"),
        pytest.param(("ann@a.example", "bob@a.example"), 0, {"a.example": 1}, id="shared-within-a-domain"),
        pytest.param(("ann@a.example",), 7, {}, id="nobody-of-that-number"),
        pytest.param(("postmaster",), 1, {}, id="no-domain"),
    ],
)
def test_counted_by_recipient_domain(
    recipients: tuple[str, ...], index: int, expected: dict[str, int], apply: Make, accepted: Make, hit: Make, ask: Ask,
    transactions: Transactions,
) -> None:  # fmt: skip
    """A reader counts under their own domain, a shared body under the one all have; verdicts move it."""

    def by_domain(measure: str) -> dict[str, int]:
        rows = ask(
            "SELECT key, n FROM rollup WHERE basis = 'cohort' AND span = '4weeks' AND dimension = 'recipient_domain'"
            " AND measure = ? AND n <> 0",
            measure,
        )
        return dict(rows)

    apply(accepted(recipients=recipients), hit(1, recipient=index, who=Who.HUMAN), hit(2, recipient=index))
    assert by_domain("opened_any") == by_domain("opened_human") == expected
    with transactions.begin() as transaction:
        relabel(transaction, ask("SELECT max(id) FROM event WHERE who = ?", Who.HUMAN)[0][0], Who.MACHINE, "late", 1)
    assert (by_domain("opened_any"), by_domain("opened_human")) == (expected, {})


@pytest.mark.parametrize(
    ("kind", "who", "expected"),
    [
        (EventType.OPENED, Who.HUMAN, {"opened_human": 1, "opened_possible": 1, "opened_any": 1}),
        (EventType.OPENED, Who.MACHINE, {"opened_any": 1}),
        (EventType.OPENED, Who.UNKNOWN, {"opened_possible": 1, "opened_any": 1}),
        (
            EventType.CLICKED,
            Who.HUMAN,
            {f"{what}_{who}": 1 for what in ("opened", "clicked") for who in ("human", "possible", "any")},
        ),
        (EventType.CLICKED, Who.MACHINE, {"opened_any": 1, "clicked_any": 1}),
        (EventType.UNSUBSCRIBED, Who.HUMAN, {"unsubscribed": 1}),
    ],
    ids=lambda value: getattr(value, "label", None),
)
def test_what_a_hit_says(
    kind: EventType, who: Who, expected: dict[str, int], apply: Make, accepted: Make, hit: Make, ask: Ask
) -> None:
    """A click implies an open, by the same; a second hit of the same kind changes no reader count."""
    apply(accepted(), hit(1, kind, who=who), hit(2, kind, who=who))
    assert engaged(ask) == expected


UNSUBSCRIBED, RESUBSCRIBED = EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED


@pytest.mark.parametrize(
    ("story", "since"),
    [
        pytest.param([(1, UNSUBSCRIBED)], 1, id="once"),
        pytest.param([(1, UNSUBSCRIBED), (2, UNSUBSCRIBED)], 1, id="twice"),
        pytest.param([(1, UNSUBSCRIBED), (2, RESUBSCRIBED)], None, id="changed-their-mind"),
        pytest.param([(1, UNSUBSCRIBED), (2, RESUBSCRIBED), (3, UNSUBSCRIBED)], 3, id="and-again"),
        pytest.param([(2, RESUBSCRIBED), (1, UNSUBSCRIBED)], None, id="came-in-another-order"),
        pytest.param([(3, UNSUBSCRIBED), (2, RESUBSCRIBED), (1, UNSUBSCRIBED)], 3, id="backwards"),
        pytest.param([(1, RESUBSCRIBED)], None, id="never-was"),
    ],
)
def test_unsubscribing(
    story: list[tuple[int, EventType]], since: int | None, apply: Make, accepted: Make, hit: Make, ask: Ask
) -> None:
    """The reader's last word counts, in the order they said it, whenever it arrives."""
    apply(accepted(), *(hit(n, kind, at_us=at_us) for n, (at_us, kind) in enumerate(story)))
    assert ask("SELECT unsubscribed_us FROM engagement") == [(since,)]
    assert engaged(ask) == ({} if since is None else {"unsubscribed": 1})


def test_first_times(apply: Make, accepted: Make, hit: Make, ask: Ask) -> None:
    """The first open and click are the earliest ones, whatever order they arrive in."""
    apply(accepted(), *(hit(n, EventType.CLICKED, at_us=n) for n in (5, 3, 4)), hit(9, at_us=9), hit(8, at_us=8))
    assert ask("SELECT first_open_us, first_click_us FROM engagement") == [(8, 3)]


def test_a_purged_message_stays_purged(apply: Make, hit: Make, ask: Ask, noon_us: int, tracking_id: Make) -> None:
    """A hit on mail from before the purge is counted but makes no message; one on later mail does."""
    ask("INSERT INTO meta VALUES ('purged_before_us', ?)", str(noon_us))
    apply(hit(1, tracking_id=tracking_id(1, noon_us - 1000)))
    assert ask("SELECT count(*) FROM message") == ask("SELECT count(*) FROM engagement") == [(0,)]
    assert ask("SELECT message FROM event") == [(None,)]
    assert hits(ask) == {"opened.unknown": 1}
    apply(hit(2, tracking_id=tracking_id(1, noon_us)))
    assert ask("SELECT count(*) FROM message") == [(1,)]


def test_relabel(apply: Make, accepted: Make, hit: Make, ask: Ask, transactions: Transactions) -> None:
    """A revised verdict moves every count and keeps the earlier ones; the same verdict again is no revision."""
    apply(accepted(), hit(1, EventType.CLICKED, who=Who.UNKNOWN, reason="first", tracking_id=accepted().tracking_id))
    number = ask("SELECT max(id) FROM event")[0][0]
    for at_us, who, reason in ((1, Who.HUMAN, "late"), (2, Who.HUMAN, "same"), (3, Who.MACHINE, "burst")):
        with transactions.begin() as transaction:
            relabel(transaction, number, who, reason, at_us)
    assert ask("SELECT event, at_us, who_before, reason_before FROM relabel ORDER BY id") == [
        (number, 1, Who.UNKNOWN, "first"),
        (number, 3, Who.HUMAN, "late"),
    ]
    assert ask("SELECT who, reason FROM clicks") == [("machine", "burst")]
    assert hits(ask) == {"clicked.machine": 1}
    assert engaged(ask) == {"opened_any": 1, "clicked_any": 1}


def test_relabel_what_is_not_there(transactions: Transactions, ask: Ask) -> None:
    """Relabeling an event that was purged does nothing."""
    with transactions.begin() as transaction:
        relabel(transaction, 99, Who.HUMAN, "x", 1)
    assert ask("SELECT * FROM relabel") == []


def test_relabel_a_hit_without_a_message(
    apply: Make, hit: Make, ask: Ask, transactions: Transactions, noon_us: int
) -> None:
    """A hit on purged mail can be relabeled too: its counts move, no reader's do."""
    ask("INSERT INTO meta VALUES ('purged_before_us', ?)", str(noon_us + 1))
    apply(hit(1))
    with transactions.begin() as transaction:
        relabel(transaction, 1, Who.MACHINE, "x", 1)
    assert hits(ask) == {"opened.machine": 1}
    assert engaged(ask) == {}


def test_when_it_was_delivered(apply: Make, accepted: Make, transactions: Transactions, ask: Ask) -> None:
    """The delivery's time is the recipient's own, or the first of all for a shared body; None while there is none."""
    event = accepted(recipients=("a@example.net", "b@example.net", "c@example.net"))
    apply(event)
    connection = transactions.connection
    assert delivered_at_us(connection, 1, 0) is None
    ask("UPDATE delivery SET state = ?, last_attempt_us = 100 + idx WHERE idx > 1", State.SENT)
    assert [delivered_at_us(connection, 1, n) for n in (0, 1, 2, 3)] == [102, None, 102, 103]
    assert delivered_at_us(connection, 2, 0) is None
