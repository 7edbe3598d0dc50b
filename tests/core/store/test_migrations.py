"""A store that an earlier schema wrote says the same after its migration as one that was always of this schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from postwake.events import Direction, EventType, State, Who
from postwake.store.apply import apply_event
from postwake.store.bulk import Bulk
from postwake.store.connection import WriteLock, migrate_file, open_writer
from postwake.store.counting import ENGAGED
from postwake.store.dictionary import StoredReply
from postwake.store.schema import DAY_US, HOUR_US
from postwake.store.transaction import Transactions

Make = Callable[..., Any]
ROLLUP = "SELECT * FROM rollup WHERE n <> 0 ORDER BY 1, 2, 3, 4, 5, 6"
ALL = ["m002_readers_by_recipient_domain", "m004_four_weeks_and_replies"]
ENGAGEMENT = "SELECT * FROM engagement ORDER BY 1, 2"


def back_to_the_third(connection: sqlite3.Connection) -> None:
    """Take out of a store what m004 brings, and put back what it takes away."""
    connection.execute("DELETE FROM rollup WHERE span = '4weeks' OR dimension = 'reply'")
    connection.execute(
        "INSERT INTO rollup SELECT basis, 'all', dimension, 0, key, measure, sum(n) FROM rollup"
        " WHERE span = 'day' AND dimension IN ('recipient_domain', 'tag') GROUP BY 1, 3, 5, 6"
    )
    connection.execute("DROP INDEX event_reply")
    connection.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm004%'")
    connection.execute("PRAGMA user_version = 3")
    connection.commit()


def back_to_the_first(connection: sqlite3.Connection) -> None:
    """Take out of a store what m002 and m004 bring, and what is counted since."""
    back_to_the_third(connection)
    engaged = ", ".join(f"'{measure}'" for measure in ENGAGED)
    connection.execute(f"DELETE FROM rollup WHERE dimension = 'recipient_domain' AND measure IN ({engaged})")
    connection.execute("DELETE FROM rollup WHERE measure IN ('opened_possible', 'clicked_possible')")
    connection.execute("DROP INDEX engagement_unsubscribed")
    connection.execute("ALTER TABLE engagement DROP COLUMN domain")
    connection.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm002%'")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()


def test_readers_by_recipient_domain(store: Path, accepted: Make, hit: Make) -> None:
    """m002 counts who opened and clicked by recipient domain, and who may have, as if it had done so from the start."""
    mails = [
        accepted(1, recipients=("ann@A.example", "bob@b.example")),
        accepted(2, recipients=("ann@a.example", "bob@a.example"), tag="news"),
        accepted(3, recipients=("in@a.example",), direction=Direction.INBOUND),
        accepted(4, recipients=("root",)),
        accepted(
            5,
            recipients=(
                "\N{LATIN CAPITAL LETTER U WITH DIAERESIS}@M\N{LATIN CAPITAL LETTER U WITH DIAERESIS}.example",
            ),
        ),
    ]
    hits = [
        hit(10 * number + reader, kind, number, recipient=reader, who=who)
        for number in (1, 2, 3, 4, 5, 6)
        for reader, kind, who in (
            (0, EventType.CLICKED, Who.MACHINE),
            (1, EventType.CLICKED, Who.HUMAN),
            (2, EventType.OPENED, Who.UNKNOWN),
            (3, EventType.UNSUBSCRIBED, Who.HUMAN),
        )
    ]
    with (
        closing(Transactions(open_writer(store), WriteLock(store))) as transactions,
        transactions.begin() as transaction,
    ):
        for event in (*mails, *hits):
            apply_event(transaction, event)
    with closing(sqlite3.connect(store)) as connection:
        written = connection.execute(ROLLUP).fetchall(), connection.execute(ENGAGEMENT).fetchall()
        assert any(
            row[2:5:2] == ("recipient_domain", "m\N{LATIN SMALL LETTER U WITH DIAERESIS}.example") for row in written[0]
        )
        back_to_the_first(connection)

    assert migrate_file(store) == ALL
    with closing(sqlite3.connect(store)) as connection:
        assert (connection.execute(ROLLUP).fetchall(), connection.execute(ENGAGEMENT).fetchall()) == written


def test_readers_of_purged_mail(store: Path, apply: Make, accepted: Make, hit: Make, ask: Make) -> None:
    """Of purged mail m002 knows the rollups only: who was a person is among those who may have been one."""
    apply(accepted(1), accepted(2), hit(1, message=1, who=Who.HUMAN), hit(2, message=2, who=Who.UNKNOWN))
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("DELETE FROM engagement WHERE message = 1")
        back_to_the_first(connection)

    assert migrate_file(store) == ALL
    counts = ask(
        "SELECT measure, n FROM rollup WHERE basis = 'cohort' AND span = 'day' AND dimension = 'all'"
        " AND measure LIKE 'opened%' ORDER BY measure"
    )
    assert counts == [("opened_any", 2), ("opened_human", 1), ("opened_possible", 2)]


def test_longer_rollups_and_replies(store: Path, noon_us: int) -> None:
    """m004 counts by four weeks and by reply what is there, before 1970 too, as if it had done so from the start."""
    with (
        closing(Transactions(open_writer(store), WriteLock(store))) as transactions,
        transactions.begin() as transaction,
    ):
        bulk = Bulk(transaction)
        for number, at_us in enumerate((-40 * DAY_US, -1, 0, 27 * DAY_US, 28 * DAY_US, noon_us, noon_us + 1)):
            message = bulk.new_message(at_us, Direction.OUTBOUND, "example.com")
            bulk.new_delivery(message, f"ann@{number % 2}.example", at_us).state = State.BOUNCED
            for kind in (EventType.SENT, EventType.DEFERRED, EventType.BOUNCED, EventType.EXPIRED):
                reply = transaction.replies.id(StoredReply(f"reply {number % 3}"))
                bulk.new_event(at_us, kind, message.id, reply=reply if kind is not EventType.EXPIRED else None)
                bulk.new_event(at_us + 3 * HOUR_US, kind, message.id, reply=reply)
        bulk.flush()
    with closing(sqlite3.connect(store)) as connection:
        written = connection.execute(ROLLUP).fetchall()
        assert {(row[1], row[3]) for row in written if row[2] == "reply" and row[1] == "4weeks"} == {
            ("4weeks", start * 28 * DAY_US) for start in (-2, -1, 0, 1, noon_us // DAY_US // 28)
        }
        back_to_the_third(connection)

    assert migrate_file(store) == ALL[1:]
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute(ROLLUP).fetchall() == written
