"""The kept history of one collection: for watches that resume, and lists at an old revision."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from taskctl.embedded.server.storage.records import Event, EventType, Record
from taskctl.embedded.server.storage.versions import Chain, Reader

# Python's objects for one event: the event, its record without the text, numbers.
_EVENT_BYTES: Final = 700
_MAPPING_BYTES: Final = 240
_PAIR_BYTES: Final = 120


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much history to keep; whichever limit is reached first drops the oldest event.

    Attributes:
        max_age_s: seconds; etcd under Kubernetes is compacted after 5 minutes.
        max_events: number of events per collection.
        max_bytes: memory per collection.
        max_total_bytes: memory of all collections; past it the largest one gives way.
    """

    max_age_s: float = 300.0
    max_events: int = 20_000
    max_bytes: int = 64 * 1024 * 1024
    max_total_bytes: int = 96 * 1024 * 1024


@dataclass(eq=False, slots=True)
class Past:
    """An event of the history.

    Attributes:
        type: what happened.
        revision: the revision of the change.
        at_s: monotonic time of the change, seconds.
        record: the object after it, without its text.
        previous: the object before it, without its text; None for ADDED.
        chain: has the texts.
        index: of the text after the change; that before it is the one before.
        own_bytes: memory that the event takes beside its chain.
    """

    type: EventType
    revision: int
    at_s: float
    record: Record
    previous: Record | None
    chain: Chain
    index: int
    own_bytes: int

    def event(self, reader: Reader) -> Event:
        """Return the event with its texts."""
        previous = self.before(reader)
        record = replace(self.record, raw=reader.text(self.chain, self.index))
        return Event(self.type, self.revision, record, previous, self.at_s)

    def before(self, reader: Reader) -> Record | None:
        """Return the object as it was before the change."""
        if self.previous is None:
            return None
        return replace(self.previous, raw=reader.text(self.chain, self.index - 1))


class HistoryTotal:
    """What all logs of a store take together."""

    def __init__(self, limits: LogLimits) -> None:
        self._max_bytes = limits.max_total_bytes
        self.logs: set[EventLog] = set()
        self.size_bytes = 0

    def enforce(self) -> None:
        """Have the largest log drop events until all fit."""
        while self.size_bytes > self._max_bytes:
            largest = max(self.logs, key=lambda log: log.size_bytes)
            if not largest.drop_some():
                return


