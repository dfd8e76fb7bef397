"""Moments that other clocks tell, by the monotonic clock."""

from __future__ import annotations

from datetime import datetime

from taskctl.clock import Moment
from taskctl.policy.podview import PodView


def past_s(stamp: datetime | None, now: Moment) -> float:
    """Return a past moment by the monotonic clock; what lies ahead is the fault of a clock."""
    ago_s = 0.0 if stamp is None else (now.wall - stamp).total_seconds()
    return now.monotonic_s - max(ago_s, 0.0)


def deadline_s(pod: PodView, now: Moment) -> float:
    """Return the end of a pod's grace by the monotonic clock; it is no further off than that."""
    if pod.deletion is None:
        return now.monotonic_s
    return now.monotonic_s - max((now.wall - pod.deletion).total_seconds(), -pod.grace_s)
