"""Runs a reconciler: takes keys from a queue, and decides what an outcome means."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, Protocol, TypeVar

from taskctl.errors import ApiError, Conflict, TaskctlError, TerminalError, Throttled, Unavailable
from taskctl.kube.logcontext import RECONCILE_ID
from taskctl.kube.timing import SYSTEM_TIMING, Timing
from taskctl.kube.workqueue import QueueClosed, WorkQueue

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile asks for.

    Attributes:
        requeue_after_s: reconcile this key again after so many seconds even if nothing
            changes; None to wait for a change.
    """

    requeue_after_s: float | None = None


DONE: Final = Result()

Reconcile = Callable[[K], Awaitable[Result | None]]


class Outcome(StrEnum):
    """How a reconcile ended; a metric label."""

    SUCCESS = "success"
    REQUEUE_AFTER = "requeue_after"
    CONFLICT = "conflict"
    ERROR = "error"
    TERMINAL = "terminal"
    TIMEOUT = "timeout"
    PANIC = "panic"


class ReconcileObserver(Protocol):
    """Is told of every reconcile, for metrics."""

    def __call__(self, controller: str, outcome: Outcome, duration_s: float) -> None:
        """Take note of one reconcile."""
        ...


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """How to run a reconciler.

    Attributes:
        timeout_s: deadline of one reconcile.
        observer: told of every reconcile, or None.
        timing: clock.
    """

    timeout_s: float = 60.0
    observer: ReconcileObserver | None = None
    timing: Timing = SYSTEM_TIMING


class Controller(Generic[K]):
    """N workers over one queue.

    What ``reconcile(key)`` does decides what happens to the key:

    - returns: its failures are forgotten; queued again if ``requeue_after_s`` says so;
    - :class:`TerminalError`: logged and forgotten, until something changes;
    - any other :class:`TaskctlError`, or the deadline: retried, ever more slowly;
    - anything else: a mistake of ours; logged with its traceback, retried likewise. The
      worker lives on.

    Args:
        name: for logs and metrics.
        queue: where keys come from.
        reconcile: makes the world so for one key; must be safe to repeat.
        workers: how many keys may be worked on at a time.
        options: deadline, metrics, clock.
    """

    def __init__(
        self,
        name: str,
        queue: WorkQueue[K],
        reconcile: Reconcile[K],
        workers: int = 1,
        *,
        options: ControllerOptions = ControllerOptions(),  # frozen
    ) -> None:
        self.name = name
        self.queue = queue
        self.workers = workers
        self._reconcile = reconcile
        self._options = options
        self._ids = itertools.count(1)

    async def run(self) -> None:
        """Work until the queue is shut down or the task is cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.workers):
                group.create_task(self._work(), name=f"{self.name}-worker-{number}")

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except QueueClosed:
                return
            try:
                await self.process(key)
            finally:
                self.queue.done(key)

    async def process(self, key: K) -> Outcome:
        """Reconcile one key and see to its future; raises nothing but cancellation."""
        token = RECONCILE_ID.set(f"{self.name} {key} #{next(self._ids)}")
        clock = self._options.timing.clock
        started_s = clock.monotonic_s()
        try:
            outcome = await self._attempt(key)
        finally:
            RECONCILE_ID.reset(token)
        if self._options.observer is not None:
            self._options.observer(self.name, outcome, clock.monotonic_s() - started_s)
        return outcome

    async def _attempt(self, key: K) -> Outcome:
        deadline = asyncio.timeout(self._options.timeout_s)
        try:
            async with deadline:
                result = await self._reconcile(key)
        except TerminalError as error:
            log.warning("%s %s: %s; not retried until it changes", self.name, key, error)
            self.queue.forget(key)
            return Outcome.TERMINAL
        except Conflict as error:
            # Another client was faster, or our view was stale: routine.
            pause_s = self.queue.add_rate_limited(key)
            log.debug("%s %s: %s; again in %.3f s", self.name, key, error, pause_s)
            return Outcome.CONFLICT
        except TaskctlError as error:
            self._retry(key, error)
            return Outcome.ERROR
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline.expired():
                pause_s = self.queue.add_rate_limited(key)
                limit_s = self._options.timeout_s
                log.warning(
                    "%s %s: not done in %g s; again in %.3f s", self.name, key, limit_s, pause_s
                )
                return Outcome.TIMEOUT
            pause_s = self.queue.add_rate_limited(key)
            log.exception("%s %s: unexpected; again in %.3f s", self.name, key, pause_s)
            return Outcome.PANIC
        self.queue.forget(key)
        if result is None or result.requeue_after_s is None:
            return Outcome.SUCCESS
        if result.requeue_after_s <= 0:
            self.queue.add(key)
        else:
            self.queue.add_after(key, result.requeue_after_s)
        return Outcome.REQUEUE_AFTER

    def _retry(self, key: K, error: TaskctlError) -> None:
        asked_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
        pause_s = self.queue.add_rate_limited(key, at_least_s=asked_s)
        if isinstance(error, Throttled | Unavailable):
            log.info("%s %s: %s; again in %.3f s", self.name, key, error, pause_s)
        else:
            log.warning("%s %s: %s; again in %.3f s", self.name, key, error, pause_s)


__all__ = [
    "DONE",
    "Controller",
    "ControllerOptions",
    "Outcome",
    "Reconcile",
    "ReconcileObserver",
    "Result",
]
