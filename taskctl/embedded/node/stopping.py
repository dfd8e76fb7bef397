"""Ending containers: SIGTERM, then SIGKILL after the grace, then the shim itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

# A shim that is told to kill answers within milliseconds; one that does not is stuck.
_SHIM_PATIENCE: Final = timedelta(seconds=5)


class Stoppable(Protocol):
    """What can be stopped (:class:`.instance.Instance`)."""

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def kill_shim(self) -> None:
        """End it even if its shim does not answer."""
        ...


class Stopping:
    """The stop of one pod, driven by calls of :meth:`advance`.

    Args:
        since: when it began.
    """

    def __init__(self, since: datetime) -> None:
        self._since = since
        self._kill_at: datetime | None = None
        self._terminated: set[int] = set()
        self._killed: dict[int, datetime] = {}

    def advance(
        self, live: Sequence[Stoppable], now: datetime, grace: timedelta
    ) -> datetime | None:
        """Send the signals that are due; returns when to call again, None when all have ended.

        Args:
            live: what still runs; what is new among it is told to end as well.
            now: the time.
            grace: from the beginning of the stop. A later call may only make it shorter.
        """
        asked = self._since + grace
        self._kill_at = min(self._kill_at, asked) if self._kill_at is not None else asked
        if not live:
            return None
        for item in live:
            key = id(item)
            if now >= self._kill_at:
                if key not in self._killed:
                    self._killed[key] = now
                    item.kill()
                elif now >= self._killed[key] + _SHIM_PATIENCE:
                    item.kill_shim()
            elif key not in self._terminated:
                self._terminated.add(key)
                item.terminate()
        if now < self._kill_at:
            return self._kill_at
        return now + _SHIM_PATIENCE
