"""What is kept of a reader in each mode."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from postwake.events import EventType, Hit, Who
from postwake.tokens import Privacy
from postwake_pixelserver import privacy
from postwake_pixelserver.day_key import DayKeys

DAY_US = 86_400_000_000


def hit(
    mode: Privacy, kind: EventType = EventType.CLICKED, at_us: int = 5 * DAY_US, client: str = "198.51.100.7"
) -> Hit:
    """Return a hit in *mode*."""
    return Hit(
        hit_id=b"h" * 16,
        at_us=at_us,
        type=kind,
        tracking_id=b"t" * 16,
        recipient=2,
        link=3,
        url="https://example.com/",
        who=Who.HUMAN,
        reason="browser",
        client=client,
        user_agent="Agent/1",
        privacy=mode,
    )


def test_full_keeps_everything() -> None:
    """full: as it is, an absurdly long agent cut."""
    assert privacy.apply(hit(Privacy.FULL), b"") == hit(Privacy.FULL)


def test_pseudonymous_hashes_address_and_agent() -> None:
    """pseudonymous: neither address nor agent can be read, recipient and verdict stay."""
    kept = privacy.apply(hit(Privacy.PSEUDONYMOUS), b"secret")
    assert kept is not None
    assert kept.client.startswith("~")
    assert "198" not in kept.client
    assert kept.user_agent.startswith("~")
    assert (kept.recipient, kept.who, kept.reason) == (2, Who.HUMAN, "browser")


def test_pseudonyms_are_the_networks() -> None:
    """The same network has one pseudonym under one key, whichever its address; another under another key."""
    first, neighbour, stranger, other_key = (
        privacy.apply(hit(Privacy.PSEUDONYMOUS, client=client), key)
        for client, key in [
            ("198.51.100.7", b"a"),
            ("198.51.100.99", b"a"),
            ("198.51.101.7", b"a"),
            ("198.51.100.7", b"b"),
        ]
    )
    clients = [kept.client for kept in (first, neighbour, stranger, other_key) if kept]
    assert clients[0] == clients[1]
    assert len(set(clients)) == 3


def test_day_keys_are_shared_for_a_day_and_then_gone(tmp_path: Path) -> None:
    """Workers of one server have one random key on a day; on the next another, and nothing is left of the first."""
    one, two = DayKeys(tmp_path), DayKeys(tmp_path)
    key = one.of(5 * DAY_US)
    assert two.of(6 * DAY_US - 1) == key
    assert len(key) == 32
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    following = two.of(6 * DAY_US)
    assert following == one.of(6 * DAY_US) != key
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == following
    assert DayKeys(tmp_path).of(5 * DAY_US) not in (key, following), "a clock set back does not bring it back"


def test_day_keys_of_many_workers_at_once(tmp_path: Path) -> None:
    """Whoever is first decides, also when all come at the same moment."""
    workers = [DayKeys(tmp_path) for _ in range(32)]
    with ThreadPoolExecutor(32) as pool:
        keys = set(pool.map(lambda worker: worker.of(5 * DAY_US), workers))
    assert len(keys) == 1


def test_day_keys_without_a_directory(tmp_path: Path) -> None:
    """Where nothing can be shared each worker still has a key, its own."""
    lost = DayKeys(tmp_path / "nowhere")
    assert lost.of(5 * DAY_US) == lost.of(5 * DAY_US)
    assert DayKeys().of(5 * DAY_US) != DayKeys().of(5 * DAY_US)


def test_anonymous_drops_reader_and_recipient() -> None:
    """anonymous: counts per message, of nobody."""
    kept = privacy.apply(hit(Privacy.ANONYMOUS), b"secret")
    assert kept is not None
    assert (kept.client, kept.user_agent, kept.recipient) == ("", "", 0)
    assert kept.tracking_id == b"t" * 16


@pytest.mark.parametrize("kind", [EventType.OPENED, EventType.CLICKED])
def test_off_records_nothing(kind: EventType) -> None:
    """off: opens and clicks are not recorded."""
    assert privacy.apply(hit(Privacy.OFF, kind), b"secret") is None


@pytest.mark.parametrize("mode", [Privacy.PSEUDONYMOUS, Privacy.ANONYMOUS, Privacy.OFF])
@pytest.mark.parametrize("kind", [EventType.UNSUBSCRIBED, EventType.RESUBSCRIBED])
def test_a_request_to_stop_is_kept_with_its_recipient(mode: Privacy, kind: EventType) -> None:
    """Unsubscribing is asking for something: without the recipient it could not be done."""
    kept = privacy.apply(hit(mode, kind), b"secret")
    assert kept is not None
    assert (kept.recipient, kept.client, kept.user_agent) == (2, "", "")
