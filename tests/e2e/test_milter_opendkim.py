"""Beside OpenDKIM: signed after us the signature holds at the sink; the other order is found out and said."""

from __future__ import annotations

import email
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from postwake_lab import mails
from postwake_lab.opendkim import SELECTOR, OpenDkim
from postwake_lab.world import MILTER, World

dkim = pytest.importorskip("dkim", reason="not installed: dkimpy")
SIGNER = "{ unix:opendkim/opendkim.sock, default_action=tempfail }"


@pytest.fixture
def make_signing_world(make_world: Callable[..., World], request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A world whose milters are ours and OpenDKIM's, in the order given."""

    def make(order: str, **options: Any) -> tuple[World, OpenDkim]:
        world = make_world("milter", "logparse", main={"smtpd_milters": order, "non_smtpd_milters": order})
        signer = OpenDkim(world.directory / "dkim", world.postfix.queue / "opendkim" / "opendkim.sock", **options)
        signer.start()
        request.addfinalizer(signer.stop)
        return world, signer

    return make


def verifies(message: bytes, signer: OpenDkim) -> bool:
    """Whether the message's signature holds, by another implementation than the signer's."""
    asked = []

    def txt(name: bytes, **_: Any) -> bytes:
        asked.append(name)
        return signer.txt_record()

    holds = bool(dkim.verify(message.rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n", dnsfunc=txt))
    assert asked == [f"{SELECTOR}._domainkey.{signer.domain}.".encode()]
    return holds


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "7bit"])
def test_signed_after_us(make_signing_world: Callable[..., Any], send: Any, ask: Any, encoding: str) -> None:
    """Postwake first, then OpenDKIM: the rewritten mail's signature verifies where it is delivered."""
    world, signer = make_signing_world(f"{MILTER}, {SIGNER}")
    message = mails.newsletter(1, "ada@accept.test", encoding=encoding)
    send(world, (message.replace(b"Subject:", b"X-Tag: autumn\r\nSubject:"), ["ada@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    [delivered] = world.delivered()
    assert b"X-Postwake-ID" in delivered.message
    assert b"X-Tag" not in delivered.message
    assert verifies(delivered.message, signer)
    assert not verifies(delivered.message.replace(b"Autumn", b"Winter"), signer)
    assert ask(world, "SELECT tracked FROM messages") == [(1,)]


def test_one_click_unsubscribing_is_signed(make_signing_world: Callable[..., Any], send: Any) -> None:
    """With the line of opendkim.conf in contrib/postfix, both fields of RFC 8058 are signed, as its section 4 wants."""
    recipe = (Path(__file__).parents[2] / "contrib" / "postfix" / "main.cf.opendkim").read_text()
    [line] = re.findall(r"opendkim\.conf:  (SignHeaders .*)", recipe)
    world, _ = make_signing_world(f"{MILTER}, {SIGNER}", settings=line)
    fields = b"List-Unsubscribe: <https://e.com/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nSubject:"
    send(world, (mails.receipt(1, "ada@accept.test").replace(b"Subject:", fields, 1), ["ada@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    signed = email.message_from_bytes(world.delivered()[0].message)["dkim-signature"]
    match = re.search(r"\bh=([^;]*)", signed)
    assert match is not None
    assert {"list-unsubscribe", "list-unsubscribe-post"} <= set(re.sub(r"\s", "", match[1]).lower().split(":"))


def test_signed_before_us(make_signing_world: Callable[..., Any], send: Any, ask: Any) -> None:
    """OpenDKIM first: we meet a signed mail, leave its signature whole, and say why it is not tracked."""
    world, signer = make_signing_world(f"{SIGNER}, {MILTER}")
    send(world, (mails.newsletter(1, "ada@accept.test"), ["ada@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    [delivered] = world.delivered()
    assert verifies(delivered.message, signer)
    assert ask(world, "SELECT tracked, untracked_reason FROM messages") == [(0, "dkim-signed")]
