"""When a log line was written: traditional syslog stamps, RFC 3339, and Exim's own, to microseconds UTC.

A traditional stamp (``Jul  5 06:52:01``, RFC 3164) has no year and no zone. The year follows from the file's own order:
a line is not more than :data:`BACKWARD_TOLERANCE_US` older than the newest before it, so the year is the first that
satisfies this; for the first line it is the last one that does not lie in the future of a reference time. A local time
that a clock change makes happen twice is the first of the two, unless that would run backwards.

Reading the clock of a busy log must cost next to nothing: an hour is converted once, and minutes and seconds are added.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import timezone as fixed_zone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from postwake.errors import ConfigError

US_PER_S = 1_000_000
DAY_US = 86_400 * US_PER_S

# How much older than the newest line before it a line may be without meaning a new year. syslog daemons that queue to
# disk deliver a weekend late; no one delivers half a year late.
BACKWARD_TOLERANCE_US = 7 * DAY_US
# How far in the future of the reference time a stamp may lie: clocks differ and zones are mistaken, by a day at most.
FUTURE_TOLERANCE_US = DAY_US
# Out of order within an hour that happens twice: less than this is disorder, more is the second time round.
REPEATED_HOUR_DISORDER_US = 300 * US_PER_S
# 29 February comes at least every eighth year (1896, 1904).
_LEAP_SEARCH_YEARS = 8

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
# "MM:SS" to microseconds; second 60 is a leap second.
_MINUTE_SECOND_US = {f"{m:02d}:{s:02d}": (m * 60 + s) * US_PER_S for m in range(60) for s in range(61)}

_TRADITIONAL = re.compile(r"([A-Z][a-z]{2}) ([ 0123]?\d) ([012]\d):(\d\d:\d\d)(?:[.,](\d{1,9}))?", re.ASCII)
_UNIX = re.compile(r"(\d{10})\.(\d{3,6})", re.ASCII)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ]([012]\d):(\d\d:\d\d)(?:[.,](\d{1,9}))?(?: ?(Z|z|[+-]\d\d:?\d\d))?", re.ASCII
)


class StampReader:
    """Reads the stamps of one log, in the order of its lines.

    ``reference_us``: a time before which the log was written (now, or the file's modification time); set it again as
    time passes when a log is followed. ``timezone``: the zone of stamps that name none, an IANA name; None is this
    machine's own zone. ``year``: the year of the log's first line, if it is known; the reference is then not consulted.

    ``last_us`` is the whole state: the newest time seen, good to the hour (exact in an hour that happens twice). Store
    it with the cursor and give it back as ``last_us`` to go on where one stopped.
    """

    __slots__ = ("_first_year", "_hours", "_trust_order", "_zone", "last_us", "reference_us")

    def __init__(
        self,
        *,
        reference_us: int,
        timezone: str | None = None,
        year: int | None = None,
        last_us: int | None = None,
    ) -> None:
        """Raise ConfigError for a time zone that does not exist."""
        self.reference_us = reference_us
        self.last_us = last_us
        self._first_year = year
        self._trust_order = year is not None
        self._zone: tzinfo | None = zone(timezone) if timezone is not None else None
        self._hours: dict[str, int] = {}

    def at_us(self, stamp: str) -> int | None:
        """The time of ``stamp`` in microseconds UTC; None if it is no time at all (month 13, 30 February)."""
        size = len(stamp)
        try:
            if size == 15:
                return self._hours[stamp[:9]] + _MINUTE_SECOND_US[stamp[10:]]
            if size == 32:  # rsyslog's 2026-11-22T04:27:10.257375+00:00
                return self._hours[stamp[:13] + stamp[26:]] + _MINUTE_SECOND_US[stamp[14:19]] + int(stamp[20:26])
            if size == 19:  # Exim's 2026-11-22 04:27:10
                return self._hours[stamp[:13]] + _MINUTE_SECOND_US[stamp[14:]]
        except (KeyError, ValueError):
            pass  # a new hour, or another form of the same length
        return self._read(stamp)

    def _read(self, stamp: str) -> int | None:
        try:
            if match := _TRADITIONAL.fullmatch(stamp):
                month = _MONTHS.get(match[1])
                minute_us = _MINUTE_SECOND_US.get(match[4])
                if month is None or minute_us is None:
                    return None
                at_us = self._traditional(stamp[:9], month, int(match[2]), int(match[3]), minute_us)
                return at_us if at_us is None else at_us + _fraction_us(match[5])
            if match := _ISO.fullmatch(stamp):
                return self._iso(match)
            if match := _UNIX.fullmatch(stamp):
                at_us = int(match[1]) * US_PER_S + _fraction_us(match[2])
                self._advance(at_us)
                return at_us
        except (ValueError, OverflowError):
            return None
        return None

    def _iso(self, match: re.Match[str]) -> int | None:
        year, month, day, hour, minute_second, fraction, offset = match.groups()
        minute_us = _MINUTE_SECOND_US.get(minute_second)
        if minute_us is None:
            return None
        fraction_us = _fraction_us(fraction)
        key = match.string[:13] + (offset or "")
        base_us = self._hours.get(key)
        if base_us is None:
            hour_start = datetime(int(year), int(month), int(day), int(hour))  # noqa: DTZ001 (zone applied below)
            if offset is None:
                return self._local(key, hour_start, minute_us) + fraction_us
            base_us = _utc_us(hour_start, _offset_zone(offset))
            self._remember(key, base_us)
        return base_us + minute_us + fraction_us

    def _traditional(self, key: str, month: int, day: int, hour: int, minute_us: int) -> int | None:
        base_us = self._hours.get(key)
        if base_us is not None:
            return base_us + minute_us
        hour_start = self._with_year(month, day, hour)
        return None if hour_start is None else self._local(key, hour_start, minute_us)

    def _with_year(self, month: int, day: int, hour: int) -> datetime | None:
        """The hour with its year; None if no year near has such a day."""
        if self.last_us is None and self._first_year is not None:
            return datetime(self._first_year, month, day, hour)  # noqa: DTZ001
        around_us = self.reference_us if self.last_us is None else self.last_us
        around_year = datetime.fromtimestamp(around_us / US_PER_S, tz=UTC).year
        candidates = []
        for year in range(around_year - _LEAP_SEARCH_YEARS, around_year + _LEAP_SEARCH_YEARS + 1):
            try:
                hour_start = datetime(year, month, day, hour)  # noqa: DTZ001
            except ValueError:
                continue
            candidates.append((_utc_us(hour_start, self._zone), hour_start))
        if not candidates:
            return None
        latest_us = self.reference_us + FUTURE_TOLERANCE_US
        past = [start for at_us, start in candidates if at_us <= latest_us]
        if self.last_us is None:
            return past[-1] if past else candidates[0][1]
        oldest_us = self.last_us - BACKWARD_TOLERANCE_US
        for at_us, hour_start in candidates:
            # An hour of slack: the newest time is known to the hour.
            if at_us + 3600 * US_PER_S >= oldest_us:
                if at_us <= latest_us or self._trust_order or not past:
                    return hour_start
                # The next such day lies in the future: the line is older than the tolerance, not from next year.
                return past[-1]
        return candidates[-1][1]

    def _local(self, key: str, hour_start: datetime, minute_us: int) -> int:
        """An hour of local time to UTC, remembered if nothing happens to the clock in it."""
        first_us = _utc_us(hour_start, self._zone)
        last_second = hour_start + timedelta(minutes=59, seconds=59)
        if first_us == _utc_us(hour_start.replace(fold=1), self._zone) and first_us + 3599 * US_PER_S == _utc_us(
            last_second, self._zone
        ) == _utc_us(last_second.replace(fold=1), self._zone):
            self._remember(key, first_us)
            return first_us + minute_us
        local = hour_start + timedelta(microseconds=minute_us)
        at_us = _utc_us(local, self._zone)
        again_us = _utc_us(local.replace(fold=1), self._zone)
        if self.last_us is not None and again_us > at_us and at_us < self.last_us - REPEATED_HOUR_DISORDER_US:
            at_us = again_us
        self._advance(at_us)
        return at_us

    def _remember(self, key: str, base_us: int) -> None:
        # Traditional stamps come round every year: what was remembered longer than the tolerance ago is forgotten.
        if self._hours and abs(base_us - next(iter(self._hours.values()))) > BACKWARD_TOLERANCE_US:
            self._hours.clear()
        self._hours[key] = base_us
        self._advance(base_us)

    def _advance(self, at_us: int) -> None:
        if self.last_us is None or at_us > self.last_us:
            self.last_us = at_us


def zone(name: str) -> ZoneInfo:
    """The time zone of that IANA name (``Europe/Berlin``, ``UTC``). Raises ConfigError if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"time zone {name!r} is not known: expected an IANA name such as Europe/Berlin or UTC"
        ) from error


def _fraction_us(digits: str | None) -> int:
    return int((digits + "00000")[:6]) if digits else 0


def _offset_zone(text: str) -> tzinfo:
    if text in "Zz":
        return UTC
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return fixed_zone(-offset if text[0] == "-" else offset)


def _utc_us(local: datetime, tz: tzinfo | None) -> int:
    """Naive local time in zone ``tz`` (None: this machine's zone) to microseconds UTC."""
    aware = local.replace(tzinfo=tz) if tz is not None else local.astimezone()
    return round(aware.timestamp()) * US_PER_S if not aware.microsecond else round(aware.timestamp() * US_PER_S)
