"""The verbs that read the store, on a store written by the code that the daemons run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from postwake.events import Accepted, Direction, EventType, Hit, Who
from postwake.store.apply import apply_event
from postwake.store.connection import WriteLock, open_writer
from postwake.store.hits import relabel
from postwake.store.recorder import Recorder
from postwake.store.transaction import Transactions
from postwake.tracking_id import make_tracking_id

_AS_NOBODY = """
import importlib, os, pkgutil, postwake, postwake_cli, postwake_console, postwake_operate
for package in (postwake, postwake_cli, postwake_console, postwake_operate):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
os.setgroups([])
os.setegid(65534)
os.seteuid(65534)
postwake_cli.main.main()
"""
Run = Callable[..., subprocess.CompletedProcess[str]]
AT_US = 1_795_000_000_000_000
TRACKED = make_tracking_id(AT_US, bytes(10))
UNTRACKED = make_tracking_id(AT_US, b"\1" * 10)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command with a configuration and a key of its own."""
    config = tmp_path / "postwake.toml"
    config.write_text(
        f'[store]\npath = "{tmp_path}/postwake.db"\nspool_dir = "{tmp_path}/spool"\n'
        f'[tracking]\nurl = "https://track.example.com"\nsender_domains = ["example.com"]\nkeys = "{tmp_path}/keys"\n'
    )

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "postwake_cli", "--config", str(config), *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    return command


@pytest.fixture
def store(run: Run, tmp_path: Path) -> Path:
    """A store with one tracked message, opened and clicked, and one untracked."""
    assert run("db", "migrate").returncode == 0
    recorder = Recorder(tmp_path / "postwake.db", tmp_path / "spool", "test")
    common = {"at_us": AT_US, "direction": Direction.OUTBOUND, "host": "mx", "domain": "example.com"}
    recorder.record(
        Accepted(
            tracking_id=TRACKED, queue_id="4F2A81B3C5", message_id="1@example.com", sender="news@example.com",
            recipients=("ada@example.org",), subject="Offers \x1b[31m", tag="autumn", tracked=True, pixels=1, links=2,
            links_skipped={"unsubscribe": 1, "list-unsubscribe-has-own": 1, "part-pixel-not-verifiable": 1}, **common,
        ),
        10,
    )  # fmt: skip
    recorder.record(
        Accepted(
            tracking_id=UNTRACKED, queue_id="AAAAAAAAAA", message_id="2@example.com", sender="boss@example.com",
            recipients=("bo@example.org",), untracked_reason="signed", **common,
        ),
        10,
    )  # fmt: skip
    for number, kind in enumerate((EventType.OPENED, EventType.CLICKED)):
        hit_id = make_tracking_id(AT_US + number, bytes([number] * 10))
        url = "https://shop.example.com/" if kind is EventType.CLICKED else ""
        recorder.record(Hit(hit_id, AT_US + 60_000_000, kind, TRACKED, 1, 0, url, Who.HUMAN, "browser"), 10)
    recorder.close()
    return tmp_path / "postwake.db"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("what", ["4F2A81B3C5", "<1@example.com>", "ada@example.org", TRACKED.hex()])
def test_message_is_found_by_each_of_its_names(run: Run, what: str) -> None:
    """Queue ID, Message-ID, address and tracking ID all lead to the same story; terminal escapes are defused."""
    done = run("message", what)

    assert done.returncode == 0
    assert "clicked" in done.stdout
    assert "https://shop.example.com/" in done.stdout
    assert "\x1b" not in done.stdout


def test_hits_are_told_by_who_and_with_their_first_verdict(run: Run, store: Path) -> None:
    """`message` and `report` show people, machines and unknown side by side; a changed verdict shows both."""
    with closing(Transactions(open_writer(store), WriteLock(store))) as transactions:
        with transactions.begin() as transaction:
            for number, (who, reason) in enumerate([(Who.MACHINE, "head"), (Who.UNKNOWN, "apple-privacy")]):
                kind = EventType.OPENED if who is Who.UNKNOWN else EventType.CLICKED
                hit_id = make_tracking_id(AT_US, bytes([7 + number] * 10))
                apply_event(transaction, Hit(hit_id, AT_US + 90_000_000, kind, TRACKED, 1, 1, "", who, reason))
        with transactions.begin() as transaction:
            relabel(transaction, 4, Who.MACHINE, "burst", AT_US + 100_000_000)

    told = run("message", TRACKED.hex()).stdout
    assert "readers      ada@example.org  opens 1 human, 1 unknown; clicks 2 machine" in told
    assert "(machine: burst, first human: browser)" in told
    (story,) = json.loads(run("message", "--json", TRACKED.hex()).stdout)
    assert [event["who_first"] for event in story["timeline"] if "who_first" in event] == ["human"]
    (reader,) = story["engagement"]
    assert (reader["recipient"], reader["clicks_machine"], reader["opens_unknown"]) == ("ada@example.org", 2, 1)

    report = run("report", "--since", "2026-01-01").stdout
    assert "by people; unknown 0, only machines 0; hits: 1 human, 1 unknown, 0 machine" in report
    assert "by people; unknown 0, only machines 1; hits: 0 human, 0 unknown, 2 machine" in report


