"""Times and volumes as kubectl shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from taskctl.clock import parse_time

UNKNOWN: Final = "<unknown>"


def human_duration(seconds: float) -> str:
    """Format a duration with two or three significant figures.

    The steps are those of k8s.io/apimachinery ``pkg/util/duration`` (HumanDuration).
    """
    if seconds <= -2:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    whole = int(seconds)
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 24 * 8:
        return _pair(days, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{days}d"
    years = days // 365
    if hours < 24 * 365 * 8:
        return _pair(years, "y", days % 365, "d")
    return f"{years}y"


def _pair(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large}{unit}{small}{small_unit}" if small else f"{large}{unit}"


def since(moment: Any, now: datetime) -> str:
    """Return the age of an RFC 3339 time; ``<unknown>`` when there is none."""
    if not moment:
        return UNKNOWN
    try:
        return human_duration((now - parse_time(str(moment))).total_seconds())
    except ValueError:
        return "<invalid>"
