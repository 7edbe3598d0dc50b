# ruff: noqa: E501 (log lines are long)
"""Events from a log without a store, against golden files.

Regenerate these with POSTWAKE_REGENERATE=1, and read the diff.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake_logparse.ndjson import KEYS, is_near, parse_log, whole_lines

GOLDEN = Path(__file__).parents[2] / "golden" / "log"
NOW_US = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000
LOGS = sorted(GOLDEN.glob("*/*.log"))


def events_of(path: Path, mta: str = "auto", *, portion_bytes: int = 1 << 16) -> list[dict[str, object]]:
    """What a golden log says, read in portions of that size."""
    data = path.read_bytes()
    portions = [data[at : at + portion_bytes] for at in range(0, len(data), portion_bytes)]
    # The Exim logs were written in the zone UTC+1, without saying so; a zone's name has the sign the other way round.
    zone = "Etc/GMT-1" if path.parent.name == "exim" and "syslog" not in path.name else "UTC"
    return list(parse_log([(path.name, portions)], mta=mta, year=None, timezone=zone, now_us=NOW_US, stats=True))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_line_ends_of_another_system_do_not_matter(path: Path) -> None:
    """The same events from a log whose lines end in CRLF."""
    data = path.read_bytes().replace(b"\n", b"\r\n")
    zone = "Etc/GMT-1" if path.parent.name == "exim" and "syslog" not in path.name else "UTC"
    events = list(parse_log([("-", [data])], mta="auto", year=None, timezone=zone, now_us=NOW_US, stats=True))
    assert events == events_of(path)


def test_there_are_golden_logs() -> None:
    """Both MTAs have golden logs: the parametrised tests below are not empty."""
    assert {path.parent.name for path in LOGS} == {"exim", "postfix"}


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_log_says_what_its_golden_file_says(path: Path) -> None:
    """Each log gives exactly the events of its golden file, the account of its lines last."""
    lines = [json.dumps(event, ensure_ascii=False) for event in events_of(path)]
    golden = path.with_suffix(".ndjson")
    if os.environ.get("POSTWAKE_REGENERATE"):
        golden.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert lines == golden.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_auto_finds_the_mta(path: Path) -> None:
    """``auto`` gives what naming the MTA gives."""
    assert events_of(path) == events_of(path, path.parent.name)


@pytest.mark.parametrize("path", LOGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.parametrize("portion_bytes", [1, 97, 4096])
def test_how_the_bytes_come_does_not_matter(path: Path, portion_bytes: int) -> None:
    """The same events whether bytes come one by one or all at once."""
    assert events_of(path, path.parent.name, portion_bytes=portion_bytes) == events_of(path, path.parent.name)


def test_every_event_has_the_keys_of_the_contract_in_their_order() -> None:
    """Each line but the last has exactly the documented keys."""
    for event in events_of(GOLDEN / "postfix" / "three-fates.log")[:-1]:
        assert tuple(event) == KEYS


def test_every_line_is_accounted_for() -> None:
    """Lines = records + known shapes + unparsed, and an unparsed one comes with a sample."""
    stats = events_of(GOLDEN / "postfix" / "three-fates.log")[-1]
    assert stats["lines"] == sum(stats["records"].values()) + sum(stats["shapes"].values()) + stats["unparsed"]  # type: ignore[attr-defined,operator]
    assert [shape["sample"] for shape in stats["unparsed_shapes"]] == [  # type: ignore[attr-defined]
        "postfix/smtp: something new that Postfix 4 says"
    ]


def test_expiry_is_told_of_every_open_recipient_and_no_other() -> None:
    """status=expired names nobody: the recipients still deferred expired, those sent and bounced did not."""
    expired = [event for event in events_of(GOLDEN / "postfix" / "three-fates.log") if event["type"] == "expired"]
    assert [(event["recipient"], event["sender"], event["message_id"]) for event in expired] == [
        ("away@slow.example", "news@partner.example", "news-7@partner.example")
    ]


def test_a_queue_id_used_again_is_another_message() -> None:
    """A second client line under the same queue ID begins a new message: nothing of the old one is said of it."""
    accepted = [
        event
        for event in events_of(GOLDEN / "postfix" / "three-fates.log")
        if event.get("queue_id") == "0A1B2C3D4E" and event["sender"] == "www-data@shop.example"
    ]
    assert [(event["type"], event["message_id"]) for event in accepted] == [("accepted", "another@mx1")]


def test_a_hand_over_names_the_queue_id_under_which_it_goes_on() -> None:
    """What is sent to a content filter says where the mail goes on, and there its last hop is told."""
    sent = [event for event in events_of(GOLDEN / "postfix" / "content-filter.log") if event["type"] == "sent"]
    assert [(event["queue_id"], event["next_queue_id"]) for event in sent] == [
        ("4PbC4x469Jz3tBr", "4PbC4z6W5Qz3tG3"),
        ("4PbC4z6W5Qz3tG3", "7C3F02B"),
    ]


def test_no_retry_time_is_no_event() -> None:
    """Exim's ``retry time not reached`` tried nothing: it is no deferral."""
    line = b"2026-03-05 06:52:01 1xUz23-0005zv-2n == a@b.test routing defer (-52): retry time not reached\n"
    events = list(parse_log([("-", [line])], mta="exim", year=None, timezone="UTC", now_us=NOW_US, stats=False))
    assert events == []