def test_message_is_found_by_the_address_that_an_alias_led_away_from(run: Run, store: Path) -> None:
    """Who was asked for is found, too, and said beside the address that the mail went to."""
    with closing(open_writer(store)) as connection:
        connection.execute("UPDATE delivery SET original_recipient = recipient, recipient = 'lovelace@example.com'")
    done = run("message", "Ada@example.org")
    assert done.returncode == 0
    assert "queued       lovelace@example.com (for ada@example.org)" in done.stdout
    assert run("message", "nobody@example.org").returncode == 1


def test_a_reader_of_anonymous_mail_is_not_one_of_several(run: Run, store: Path) -> None:
    """In the privacy mode ``anonymous`` nobody is named, and nothing is said of how many there are."""
    with closing(open_writer(store)) as connection:
        connection.execute("UPDATE message SET privacy = (SELECT id FROM privacy WHERE name = 'anonymous')")
        connection.execute("UPDATE engagement SET recipient_idx = 0")
    assert "readers      anonymous  opens 1 human" in run("message", TRACKED.hex()).stdout


@pytest.mark.usefixtures("store")
def test_message_that_is_not_there(run: Run) -> None:
    """Nothing found is a no: status 1, said on standard error, and an empty JSON list."""
    assert run("message", "nobody@example.org").returncode == 1
    assert json.loads(run("message", "--json", "nobody@example.org").stdout) == []


@pytest.mark.usefixtures("store")
def test_explain_says_why(run: Run) -> None:
    """A tracked message says what was put in and what was left alone; an untracked one names its reason."""
    told = run("explain", "4F2A81B3C5").stdout
    assert "1 link left alone: unsubscribe" in told
    assert "List-Unsubscribe left alone: has-own" in told
    assert "1 part not as was meant (pixel-not-verifiable): No place for the pixel proved" in told
    assert "Not tracked (signed)" in run("explain", "bo@example.org").stdout


@pytest.mark.parametrize(("mta", "word"), [("auto", "smtpd_milters"), ("exim", "Exim")])
def test_explain_of_mail_that_no_milter_saw(run: Run, store: Path, tmp_path: Path, mta: str, word: str) -> None:
    """Beside an Exim that is as it should be, and no advice for Postfix."""
    config = tmp_path / "postwake.toml"
    config.write_text(f'{config.read_text()}[logparse]\nmta = "{mta}"\n')
    with closing(open_writer(store)) as connection, connection:
        connection.execute("UPDATE message SET untracked_reason = NULL WHERE NOT tracked")
    told = run("explain", "AAAAAAAAAA").stdout
    assert word in told
    assert ("X-Postwake-ID" in told) == (mta != "exim")


@pytest.mark.usefixtures("store")
def test_report_counts(run: Run) -> None:
    """The report's JSON has the messages, states, hits by who, and rates; --by tag has a line for the tag."""
    report = json.loads(run("report", "--since", "2026-01-01", "--json").stdout)

    assert (report["messages"], report["recipients"], report["states"]["queued"]) == (2, 2, 2)
    assert report["hits"] == {"clicked.human": 1, "opened.human": 1}
    assert (report["engaged"]["opened_human"], report["engaged"]["clicked_any"]) == (1, 1)
    assert "autumn" in run("report", "--since", "2026-01-01", "--by", "tag").stdout


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        pytest.param("2026-01-01", "2026-02-01", "2026-01-01 to 2026-01-31 (UTC)", id="days"),
        pytest.param("2026-01-01", "2026-01-02", "2026-01-01 (UTC)", id="one day"),
        pytest.param("2026-01-01T05:10", "2026-01-02T07:01", "2026-01-01 05:00 to 2026-01-02 08:00 (UTC)", id="hours"),
        pytest.param("9999-01-01", "9999-12-31T23:00", "9999-01-01 00:00 to 9999-12-31 23:00 (UTC)", id="far"),
    ],
)
def test_report_says_its_period(since: str, until: str, said: str, run: Run) -> None:
    """The summary begins with the whole hours that it is about; the JSON has nothing of that."""
    done = run("report", "--since", since, "--until", until)
    assert done.stdout.splitlines()[0] == f"Period      {said}"
    assert "Period" not in run("report", "--since", since, "--until", until, "--json").stdout


