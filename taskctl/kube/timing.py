"""Time, sleep and chance in one value, so that a test can own all three."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

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


class Backoff:
    """Growing pauses between attempts, forgotten after a quiet while.

    The defaults are those of client-go's reflector: 0.8 s doubling to 30 s, spread over
    as much again, so that many clients do not come back in step; back to the start after
    two minutes without a call.

    Args:
        timing: clock and chance.
        initial_s: first pause.
        cap_s: longest pause before the spread.
        factor: growth from one pause to the next.
        jitter: the spread; a pause becomes up to ``1 + jitter`` times as long.
        reset_after_s: quiet seconds after which the first pause applies again.
    """

    def __init__(
        self,
        timing: Timing = SYSTEM_TIMING,
        *,
        initial_s: float = 0.8,
        cap_s: float = 30.0,
        factor: float = 2.0,
        jitter: float = 1.0,
        reset_after_s: float = 120.0,
    ) -> None:
        self._timing = timing
        self._initial_s = initial_s
        self._cap_s = cap_s
        self._factor = factor
        self._jitter = jitter
        self._reset_after_s = reset_after_s
        self._next_s = initial_s
        self._last_use_s: float | None = None

    def next_s(self) -> float:
        """Return the seconds to wait now, and grow."""
        now = self._timing.clock.monotonic_s()
        if self._last_use_s is not None and now - self._last_use_s > self._reset_after_s:
            self._next_s = self._initial_s
        self._last_use_s = now
        base_s = min(self._next_s, self._cap_s)
        self._next_s = min(self._next_s * self._factor, self._cap_s)
        return base_s * (1.0 + self._jitter * self._timing.random())

    def reset(self) -> None:
        """Start over with the first pause."""
        self._next_s = self._initial_s
        self._last_use_s = None