def test_retry_timeout_is_expiry() -> None:
    """Exim gives up with ``retry timeout exceeded``: that is the queue lifetime's end."""
    line = b"2026-03-05 06:52:01 1xUz23-0005zv-2n ** a@b.test: retry timeout exceeded\n"
    (event,) = parse_log([("-", [line])], mta="exim", year=None, timezone="UTC", now_us=NOW_US, stats=False)
    assert (event["type"], event["status"], event["recipient"]) == ("expired", "expired", "a@b.test")


POSTFIX, EXIM = "Mar  5 06:52:01 mx1 postfix", "2026-03-05 06:52:01 1xUz23-0005zv-2n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            f"{POSTFIX}/smtp[1]: DEADBEEF: to=<a@b.test>, relay=mx[192.0.2.1], delay=2, status=bounced "
            "(host mx[192.0.2.1] said: 550 5.1.1 unknown (in reply to RCPT TO command))",
            {"type": "bounced", "dsn": "5.1.1", "code": 550},
            id="before-2.3-the-enhanced-code-is-the-replys",
        ),
        pytest.param(
            f"{POSTFIX}/smtp[1]: DEADBEEF: to=<a@b.test>, relay=mx[192.0.2.1], delay=2, dsn=4.2.1, status=deferred "
            "(host mx[192.0.2.1] refused to talk to me: 220-mx 421 4.2.1 Service refuse)",
            {"type": "deferred", "code": 421},
            id="a-greeting-that-changes-its-mind",
        ),
        pytest.param(
            f"{EXIM} ** a@b.test R=r T=t H=mx [192.0.2.1]: SMTP error from remote mail server after RCPT TO:<a@b.test>: 550",
            {"type": "bounced", "code": 550, "dsn": None, "status": "bounced"},
            id="a-code-and-nothing-behind-it",
        ),
        pytest.param(
            f"{EXIM} ** a@b.test R=r T=t: all hosts for 'b.test' have been failing for a long time (and retry time not reached)",
            {"type": "expired", "status": "expired"},
            id="exim-gives-up-in-other-words",
        ),
        pytest.param(
            f"{EXIM} == a@b.test R=r T=t defer (-61): retry time not reached for any host for 'b.test'",
            None,
            id="no-try",
        ),
        pytest.param(
            f"{EXIM} == a@b.test R=alias defer (-53): not now", {"type": "deferred", "reply": "not now"}, id="a-try"
        ),
        pytest.param(
            f"{EXIM} cancelled by timeout_frozen_after",
            {"type": "deleted", "recipient": None, "reply": "cancelled by timeout_frozen_after"},
            id="exim-cancelled",
        ),
        pytest.param(
            f"{POSTFIX}/bounce[1]: 17CCA8044: sender non-delivery notification: ADD2F8052",
            {"type": "notified", "queue_id": "17CCA8044", "next_queue_id": "ADD2F8052", "status": None},
            id="notice",
        ),
        pytest.param(f"{POSTFIX}/postsuper[1]: D4F2023DB: placed on hold", {"type": "held"}, id="held"),
        pytest.param(f"{POSTFIX}/postsuper[1]: D4F2023DB: removed", {"type": "deleted"}, id="deleted"),
        pytest.param(f"{POSTFIX}/qmgr[1]: D4F2023DB: removed", None, id="done-is-no-event"),
        pytest.param(
            f"{POSTFIX}/smtp[1]: D4F2023DB: host mx[192.0.2.1] said: 450 4.2.0 later (in reply to RCPT TO command)",
            None,
            id="one-hosts-answer-is-nobodys-fate",
        ),
        pytest.param(
            f"{POSTFIX}/smtp[1]: D4F2023DB: to=<a@b.test>, relay=mx[192.0.2.1]:25, delay=1, dsn=2.1.5, status=deliverable (250 ok)",
            None,
            id="a-probe-is-no-delivery",
        ),
    ],
)
def test_what_a_line_tells(line: str, expected: dict[str, object] | None) -> None:
    """One line, the event that it is, or none."""
    log = [("-", [line.encode() + b"\n"])]
    events = list(parse_log(log, mta="auto", year=2026, timezone="UTC", now_us=NOW_US, stats=False))
    assert [{name: event[name] for name in expected or ()} for event in events] == (
        [] if expected is None else [expected]
    )


@pytest.mark.parametrize(
    ("ip", "near"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("::1", True),
        ("fd00::7", True),
        (None, True),
        ("203.0.113.7", False),
        ("2001:db8::1", False),
        ("unknown", False),
    ],
)
def test_whose_mail_is_on_its_way_out(ip: str | None, near: bool) -> None:
    """A client of this machine or a private network hands in outgoing mail; the others bring mail in."""
    assert is_near(ip) is near


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_portions_are_put_together_again(data: bytes, cuts: list[int]) -> None:
    """However bytes are cut into portions, the blocks are the same bytes and each but the last ends a line."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
    blocks = list(whole_lines(data[a:b] for a, b in pairwise(edges)))
    assert b"".join(blocks) == data
    assert all(block.endswith(b"\n") for block in blocks[:-1])
