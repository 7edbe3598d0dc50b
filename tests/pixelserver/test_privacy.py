"""What is kept of a reader in each mode."""

from __future__ import annotations

import pytest

from postwake.events import EventType, Hit, Who
from postwake.tokens import Privacy
from postwake_pixelserver import privacy

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


def test_pseudonyms_group_a_day_and_no_longer() -> None:
    """The same network has one pseudonym for a UTC day; another on the next day, and under another key."""
    first, same, next_day, other_key = (
        privacy.apply(hit(Privacy.PSEUDONYMOUS, at_us=at_us, client=client), key)
        for at_us, client, key in [
            (5 * DAY_US, "198.51.100.7", b"secret"),
            (6 * DAY_US - 1, "198.51.100.99", b"secret"),
            (6 * DAY_US, "198.51.100.7", b"secret"),
            (5 * DAY_US, "198.51.100.7", b"another"),
        ]
    )
    assert None not in (first, same, next_day, other_key)
    clients = [kept and kept.client for kept in (first, same, next_day, other_key)]
    assert clients[0] == clients[1]
    assert len(set(clients)) == 3


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
