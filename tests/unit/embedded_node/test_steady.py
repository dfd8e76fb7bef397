"""Back-off, grace and deadlines of containers while the wall clock is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from taskctl.clock import SteadyClock
from taskctl.embedded.node.stopping import Stopping

START = datetime(2030, 1, 1, tzinfo=UTC)
GRACE = timedelta(seconds=30)


class Clock:
    """Both clocks, each moved by hand."""

    def __init__(self) -> None:
        self.wall, self.elapsed_s = START, 100.0

    def now(self) -> datetime:
        return self.wall

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def pass_s(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.elapsed_s += seconds


class Container:
    """Notes what is sent to it."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def terminate(self) -> None:
        self.sent.append("TERM")

    def kill(self) -> None:
        self.sent.append("KILL")

    def kill_shim(self) -> None:
        self.sent.append("shim")


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(0), timedelta(hours=1)])
def test_grace_is_as_long_as_it_is(jump: timedelta) -> None:
    clock = Clock()
    steady = SteadyClock(clock)
    assert steady.now() == START
    container = Container()
    stopping = Stopping(steady.now())
    stopping.advance([container], steady.now(), GRACE)
    clock.wall += jump
    clock.pass_s(29)
    again = stopping.advance([container], steady.now(), GRACE)
    assert container.sent == ["TERM"]
    assert again is not None
    assert again - steady.now() == timedelta(seconds=1)
    clock.pass_s(1)
    stopping.advance([container], steady.now(), GRACE)
    assert container.sent == ["TERM", "KILL"]
