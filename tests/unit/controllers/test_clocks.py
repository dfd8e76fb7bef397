"""The wall clock is set while tasks wait: nobody waits longer for it, and nothing is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from taskctl.clock import format_micro, format_seconds
from taskctl.controllers.ages import Ages
from taskctl.controllers.backoffs import Backoffs
from taskctl.kube.resources import PODS
from tests.unit.clocks import START, SetClock
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import VirtualClock, run
from tests.unit.policy.build import view

HOUR_S = 3600.0


@pytest.fixture(autouse=True)
def right_clock() -> Iterator[None]:
    yield
    VirtualClock.offset_s = 0.0


@pytest.mark.parametrize("jump_s", [-HOUR_S, 0.0, HOUR_S])
def test_an_age_grows_by_what_has_passed(jump_s: float) -> None:
    clock = SetClock()
    ages = Ages(clock)
    stamp = START - timedelta(seconds=5)
    assert ages.age_s("k", stamp) == 5.0
    clock.wall += timedelta(seconds=jump_s)
    clock.pass_s(2)
    assert ages.age_s("k", stamp) == 7.0
    ages.drop("k")
    assert len(ages) == 0


def test_nothing_that_has_happened_lies_ahead() -> None:
    clock = SetClock()
    ages = Ages(clock)
    assert ages.age_s("a", START + timedelta(hours=1)) == 0.0
    assert ages.age_s("b", START + timedelta(hours=1), at_least_s=-30.0) == -30.0
    assert ages.age_s("c", START + timedelta(seconds=10), at_least_s=-30.0) == -10.0


@pytest.mark.parametrize(
    ("ahead_s", "left_s"), [(3.0, 3.0), (HOUR_S, 4.8), (-HOUR_S, 0.0), (0.0, 0.0)]
)
def test_a_back_off_is_at_most_what_the_task_asks_for(ahead_s: float, left_s: float) -> None:
    """4 s after the second failure, and up to 20 % more."""
    clock = SetClock()
    backoffs = Backoffs(clock)
    until = format_micro(START + timedelta(seconds=ahead_s))
    task = view(
        spec={"retry": {"backoffSeconds": 2}}, status={"nextAttemptTime": until, "failures": 2}
    )
    assert backoffs.left_s(task) == pytest.approx(left_s)
    clock.wall -= timedelta(hours=1)
    clock.pass_s(1)
    assert backoffs.left_s(task) == pytest.approx(max(left_s - 1, 0.0))
    backoffs.drop(task.uid)
    assert len(backoffs) == 0


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_a_task_waits_for_its_back_off_and_no_longer(jump_s: float) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            retry = {"limit": 1, "backoffSeconds": 10, "jitter": 0}
            await sim.task("t", "fail-until", "2", retry=retry)
            await sim.until(lambda: sim.status("t").get("failures") == 1)
            await asyncio.sleep(1)
            begun_s = sim.api.clock.monotonic_s()
            VirtualClock.offset_s = jump_s
            (status,) = await sim.finished("t", timeout_s=60)
            assert status["state"] == "Succeeded"
            assert 8 < sim.api.clock.monotonic_s() - begun_s < 15

    run(main())


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_deadlines_and_times_to_live_keep_their_length(jump_s: float) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("short", ttlSecondsAfterFinished={"success": 20})
            await sim.finished("short")
            await sim.task("stuck", "hang", startDeadlineSeconds=20)
            await asyncio.sleep(5)
            VirtualClock.offset_s = jump_s
            begun_s = sim.api.clock.monotonic_s()
            (status,) = await sim.finished("stuck", timeout_s=60)
            assert status["reason"] == "StartDeadlineExceeded"
            assert 10 < sim.api.clock.monotonic_s() - begun_s < 20
            await sim.until(lambda: len(sim.tasks()) == 1, timeout_s=30)
            assert 10 < sim.api.clock.monotonic_s() - begun_s < 20

    run(main())


def test_a_reason_to_wait_is_shown_after_the_clock_was_set_back() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", clusterName="ghost")
            VirtualClock.offset_s = -HOUR_S
            await sim.until(lambda: sim.status("t").get("reason") == "ClusterNotFound", timeout_s=5)

    run(main())


def workers(sim: Simulation) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in sim.api.all(PODS))


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_a_worker_lives_for_its_age(jump_s: float) -> None:
    async def main() -> None:
        async with Simulation.started(rotation={"maxAgeSeconds": 100}) as sim:
            await asyncio.sleep(5)
            VirtualClock.offset_s = jump_s
            await asyncio.sleep(60)
            assert workers(sim) == ["c-1"]
            await sim.until(lambda: workers(sim) == ["c-2"], timeout_s=60)

    run(main())


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_a_silent_worker_is_replaced_after_half_a_minute(jump_s: float) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            stamp = format_seconds(sim.api.clock.now())
            unready = {"type": "Ready", "status": "Unknown", "lastTransitionTime": stamp}
            sim.node.set_pod("c-1", {"conditions": [unready]})
            await asyncio.sleep(5)
            VirtualClock.offset_s = jump_s
            sim.node.set_pod("c-1", {"message": "makes the controller look"})
            await asyncio.sleep(20)
            assert workers(sim) == ["c-1"]
            await sim.until(lambda: workers(sim) == ["c-1", "c-2"], timeout_s=10)

    run(main())


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_failed_workers_are_made_again_at_their_pace(jump_s: float) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            sim.node.pods_come_up = False
            for number in range(1, 4):
                await sim.until(lambda: workers(sim) == [f"c-{number}"], timeout_s=10)  # noqa: B023
                sim.node.set_pod(f"c-{number}", {"phase": "Failed"})
            await sim.until(lambda: workers(sim) == [], timeout_s=5)
            VirtualClock.offset_s = jump_s
            await asyncio.sleep(2)
            assert workers(sim) == []
            await sim.until(lambda: workers(sim) == ["c-4"], timeout_s=5)

    run(main())
