"""How long a call to the API server is repeated, and for which failures."""

from __future__ import annotations

import pytest

from taskctl.agent.retry import FORBIDDEN_FOR_S, Failures, Retrier
from taskctl.errors import ApiError, Forbidden, Invalid, Unavailable
from tests.unit.agent.fakes import FakeClock, FakeTime

AWAY = Unavailable("connection refused", status=0)
FORBIDDEN = Forbidden("cannot get tasks", status=403)
INVALID = Invalid("no such field", status=422)


@pytest.mark.parametrize(
    ("seen", "may_pass"),
    [
        ([(0, AWAY), (60, AWAY)], True),
        ([(0, FORBIDDEN)], True),
        ([(0, FORBIDDEN), (FORBIDDEN_FOR_S, FORBIDDEN)], False),
        ([(0, AWAY), (60, FORBIDDEN)], True),
        ([(0, AWAY), (60, FORBIDDEN), (FORBIDDEN_FOR_S, FORBIDDEN)], False),
        ([(0, FORBIDDEN), (60, AWAY), (1, FORBIDDEN)], True),
        ([(0, INVALID)], False),
    ],
)
def test_failures(seen: list[tuple[float, ApiError]], may_pass: bool) -> None:
    """``seen`` has seconds since the failure before, and the failure."""
    clock = FakeClock()
    failures = Failures(clock)
    passes = []
    for seconds, error in seen:
        clock.advance(seconds)
        passes.append(failures.may_pass(error))
    assert passes == [*([True] * (len(seen) - 1)), may_pass]
    assert failures.count == len(seen)


async def test_what_gives_up_does_so_by_the_whole_time() -> None:
    time = FakeTime()

    async def away() -> None:
        time.clock.advance(8)
        raise AWAY

    async def sleep(seconds: float) -> None:
        time.clock.advance(seconds)

    retrier = Retrier(timing=type(time.timing)(clock=time.clock, sleep=sleep, random=lambda: 0.5))
    with pytest.raises(Unavailable):
        await retrier.call("read it", away, give_up_after_s=20)
    assert 20 <= time.clock.monotonic_s() - 1000 < 30
