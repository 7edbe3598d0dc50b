"""Stamps: the year that is not there, the zone that is not there, the hour that comes twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postwake.errors import ConfigError
from postwake_logparse.stamp import StampReader


def us(text: str) -> int:
    """An ISO 8601 time in microseconds since 1970."""
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def reader(reference: str = "2026-07-01T00:00:00+00:00", **options: object) -> StampReader:
    """A reader in UTC whose reference is the middle of 2026, unless told otherwise."""
    options.setdefault("timezone", "UTC")
    return StampReader(reference_us=us(reference), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        pytest.param("Mar  5 06:52:01", "2026-03-05T06:52:01+00:00", id="traditional"),
        pytest.param("Mar 15 06:52:01", "2026-03-15T06:52:01+00:00", id="traditional-two-digit-day"),
        pytest.param("Nov 22 23:59:59", "2025-11-22T23:59:59+00:00", id="traditional-later-than-now-is-last-year"),
        pytest.param("2026-03-05T06:52:01.257375+01:00", "2026-03-05T05:52:01.257375+00:00", id="rfc3339-microseconds"),
        pytest.param("2026-03-05T06:52:01+01:00", "2026-03-05T05:52:01+00:00", id="rfc3339-no-fraction"),
        pytest.param("2026-03-05T06:52:01Z", "2026-03-05T06:52:01+00:00", id="rfc3339-zulu"),
        pytest.param("2026-03-05T06:52:01.5Z", "2026-03-05T06:52:01.500000+00:00", id="rfc3339-tenths"),
        pytest.param(
            "2026-03-05T06:52:01.123456789-05:30", "2026-03-05T12:22:01.123456+00:00", id="rfc3339-nanoseconds"
        ),
        pytest.param("2026-03-05 06:52:01", "2026-03-05T06:52:01+00:00", id="exim"),
        pytest.param("2026-03-05 06:52:01.447", "2026-03-05T06:52:01.447000+00:00", id="exim-milliseconds"),
        pytest.param("2026-03-05 06:52:01 +0100", "2026-03-05T05:52:01+00:00", id="exim-zone"),
        pytest.param("2026-03-05 06:52:01.447 -0800", "2026-03-05T14:52:01.447000+00:00", id="exim-milliseconds-zone"),
        pytest.param("Mar  5 06:52:01.257375", "2026-03-05T06:52:01.257375+00:00", id="traditional-microseconds"),
        pytest.param("Mar 5 06:52:01", "2026-03-05T06:52:01+00:00", id="traditional-day-of-one-character"),
        pytest.param("Mar 05 06:52:01", "2026-03-05T06:52:01+00:00", id="traditional-day-with-a-zero"),
        pytest.param("1772693521.257375", "2026-03-05T06:52:01.257375+00:00", id="unix"),
        pytest.param("2026-03-05 06:52:01Z", "2026-03-05T06:52:01+00:00", id="space-zulu"),
        pytest.param("2026-06-30T23:59:60Z", "2026-07-01T00:00:00+00:00", id="leap-second"),
    ],
)
def test_every_form_of_stamp_is_read(stamp: str, expected: str) -> None:
    """A stamp is one moment in UTC, to the microsecond it was written with, on first sight and when remembered."""
    clock = reader()
    assert clock.at_us(stamp) == us(expected)
    assert clock.at_us(stamp) == us(expected)


@pytest.mark.parametrize(
    "stamp",
    [
        "Feb 30 10:00:00",
        "Foo  1 10:00:00",
        "Mar  5 24:00:00",
        "Mar  5 10:61:00",
        "2026-13-01T00:00:00Z",
        "",
        "yesterday",
    ],
)
def test_what_is_no_time_is_none(stamp: str) -> None:
    """A text of a stamp's shape that names no time is None, not an exception and not a guess."""
    assert reader().at_us(stamp) is None


def test_new_year_rolls_over_in_file_order() -> None:
    """December followed by January is the next year, with the reference after both."""
    clock = reader("2026-01-10T00:00:00+00:00")
    assert clock.at_us("Dec 31 23:59:59") == us("2025-12-31T23:59:59+00:00")
    assert clock.at_us("Jan  1 00:00:01") == us("2026-01-01T00:00:01+00:00")


def test_a_late_december_line_after_new_year_does_not_jump_a_year() -> None:
    """A line out of order across New Year goes back to the old year, and the next one comes back to the new."""
    clock = reader("2026-01-10T00:00:00+00:00")
    clock.at_us("Dec 31 23:59:58")
    assert clock.at_us("Jan  1 00:00:01") == us("2026-01-01T00:00:01+00:00")
    assert clock.at_us("Dec 31 22:10:00") == us("2025-12-31T22:10:00+00:00")
    assert clock.at_us("Jan  1 00:00:02") == us("2026-01-01T00:00:02+00:00")


def test_a_line_an_hour_late_stays_in_its_year() -> None:
    """Small disorder in the middle of the year changes nothing but the hour."""
    clock = reader()
    clock.at_us("Mar  5 10:00:00")
    assert clock.at_us("Mar  5 08:30:00") == us("2026-03-05T08:30:00+00:00")


