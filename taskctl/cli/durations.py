"""Times and durations for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from taskctl.api.states import TaskState
from taskctl.cli.exits import UsageError
from taskctl.policy.view import TaskView, time_or_none

_MAX_S: Final = 2**31 - 1  # that of fields which hold seconds
_NUMBER: Final = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_PART: Final = re.compile(rf"({_NUMBER})(ns|us|µs|ms|s|m|h)")
_DURATION: Final = re.compile(rf"{_NUMBER}|(?:{_PART.pattern})+")


def parse_seconds(text: str, option: str) -> float:
    """Return the seconds in ``90``, ``1.5``, or a duration as kubectl takes it, ``1m30s``.

    Args:
        text: as typed.
        option: for the error.

    Raises:
        UsageError: it is neither, or is longer than 2^31 - 1 seconds.
    """
    if _DURATION.fullmatch(text, endpos=100) is None or len(text) > 100:
        raise UsageError(
            f"{option} {text!r} must be seconds or a duration, 0 or more: 90, 0.5, 30s, 1h30m"
        )
    parts = _PART.findall(text)
    value = sum((float(n) * _UNITS_S[unit] for n, unit in parts), 0.0) if parts else float(text)
    if value > _MAX_S:
        raise UsageError(f"{option} {text!r} must be at most {_MAX_S} seconds")
    return value


def parse_whole_seconds(text: str, option: str) -> int:
    """Return :func:`parse_seconds` where a fraction has no place, and 0 no meaning.

    Raises:
        UsageError: it is not a duration, has a fraction of a second, or is 0.
    """
    value = parse_seconds(text, option)
    if not value.is_integer() or value < 1:
        raise UsageError(f"{option} {text!r} must be whole seconds, 1 or more")
    return int(value)


def short_age(seconds: float) -> str:
    """Write an age as kubectl does (HumanDuration): 45s, 3m12s, 5h, 2d4h."""
    total = max(0, int(seconds))
    if total < 120:
        return f"{total}s"
    minutes, s = divmod(total, 60)
    if minutes < 10:
        return f"{minutes}m{s}s" if s else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, m = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{m}m" if m else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days, h = divmod(hours, 24)
    return f"{days}d{h}h" if days < 8 and h else f"{days}d"


def precise(seconds: float) -> str:
    """Write a duration with about three digits: 0.4 ms, 71 ms, 1.25 s, 3m12s."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return short_age(seconds)


def between_s(start: datetime | None, end: datetime | None) -> float | None:
    """Return the seconds from ``start`` to ``end``; None where one is unknown.

    Never negative: the times come from two clocks, which may differ by a little.
    """
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds())


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value at ``share`` (0..1) of the sorted values, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def moment(view: TaskView, name: str) -> datetime | None:
    """Return one of ``status.times``, or None."""
    return time_or_none((view.status.get("times") or {}).get(name))


def run_s(view: TaskView, now: datetime) -> float | None:
    """Return how long the latest attempt ran, or has been running."""
    start = moment(view, "userCode") or moment(view, "started")
    if view.state is TaskState.RUNNING:
        return between_s(start, now)
    return between_s(start, moment(view, "exited")) if view.state.terminal else None