class EventLog:
    """Events of one collection in order of revision.

    Attributes:
        floor: the newest revision that can no longer be told apart from older ones: a watch may
            start at ``floor`` or later.
        size_bytes: memory that the history takes.
    """

    def __init__(self, limits: LogLimits, floor: int, total: HistoryTotal | None = None) -> None:
        self._limits = limits
        self._total = total or HistoryTotal(limits)
        self._total.logs.add(self)
        self._events: list[Past | None] = []
        self._revisions: list[int] = []
        self._start = 0
        self._open: dict[str, tuple[Chain, Record, bytes]] = {}
        self.floor = floor
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._events) - self._start

    def append(self, event: Event) -> None:
        """Add the newest event and drop what the limits no longer allow."""
        past = self._pack(event)
        self._events.append(past)
        self._revisions.append(past.revision)
        limits = self._limits
        self.expire(event.at_s)
        while len(self) > 1 and (
            self.size_bytes > limits.max_bytes or len(self) > limits.max_events
        ):
            self._drop_first()
        self._shrink()
        self._total.enforce()

    def expire(self, now_s: float) -> None:
        """Drop what is too old at ``now_s`` (monotonic seconds), but never the newest event."""
        oldest_allowed_s = now_s - self._limits.max_age_s
        while len(self) > 1 and self._first().at_s < oldest_allowed_s:
            self._drop_first()
        self._shrink()

    def drop_some(self) -> bool:
        """Drop the oldest tenth, to make room for others. Returns False if there was nothing."""
        count = min(len(self), max(1, len(self) // 10))
        for _ in range(count):
            self._drop_first()
        self._shrink()
        return count > 0

    def compact(self, revision: int) -> None:
        """Forget every event up to and including ``revision``."""
        while len(self) and self._first().revision <= revision:
            self._drop_first()
        self.floor = max(self.floor, revision)
        self._shrink()

    def texts_changed(self) -> None:
        """Take note that records got other texts without an event."""
        self._open.clear()

    def close(self) -> None:
        """Forget everything."""
        while len(self):
            self._drop_first()
        self._shrink()
        self._total.logs.discard(self)

    def since(self, revision: int) -> list[Past]:
        """Return the events after ``revision``, oldest first. ``revision`` must be >= floor."""
        first = bisect_right(self._revisions, revision, lo=self._start)
        return [past for past in self._events[first:] if past is not None]

    def rewound(
        self, current: Iterable[Record], namespace: str | None, revision: int
    ) -> list[Record]:
        """Return the objects as they were at ``revision``, by (namespace, name).

        Args:
            current: the objects as they are now, in that order.
            namespace: of the objects; None for all.
            revision: >= floor.
        """
        later = self.since(revision)
        if not later:
            return list(current)
        state: dict[tuple[str, str], Record | Past] = {one.sort_key: one for one in current}
        for past in reversed(later):
            key = past.record.sort_key
            if namespace is not None and key[0] != namespace:
                continue
            if past.previous is None:
                state.pop(key, None)
            else:
                state[key] = past
        reader = Reader()
        found = (state[key] for key in sorted(state))
        then = (one.before(reader) if isinstance(one, Past) else one for one in found)
        return [record for record in then if record is not None]

    def _pack(self, event: Event) -> Past:
        record, previous = event.record, event.previous
        bare = replace(record, raw=b"")
        chain, before = None, None
        held = self._open.pop(record.uid, None)
        if previous is not None:
            # The previous text must be the chain's newest: an object is also rewritten in place.
            if held is not None and held[2] is previous.raw and not held[0].full:
                chain, before = held[0], held[1]
            else:
                chain, before = Chain(previous.raw), replace(previous, raw=b"")
                self._add_bytes(chain.size_bytes)
        if chain is None:
            chain = Chain(record.raw)
            self._add_bytes(chain.size_bytes)
        elif previous is not None:
            size_bytes = chain.size_bytes
            chain.add(previous.raw, record.raw)
            self._add_bytes(chain.size_bytes - size_bytes)
        chain.users += 1
        own_bytes = _own_bytes(bare, before)
        self._add_bytes(own_bytes)
        if event.type is not EventType.DELETED:
            # The text is the stored object's, so keeping it here costs nothing.
            self._open[record.uid] = (chain, bare, record.raw)
        return Past(
            event.type, event.revision, event.at_s, bare, before, chain, chain.last, own_bytes
        )

    def _first(self) -> Past:
        first = self._events[self._start]
        assert first is not None
        return first

    def _drop_first(self) -> None:
        past = self._first()
        self._events[self._start] = None  # the list itself is cut later, in large steps
        self._start += 1
        past.chain.users -= 1
        self._add_bytes(-past.own_bytes)
        if not past.chain.users:
            self._add_bytes(-past.chain.size_bytes)
            held = self._open.get(past.record.uid)
            if held is not None and held[0] is past.chain:
                del self._open[past.record.uid]
        self.floor = max(self.floor, past.revision)

    def _add_bytes(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self._total.size_bytes += size_bytes

    def _shrink(self) -> None:
        # Cutting the list's head costs its length, so it is done in large steps.
        if self._start > 1024 and self._start * 2 > len(self._events):
            del self._events[: self._start]
            del self._revisions[: self._start]
            self._start = 0


def _own_bytes(record: Record, before: Record | None) -> int:
    """Return what an event takes beside its text; what it shares with the one before is free."""
    size_bytes = _EVENT_BYTES
    if before is None:
        size_bytes += sum(map(len, (record.namespace, record.name, record.uid))) + 3 * 49
    for name in ("labels", "fields", "server_fields"):
        mapping: Mapping[str, Any] = getattr(record, name)
        if mapping and (before is None or mapping is not getattr(before, name)):
            size_bytes += _MAPPING_BYTES + sum(
                _PAIR_BYTES + len(key) + len(str(value)) for key, value in mapping.items()
            )
    return size_bytes
