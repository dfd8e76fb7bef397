"""Writes that are in memory already, but could not be stored when they were made."""

from __future__ import annotations

from collections.abc import Callable

from taskctl.embedded.server.storage.journal import Journal
from taskctl.embedded.server.storage.records import Event, EventType


class Unsaved:
    """Keeps such writes in order; they are stored before anything else is.

    Args:
        journal: where to.
        tell: tells listeners of an event, which they hear of only once it is stored.
    """

    def __init__(self, journal: Journal, tell: Callable[[Event], None]) -> None:
        self._journal = journal
        self._tell = tell
        self._events: list[tuple[Event, bool]] = []

    def add(self, event: Event, *, tell: bool = True) -> None:
        """Keep a write; ``tell``: listeners do not know of it yet."""
        self._events.append((event, tell))

    def save(self) -> None:
        """Store what there is, in one transaction; raises what the journal raises."""
        if not self._events:
            return
        self._journal.begin()
        try:
            for event, _ in self._events:
                if event.type is EventType.DELETED:
                    self._journal.remove(event.record)
                else:
                    self._journal.put(event.record)
            self._journal.commit()
        except BaseException:
            self._journal.rollback()
            raise
        saved, self._events = self._events, []
        for event, tell in saved:
            if tell:
                self._tell(event)
