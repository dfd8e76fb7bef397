"""Clocks that tests move by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 1, tzinfo=UTC)


class SetClock:
    """The wall clock and the monotonic one, each moved by hand."""

    def __init__(self, start: datetime = START) -> None:
        self.wall, self.elapsed_s = start, 100.0

    def now(self) -> datetime:
        return self.wall

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def pass_s(self, seconds: float) -> None:
        """Let time pass, as both clocks see it."""
        self.wall += timedelta(seconds=seconds)
        self.elapsed_s += seconds
