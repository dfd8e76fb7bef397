"""Time, sleep and chance in one value, so that a test can own all three."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from taskctl.backoff import Backoff
from taskctl.clock import Clock, SystemClock


class TimerHandle(Protocol):
    """A call that has been arranged and can be called off."""

    def cancel(self) -> None:
        """Call it off; harmless when it has run already."""
        ...


def _call_later(delay_s: float, callback: Callable[[], None]) -> TimerHandle:
    return asyncio.get_running_loop().call_later(delay_s, callback)


@dataclass(frozen=True, slots=True)
class Timing:
    """Where time, waiting and chance come from.

    Attributes:
        clock: the time.
        sleep: waits so many seconds.
        call_later: arranges a call on the running loop after so many seconds.
        random: a number in [0, 1), for jitter.
    """

    clock: Clock = field(default_factory=SystemClock)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    call_later: Callable[[float, Callable[[], None]], TimerHandle] = _call_later
    random: Callable[[], float] = random.random


SYSTEM_TIMING: Final = Timing()
# client-go's reflector (tools/cache/reflector.go): spread over as much again, so that many clients
# do not come back in step.
REFLECTOR_BACKOFF: Final = Backoff(0.8, 30.0, (1.0, 2.0))


class Pauses:
    """The pauses of one loop that fails, works again, and fails again.

    Args:
        backoff: how long they are.
        timing: clock and chance.
        reset_after_s: quiet seconds after which the first pause applies again.
    """

    def __init__(
        self,
        backoff: Backoff = REFLECTOR_BACKOFF,
        timing: Timing = SYSTEM_TIMING,
        *,
        reset_after_s: float = 120.0,
    ) -> None:
        self._backoff = backoff
        self._timing = timing
        self._reset_after_s = reset_after_s
        self._failures = 0
        self._last_use_s: float | None = None

    def next_s(self) -> float:
        """Return the seconds to wait now, after one more failure."""
        now = self._timing.clock.monotonic_s()
        if self._last_use_s is not None and now - self._last_use_s > self._reset_after_s:
            self._failures = 0
        self._last_use_s = now
        self._failures += 1
        return self._backoff.pause_s(self._failures, self._timing.random())

    def reset(self) -> None:
        """Start over with the first pause."""
        self._failures = 0
        self._last_use_s = None
