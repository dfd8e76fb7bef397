"""The loop that the server's own controllers share: keys in, worked off in small turns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from taskctl.embedded.server.refusals.errors import StorageError
from taskctl.embedded.server.storage.store import Store

log = logging.getLogger(__name__)

_KEYS_PER_TURN: Final = 64
# A deletion takes about 0.1 ms, and requests wait for the end of a turn.
DELETIONS_PER_TURN: Final = 200
_RETRY_S: Final = 1.0

K = TypeVar("K")


class KeyWorker(Generic[K]):
    """A queue of keys and the function that deals with one.

    The function is synchronous and level-based: it looks at what is stored now, not at what
    caused the key.
    """

    def __init__(self, name: str, store: Store, work: Callable[[K], None]) -> None:
        self._name = name
        self._store = store
        self._work = work
        self._keys: dict[K, None] = {}  # a set that keeps its order
        self._wake = asyncio.Event()

    def add(self, key: K) -> None:
        """Have ``key`` dealt with soon; adding it twice is the same as once."""
        self._keys[key] = None
        self._wake.set()

    @property
    def idle(self) -> bool:
        """True if nothing is queued."""
        return not self._keys

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            failed: list[K] = []
            while self._keys:
                keys = list(self._keys)[:_KEYS_PER_TURN]
                try:
                    failed += self._turn(keys)
                except StorageError as error:  # a full disk: all of it may be undone
                    log.warning("%s: trying again: %s", self._name, error)
                    failed += keys
                    break
                await asyncio.sleep(0)  # requests come first
            if failed:
                await asyncio.sleep(_RETRY_S)
                for key in failed:
                    self.add(key)

    def _turn(self, keys: list[K]) -> list[K]:
        """Deal with some keys in one transaction. Returns those to try again."""
        failed: list[K] = []
        with self._store.batch():
            for key in keys:
                self._keys.pop(key, None)
                try:
                    self._work(key)
                except StorageError:
                    failed.append(key)
                except Exception:
                    log.exception("%s: %s failed, trying again", self._name, key)
                    failed.append(key)
        return failed
