"""How much of the agent's memory each task may hold, and how much it may ask for at once.

A worker's tasks share one agent and may be hostile to each other. So every task has an account
of its own: what it sends is counted as it arrives and, once decoded, at what it takes in memory,
until the answer is on its way. A task that is over its own limit waits for itself. Beyond a
guaranteed part, all accounts together draw on one pool, which bounds the agent as a whole; small
requests fit into the guaranteed part and never wait for other tasks.
"""

from __future__ import annotations

import asyncio
import collections
import weakref
from typing import Final

TASK_BYTES: Final = 128 * 1024 * 1024  # more than the largest frame costs, raw and decoded
GUARANTEED_BYTES: Final = 1024 * 1024
POOL_BYTES: Final = 384 * 1024 * 1024
REQUESTS: Final = 64  # of one task in hand, over all its connections


class Pool:
    """The memory that accounts share beyond their guaranteed parts.

    Args:
        total_bytes: of all accounts together.
    """

    def __init__(self, total_bytes: int = POOL_BYTES) -> None:
        self.free_bytes = total_bytes
        self.waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    def wake(self) -> None:
        """Let those who wait look again."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)


class Ration:
    """The account of one task, or of one taskctl-init.

    Args:
        pool: shared with the others.
        limit_bytes: held at most.

    Attributes:
        receiving: held while a large frame is received: one at a time, so that half-received
            frames of one task never wait for each other.
        answering: held while an answer that may be large is made and sent.
        requests: in hand.
    """

    def __init__(self, pool: Pool, limit_bytes: int = TASK_BYTES) -> None:
        self._pool = pool
        self._limit_bytes = limit_bytes
        self.held_bytes = 0
        self.receiving = asyncio.Lock()
        self.answering = asyncio.Lock()
        self.requests = asyncio.Semaphore(REQUESTS)

    async def take(self, size: int) -> None:
        """Wait for room, and hold it until it is given back."""
        while not self._fits(size):
            waiter = asyncio.get_running_loop().create_future()
            self._pool.waiting.append(waiter)
            await waiter
        self._pool.free_bytes -= self._shared(self.held_bytes + size) - self._shared(
            self.held_bytes
        )
        self.held_bytes += size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        if size:
            self._pool.free_bytes += self._shared(self.held_bytes) - self._shared(
                self.held_bytes - size
            )
            self.held_bytes -= size
            self._pool.wake()

    def _fits(self, size: int) -> bool:
        after = self.held_bytes + size
        if after > self._limit_bytes:
            return False
        return self._shared(after) - self._shared(self.held_bytes) <= self._pool.free_bytes

    @staticmethod
    def _shared(held_bytes: int) -> int:
        return max(0, held_bytes - GUARANTEED_BYTES)


class Rations:
    """The accounts of all who are connected; one is forgotten with its last connection.

    Args:
        pool: what they share.
    """

    def __init__(self, pool: Pool | None = None) -> None:
        self._pool = pool or Pool()
        self._rations: weakref.WeakValueDictionary[str, Ration] = weakref.WeakValueDictionary()

    def of(self, owner: str) -> Ration:
        """Return an owner's account."""
        ration = self._rations.get(owner)
        if ration is None:
            ration = self._rations[owner] = Ration(self._pool)
        return ration
