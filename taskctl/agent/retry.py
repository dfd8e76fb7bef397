"""Calls to the API server that are repeated until it answers.

A claim and an outcome have nothing better to do than to wait for the server; what a task
waits for (its children, its output) gives up after a while and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from taskctl.client.timing import SYSTEM_TIMING, Timing
from taskctl.errors import ApiError, Forbidden, Throttled, Unauthorized, Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Unauthorized: the bound token is rotated under us; the client reads the new one soon.
TRANSIENT: Final = (Unavailable, Throttled, Unauthorized)
# An API server that has just started refuses everybody, until it has read the RBAC rules; a
# RoleBinding made a moment ago counts a moment later. A task must not fail of that.
FORBIDDEN_FOR_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Delays:
    """Exponential, capped, with jitter.

    Attributes:
        first_s: seconds after the first failure.
        max_s: seconds that the wait never exceeds (but for a longer ``Retry-After``).
        jitter: random part, 0 to 1: 0.5 means half to one and a half of the wait.
    """

    first_s: float = 0.1
    max_s: float = 5.0
    jitter: float = 0.5

    def delay_s(self, failures: int, chance: float) -> float:
        """Return how long to wait after the ``failures``-th failure in a row.

        Args:
            failures: at least 1.
            chance: random, in [0, 1).
        """
        base = min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return base * (1.0 - self.jitter + 2.0 * self.jitter * chance)


@dataclass(frozen=True, slots=True)
class Retrier:
    """Repeats calls.

    Attributes:
        timing: clock, sleep and chance.
        delays: the back-off.
    """

    timing: Timing = SYSTEM_TIMING
    delays: Delays = Delays()

    @staticmethod
    def is_transient(error: ApiError) -> bool:
        """Whether the same call may succeed later."""
        return isinstance(error, TRANSIENT)

    async def pause(self, failures: int, error: ApiError | None = None) -> None:
        """Wait as long as the back-off and the server's ``Retry-After`` say."""
        delay_s = self.delays.delay_s(failures, self.timing.random())
        if error is not None:
            delay_s = max(delay_s, error.retry_after_s)
        await self.timing.sleep(delay_s)

    async def call(
        self,
        what: str,
        function: Callable[[], Awaitable[T]],
        *,
        give_up_after_s: float | None = None,
    ) -> T:
        """Return what ``function`` returns, repeating it while the server is away.

        What is forbidden is asked for again for ``FORBIDDEN_FOR_S``.

        Args:
            what: for the log, for example ``read pod w-1``.
            function: called anew each time; must be safe to repeat after an unknown outcome.
            give_up_after_s: seconds after which the last error is raised; None: never.

        Raises:
            ApiError: a transient error after that time, any other at once.
        """
        started_s = self.timing.clock.monotonic_s()
        failures = 0
        while True:
            try:
                return await function()
            except (*TRANSIENT, Forbidden) as error:
                failures += 1
                waited_s = self.timing.clock.monotonic_s() - started_s
                if give_up_after_s is not None and waited_s >= give_up_after_s:
                    raise
                if isinstance(error, Forbidden) and waited_s >= FORBIDDEN_FOR_S:
                    raise
                if is_worth_a_line(failures):
                    logger.warning("%s: try %d failed, will repeat: %s", what, failures, error)
                await self.pause(failures, error)


def is_worth_a_line(failures: int) -> bool:
    """Whether a repeated failure is logged once more."""
    return failures in (1, 5) or failures % 20 == 0
