"""Work that must outlive the connection which asked for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Background:
    """Owns the asyncio tasks that belong to the agent rather than to a connection.

    A TaskGroup would end everything with the first failure; here each is on its own, a
    failure is logged, and :meth:`close` ends what is left.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start work under a name."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Cancel what runs and wait until it is gone."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Refusals and API errors are answered to the peer that waits; here is the last place
        # where a bug in work that no peer waits for would show.
        if not task.cancelled() and task.exception() is not None:
            logger.debug("%s ended: %r", task.get_name(), task.exception())
