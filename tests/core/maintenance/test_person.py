"""Removing a person leaves no trace of the address in the file; the export holds everything."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.errors import UsageError
from postwake.events import Accepted, EventType, Hit, Who, encode
from postwake.store.maintenance import check_integrity, check_references
from postwake.store.person import Address, export, forget, in_spool
from postwake.store.spool import Spool

ANN = "Ann.Other+shop@Example.NET"
Ask = Callable[..., list[tuple[Any, ...]]]
URL = "https://x.example/?u=Ann.Other%2Bshop%40example.net"
ENTROPY = bytes.fromhex("0123456789abcdef")


def no_pause(_seconds: float) -> None:
    """Do not wait."""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ann@example.net", True),
        ("<ANN@Example.Net>: user unknown", True),
        ("to=ann@example.net,bo@example.net", True),
        ("https://x.example/?u=ann%40example.net&v=1", True),
        ("https://x.example/?next=https%3A%2F%2Fy.example%2F%3Fu%3Dann%40example.net", True),
        ("https://x.example/u/ann@example.net/", True),
        ("news+ann=example.net@example.com", True),
        ("write to ann@example.net.", True),
        ("joann@example.net", False),
        ("jo.ann@example.net", False),
        ("jo+ann@example.net", False),
        ("ann@example.network", False),
        ("ann@example.net.example.com", False),
        ("ann@example.net-a", False),
        ("jo%2Bann%40example.net", False),
        ("ann at example.net", False),
    ],
)
def test_where_an_address_is_named(text: str, named: bool) -> None:
    """Every spelling counts, a longer address does not."""
    address = Address("ann@example.net")
    assert address.is_in(text) is named
    assert (address.replace(text, "x") != text) is named
    assert not address.is_in(address.replace(text, "x"))


@pytest.mark.parametrize("text", ["", "ann", "@example.net", "ann@", "a nn@example.net", "\udcffann@example.net"])
def test_what_is_no_address(text: str) -> None:
    """A usage error that says what was expected."""
    with pytest.raises(UsageError, match="expected an address such as"):
        Address(text)


@pytest.fixture
def ann_everywhere(
    store: Path, accepted: Callable[..., Accepted], hit: Callable[..., Hit], apply: Callable[..., None], ask: Ask
) -> Path:
    """A store that names Ann in every place that text can reach."""
    message = accepted(
        1, recipients=(ANN,), subject=f"For {ANN}", metadata={"to": ANN.lower()}, message_id="1@example.com"
    )
    shared = accepted(2, recipients=("bo@example.net", ANN), sender="news+Ann.Other+shop=Example.NET@example.com")
    hers = {"client": "192.0.2.7", "user_agent": "Ann's own browser", "who": Who.HUMAN}
    apply(
        message,
        shared,
        accepted(3, recipients=("joann.other+shop@example.net",), tag=ANN),
        hit(1, tracking_id=message.tracking_id, **hers),
        hit(
            2,
            EventType.CLICKED,
            tracking_id=message.tracking_id,
            url="https://x.example/?u=Ann.Other%2Bshop%40example.net",
            **hers,
        ),
        hit(3, tracking_id=shared.tracking_id, recipient=0, **hers),
        accepted(4, recipients=("joann.other+shop@example.net",)),
        hit(4, tracking_id=accepted(4).tracking_id, client="198.51.100.1", user_agent="Another"),
    )
    with closing(sqlite3.connect(store)) as connection, connection:
        reply = connection.execute(
            "INSERT INTO reply (text, code) VALUES (?, 550) RETURNING id", (f"550 5.1.1 <{ANN}>: no such user",)
        ).fetchone()[0]
        connection.execute(
            "INSERT INTO event (at_us, type, message, delivery, reply, reply_part)"
            " SELECT at_us, 5, message, id, ?, ? FROM delivery WHERE message = 1",
            (reply, f"{ANN} 123"),
        )
        connection.execute("UPDATE delivery SET state = 3 WHERE recipient LIKE 'ann%'")
        connection.execute("UPDATE delivery SET original_recipient = ? WHERE message = 3", (ANN.upper(),))
        detail = json.dumps({"recipient": ANN, "text": "refused"})
        connection.execute("INSERT INTO event (at_us, type, detail) VALUES (1, 12, ?)", (detail,))
    return store


def everything(store: Path) -> str:
    """Return every value of every table as text."""
    with closing(sqlite3.connect(store)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        return "\n".join(repr(row) for name in names for row in connection.execute(f"SELECT * FROM {name}"))


def test_forgotten(ann_everywhere: Path, ask: Ask) -> None:
    """No table, no view and no byte of the file names her; her hits have no address or agent; others stay."""
    counts = "SELECT type, count(*) FROM event GROUP BY type"
    rollups = "SELECT basis, span, dimension, start_us, measure, sum(n) FROM rollup GROUP BY 1, 2, 3, 4, 5"
    before = ask(counts), ask(rollups), ask("SELECT * FROM engagement")
    ((rollup_rows,),) = ask("SELECT count(*) FROM rollup WHERE key = ?", ANN)
    found = forget(ann_everywhere, ANN, ENTROPY, pause=no_pause)

    text = everything(ann_everywhere).lower()
    address = Address(ANN)
    assert not address.is_in(text.replace("joann.other+shop@", "somebody@"))
    raw = b"".join(path.read_bytes() for path in ann_everywhere.parent.glob("postwake.db*")).lower()
    assert b"ann.other+shop@example.net" not in raw.replace(b"joann.other+shop@example.net", b"")
    assert b"ann.other%2bshop" not in raw
    assert not found.remnants
    assert (ask(counts), ask(rollups), ask("SELECT * FROM engagement")) == before
    assert ask("SELECT client, user_agent.text FROM event JOIN user_agent ON user_agent.id = user_agent") == [
        ("198.51.100.1", "Another")
    ]
    assert found.hits == 3
    assert found.rows == {"delivery": 3, "event": 2, "message": 3, "reply": 1, "rollup": rollup_rows, "url": 1}
    marker = "forgotten-0123456789abcdef@Example.NET"
    assert ask("SELECT recipient FROM delivery ORDER BY id") == [
        (marker,), ("bo@example.net",), (marker,), *[("joann.other+shop@example.net",)] * 2
    ]  # fmt: skip
    assert check_integrity(ann_everywhere) == check_references(ann_everywhere) == []


def test_texts_that_told_spellings_apart(
    store: Path, apply: Callable[..., None], accepted: Callable[..., Accepted], hit: Callable[..., Hit], ask: Ask
) -> None:
    """Where each text may stand once, two that differ in the case of her name stay two, and none names her."""
    names = ("ann@example.net", "Ann@example.net", "ANN@Example.NET")
    for n, name in enumerate(names, 1):
        apply(
            accepted(n, recipients=(name,), tag=name),
            hit(n, EventType.CLICKED, message=n, url=f"https://x.example/?e={name}", user_agent=f"for {name}"),
        )
    rollups = "SELECT basis, span, dimension, start_us, measure, sum(n), count(*) FROM rollup GROUP BY 1, 2, 3, 4, 5"
    before = ask(rollups), ask("SELECT count(*), count(DISTINCT url) FROM clicks")
    forget(store, "ann@example.net", ENTROPY, pause=no_pause)
    assert "ann@" not in everything(store).lower()
    assert (ask(rollups), ask("SELECT count(*), count(DISTINCT url) FROM clicks")) == before
    assert check_integrity(store) == check_references(store) == []


@pytest.mark.parametrize("asked", ["ann@münchen.example", "ann@xn--mnchen-3ya.example", "ann@XN--Mnchen-3ya.EXAMPLE"])
def test_both_spellings_of_an_international_domain(
    store: Path, apply: Callable[..., None], accepted: Callable[..., Accepted], asked: str
) -> None:
    """A mail server writes the domain in ASCII or in its own letters (RFC 6531): the person is the same."""
    apply(
        accepted(1, recipients=("ann@münchen.example",)),
        accepted(2, recipients=("Ann@xn--mnchen-3ya.example",)),
        accepted(3, recipients=("joann@münchen.example",)),
    )
    assert len(export(store, asked)["messages"]) == 2
    forget(store, asked, ENTROPY, pause=no_pause)
    text = everything(store).lower()
    assert "ann@" not in text.replace("joann@münchen.example", "")


def test_nobody_is_forgotten_twice(ann_everywhere: Path) -> None:
    """The second time there is nothing to do."""
    forget(ann_everywhere, ANN, ENTROPY, pause=no_pause)
    again = forget(ann_everywhere, ANN, ENTROPY, pause=no_pause)
    assert (again.rows, again.hits) == ({}, 0)


def test_mail_still_queued_is_said(store: Path, apply: Callable[..., None], accepted: Callable[..., Accepted]) -> None:
    """The log will name her again: the caller is told."""
    apply(accepted(1))
    assert forget(store, "ann@example.net", ENTROPY, pause=no_pause).still_queued == 1


def test_remnants_are_found_and_vacuum_removes_them(
    store: Path, apply: Callable[..., None], accepted: Callable[..., Accepted]
) -> None:
    """A row that was deleted without overwriting it is noticed in free space; rewriting the file removes it."""
    apply(accepted(1))
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM delivery")
    assert forget(store, "ann@example.net", ENTROPY, pause=no_pause).remnants
    assert not forget(store, "ann@example.net", ENTROPY, vacuum=True, pause=no_pause).remnants
    assert b"ann@example.net" not in store.read_bytes()


def test_export_is_complete(ann_everywhere: Path) -> None:
    """Her deliveries, their events, hits with address and agent, every text that names her; nobody else."""
    found = export(ann_everywhere, ANN)
    text = json.dumps(found)
    assert [item["delivery"]["recipient"] for item in found["messages"]] == [ANN, ANN, "joann.other+shop@example.net"]
    hits = [event for item in found["messages"] for event in item["events"] if event["type"] in ("opened", "clicked")]
    assert [(hit["client"], hit["user_agent"]) for hit in hits[:3]] == [("192.0.2.7", "Ann's own browser")] * 3
    assert URL in text
    assert set(found["mentions"]) == {"event", "message", "reply", "rollup", "url"}
    assert "bo@example.net" not in text


def test_export_of_nobody(store: Path) -> None:
    """Nothing is held about who was never written to."""
    assert export(store, "nobody@example.net") == {
        "address": "nobody@example.net",
        "messages": [],
        "mentions": {},
        "spool": {},
    }


def test_what_waits_in_the_spool_is_found(
    ann_everywhere: Path, tmp_path: Path, accepted: Callable[..., Accepted], hit: Callable[..., Hit]
) -> None:
    """Lines that name her, and hits on her messages that do not; in ``.bad`` files, too; not others'."""
    directory = tmp_path / "spool"
    shared, others = accepted(2).tracking_id, accepted(4).tracking_id
    waiting = [
        accepted(7, recipients=(ANN,)),
        hit(21, client="192.0.2.7"),
        hit(22, tracking_id=shared, recipient=0),
        hit(23, tracking_id=shared, recipient=1),  # bo's
        hit(24, tracking_id=others),
        accepted(8, recipients=("joann.other+shop@example.net",)),
    ]
    spool = Spool(directory, "pixelserver")
    spool.append(waiting)
    (directory / "old.bad").write_text(f'{{"kind": 5}}\nnot JSON, but of {ANN}\n')
    found = export(ann_everywhere, ANN, directory)["spool"]
    (name,) = (path.name for path in directory.glob("*.spool"))
    assert found == {
        name: [encode(event) for event in waiting[:3]],
        "old.bad": [f"not JSON, but of {ANN}"],
    }
    assert in_spool(ann_everywhere, directory / "nowhere", ANN) == {}
    spool.close()