def test_a_quiet_server_crosses_the_year_after_months_of_silence() -> None:
    """A gap of eight months over New Year is a step forward, not back."""
    clock = reader("2026-07-01T00:00:00+00:00", last_us=us("2025-08-20T10:00:00+00:00"))
    assert clock.at_us("Apr 20 10:00:00") == us("2026-04-20T10:00:00+00:00")


def test_a_line_older_than_the_tolerance_is_old_and_not_from_the_future() -> None:
    """A line a month out of order does not become one of next year when next year has not come."""
    clock = reader("2026-07-01T00:00:00+00:00", last_us=us("2026-06-30T10:00:00+00:00"))
    assert clock.at_us("May 20 10:00:00") == us("2026-05-20T10:00:00+00:00")


def test_three_years_in_one_file_from_a_given_first_year() -> None:
    """--year gives the first line's year; each further New Year counts on from it."""
    clock = reader(year=2019)
    seen = [
        clock.at_us(stamp) for stamp in ("Nov  1 00:00:00", "Mar  1 00:00:00", "Dec  1 00:00:00", "Jan  2 00:00:00")
    ]
    assert seen == [us(f"{day}T00:00:00+00:00") for day in ("2019-11-01", "2020-03-01", "2020-12-01", "2021-01-02")]


def test_leap_day_finds_its_year() -> None:
    """29 February is of the last year that had one."""
    assert reader("2026-07-01T00:00:00+00:00").at_us("Feb 29 12:00:00") == us("2024-02-29T12:00:00+00:00")


def test_the_state_is_the_newest_time_and_goes_on_in_a_new_reader() -> None:
    """A reader that is given another's ``last_us`` goes on where that one stopped, years and all."""
    first = reader(year=2019)
    first.at_us("Dec 31 23:59:59")
    second = reader(last_us=first.last_us)
    assert second.at_us("Jan  1 00:00:01") == us("2020-01-01T00:00:01+00:00")


def test_the_repeated_hour_is_first_the_summer_one_then_the_winter_one() -> None:
    """When the clock goes back, a stamp that would run backwards is of the second hour."""
    clock = reader("2026-12-01T00:00:00+00:00", timezone="Europe/Berlin")
    stamps = (
        "Oct 25 01:59:59",
        "Oct 25 02:00:01",
        "Oct 25 02:59:58",
        "Oct 25 02:00:02",
        "Oct 25 02:30:00",
        "Oct 25 03:00:00",
    )
    expected = ("24T23:59:59", "25T00:00:01", "25T00:59:58", "25T01:00:02", "25T01:30:00", "25T02:00:00")
    assert [clock.at_us(stamp) for stamp in stamps] == [us(f"2026-10-{text}+00:00") for text in expected]


def test_small_disorder_in_the_repeated_hour_is_not_the_second_hour() -> None:
    """A line a few seconds out of order in the first of the two hours stays in it."""
    clock = reader("2026-12-01T00:00:00+00:00", timezone="Europe/Berlin")
    clock.at_us("Oct 25 02:10:10")
    assert clock.at_us("Oct 25 02:10:05") == us("2026-10-25T00:10:05+00:00")


def test_the_hour_that_is_left_out_is_read_with_the_old_offset() -> None:
    """A stamp inside the spring gap (a clock set late) is read as if the clock had not been changed."""
    clock = reader("2026-12-01T00:00:00+00:00", timezone="Europe/Berlin")
    assert clock.at_us("Mar 29 02:30:00") == us("2026-03-29T01:30:00+00:00")
    assert clock.at_us("Mar 29 03:00:00") == us("2026-03-29T01:00:00+00:00")


def test_the_same_hour_a_year_later_is_not_remembered_from_last_year() -> None:
    """One line a month for two years: what was converted once is not reused for the same date of the next year."""
    clock = reader("2026-12-01T00:00:00+00:00", year=2024)
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    seen = [clock.at_us(f"{month}  1 00:00:00") for _ in range(2) for month in months]
    expected = [
        int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 10**6 for year in (2024, 2025) for month in range(1, 13)
    ]
    assert seen == expected


def test_an_unknown_zone_is_refused_by_name() -> None:
    """A time zone that does not exist is a configuration error that names it."""
    with pytest.raises(ConfigError, match="Europe/Nowhere"):
        reader(timezone="Europe/Nowhere")


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2026, 6, 1)),  # noqa: DTZ001 (hypothesis wants them naive)
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
)
def test_rfc3339_round_trips(moment: datetime, zone: str) -> None:
    """An RFC 3339 stamp carries its zone: the reader's own does not matter."""
    aware = moment.replace(tzinfo=UTC)
    assert reader(timezone=zone).at_us(aware.isoformat(timespec="microseconds")) == round(aware.timestamp() * 10**6)


@given(st.lists(st.integers(0, 6 * 86_400), min_size=1, max_size=60))
def test_traditional_stamps_in_order_give_back_their_times(steps: list[int]) -> None:
    """Any increasing series of times with gaps below a week is read back from stamps without a year."""
    at_s = int(datetime(2023, 12, 20, tzinfo=UTC).timestamp())
    clock = reader("2026-12-31T00:00:00+00:00", year=2023)
    for step in steps:
        at_s += step
        moment = datetime.fromtimestamp(at_s, tz=UTC)
        assert clock.at_us(f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}") == at_s * 10**6


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever stands where a stamp should be: a time or None."""
    assert isinstance(reader().at_us(text), int | None)
