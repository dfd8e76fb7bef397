"""Events are deleted an hour after their last change, as by kube-apiserver's --event-ttl."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from taskctl.embedded.server.core import Core
from taskctl.embedded.server.refusals.errors import Resource, StorageError
from taskctl.embedded.server.storage.records import Event, EventType

log = logging.getLogger(__name__)

_EVENTS: Final = Resource("", "events")
EVENT_LIFE_S: Final = 3600.0
_SWEEP_INTERVAL_S: Final = 30.0
_PER_SWEEP: Final = 500


class EventExpiry:
    """Deletes old Events. Looks only at those that are due."""

    def __init__(self, core: Core) -> None:
        self._core = core
        # (monotonic second of expiry, namespace, name, revision), oldest first.
        self._due: deque[tuple[float, str, str, int]] = deque()

    def scan(self) -> None:
        """Give the Events of an earlier run another hour."""
        now_s = self._core.clock.monotonic_s()
        for record in self._core.store.records(_EVENTS):
            self._due.append((now_s + EVENT_LIFE_S, record.namespace, record.name, record.revision))

    def notice(self, event: Event) -> None:
        """Note an Event's change. A listener of the store."""
        record = event.record
        if record.resource == _EVENTS and event.type is not EventType.DELETED:
            self._due.append(
                (event.at_s + EVENT_LIFE_S, record.namespace, record.name, record.revision)
            )

    def sweep(self) -> int:
        """Delete the Events that are due, up to a number. Returns how many were looked at."""
        now_s = self._core.clock.monotonic_s()
        looked_at = 0
        with self._core.store.batch():
            while self._due and self._due[0][0] <= now_s and looked_at < _PER_SWEEP:
                _, namespace, name, revision = self._due.popleft()
                looked_at += 1
                record = self._core.store.get(_EVENTS, namespace, name)
                if record is not None and record.revision == revision:
                    self._core.store.delete(_EVENTS, namespace, name)
        return looked_at

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                looked_at = self.sweep()
            except StorageError as error:
                log.warning("old events cannot be deleted yet: %s", error)
                looked_at = 0
            if looked_at < _PER_SWEEP:
                await asyncio.sleep(_SWEEP_INTERVAL_S)
            else:
                await asyncio.sleep(0)
