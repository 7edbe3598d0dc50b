"""Tracking IDs."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake.tracking_id import format_tracking_id, made_at_us, make_tracking_id, parse_tracking_id

times = st.integers(0, 2**48 * 1000 - 1)


@given(times, st.binary(min_size=10, max_size=20))
def test_uuid_version_7(at_us: int, entropy: bytes) -> None:
    """An ID is a UUID of version 7 and RFC 9562's variant, and tells when it was made, to the millisecond."""
    made = make_tracking_id(at_us, entropy)
    as_uuid = uuid.UUID(bytes=made)
    assert (as_uuid.version, as_uuid.variant) == (7, uuid.RFC_4122)
    assert made_at_us(made) == at_us - at_us % 1000
    assert parse_tracking_id(format_tracking_id(made)) == made
    assert parse_tracking_id(f" {made.hex().upper()}\n") == made


@given(times, times)
def test_later_sorts_later(a_us: int, b_us: int) -> None:
    """IDs of different milliseconds sort as the times do."""
    a, b = make_tracking_id(a_us, b"\xff" * 10), make_tracking_id(b_us, bytes(10))
    if a_us // 1000 < b_us // 1000:
        assert a < b


def test_too_little_entropy() -> None:
    """Fewer than 10 random bytes would make a short, guessable ID: ValueError."""
    with pytest.raises(ValueError, match="9 bytes of entropy"):
        make_tracking_id(0, bytes(9))


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "g" * 32, "0" * 31 + "\u0661", "0" * 16 + "-" + "0" * 15])
def test_other_text(text: str) -> None:
    """Anything but 32 hexadecimal digits is None."""
    assert parse_tracking_id(text) is None
