"""Any history of events, in any order, twice or not: the rollups are what the tables say.

The recount below is written from the meaning of the tables, not from the code that counts.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from postwake.events import Accepted, Direction, Event, EventType, Hit, State, Who
from postwake.store.apply import apply_event
from postwake.store.bulk import Bulk
from postwake.store.connection import WriteLock, open_reader, open_writer
from postwake.store.counting import count_event
from postwake.store.dictionary import StoredReply
from postwake.store.hits import relabel
from postwake.store.person import forget
from postwake.store.queries import report
from postwake.store.transaction import Transactions
from postwake.tracking_id import make_tracking_id

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
NOON_US = 1_795_348_800_000_000
ADDRESSES = ["ann@a.example", "Ann@A.example", "bob@b.example", "cy@b.example", "local"]
TRIED = {State.SENT: EventType.SENT, State.BOUNCED: EventType.BOUNCED, State.DEFERRED: EventType.DEFERRED}
moments = st.sampled_from(
    [NOON_US, NOON_US + 1, NOON_US + 40 * 60_000_000, NOON_US + 13 * HOUR_US, NOON_US - 5 * DAY_US]
)


def recount(connection) -> Counter[tuple[str, str, int, str, str]]:
    """Return (basis, dimension, hour, key, measure): n, counted from message, delivery, event and engagement."""
    found: Counter[tuple[str, str, int, str, str]] = Counter()

    def count(basis: str, at_us: int, measure: str, about: tuple | None, recipient: str = "", n: int = 1) -> None:
        hour = at_us // HOUR_US
        _, direction, domain, tag = about or (0, Direction.UNKNOWN, "", "")
        if direction == Direction.INBOUND:
            found[basis, "inbound", hour, "", measure] += n
            return
        found[basis, "all", hour, "", measure] += n
        other = recipient.rpartition("@")[2].lower() if "@" in recipient else ""
        for dimension, key in (("sender_domain", domain), ("tag", tag), ("recipient_domain", other)):
            if key:
                found[basis, dimension, hour, key, measure] += n

    messages = {}
    for number, at_us, direction, domain, tag, tracked, reason, queue_id, tracking_id in connection.execute(
        "SELECT id, at_us, direction, domain, tag, tracked, untracked_reason, queue_id, tracking_id FROM message"
        " WHERE merged_into IS NULL"
    ):
        messages[number] = at_us, direction, domain or "", tag or ""
        count("cohort", at_us, "messages", messages[number])
        if tracking_id is not None and queue_id is not None:
            if reason:
                found["event", "reason", at_us // HOUR_US, reason, "untracked"] += 1
            elif tracked:
                found["event", "reason", at_us // HOUR_US, "", "tracked"] += 1
    for message, recipient, state in connection.execute("SELECT message, recipient, state FROM delivery"):
        count("cohort", messages[message][0], State(state).label, messages[message], recipient)
    for row in connection.execute("SELECT message, recipient_idx, type, who, at_us FROM event"):
        message, _, kind, who, at_us = row
        if kind == EventType.HANDED_OVER:  # goes on under another name: no count of anything
            continue
        label = EventType(kind).label + (f".{Who(who).label}" if kind in (EventType.OPENED, EventType.CLICKED) else "")
        count("event", at_us, label, messages.get(message))
    for kind, reply, at_us in connection.execute("SELECT type, reply, at_us FROM event WHERE reply IS NOT NULL"):
        if kind in (EventType.DEFERRED, EventType.BOUNCED, EventType.EXPIRED):
            found["event", "reply", at_us // HOUR_US, str(reply), EventType(kind).label] += 1
    readers: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for message, recipient, kind, who in connection.execute(
        "SELECT message, recipient_idx, type, who FROM event WHERE recipient_idx IS NOT NULL AND message IS NOT NULL"
        " ORDER BY at_us, id"
    ):
        readers.setdefault((message, recipient), []).append((kind, who))
    for (message, reader), did in readers.items():
        touched = {(kind, who) for kind, who in did if kind in (EventType.OPENED, EventType.CLICKED)}
        clicked = {who for kind, who in touched if kind == EventType.CLICKED}
        said = [kind for kind, _ in did if kind in (EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED)]
        facts = {
            "opened_human": any(who == Who.HUMAN for _, who in touched),
            "opened_possible": any(who != Who.MACHINE for _, who in touched),
            "opened_any": bool(touched),
            "clicked_human": Who.HUMAN in clicked,
            "clicked_possible": clicked - {Who.MACHINE} != set(),
            "clicked_any": bool(clicked),
            "unsubscribed": said[-1:] == [EventType.UNSUBSCRIBED],
        }
        addresses = connection.execute(
            "SELECT recipient FROM delivery WHERE message = ?1 AND (?2 = 0 OR idx = ?2)", (message, reader)
        )
        domains = {address.rpartition("@")[2].lower() if "@" in address else "" for (address,) in addresses}
        one_domain = f"@{domains.pop()}" if len(domains) == 1 else ""
        for measure, true in facts.items():
            if true:
                count("cohort", messages[message][0], measure, messages[message], one_domain)
    return found


class History(RuleBasedStateMachine):
    """What the milter, the log and readers may do to one store."""

    sent = Bundle("sent")
    template: Path

    @initialize()
    def open(self) -> None:
        """Begin with an empty store."""
        self.directory = Path(tempfile.mkdtemp())
        self.path = Path(shutil.copy(self.template, self.directory / "postwake.db"))
        self.transactions = Transactions(open_writer(self.path), WriteLock(self.path))
        self.events: list[Event] = []
        self.waiting: list[Accepted] = []
        self.number = 0

    def teardown(self) -> None:
        """Remove the store."""
        if hasattr(self, "transactions"):
            self.transactions.close()
            shutil.rmtree(self.directory)

    def write(self, event: Event) -> None:
        """Apply an event."""
        self.events.append(event)
        with self.transactions.begin() as transaction:
            apply_event(transaction, event)

    @rule(
        target=sent,
        at_us=moments,
        recipients=st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=4),
        direction=st.sampled_from([Direction.OUTBOUND, Direction.OUTBOUND, Direction.INBOUND]),
        tag=st.sampled_from(["", "weekly"]),
        domain=st.sampled_from(["example.com", "example.org"]),
        tracked=st.booleans(),
        late=st.booleans(),
    )
    def accept(self, at_us, recipients, direction, tag, domain, tracked, late):
        """The milter records a message, or puts it into its spool."""
        self.number += 1
        event = Accepted(
            at_us=at_us,
            tracking_id=make_tracking_id(at_us, self.number.to_bytes(10, "big")),
            direction=direction,
            queue_id=f"Q{self.number}",
            host="mail",
            message_id=f"{self.number}@example.com",
            sender=f"news@{domain}",
            domain=domain,
            recipients=tuple(recipients),
            tag=tag,
            tracked=tracked,
            untracked_reason="" if tracked else "no-html",
        )
        if late:
            self.waiting.append(event)
        else:
            self.write(event)
        return event if tracked and direction is Direction.OUTBOUND else multiple()

    @rule(
        state=st.sampled_from([State.SENT, State.BOUNCED, State.DEFERRED]),
        some=st.integers(0, 3),
        domain=st.booleans(),
        done=st.booleans(),
    )
    def log_meets_it_first(self, state, some, domain, done):
        """The log makes the message of a row that still waits in the spool; the queue may be done with it already."""
        if not self.waiting:
            return
        event = self.waiting[-1]
        with self.transactions.begin() as transaction:
            if transaction.execute("SELECT 1 FROM message WHERE queue_id = ?", (event.queue_id,)).fetchone():
                return
            bulk = Bulk(transaction)
            row = bulk.new_message(event.at_us, Direction.OUTBOUND, event.domain if domain else "other.example")
            row.queue_id = event.queue_id
            bulk.new_event(event.at_us, EventType.ACCEPTED, row.id)
            for recipient in list(dict.fromkeys(address.lower() for address in event.recipients))[:some]:
                delivery = bulk.new_delivery(row, recipient, event.at_us)
                delivery.state = state
                reply = transaction.replies.id(StoredReply(f"<{recipient}> said no to {some}"))
                bulk.new_event(event.at_us, TRIED[state], row.id, delivery.id, reply=reply)
                count_event(transaction.rollup, event.at_us, TRIED[state].label, row.cohort, recipient=recipient)
            bulk.flush()
            if not done:
                transaction.execute(
                    "INSERT INTO queue (queue_id, at_us, message) VALUES (?, ?, ?)", (row.queue_id, event.at_us, row.id)
                )

    @rule()
    def spool_is_replayed(self):
        """What waited comes."""
        for event in self.waiting:
            self.write(event)
        self.waiting = []

    @rule(
        message=sent,
        kind=st.sampled_from([EventType.OPENED, EventType.CLICKED, EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED]),
        who=st.sampled_from(Who),
        at_us=moments,
        recipient=st.integers(0, 3),
    )
    def hit(self, message, kind, who, at_us, recipient):
        """A reader does something, or a machine."""
        self.number += 1
        self.write(Hit(self.number.to_bytes(16, "big"), at_us, kind, message.tracking_id, recipient, who=who))

    @rule(choice=st.integers(0, 100))
    def again(self, choice):
        """An event is applied a second time."""
        if self.events:
            event = self.events[choice % len(self.events)]
            with self.transactions.begin() as transaction:
                apply_event(transaction, event)

    @rule(choice=st.integers(0, 100), who=st.sampled_from(Who))
    def judge_again(self, choice, who):
        """A verdict is revised."""
        with self.transactions.begin() as transaction:
            rows = transaction.execute("SELECT id FROM event WHERE type IN (7, 8)").fetchall()
            if rows:
                relabel(transaction, rows[choice % len(rows)][0], who, "again", NOON_US)

    @rule(address=st.sampled_from(["ann@a.example", "cy@b.example"]))
    def forget(self, address):
        """A person's address is removed."""
        self.number += 1
        forget(self.path, address, self.number.to_bytes(8, "big"), pause=lambda _s: None)

    @invariant()
    def rollups_are_what_the_tables_say(self):
        """Hours and days equal the recount in every dimension, four weeks and all time where they are kept."""
        connection = self.transactions.connection
        expected = recount(connection)
        by_span = {
            "hour": Counter({key: n for key, n in expected.items() if n}),
            "day": Counter(),
            "4weeks": Counter(),
            "all": Counter(),
        }
        for (basis, dimension, hour, key, measure), n in expected.items():
            by_span["day"][basis, dimension, hour // 24, key, measure] += n
            if dimension in ("sender_domain", "recipient_domain", "tag", "reply"):
                by_span["4weeks"][basis, dimension, hour // (28 * 24), key, measure] += n
            if dimension not in ("recipient_domain", "tag", "reply"):
                by_span["all"][basis, dimension, 0, key, measure] += n
        for span, unit_us in (("hour", HOUR_US), ("day", DAY_US), ("4weeks", 28 * DAY_US), ("all", 1)):
            stored = {
                (basis, dimension, start_us // unit_us, key, measure): n
                for basis, dimension, start_us, key, measure, n in connection.execute(
                    "SELECT basis, dimension, start_us, key, measure, n FROM rollup WHERE span = ? AND n <> 0", (span,)
                )
                if (dimension, basis) != ("recipient_domain", "event")
            }
            assert stored == {
                key: n for key, n in by_span[span].items() if (key[1], key[0]) != ("recipient_domain", "event")
            }

    @invariant()
    def states_add_up(self):
        """The cohort's states are as many as there are deliveries, and the report says the same."""
        connection = self.transactions.connection
        states = [state.label for state in State]
        (stored,) = connection.execute(
            "SELECT coalesce(sum(n), 0) FROM rollup WHERE basis = 'cohort' AND span = 'all'"
            f" AND dimension IN ('all', 'inbound') AND measure IN ({', '.join('?' * len(states))})",
            states,
        ).fetchone()
        assert stored == connection.execute("SELECT count(*) FROM delivery").fetchone()[0]
        reader = open_reader(self.path)
        try:
            found = report(reader, NOON_US - 10 * DAY_US, NOON_US + 10 * DAY_US)
        finally:
            reader.close()
        outbound = connection.execute(
            "SELECT count(*) FROM delivery JOIN message ON message.id = message WHERE direction <> 2 AND state <> ?",
            (State.HANDED_OVER,),
        ).fetchone()[0]
        assert sum(one.recipients for one in found.values()) == outbound

    @invariant()
    def readers_did_what_their_events_say(self):
        """A row of ``engagement`` counts its reader's opens and clicks, whoever made them, as judged so far."""
        connection = self.transactions.connection
        columns = [f"{noun}_{who.label}" for noun in ("opens", "clicks") for who in Who]
        counted: Counter[tuple[int, int, str]] = Counter()
        for message, reader, kind, who in connection.execute(
            "SELECT message, recipient_idx, type, who FROM event WHERE type IN (?, ?) AND message IS NOT NULL",
            (int(EventType.OPENED), int(EventType.CLICKED)),
        ):
            noun = "opens" if kind == EventType.OPENED else "clicks"
            counted[message, reader, f"{noun}_{Who(who).label}"] += 1
        rows = connection.execute(f"SELECT message, recipient_idx, {', '.join(columns)} FROM engagement").fetchall()
        kept = {(row[0], row[1], name): n for row in rows for name, n in zip(columns, row[2:], strict=True) if n}
        assert kept == counted

    @invariant()
    def what_was_read_has_its_recipient(self):
        """A hit with a recipient's index is linked to that recipient's delivery as soon as there is one."""
        missing = self.transactions.connection.execute(
            "SELECT count(*) FROM event JOIN delivery"
            " ON delivery.message = event.message AND delivery.idx = recipient_idx"
            " WHERE recipient_idx > 0 AND event.delivery IS NULL"
        ).fetchone()[0]
        assert missing == 0


@pytest.mark.timeout(120)
def test_any_history(empty_store: Path) -> None:
    """After every step of any history the rollups equal the recount."""
    History.template = empty_store
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=120, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