@pytest.mark.usefixtures("store")
def test_report_until_now_ends_now(run: Run) -> None:
    """The hour that has begun is not said to be over."""
    before, line = datetime.now(UTC), run("report", "--since", "1h").stdout.splitlines()[0]
    until = datetime.strptime(line.partition(" to ")[2], "%Y-%m-%d %H:%M (UTC)").replace(tzinfo=UTC)
    assert before.replace(second=0, microsecond=0) <= until <= datetime.now(UTC)


@pytest.mark.usefixtures("store")
def test_events_are_ndjson_oldest_first(run: Run) -> None:
    """Events come oldest first, can be narrowed by type, and carry only columns that say something."""
    rows = [json.loads(line) for line in run("events").stdout.splitlines()]

    assert [row["type"] for row in rows] == ["accepted", "accepted", "opened", "clicked"]
    assert all(value not in (None, "") for row in rows for value in row.values())
    clicked = [json.loads(line) for line in run("events", "--type", "clicked").stdout.splitlines()]
    assert clicked == rows[3:]


def test_key_new_and_config_check(run: Run, tmp_path: Path) -> None:
    """Without a key the check fails (78) and says what to do; each new key gets the next number."""
    missing = run("config", "check")
    assert missing.returncode == 78
    assert "postwake key new" in missing.stderr

    first, second = run("key", "new"), run("key", "new")
    assert "added key 1" in first.stdout
    assert "added key 2" in second.stdout
    assert first.stderr == ""
    assert "reload postwake-milter" in second.stderr
    assert run("config", "check").returncode == 0
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o640


def test_config_check_tells_of_configuration_and_keys_at_once(run: Run, tmp_path: Path) -> None:
    """A wrong key of the configuration, an unknown one and an unreadable key file are all in one answer."""
    config = tmp_path / "postwake.toml"
    config.write_text(config.read_text() + "[milter]\nworkers = 0\nwokers = 2\n")

    done = run("config", "check")

    assert done.returncode == 78
    assert "milter.workers = 0" in done.stderr
    assert "milter.wokers: unknown key" in done.stderr
    assert f"{tmp_path}/keys: cannot read the signing keys" in done.stderr


@pytest.mark.parametrize(
    "verb", [("report",), ("message", "x"), ("db", "check"), ("db", "backup", "/tmp/x"), ("check",)]
)
def test_a_store_that_one_may_not_read(run: Run, store: Path, verb: tuple[str, ...]) -> None:
    """Somebody who is not in the group is told so in one line, whatever the verb."""
    if os.geteuid():
        pytest.skip("needs root, to be somebody else")
    outside = Path(tempfile.mkdtemp())
    try:
        config = outside / "postwake.toml"
        closed = outside / "closed"
        closed.mkdir(mode=0o700)
        config.write_text(
            f'[store]\npath = "{closed}/postwake.db"\nspool_dir = "{closed}/spool"\n'
            '[tracking]\nurl = "https://track.example.com"\nsender_domains = ["example.com"]\n'
            f'keys = "{closed}/keys"\n[backup]\ndirectory = "{closed}/backup"\n'
        )
        outside.chmod(0o755)
        shutil.copy(store, closed / "postwake.db")
        # Not run as nobody from the start, who may not read this checkout.
        line = [sys.executable, "-c", _AS_NOBODY, "--config", str(config), *verb]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(outside)
    assert done.returncode in (1, 75, 77)
    assert "Traceback" not in done.stderr
    assert "Permission denied" in done.stdout + done.stderr


def test_a_store_that_is_not_there(run: Run) -> None:
    """Reading before the store was made says so, with what to run."""
    done = run("report")

    assert done.returncode == 75
    assert "postwake db migrate" in done.stderr


@pytest.mark.parametrize(
    "since", ["9999999999d", "99999999999999999999w", "tomorrow", "2026-13-01", "9999-12-31T23:30", "-1d", ""]
)
def test_a_time_that_is_none(since: str, run: Run, store: Path) -> None:
    """A time nobody can mean is a usage error that says what was expected."""
    done = run("report", "--since", since)
    assert done.returncode == 64
    assert "expected 30m, 12h, 7d, 2w or a date" in done.stderr
    assert "Traceback" not in done.stderr
