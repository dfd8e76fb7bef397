"""Calls to the API server that are repeated until it answers.

A watch, a claim and an outcome have nothing better to do than to wait for the server; what a
task waits for (its children, its output) gives up after a while and says so.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from taskctl.clock import Clock, SystemClock
from taskctl.errors import ApiError, Throttled, Unauthorized, Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Unauthorized: the bound token is rotated under us; the client reads the new one soon.
TRANSIENT: Final = (Unavailable, Throttled, Unauthorized)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential, capped, with jitter.

    Attributes:
        first_s: seconds after the first failure.
        max_s: seconds that the wait never exceeds (before a longer ``Retry-After``).
        jitter: random part, 0 to 1: 0.5 means half to one and a half of the wait.
    """

    first_s: float = 0.1
    max_s: float = 10.0
    jitter: float = 0.5

    def delay_s(self, failures: int, random_unit: float) -> float:
        """Return how long to wait after the ``failures``-th failure in a row (from 1).

        Args:
            failures: at least 1.
            random_unit: in [0, 1).
        """
        base = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return base * (1.0 - self.jitter + 2.0 * self.jitter * random_unit)


@dataclass(frozen=True)
class Retrier:
    """Repeats calls; time and chance are injected, so tests need no waiting."""

    clock: Clock = field(default_factory=SystemClock)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random_unit: Callable[[], float] = random.random
    backoff: Backoff = Backoff()

    async def pause(self, failures: int, error: ApiError | None = None) -> None:
        """Wait as long as the back-off and the server's ``Retry-After`` say."""
        delay_s = self.backoff.delay_s(failures, self.random_unit())
        if error is not None:
            delay_s = max(delay_s, error.retry_after_s)
        await self.sleep(delay_s)

    async def call(
        self,
        what: str,
        function: Callable[[], Awaitable[T]],
        *,
        give_up_after_s: float | None = None,
    ) -> T:
        """Return what ``function`` returns, repeating it while the server is away.

        Args:
            what: for the log, for example ``read pod w-1``.
            function: called anew each time; must be safe to repeat after an unknown outcome.
            give_up_after_s: seconds after which the last error is raised; None: never.

        Raises:
            ApiError: a transient error after that time, any other at once.
        """
        started_s = self.clock.monotonic_s()
        failures = 0
        while True:
            try:
                return await function()
            except TRANSIENT as error:
                failures += 1
                waited_s = self.clock.monotonic_s() - started_s
                if give_up_after_s is not None and waited_s >= give_up_after_s:
                    raise
                if failures in (1, 5) or failures % 20 == 0:
                    logger.warning("%s: try %d failed, will repeat: %s", what, failures, error)
                await self.pause(failures, error)
