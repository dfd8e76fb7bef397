"""Back-off, grace and deadlines of containers while the wall clock is set."""

from __future__ import annotations

from datetime import timedelta

import pytest

from taskctl.clock import SteadyClock
from taskctl.embedded.node.stopping import Stopping
from tests.unit.clocks import START, SetClock

GRACE = timedelta(seconds=30)


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
    clock = SetClock()
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
