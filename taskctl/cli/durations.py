"""Times and durations for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime


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
