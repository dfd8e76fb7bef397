"""Tasks say why they wait when their TaskCluster has no ready worker; healthy ones say nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from taskctl.api.resources import TASKCLUSTERS
from taskctl.kube.resources import PODS
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run


def reason(sim: Simulation, name: str) -> str:
    return str(sim.status(name).get("reason", ""))


def told(sim: Simulation) -> list[str]:
    """Names of the tasks that were told, in order."""
    return [
        call.name
        for call in sim.api.log
        if call.is_status and call.body["status"].get("reason") == "NoReadyWorker"
    ]


def set_pod_problem(sim: Simulation, name: str, why: str) -> None:
    waiting = {"waiting": {"reason": why, "message": "no such image"}}
    sim.node.set_pod(
        name, {"phase": "Pending", "containerStatuses": [{"name": "agent", "state": waiting}]}
    )


def test_image_of_the_worker_cannot_be_pulled() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            sim.node.pods_come_up = False
            await sim.task("t")
            await sim.until(lambda: sim.api.has(PODS, "c-1"))
            set_pod_problem(sim, "c-1", "ImagePullBackOff")
            begun_s = sim.api.clock.monotonic_s()
            await sim.until(lambda: reason(sim, "t") == "NoReadyWorker")
            assert 4 < sim.api.clock.monotonic_s() - begun_s < 8
            message = sim.status("t")["message"]
            assert message.startswith("TaskCluster 'c': 0 of 1 workers are ready.")
            assert "c-1: ImagePullBackOff: no such image" in message
            await asyncio.sleep(120)
            assert told(sim) == ["t"], "once, as long as nothing changes"
            sim.node.set_pod("c-1", running())
            (status,) = await sim.finished("t", timeout_s=5)
            assert (status["state"], status["message"]) == ("Succeeded", "")

    run(main())


def running() -> dict[str, Any]:
    return {
        "phase": "Running",
        "containerStatuses": [{"name": "agent", "state": {"running": {}}}],
    }


def test_words_that_change_are_told_twice_a_minute_at_most() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            sim.node.pods_come_up = False
            await sim.task("t")
            await asyncio.sleep(1)
            for number in range(170):
                set_pod_problem(sim, "c-1", ("ErrImagePull", "ImagePullBackOff")[number % 2])
                await asyncio.sleep(0.7)
            assert 2 <= len(told(sim)) <= 5

    run(main())


def test_no_workers_wanted() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await sim.task("t")
            await sim.until(lambda: reason(sim, "t") == "NoReadyWorker", timeout_s=10)
            assert "spec.replicas is 0" in sim.status("t")["message"]
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=1))
            await sim.finished("t", timeout_s=5)

    run(main())


def test_waiting_for_a_slot_is_not_worth_a_write() -> None:
    """Nor is waiting for the first worker for a moment."""

    async def main() -> None:
        async with Simulation.started(slotsPerWorker=1) as sim:
            sim.node.pod_start_s = 3.0
            for number in range(4):
                await sim.task(f"t{number}", "sleep", "15")
            await sim.all_finished()
            assert told(sim) == []
            states = [c.body["status"].get("state") for c in sim.api.log if c.is_status]
            assert states.count("Running") == 4
            assert states.count("Pending") == 0

    run(main())


def test_a_long_queue_is_told_a_little_at_a_time_and_takes_it_back() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0, slotsPerWorker=1) as sim:
            await asyncio.gather(*(sim.task(f"t{n}", "sleep", "60") for n in range(100)))
            await sim.until(lambda: len(told(sim)) > 0)
            begun_s = sim.api.clock.monotonic_s()
            await sim.until(lambda: len(told(sim)) == 100, timeout_s=30)
            assert sim.api.clock.monotonic_s() - begun_s > 3.5, "20 a second"
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=1))
            await sim.until(lambda: "NoReadyWorker" not in reasons(sim), timeout_s=20)
            assert reasons(sim) == {"Started", "Queued"}

    run(main())


def reasons(sim: Simulation) -> set[str]:
    return {str(task["status"].get("reason", "")) for task in sim.tasks()}


def test_after_a_restart_what_was_told_is_corrected() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0, slotsPerWorker=1) as sim:
            await sim.task("a", "sleep", "30")
            await sim.task("b", "sleep", "30")
            await sim.until(lambda: len(told(sim)) == 2)
            await sim.kill_controller()
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=1))
            await sim.start_controller()
            await sim.until(lambda: reasons(sim) == {"Started", "Queued"}, timeout_s=10)

    run(main())
