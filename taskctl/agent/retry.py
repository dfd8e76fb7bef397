"""Calls to the API server that are repeated until it answers.

A claim and an outcome have nothing better to do than to wait for the server; what a task
waits for (its children, its output) gives up after a while and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from taskctl.backoff import Backoff
from taskctl.clock import Clock
from taskctl.errors import ApiError, Forbidden, Throttled, Unauthorized, Unavailable
from taskctl.kube.timing import SYSTEM_TIMING, Timing

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Unauthorized: the bound token is rotated under us; the client reads the new one soon.
TRANSIENT: Final = (Unavailable, Throttled, Unauthorized)
# An API server that has just started refuses everybody, until it has read the RBAC rules; a
# RoleBinding made a moment ago counts a moment later. A task must not fail of that.
FORBIDDEN_FOR_S: Final = 5.0
CALL_BACKOFF: Final = Backoff(0.1, 5.0, (0.5, 1.5))


@dataclass(frozen=True, slots=True)
class Retrier:
    """Repeats calls.

    Attributes:
        timing: clock, sleep and chance.
        backoff: how long the pauses are.
    """

    timing: Timing = SYSTEM_TIMING
    backoff: Backoff = CALL_BACKOFF

    @staticmethod
    def is_transient(error: ApiError) -> bool:
        """Whether the same call may succeed later."""
        return isinstance(error, TRANSIENT)

    async def pause(self, failures: int, error: ApiError | None = None) -> None:
        """Wait as long as the back-off and the server's ``Retry-After`` say."""
        delay_s = self.backoff.pause_s(failures, self.timing.random())
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

        What is forbidden is asked for again for ``FORBIDDEN_FOR_S``, see :class:`Failures`.

        Args:
            what: for the log, for example ``read pod w-1``.
            function: called each time; must be safe to repeat after an unknown outcome.
            give_up_after_s: seconds after which the last error is raised; None: never.

        Raises:
            ApiError: a transient error after that time, any other at once.
        """
        failures = self.failures()
        while True:
            try:
                return await function()
            except ApiError as error:
                if not failures.may_pass(error):
                    raise
                if give_up_after_s is not None and failures.lasted_s >= give_up_after_s:
                    raise
                if is_worth_a_line(failures.count):
                    text = "%s: try %d failed, will repeat: %s"
                    logger.warning(text, what, failures.count, error)
                await self.pause(failures.count, error)

    def failures(self) -> Failures:
        """Return an account of what fails from now on."""
        return Failures(self.timing.clock)


class Failures:
    """Failures of one call in a row, and whether the call is worth repeating.

    A server that has just come back forbids everything for a moment. So the time of a refusal
    counts from the first one after other failures, not from the first failure: the server may
    have been away for a while before.

    Attributes:
        count: of them.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s = clock.monotonic_s()
        self._forbidden_s: float | None = None
        self.count = 0

    @property
    def lasted_s(self) -> float:
        """Seconds since the call was first tried."""
        return self._clock.monotonic_s() - self._began_s

    def may_pass(self, error: ApiError) -> bool:
        """Count a failure, and return whether the same call may succeed later."""
        self.count += 1
        if not isinstance(error, Forbidden):
            self._forbidden_s = None
            return Retrier.is_transient(error)
        now_s = self._clock.monotonic_s()
        if self._forbidden_s is None:
            self._forbidden_s = now_s
        return now_s - self._forbidden_s < FORBIDDEN_FOR_S


def is_worth_a_line(failures: int) -> bool:
    """Whether a repeated failure is logged once more."""
    return failures in (1, 5) or failures % 20 == 0
