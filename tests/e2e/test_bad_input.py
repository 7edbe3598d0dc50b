"""Hostile and broken mail goes through the real milter, unchanged if in doubt."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from postwake_lab import mails
from postwake_lab.world import World

HEAD = b"From: <news@example.com>\r\nTo: <ada@accept.test>\r\nSubject: bad\r\nMIME-Version: 1.0\r\n"
HEAD += b"Message-ID: <bad@example.com>\r\nDate: Sun, 22 Nov 2026 08:00:00 +0000\r\n"
HTML = b'<html><body><a href="https://shop.example.com/x">x</a></body></html>\r\n'
BROKEN_MIME = HEAD + b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--y\r\nContent-Type: text/html\r\n\r\n' + HTML
NUL = HEAD + b"Content-Type: text/html\r\n\r\n<html><body>a\0b" + HTML
RAW_HEADER = HEAD.replace(b"bad", b"caf\xe9 \xff") + b"X-B\xe9d: caf\xe9\r\nContent-Type: text/html\r\n\r\n" + HTML
EMPTY = HEAD + b"Content-Type: text/html\r\n\r\n"


def talk(world: World, data: bytes, helo: bytes = b"client.test", sender: bytes = b"news@example.com") -> bytes:
    """Speak SMTP byte by byte, as smtplib would not; return the last reply."""
    with socket.create_connection(("127.0.0.1", world.postfix.port), 60) as connection:
        stream = connection.makefile("rwb")

        def command(line: bytes) -> bytes:
            stream.write(line + b"\r\n")
            stream.flush()
            while True:
                reply = stream.readline()
                if reply[3:4] != b"-":
                    return reply

        stream.readline()
        for line in (b"EHLO " + helo, b"MAIL FROM:<" + sender + b">", b"RCPT TO:<ada@accept.test>", b"DATA"):
            reply = command(line)
            assert reply[:1] in b"23", (line, reply)
        stuffed = data.replace(b"\r\n.", b"\r\n..")
        final = command((stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n") + b".")
        command(b"QUIT")
        return final


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(BROKEN_MIME, id="broken-mime"),
        pytest.param(NUL, id="nul"),
        pytest.param(RAW_HEADER, id="raw-8bit-header"),
        pytest.param(EMPTY, id="empty-body"),
    ],
)
def test_goes_through(world: World, message: bytes) -> None:
    """The mail is accepted and delivered; its text is all there."""
    assert talk(world, message).startswith(b"250")
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    delivered = world.delivered()[0].message
    if message is not EMPTY:
        assert b">x</a>" in delivered
    assert (b"X-B\xe9d: caf\xe9" in delivered) == (message is RAW_HEADER)


def test_30_mb_goes_through_unchanged(
    make_world: Callable[..., World], ask: Callable[..., list[tuple[Any, ...]]]
) -> None:
    """A 30 MB message is delivered as it came and recorded as too large."""
    world = make_world(main={"message_size_limit": "0", "mailbox_size_limit": "0"})
    filler = (b"<p>" + b"x" * 70 + b"</p>\r\n") * (30_000_000 // 79)
    message = HEAD + b"Content-Type: text/html\r\n\r\n" + filler + HTML

    assert talk(world, message).startswith(b"250")
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    delivered = world.delivered()[0].message.rstrip(b"\n")
    assert delivered.endswith(message.replace(b"\r\n", b"\n").rstrip(b"\n"))
    assert ask(world, "SELECT untracked_reason FROM messages") == [("too-large",)]


def test_helo_that_is_not_utf8(make_world: Callable[..., World]) -> None:
    """A HELO in Latin-1, where Postfix takes one, costs nothing: the mail is rewritten and delivered."""
    world = make_world(main={"smtputf8_enable": "no"})
    assert talk(world, mails.newsletter(1, "ada@accept.test"), helo=b"caf\xe9.test").startswith(b"250")
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 1)

    assert b"X-Postwake-ID" in world.delivered()[0].message


def test_many_messages_in_one_connection(world: World, send: Callable[..., None]) -> None:
    """Messages of one connection do not leak into one another, also after one that was given up half-way."""
    with socket.create_connection(("127.0.0.1", world.postfix.port), 60) as connection:
        stream = connection.makefile("rwb")

        def command(line: bytes) -> bytes:
            stream.write(line + b"\r\n")
            stream.flush()
            while True:
                reply = stream.readline()
                if reply[3:4] != b"-":
                    return reply

        stream.readline()
        command(b"EHLO client.test")
        for number, recipient in enumerate(("ada@accept.test", "bo@accept.test"), 1):
            command(b"MAIL FROM:<given-up@example.com>")
            command(b"RCPT TO:<nobody@accept.test>")
            command(b"RSET")
            command(b"MAIL FROM:<news@example.com>")
            command(b"RCPT TO:<" + recipient.encode() + b">")
            command(b"DATA")
            message = mails.newsletter(number, recipient).replace(b"\r\n.", b"\r\n..")
            assert command(message + b"\r\n.").startswith(b"250")
    world.services.settle("SELECT count(*) FROM deliveries WHERE state = 'sent'", 2)
    world.services.settle("SELECT count(*) FROM messages WHERE sender = 'news@example.com' AND links = 5", 2)
    world.services.settle("SELECT count(*) FROM messages", 2)
