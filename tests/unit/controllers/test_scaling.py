"""Workers come with the tasks that wait, and go when they have been idle for long enough."""

from __future__ import annotations

import asyncio
from typing import Any

from taskctl.api.resources import TASKCLUSTERS
from taskctl.kube.resources import PODS
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run

SCALED: dict[str, Any] = {"maxReplicas": 3, "slotsPerWorker": 2, "idleSecondsBeforeScaleDown": 60}


def workers(sim: Simulation) -> set[str]:
    pods = sim.api.all(PODS)
    return {p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"]}


def wanted(sim: Simulation) -> int | None:
    found: int | None = sim.api.peek(TASKCLUSTERS, "c").get("status", {}).get("replicas")
    return found


def test_from_nothing_to_what_is_needed_and_back() -> None:
    async def main() -> None:
        async with Simulation.started(**SCALED) as sim:
            await sim.until(lambda: wanted(sim) == 0)
            await asyncio.sleep(30)
            assert workers(sim) == set()
            await sim.task("first", "sleep", "10")
            await sim.until(lambda: sim.status("first")["state"] == "Running")
            assert len(workers(sim)) == 1
            for number in range(20):
                await sim.task(f"t{number}", "sleep", "10")
            await sim.until(lambda: len(workers(sim)) == 3)
            await sim.all_finished()
            await asyncio.sleep(45)
            assert len(workers(sim)) == 3, "they have not been idle for long enough"
            await sim.until(lambda: not workers(sim), timeout_s=30)
            assert wanted(sim) == 0
            await sim.task("again")
            await sim.finished("again")
            assert all(sim.status(f"t{number}")["attempt"] == 1 for number in range(20))

    run(main())


def test_a_worker_that_is_busy_stays_and_an_idle_one_goes() -> None:
    async def main() -> None:
        async with Simulation.started(**SCALED, minReplicas=1) as sim:
            await sim.until(lambda: len(workers(sim)) == 1)
            for name in ("a", "b", "c", "d"):
                await sim.task(name, "sleep", "5" if name != "d" else "500")
            await sim.until(lambda: sim.status("d")["state"] == "Running")
            busy = sim.status("d")["podName"]
            await sim.until(lambda: workers(sim) == {busy}, timeout_s=120)
            (status,) = await sim.finished("d")
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)
            await asyncio.sleep(500)
            assert workers(sim) == {busy}, "minReplicas"

    run(main())


def test_short_tasks_between_two_looks_keep_a_worker() -> None:
    async def main() -> None:
        async with Simulation.started(**SCALED) as sim:
            for number in range(10):
                await sim.task(f"t{number}", "sleep", "0.1")
                await sim.finished(f"t{number}")
                await asyncio.sleep(50)
            assert workers(sim) == {"c-1"}

    run(main())


def test_a_new_controller_gives_idle_workers_their_time() -> None:
    async def main() -> None:
        async with Simulation.started(**SCALED) as sim:
            await sim.task("t")
            await sim.finished("t")
            await asyncio.sleep(40)
            await sim.restart_controller()
            await asyncio.sleep(40)
            assert workers(sim) == {"c-1"}
            await sim.until(lambda: not workers(sim), timeout_s=60)

    run(main())


def test_a_lower_maximum_lets_busy_workers_finish() -> None:
    async def main() -> None:
        async with Simulation.started(**SCALED) as sim:
            for number in range(6):
                await sim.task(f"t{number}", "sleep", "30")
            await sim.until(lambda: all(t["status"]["state"] == "Running" for t in sim.tasks()))
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(maxReplicas=1))
            await sim.all_finished()
            assert all(t["status"]["attempt"] == 1 for t in sim.tasks())
            await sim.until(lambda: len(workers(sim)) == 1, timeout_s=30)

    run(main())
