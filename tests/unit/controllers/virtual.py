"""An event loop whose time passes only when nothing else is to be done."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from taskctl.kube.timing import Timing

T = TypeVar("T")

START = datetime(2030, 1, 1, tzinfo=UTC)


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, moves the loop's time forward."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("every task waits for something that will never happen")
        if timeout > 0:
            self.loop.elapsed_s += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time begins at 0 and jumps from timer to timer."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.elapsed_s


class VirtualClock:
    """The wall clock and the monotonic clock of a :class:`VirtualLoop`.

    Attributes:
        offset_s: how far the wall clock was set forward, of all clocks of this class.
    """

    offset_s = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic_s() + VirtualClock.offset_s)

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


def timing(seed: int = 1) -> Timing:
    return Timing(clock=VirtualClock(), random=random.Random(seed).random)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
