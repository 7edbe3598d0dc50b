"""Logs of real Exims: the store says of each message what the log says, and refusals are nobody's delivery."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postwake.store.connection import open_reader

Make = Callable[..., Any]
REPOSITORY = Path(__file__).parents[3]
FATE = re.compile(
    r"^[0-9-]{10} [0-9:.]+(?: [+-][0-9]{4})?(?: \[[0-9]+\])? "
    r"(?P<id>\w{6}-\w{6}-\w\w|\w{6}-\w{11}-\w{4}) (?P<flag>=>|->|>>|\*\*|==) (?!blackhole \()(?P<rest>.*)",
    re.MULTILINE,
)
WORD = {"=>": "taken", "->": "taken", ">>": "taken", "**": "failed", "==": "deferred"}
EVENT = {"sent": "taken", "handed_over": "taken", "bounced": "failed", "expired": "failed", "deferred": "deferred"}


@pytest.fixture(scope="session")
def genuine() -> Path:
    """The folder of logs that real Exims wrote, which a fresh clone does not have."""
    root = Path(os.environ.get("POSTWAKE_CORPORA", REPOSITORY / ".." / "shared" / "corpora"))
    if not (root / "log-exim-genuine").is_dir():
        pytest.skip(f"no Exim logs at {root}: set POSTWAKE_CORPORA to measure against real ones")
    return root / "log-exim-genuine"


def said_by_log(text: str) -> Counter[tuple[str, str]]:
    """Count each message's deliveries, failures and deferrals by the log's flags.

    ``retry time not reached`` (errors -51 and below) is no attempt: counted where it is a recipient's first word.
    """
    counts: Counter[tuple[str, str]] = Counter()
    seen: set[tuple[str, str]] = set()
    for match in FATE.finditer(text):
        recipient = (match["id"], match["rest"].split()[0].rstrip(":"))
        if not re.search(r"defer \(-5[2-7]\)", match["rest"]) or recipient not in seen:
            counts[match["id"], WORD[match["flag"]]] += 1
        seen.add(recipient)
    return counts


def said_by_store(path: Path) -> Counter[tuple[str, str]]:
    """Count the same in the store: a message's events, under the queue ID that it began with."""
    counts: Counter[tuple[str, str]] = Counter()
    with closing(open_reader(path)) as connection:
        for queue_id, kind, n in connection.execute(
            "SELECT queue_id, event_type.name, count(*) FROM event JOIN event_type ON event_type.id = event.type"
            " JOIN message ON message.id = event.message WHERE delivery IS NOT NULL"
            # A dry run (exim -N) completes without a word about its recipients, "marked delivered" without their fate.
            " AND coalesce(detail, '') NOT LIKE '%no line of the log%' GROUP BY 1, 2"
        ):
            if kind in EVENT:
                counts[queue_id, EVENT[kind]] += n
    return counts


@pytest.mark.parametrize("pattern", ["exim-49*.mainlog.log", "scn-*.log"])
def test_each_message_as_its_log_says(
    genuine: Path, pattern: str, make_world: Make, miscounted: Callable[[Path], Any]
) -> None:
    """As many deliveries, failures and deferrals of each message as its lines, and counts that add up."""
    paths = sorted(genuine.glob(pattern))
    assert paths
    for path in paths:
        world = make_world("exim")
        text = path.read_text(encoding="utf-8")
        for start in range(0, len(lines := text.splitlines(keepends=True)), 50):
            world.log("".join(lines[start : start + 50]))
        assert said_by_store(world.path) == said_by_log(text), path.name
        assert miscounted(world.path) == {}, path.name


def test_reading_stopped_anywhere_in_a_real_log(
    genuine: Path, make_world: Make, contents: Callable[[Path], Any]
) -> None:
    """A real log read with a restart every seven lines gives the store of one that was read at once."""
    lines = (genuine / "exim-496-typical.mainlog.log").read_text(encoding="utf-8").splitlines(keepends=True)
    whole, restarted = make_world("exim"), make_world("exim")
    whole.run(lines)
    restarted.run(lines, restarts=range(0, len(lines), 7))
    assert contents(restarted.path) == contents(whole.path)


def test_no_refusal_is_a_delivery(genuine: Path, make_world: Make) -> None:
    """A reject log makes refusals and nothing else: no message, no recipient."""
    world = make_world("exim")
    for path in sorted(genuine.glob("*.rejectlog.log")):
        world.log(path.read_text(encoding="utf-8"))
    with closing(open_reader(world.path)) as connection:
        assert connection.execute("SELECT count(*) FROM delivery").fetchone()[0] == 0
        assert connection.execute("SELECT count(*) FROM message").fetchone()[0] == 0
        kinds = dict(connection.execute("SELECT type, count(*) FROM event GROUP BY type").fetchall())
    assert set(kinds) == {12}
    assert kinds[12] > 5
