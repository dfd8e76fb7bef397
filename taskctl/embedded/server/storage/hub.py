"""Fan-out of events to watchers.

An event costs the watchers it concerns, not all of them: watchers that select one value of a
field (each worker watches the tasks of its own pod) are found through an index.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.refusals.errors import Resource
from taskctl.embedded.server.storage.records import Event, EventType, Record
from taskctl.embedded.server.storage.selectors import Selector

log = logging.getLogger(__name__)

QUEUE_LIMIT_EVENTS: Final = 10_000
QUEUE_LIMIT_BYTES: Final = 32 * 1024 * 1024
# Each watch may hold some 200 KiB that its client does not read.
WATCH_LIMIT: Final = 2_000
_RETRY_S: Final = 5


class Sight(StrEnum):
    """What a watcher is shown of an event, given its selector."""

    ADDED = "ADDED"  # new, or matches now and did not before
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    LEFT = "LEFT"  # no longer matches: shown as DELETED, with the state that did match


class Change(Protocol):
    """What is to be known of an event to tell who sees it: no texts."""

    @property
    def type(self) -> EventType:
        """What happened."""
        ...

    @property
    def record(self) -> Record:
        """The object after it."""
        ...

    @property
    def previous(self) -> Record | None:
        """The object before it."""
        ...


def classify(event: Change, namespace: str | None, selector: Selector) -> Sight | None:
    """Say what a watcher sees of ``event``; None for nothing."""
    record, previous = event.record, event.previous
    if namespace is not None and record.namespace != namespace:
        return None
    if selector.everything:
        return Sight(event.type.value)
    before = previous is not None and selector.matches(previous)
    if event.type is EventType.DELETED:
        return Sight.DELETED if before else None
    if selector.matches(record):
        return Sight.MODIFIED if before else Sight.ADDED
    return Sight.LEFT if before else None


class WatchEnd(StrEnum):
    """Why the server ended a watch early."""

    SLOW = "slow"  # the client does not read as fast as things happen
    STOPPED = "stopped"  # the server stops, or the resource is gone


@dataclass(eq=False, slots=True)
class Watcher:
    """One client's watch: what it selects, and what it has not been sent yet.

    Attributes:
        resource: the collection.
        namespace: None for all.
        selector: what must match.
        on_slow: called once when the backlog passes its limit.
        pending: events to send, oldest first.
        wake: set when ``pending`` or ``ended`` changes.
        ended: why the server ends the watch, or None.
    """

    resource: Resource
    namespace: str | None
    selector: Selector
    on_slow: Callable[[], None] = lambda: None
    pending: deque[tuple[Sight, Event, int]] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: WatchEnd | None = None
    backlog_bytes: int = 0

    def offer(self, event: Event) -> None:
        """Queue the event if the watcher is to see it."""
        if self.ended is not None:
            return
        sight = classify(event, self.namespace, self.selector)
        if sight is None:
            return
        size_bytes = event.size_bytes
        self.pending.append((sight, event, size_bytes))
        self.backlog_bytes += size_bytes
        if len(self.pending) > QUEUE_LIMIT_EVENTS or self.backlog_bytes > QUEUE_LIMIT_BYTES:
            log.warning(
                "cutting off a watch of %s: %d events are waiting to be read",
                self.resource.qualified,
                len(self.pending),
            )
            self.end(WatchEnd.SLOW)
            self.on_slow()
        else:
            self.wake.set()

    def take(self, limit_bytes: int = sys.maxsize) -> list[tuple[Sight, Event]]:
        """Return and forget what is queued: at least one event, then as many as fit the limit.

        The rest stays in the queue, where it counts as backlog.
        """
        taken: list[tuple[Sight, Event]] = []
        taken_bytes = 0
        while self.pending and taken_bytes < limit_bytes:
            sight, event, size_bytes = self.pending.popleft()
            self.backlog_bytes -= size_bytes
            taken_bytes += len(event.record.raw)
            taken.append((sight, event))
        return taken

    def end(self, why: WatchEnd) -> None:
        """Tell the stream to finish. A slow watcher's backlog is dropped."""
        self.ended = why
        if why is WatchEnd.SLOW:
            self.pending.clear()
            self.backlog_bytes = 0
        self.wake.set()


class _Audience:
    """The watchers of one collection."""

    def __init__(self) -> None:
        self.general: set[Watcher] = set()
        self.pinned: dict[str, dict[str, set[Watcher]]] = {}

    def add(self, watcher: Watcher) -> None:
        pin = watcher.selector.pinned_field()
        if pin is None:
            self.general.add(watcher)
        else:
            self.pinned.setdefault(pin[0], {}).setdefault(pin[1], set()).add(watcher)

    def discard(self, watcher: Watcher) -> None:
        pin = watcher.selector.pinned_field()
        if pin is None:
            self.general.discard(watcher)
            return
        by_value = self.pinned.get(pin[0], {})
        group = by_value.get(pin[1])
        if group is not None:
            group.discard(watcher)
            if not group:
                del by_value[pin[1]]
                if not by_value:
                    del self.pinned[pin[0]]

    def concerned(self, event: Event) -> list[Watcher]:
        found = list(self.general)
        for name, by_value in self.pinned.items():
            now = event.record.fields.get(name, "")
            found.extend(by_value.get(now, ()))
            if event.previous is not None:
                before = event.previous.fields.get(name, "")
                if before != now:
                    found.extend(by_value.get(before, ()))
        return found

    def everyone(self) -> list[Watcher]:
        return [
            *self.general,
            *(w for by_value in self.pinned.values() for group in by_value.values() for w in group),
        ]


class Hub:
    """All watchers."""

    def __init__(self) -> None:
        self._audiences: dict[Resource, _Audience] = {}
        self._watchers: set[Watcher] = set()

    def publish(self, event: Event) -> None:
        """Queue an event for the watchers that are to see it. A listener of the store."""
        audience = self._audiences.get(event.record.resource)
        if audience is not None:
            for watcher in audience.concerned(event):
                watcher.offer(event)

    def add(self, watcher: Watcher) -> None:
        """Start queueing for a watcher.

        Raises:
            errors.StatusError: 429, too many watches are open.
        """
        if len(self._watchers) >= WATCH_LIMIT:
            raise errors.too_many_requests(
                f"too many watches are open; the limit is {WATCH_LIMIT}", _RETRY_S
            )
        self._watchers.add(watcher)
        self._audiences.setdefault(watcher.resource, _Audience()).add(watcher)

    def discard(self, watcher: Watcher) -> None:
        """Stop queueing for a watcher."""
        self._watchers.discard(watcher)
        audience = self._audiences.get(watcher.resource)
        if audience is not None:
            audience.discard(watcher)

    def end(self, resource: Resource | None = None) -> None:
        """End the watches of one collection, or all of them."""
        for key, audience in self._audiences.items():
            if resource is None or key == resource:
                for watcher in audience.everyone():
                    watcher.end(WatchEnd.STOPPED)

    def count(self) -> int:
        """Return the number of open watches."""
        return len(self._watchers)
