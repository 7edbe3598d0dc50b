"""Envelopes and handlers for the tests of the milter's pure parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postwake import config as configuration
from postwake.tokens import KeyRing
from postwake_milter.handle import Envelope, Handler
from postwake_milter.policy import Origin

AT_US = 1_790_000_000_000_000
RING = KeyRing({1: b"k" * 32})


@pytest.fixture
def ring() -> KeyRing:
    """The keys that handlers made here sign with."""
    return RING


@pytest.fixture
def make_handler() -> Callable[..., Handler]:
    """Make a handler; sections are given as keyword arguments."""

    def make(**sections: dict[str, Any]) -> Handler:
        tracking = {
            "url": "https://track.example.com",
            "sender_domains": ["example.com", "news.example.com"],
            **sections.pop("tracking", {}),
        }
        return Handler(configuration.parse({"tracking": tracking, **sections}, "test"), RING)

    return make


@pytest.fixture
def make_envelope() -> Callable[..., Envelope]:
    """Make an envelope of an HTML mail with one link; *fields* are added before its own."""

    def make(
        *fields: tuple[bytes, bytes],
        sender: str = "news@example.com",
        recipients: tuple[str, ...] = ("ada@accept.test",),
        origin: Origin | None = None,
        header_from: bytes = b" Example <news@example.com>",
        body: bytes = b'<html><body><a href="https://shop.example.net/x">x</a></body></html>\r\n',
        body_skipped: str | None = None,
        **_: Any,
    ) -> Envelope:
        own = (
            (b"From", header_from),
            (b"Subject", b" =?utf-8?q?Gr=C3=BC=C3=9Fe?="),
            (b"Message-ID", b" <1@example.com>"),
            (b"Content-Type", b" text/html; charset=utf-8"),
        )
        return Envelope(
            at_us=AT_US,
            tracking_id=bytes(range(16)),
            queue_id="4Q1",
            host="mx.example.com",
            sender=sender,
            recipients=recipients,
            origin=origin or Origin("127.0.0.1"),
            client="localhost[127.0.0.1]",
            fields=[*fields, *own],
            body=b"" if body_skipped else body,
            body_skipped=body_skipped,
            size_bytes=len(body),
        )

    return make
