"""Timestamps and durations of CEL, after cel-go ``common/types`` (timestamp.go, duration.go)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import cel

from taskctl.clock import parse_time
from taskctl.embedded.server.cel.types import NO_OVERLOAD, EvaluationError

_OFFSET: Final = re.compile(r"([+-]?)(\d{1,2}):(\d{2})", re.ASCII)
_SECOND: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_DURATION: Final = cel.compile("duration(text)")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(value: Any) -> datetime:
    """Convert a text (RFC 3339) or seconds since 1970.

    Raises:
        ValueError: it is neither.
    """
    match value:
        case datetime():
            return value
        case str():
            return parse_time(value)
        case int() if type(value) is int:
            return _EPOCH + timedelta(seconds=value)
    raise EvaluationError(NO_OVERLOAD)


def duration(value: Any) -> timedelta:
    """Convert a text such as ``1h30m``, as Go's ParseDuration does, or nanoseconds.

    Raises:
        ValueError: it is neither.
    """
    match value:
        case timedelta():
            return value
        case str():
            found = _DURATION.execute({"text": value})
            if isinstance(found, timedelta):
                return found
            raise ValueError(f"{value!r} is not a duration")
        case int() if type(value) is int:
            return timedelta(microseconds=value / 1000)
    raise EvaluationError(NO_OVERLOAD)


def seconds_of(moment: datetime) -> int:
    """Return the seconds since 1970, rounded down."""
    return (moment - _EPOCH) // _SECOND


def nanoseconds_of(span: timedelta) -> int:
    """Return a duration's nanoseconds."""
    return span // _MICROSECOND * 1000


def _fraction(micros: int) -> str:
    return f".{micros:06d}".rstrip("0") if micros else ""


def show_moment(moment: datetime) -> str:
    """Return a timestamp as text, as Go's RFC3339Nano does."""
    moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + _fraction(moment.microsecond) + "Z"


def show_span(span: timedelta) -> str:
    """Return a duration as text: its seconds, with ``s``."""
    sign = "-" if span < timedelta(0) else ""
    whole, rest = divmod(abs(span) // _MICROSECOND, 1_000_000)
    return f"{sign}{whole}{_fraction(rest)}s"


def _zone(name: str) -> tzinfo:
    if (found := _OFFSET.fullmatch(name)) is not None:
        sign, hours, minutes = found.groups()
        span = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-span if sign == "-" else span)
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise EvaluationError(f"unknown time zone {name}") from error


def _whole(span: timedelta, unit: timedelta) -> int:
    whole = abs(span) // unit
    return whole if span >= timedelta(0) else -whole


def _getter(
    of_moment: Callable[[datetime], int], unit: timedelta | None = None
) -> Callable[..., int]:
    def get(value: Any, *zone: Any) -> int:
        if isinstance(value, datetime) and len(zone) < 2:
            return of_moment(value.astimezone(_zone(zone[0]) if zone else UTC))
        if isinstance(value, timedelta) and unit is not None and not zone:
            return _whole(value, unit)
        raise EvaluationError(NO_OVERLOAD)

    return get


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "timestamp": timestamp,
    "duration": duration,
    "getFullYear": _getter(lambda at: at.year),
    "getMonth": _getter(lambda at: at.month - 1),
    "getDate": _getter(lambda at: at.day),
    "getDayOfMonth": _getter(lambda at: at.day - 1),
    "getDayOfWeek": _getter(lambda at: at.isoweekday() % 7),
    "getDayOfYear": _getter(lambda at: at.timetuple().tm_yday - 1),
    "getHours": _getter(lambda at: at.hour, timedelta(hours=1)),
    "getMinutes": _getter(lambda at: at.minute, timedelta(minutes=1)),
    "getSeconds": _getter(lambda at: at.second, _SECOND),
    "getMilliseconds": _getter(lambda at: at.microsecond // 1000, timedelta(milliseconds=1)),
}
