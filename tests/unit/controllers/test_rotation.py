"""Workers are used up and replaced while the work goes on: nobody notices a pause."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from taskctl.clock import parse_time
from taskctl.kube.resources import PODS
from tests.unit.controllers.simulation import Simulation, once_each
from tests.unit.controllers.virtual import run

# As measured on a real node: a pod is Ready 1.3 to 3 s after its creation, a container starts
# 70 ms after its patch, those of one pod one after the other, some 55 ms each.
POD_START_S = 3.0
SERIAL_S = 0.055


def like_a_real_node(sim: Simulation) -> None:
    sim.node.pod_start_s = POD_START_S
    sim.node.serial_s = SERIAL_S


def starts_s(sim: Simulation) -> list[float]:
    """When each task's container claimed it, in order."""
    times = (task["status"]["times"]["started"] for task in sim.tasks())
    return sorted(parse_time(text).timestamp() for text in times)


def longest_pause_s(sim: Simulation) -> float:
    return max(b - a for a, b in pairwise(starts_s(sim)))


def used(sim: Simulation) -> Counter[str]:
    return Counter(task["status"]["podName"] for task in sim.tasks())


def creations(sim: Simulation) -> list[str]:
    return [c.name for c in sim.api.log if (c.verb, c.plural) == ("create", "pods")]


@pytest.mark.timeout(180)
def test_chain_of_500_on_three_workers() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=3) as sim:
            like_a_real_node(sim)
            await asyncio.sleep(5)
            await sim.task("t", "chain", "499")
            await sim.until(lambda: sim.condition("t", "Complete") == "True")
            assert len(sim.tasks()) == 500
            assert longest_pause_s(sim) < 0.5
            counts = used(sim)
            assert len(counts) >= 6, "several rotations"
            assert max(counts.values()) <= 110
            assert {task["status"]["attempt"] for task in sim.tasks()} == {1}
            await sim.until(lambda: len(sim.api.all(PODS)) == 3, timeout_s=30)

    run(main())


@pytest.mark.timeout(180)
@pytest.mark.parametrize("pod_start_s", [POD_START_S, 8.0])
def test_burst_of_300_on_three_workers(pod_start_s: float) -> None:
    """100 containers are used up in 5 s: the worn ones serve on until others are up."""

    async def main() -> None:
        async with Simulation.started(replicas=3, slotsPerWorker=8) as sim:
            like_a_real_node(sim)
            await asyncio.sleep(10)
            sim.node.pod_start_s = pod_start_s
            await asyncio.gather(*(sim.task(f"t{n}") for n in range(300)))
            await sim.all_finished()
            assert longest_pause_s(sim) < 0.5
            pace = 300 / (starts_s(sim)[-1] - starts_s(sim)[0])
            assert pace > 0.8 * 3 / SERIAL_S
            assert max(used(sim).values()) <= 200
            once_each(sim)

    run(main())


@pytest.mark.timeout(180)
def test_replacements_do_not_come_all_at_once() -> None:
    """Ten workers, filled at the same pace: they are replaced over a while."""

    async def main() -> None:
        async with Simulation.started(replicas=10, rotation={"maxTasks": 40}) as sim:
            like_a_real_node(sim)
            await asyncio.sleep(5)
            created_s: list[float] = []
            seen = set(creations(sim))

            def look() -> bool:
                fresh = set(creations(sim)) - seen
                created_s.extend([sim.api.clock.monotonic_s()] * len(fresh))
                seen.update(fresh)
                return len(created_s) >= 10

            async def feed() -> None:
                for number in range(4000):
                    await sim.task(f"t{number}")
                    await asyncio.sleep(0.05)  # 2 a second for each worker

            feeding = asyncio.create_task(feed())
            await sim.until(look)
            feeding.cancel()
            at_once = max(
                sum(first <= other < first + 1.0 for other in created_s) for first in created_s
            )
            assert at_once <= 4
            # A quarter of the budget, at 2 a second: 5 s from the first to a last one with 40.
            assert created_s[-1] - created_s[0] > 3.5

    run(main())


@pytest.mark.timeout(180)
def test_no_replacement_can_be_had() -> None:
    """Workers go on to twice their budget, then the work stands still, and nothing is lost."""

    async def main() -> None:
        async with Simulation.started(replicas=1, rotation={"maxTasks": 20}) as sim:
            await asyncio.sleep(5)
            sim.node.pods_come_up = False
            await asyncio.gather(*(sim.task(f"t{n}") for n in range(50)))
            await sim.until(lambda: len(sim.node.runs) == 40)
            await asyncio.sleep(20)
            assert len(sim.node.runs) == 40
            sim.node.pods_come_up = True
            await sim.all_finished()
            once_each(sim)

    run(main())


def test_large_entries_wear_a_worker_out_sooner() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=1, slotsPerWorker=2) as sim:
            await asyncio.sleep(5)
            secret = {"secretKeyRef": {"name": "s", "key": "k" * 250}}
            env: list[dict[str, Any]] = [{"name": f"V{n}", "valueFrom": secret} for n in range(100)]
            for number in range(30):
                await sim.task(f"t{number}", "sleep", "0.5", env=env)
            await sim.all_finished()
            assert 8 < max(used(sim).values()) <= 17, "30 kB each: 512 KiB are 17 of them"

    run(main())
