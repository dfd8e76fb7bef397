"""The queue of keys to reconcile, with the semantics of client-go's workqueue.

- A key is in the queue at most once, however often it is added.
- A key that is being worked on is not handed out again; added meanwhile, it is queued
  once more when the work on it is done. So no two workers ever have the same key.
- First come, first served.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from taskctl.backoff import Backoff
from taskctl.kube.ratelimit import TokenBucket
from taskctl.kube.timing import SYSTEM_TIMING, TimerHandle, Timing

K = TypeVar("K", bound=Hashable)

# A timer may ring a hair early on some clocks; without this a key would be due "in 0 s" forever.
_EPSILON_S: Final = 1e-6


class QueueClosed(Exception):
    """The queue has been shut down and is empty; the worker should end."""


class QueueObserver(Protocol):
    """Is told what happens to the queue, for metrics."""

    def depth(self, depth: int) -> None:
        """The number of keys waiting has changed."""
        ...

    def added(self) -> None:
        """A key has been queued."""
        ...

    def taken(self, waited_s: float) -> None:
        """A key has been handed to a worker after waiting so many seconds."""
        ...

    def retried(self) -> None:
        """A key has been queued again after a failure."""
        ...


KEY_BACKOFF: Final = Backoff(0.005, 60.0, (0.75, 1.0))


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How failing keys are slowed down.

    Attributes:
        backoff: pauses of one key. client-go's limit is 1000 s, too long for work that people
            wait for; keys that failed together shall not come back together.
        qps: failures of all keys together that come back a second; bounds a failing
            world, such as an API server that is down.
        burst: of those.
    """

    backoff: Backoff = KEY_BACKOFF
    qps: float = 50.0
    burst: int = 200


class WorkQueue(Generic[K]):
    """A queue of keys for workers of one event loop; not for threads.

    Args:
        name: for the log and metrics.
        timing: clock, timer and chance.
        limits: how failing keys are slowed down.
        observer: told what happens, or None.
    """

    def __init__(
        self,
        name: str,
        *,
        timing: Timing = SYSTEM_TIMING,
        limits: RateLimits = RateLimits(),  # frozen
        observer: QueueObserver | None = None,
    ) -> None:
        self.name = name
        self._timing = timing
        self._limits = limits
        self._observer = observer
        self._bucket = TokenBucket(limits.qps, limits.burst, timing)
        self._queue: deque[K] = deque()
        self._dirty: dict[K, float] = {}  # queued or to be queued, with the time it was added
        self._processing: set[K] = set()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}  # what the heap should hold; entries that differ are stale
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: TimerHandle | None = None
        self._timer_at_s = 0.0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Return how many keys wait for a worker now; delayed ones not counted."""
        return len(self._queue)

    @property
    def processing(self) -> tuple[K, ...]:
        """The keys being worked on."""
        return tuple(self._processing)

    @property
    def delayed(self) -> int:
        """How many keys wait for their time."""
        return len(self._due)

    @property
    def closed(self) -> bool:
        """Whether the queue has been shut down."""
        return self._closed

    def waiting(self, limit: int = 100) -> list[K]:
        """Return the first keys in line, for a dump."""
        return list(itertools.islice(self._queue, limit))

    # --- putting in ---------------------------------------------------------------------

    def add(self, key: K) -> None:
        """Queue a key, unless it is queued already."""
        if self._closed or key in self._dirty:
            return
        self._dirty[key] = self._timing.clock.monotonic_s()
        if self._observer is not None:
            self._observer.added()
        if key not in self._processing:
            self._enqueue(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Queue a key in ``delay_s`` seconds. Of several times for a key the earliest counts."""
        if self._closed:
            return
        if delay_s <= 0:
            self.add(key)
            return
        due_s = self._timing.clock.monotonic_s() + delay_s
        present_s = self._due.get(key)
        if present_s is not None and present_s <= due_s:
            return
        self._due[key] = due_s
        heapq.heappush(self._heap, (due_s, next(self._order), key))
        self._drop_stale()
        self._arm()

    def add_rate_limited(self, key: K, *, at_least_s: float = 0.0) -> float:
        """Queue a key that has failed, after a pause that grows from failure to failure.

        Args:
            key: what failed.
            at_least_s: a pause that the server asked for.

        Returns:
            The pause in seconds.
        """
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        pause_s = self._limits.backoff.pause_s(failures, self._timing.random())
        pause_s = max(pause_s, self._bucket.reserve_s(), at_least_s)
        if self._observer is not None:
            self._observer.retried()
        self.add_after(key, pause_s)
        return pause_s

    def forget(self, key: K) -> None:
        """Take a key's failures off the record; call it after a success."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Return how often a key has failed since the last success."""
        return self._failures.get(key, 0)

    # --- taking out ---------------------------------------------------------------------

    async def get(self) -> K:
        """Wait for a key and take it; :meth:`done` must follow.

        Raises:
            QueueClosed: the queue has been shut down and is empty.
        """
        while not self._queue:
            if self._closed:
                raise QueueClosed(self.name)
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                waiter.cancel()
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif self._queue:
                    self._wake()  # it was our turn; let the next one have it
                raise
        key = self._queue.popleft()
        added_s = self._dirty.pop(key)
        self._processing.add(key)
        self._idle.clear()
        if self._observer is not None:
            self._observer.taken(max(0.0, self._timing.clock.monotonic_s() - added_s))
            self._observer.depth(len(self._queue))
        return key

    def done(self, key: K) -> None:
        """Say that the work on a key is over; queues it again if it was added meanwhile."""
        self._processing.discard(key)
        if key in self._dirty:
            self._enqueue(key)
        elif not self._processing and not self._queue:
            self._idle.set()

    # --- ending -------------------------------------------------------------------------

    def shutdown(self, *, discard: bool = False) -> None:
        """Take nothing more in; delayed keys are dropped.

        Args:
            discard: drop the queued keys too, instead of handing them out.
        """
        self._closed = True
        self._due.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if discard:
            self._queue.clear()
            self._dirty.clear()
        if not self._processing and not self._queue:
            self._idle.set()
        while self._waiters:
            self._wake()

    async def drain(self) -> None:
        """Shut down and wait until the queued keys have been worked on."""
        self.shutdown()
        await self._idle.wait()

    # --- below --------------------------------------------------------------------------

    def _enqueue(self, key: K) -> None:
        self._queue.append(key)
        self._idle.clear()
        if self._observer is not None:
            self._observer.depth(len(self._queue))
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _ring(self) -> None:
        self._timer = None
        limit_s = self._timing.clock.monotonic_s() + _EPSILON_S
        while self._heap and self._heap[0][0] <= limit_s:
            due_s, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due_s:
                del self._due[key]
                self.add(key)
        self._drop_stale()
        self._arm()

    def _drop_stale(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def _arm(self) -> None:
        if not self._heap:
            return
        due_s = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at_s <= due_s:
                return
            self._timer.cancel()
        self._timer_at_s = due_s
        delay_s = max(0.0, due_s - self._timing.clock.monotonic_s())
        call: Callable[[], None] = self._ring
        self._timer = self._timing.call_later(delay_s, call)
