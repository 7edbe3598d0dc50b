"""The delivered message is the sent one, byte for byte, but for what is meant to change."""

from __future__ import annotations

import quopri
import re
from base64 import b64decode
from collections.abc import Callable
from email import message_from_bytes

import pytest

from postwake.keyfile import read_keys
from postwake.tokens import KeyRing, Purpose
from postwake_lab import mails
from postwake_lab.world import World

CLICK = re.compile(rb"http://127\.0\.0\.1:\d+/c/([A-Za-z0-9_-]+)")
PIXEL = re.compile(rb'<img src="http://127\.0\.0\.1:\d+/o/[A-Za-z0-9_-]+\.gif"[^>]*>')
STAMP = re.compile(rb"^X-Postwake-ID: [0-9a-f]{32}\n", re.M)


def undo(html: bytes, keys: KeyRing) -> bytes:
    """Take the pixel out and put the destinations back, as they stand in HTML."""

    def destination(match: re.Match[bytes]) -> bytes:
        token = keys.verify(Purpose.CLICK, match[1].decode())
        assert token is not None
        return token.url.replace("&", "&amp;").encode()

    return CLICK.sub(destination, PIXEL.sub(b"", html))


def split_delivered(message: bytes) -> tuple[bytes, bytes]:
    """Return header without Postfix's and the sink's Received fields, and body."""
    head, body = message.split(b"\n\n", 1)
    head = re.sub(rb"\AReceived: [^\n]*\n(?:[ \t][^\n]*\n)*Received: [^\n]*\n(?:[ \t][^\n]*\n)*", b"", head + b"\n")
    return head, body


@pytest.mark.parametrize("encoding", ["7bit", "8bit"])
def test_unencoded_newsletter(world: World, send: Callable[..., None], encoding: str) -> None:
    """In 7bit and 8bit mail, undoing the edits in the delivered bytes gives the sent bytes."""
    sent = mails.newsletter(1, "ada@accept.test", encoding=encoding)
    send(world, (sent, ["ada@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    head, body = split_delivered(world.delivered()[0].message)
    sent_head, sent_body = sent.replace(b"\r\n", b"\n").split(b"\n\n", 1)

    assert STAMP.search(head)
    assert STAMP.sub(b"", head) == sent_head + b"\n"
    assert len(CLICK.findall(body)) == len(mails.LINKS)
    assert undo(body, read_keys(world.services.directory / "keys")).rstrip(b"\n") == sent_body.rstrip(b"\n")


def test_quoted_printable_newsletter(world: World, send: Callable[..., None]) -> None:
    """In quoted-printable the decoded part is the sent one with the edits undone; other lines are the same bytes."""
    sent = mails.newsletter(1, "ada@accept.test", encoding="quoted-printable")
    send(world, (sent, ["ada@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    _, body = split_delivered(world.delivered()[0].message)
    _, sent_body = sent.replace(b"\r\n", b"\n").split(b"\n\n", 1)
    keys = read_keys(world.services.directory / "keys")
    html, sent_html = body.split(b"quoted-printable\n\n")[1], sent_body.split(b"quoted-printable\n\n")[1]

    assert body.split(b"quoted-printable\n\n")[0] == sent_body.split(b"quoted-printable\n\n")[0]
    assert undo(quopri.decodestring(html), keys).rstrip() == quopri.decodestring(sent_html).rstrip()
    assert max(map(len, html.split(b"\n"))) <= 76
    untouched = [
        line for line in sent_html.split(b"\n") if b"href" not in line and b"</body>" not in line and len(line) > 20
    ]
    kept = [line for line in untouched if line in html.split(b"\n")]
    assert len(kept) >= len(untouched) - len(mails.LINKS)  # a soft break inside an href's own line may move


def test_base64_newsletter(world: World, send: Callable[..., None]) -> None:
    """In base64, the decoded part is the sent one with the edits undone, and the other parts are the same bytes."""
    sent = mails.newsletter(1, "ada@accept.test", encoding="base64")
    send(world, (sent, ["ada@accept.test"]))
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    _, body = split_delivered(world.delivered()[0].message)
    _, sent_body = sent.replace(b"\r\n", b"\n").split(b"\n\n", 1)
    keys = read_keys(world.services.directory / "keys")
    before, coded = body.split(b"base64\n\n")
    sent_before, sent_coded = sent_body.split(b"base64\n\n")

    assert before == sent_before
    assert undo(b64decode(coded.split(b"\n\n--")[0]), keys) == b64decode(sent_coded.split(b"\n\n--")[0])
    assert {len(line) for line in coded.split(b"\n\n--")[0].split(b"\n")[:-1]} == {76}


def test_single_part_receipt_by_sendmail(world: World) -> None:
    """A single-part HTML mail submitted with sendmail(1) is rewritten too, and decodes to what was sent."""
    sent = mails.receipt(7, "ada@accept.test").replace(b"\r\n", b"\n")
    world.postfix.sendmail(sent, "shop@example.com", ["ada@accept.test"])
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    delivered = message_from_bytes(world.delivered()[0].message)
    keys = read_keys(world.services.directory / "keys")
    payload = delivered.get_payload(decode=True)
    assert isinstance(payload, bytes)
    original = message_from_bytes(sent).get_payload(decode=True)
    assert isinstance(original, bytes)

    assert undo(payload, keys).rstrip(b"\n") == original.rstrip(b"\n")
    assert PIXEL.search(payload)
    assert delivered["X-Postwake-ID"] is not None
