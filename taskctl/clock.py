"""The sole place where product code reads the time.

Policies and reconcilers take ``now`` or a :class:`Clock`, so a test can set it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Source of time."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on both clocks, for code that may look at neither.

    Attributes:
        wall: the wall clock's time, aware, in UTC.
        monotonic_s: seconds on the clock that never goes back.
    """

    wall: datetime
    monotonic_s: float

    @classmethod
    def of(cls, clock: Clock) -> Moment:
        """Return the present moment."""
        return cls(clock.now(), clock.monotonic_s())

    @classmethod
    def never(cls) -> Moment:
        """Return a moment before all others."""
        return cls(datetime.min.replace(tzinfo=UTC), float("-inf"))


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()


class SteadyClock:
    """The wall clock as it would be if it had not been set since this object was made.

    For moments that are only compared with each other, such as when to try again: they must not
    come an hour late because the wall clock was set back.

    Args:
        clock: source of time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start, self._start_s = clock.now(), clock.monotonic_s()

    def now(self) -> datetime:
        """Return the wall clock's time at the start, and what has passed since."""
        return self._start + timedelta(seconds=self.monotonic_s() - self._start_s)

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        return self._clock.monotonic_s()


def format_micro(moment: datetime) -> str:
    """Format as Kubernetes' MicroTime: RFC 3339, UTC, six decimals."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def format_seconds(moment: datetime) -> str:
    """Format as Kubernetes' Time: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Parse RFC 3339, with or without a fraction.

    Raises:
        ValueError: the text is not RFC 3339.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; RFC 3339 needs one, for example a trailing Z")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
