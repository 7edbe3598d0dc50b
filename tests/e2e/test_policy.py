"""Mail that is not ours to track passes unchanged, and the store says why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from postwake_lab import mails
from postwake_lab.world import World

NEWSLETTER = mails.newsletter(1, "ada@accept.test", encoding="8bit")
SIGNED = b"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=x; h=from; bh=x; b=x\r\n" + NEWSLETTER
OTHER = NEWSLETTER.replace(b"news@example.com", b"news@elsewhere.test")


@pytest.mark.parametrize(
    ("message", "sender", "reason"),
    [
        pytest.param(OTHER, "news@elsewhere.test", "sender-not-configured", id="domain-not-configured"),
        pytest.param(SIGNED, "news@example.com", "dkim-signed", id="dkim-signed"),
        pytest.param(NEWSLETTER, "", "null-sender", id="null-sender"),
        pytest.param(mails.plain(1, "ada@accept.test"), "shop@example.com", "no-html", id="plain-text"),
    ],
)
def test_passes_unchanged(
    world: World,
    send: Callable[..., None],
    ask: Callable[..., list[tuple[object, ...]]],
    message: bytes,
    sender: str,
    reason: str,
) -> None:
    """The delivered bytes end with exactly the sent ones, and untracked_reason names why."""
    send(world, (message, ["ada@accept.test"]), sender=sender)
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    delivered = world.delivered()[0].message.rstrip(b"\n")
    assert delivered.endswith(message.replace(b"\r\n", b"\n").rstrip(b"\n"))
    assert ask(world, "SELECT tracked, untracked_reason FROM messages") == [(0, reason)]


def test_inbound_mail_is_never_tracked(
    make_world: Callable[..., World], send: Callable[..., None], ask: Callable[..., list[tuple[object, ...]]]
) -> None:
    """Mail from a client outside the internal networks is inbound, though it claims a tracked sender."""
    world = make_world()
    text = world.services.config.read_text().replace("[mta]\n", '[mta]\ninternal_networks = ["192.0.2.0/24"]\n')
    world.services.config.write_text(text)
    world.services.stop("milter", "logparse")
    world.services.start("milter", "logparse")

    send(world, (NEWSLETTER, ["ada@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    assert world.delivered()[0].message.rstrip(b"\n").endswith(NEWSLETTER.replace(b"\r\n", b"\n").rstrip(b"\n"))
    assert ask(world, "SELECT direction, tracked, untracked_reason FROM messages") == [("inbound", 0, "inbound")]


def test_shared_token_for_several_recipients(
    world: World, send: Callable[..., None], ask: Callable[..., list[tuple[object, ...]]]
) -> None:
    """Several recipients of one transaction share a body, so an open names none of them."""
    from postwake_lab.reader import fetch, tracked_urls

    send(world, (mails.newsletter(1, "all@accept.test"), ["ada@accept.test", "bo@accept.test", "cy@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 3)

    pixels, _ = tracked_urls(world.delivered()[0].message)
    assert fetch(pixels[0])[0] == 200
    world.services.settle("SELECT count(*) FROM opens", 1)

    assert ask(world, "SELECT recipient FROM opens") == [(None,)]
    assert ask(world, "SELECT count(*) FROM engagement WHERE recipient_idx = 0") == [(1,)]
