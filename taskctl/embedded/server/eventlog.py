"""The kept history of one collection: for watches that resume, and lists at an old revision."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter

from taskctl.embedded.server.records import Event

_REVISION = attrgetter("revision")


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much history to keep; whichever limit is reached first drops the oldest event.

    Attributes:
        max_age_s: seconds; etcd under Kubernetes is compacted after 5 minutes.
        max_events: number of events per collection.
        max_bytes: JSON bytes per collection.
    """

    max_age_s: float = 300.0
    max_events: int = 20_000
    max_bytes: int = 64 * 1024 * 1024


class EventLog:
    """Events of one collection in order of revision.

    Attributes:
        floor: the newest revision that can no longer be told apart from older ones: a watch may
            start at ``floor`` or later.
    """

    def __init__(self, limits: LogLimits, floor: int) -> None:
        self._limits = limits
        self._events: list[Event] = []
        self._start = 0
        self._bytes = 0
        self.floor = floor

    def append(self, event: Event) -> None:
        """Add the newest event and drop what the limits no longer allow."""
        self._events.append(event)
        self._bytes += event.size_bytes
        limits = self._limits
        oldest_allowed_s = event.at_s - limits.max_age_s
        while self._start < len(self._events) - 1 and (
            self._bytes > limits.max_bytes
            or len(self._events) - self._start > limits.max_events
            or self._events[self._start].at_s < oldest_allowed_s
        ):
            self._drop_first()
        self._shrink()

    def compact(self, revision: int) -> None:
        """Forget every event up to and including ``revision``."""
        while self._start < len(self._events) and self._events[self._start].revision <= revision:
            self._drop_first()
        self.floor = max(self.floor, revision)
        self._shrink()

    def since(self, revision: int) -> list[Event]:
        """Return the events after ``revision``, oldest first. ``revision`` must be >= floor."""
        first = bisect_right(self._events, revision, lo=self._start, key=_REVISION)
        return self._events[first:]

    def _drop_first(self) -> None:
        event = self._events[self._start]
        self._start += 1
        self._bytes -= event.size_bytes
        self.floor = max(self.floor, event.revision)

    def _shrink(self) -> None:
        # Cutting the list's head costs its length, so it is done in large steps.
        if self._start > 1024 and self._start * 2 > len(self._events):
            del self._events[: self._start]
            self._start = 0
