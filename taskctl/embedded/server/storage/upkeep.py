"""Keeps the database's files in order: checkpoints, and the reserve for a full disk."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Final

from taskctl.embedded.server.storage.persistence import Database

log = logging.getLogger(__name__)

_FIRST_S: Final = 1.0  # the start of the server has better things to do
_INTERVAL_S: Final = 10.0
# Under pressure at most so often: a checkpoint waits for the disk.
_LEAST_PAUSE_S: Final = 0.2
_RETRY_FIRST_S: Final = 0.5
_RETRY_LAST_S: Final = 10.0


class Upkeep:
    """Runs until cancelled; what goes wrong is logged and tried again.

    Args:
        database: whose files.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted = asyncio.Event()
        self._failing: set[str] = set()
        database.on_pressure = self._wanted.set

    async def run(self) -> None:
        """Top up the reserve and make checkpoints, by the clock and when the database asks."""
        retry_s = _RETRY_FIRST_S
        await self._wait(_FIRST_S)
        while True:
            self._wanted.clear()
            await self._attempt("the reserve cannot be filled", self._database.top_up)
            if await self._attempt("a checkpoint failed", self._database.checkpoint):
                retry_s = _RETRY_FIRST_S
                await asyncio.sleep(_LEAST_PAUSE_S)
                await self._wait(_INTERVAL_S)
            else:
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _RETRY_LAST_S)

    async def _wait(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def _attempt(self, failure: str, work: Callable[[], object]) -> bool:
        """Do something in a thread; its first failure and its recovery are logged."""
        try:
            await asyncio.to_thread(work)
        except (sqlite3.Error, OSError) as error:
            if failure not in self._failing:
                log.warning("%s: %s; trying again", failure, error)
            self._failing.add(failure)
            return False
        if failure in self._failing:
            self._failing.discard(failure)
            log.info("no longer: %s", failure)
        return True
