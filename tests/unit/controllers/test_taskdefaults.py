"""Tasks that leave it to their TaskCluster: image, command, retries, time to live."""

from __future__ import annotations

import asyncio
from typing import Any

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.kube.resources import PODS
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run


async def bare(sim: Simulation, name: str, **spec: Any) -> None:
    body = {"metadata": {"name": name}, "spec": {"clusterName": "c", **spec}}
    await sim.api.create(TASKS, body, "ns")


def set_defaults(sim: Simulation, **defaults: Any) -> None:
    def change(cluster: dict[str, Any]) -> None:
        cluster["spec"]["taskDefaults"] = defaults
        cluster["metadata"]["generation"] = cluster["metadata"].get("generation", 1) + 1

    sim.api.edit(TASKCLUSTERS, "c", change)


def test_a_task_without_image_waits_for_one_and_says_where_it_may_come_from() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await bare(sim, "t")
            await sim.until(lambda: sim.status("t").get("reason") == "SpecIncomplete")
            message = sim.status("t")["message"]
            assert "spec.image is not set" in message
            assert "'c' has no spec.taskDefaults.image" in message
            set_defaults(sim, image="i:1")
            await sim.until(lambda: "spec.command is not set" in sim.status("t")["message"])
            set_defaults(sim, image="i:1", command=["ok"])
            (status,) = await sim.finished("t")
            assert status["state"] == "Succeeded"
            assert status["defaults"] == {"image": "i:1", "command": ["ok"]}
            assert sim.api.peek(TASKS, "t")["spec"] == {"clusterName": "c"}
            images = [
                entry["image"] for pod in sim.api.all(PODS)
                for entry in pod["spec"]["ephemeralContainers"]
            ]  # fmt: skip
            assert set(images) == {"i:1"}, "those that are parked for the next ones, too"

    run(main())


def test_defaults_that_go_before_the_task_is_placed_do_not_count() -> None:
    async def main() -> None:
        async with Simulation.started(
            slotsPerWorker=1, taskDefaults={"image": "i", "command": ["ok"]}
        ) as sim:
            await sim.task("first", "sleep", "20")
            await sim.until(lambda: sim.status("first")["state"] == "Running")
            await bare(sim, "t")
            await asyncio.sleep(5)
            set_defaults(sim, image="i")
            await sim.until(lambda: sim.status("t").get("reason") == "SpecIncomplete")
            await sim.finished("first")
            await asyncio.sleep(5)
            assert sim.status("t")["state"] == "Pending"

    run(main())


def test_retries_and_time_to_live_are_those_of_the_cluster() -> None:
    async def main() -> None:
        ttl = {"success": 20, "failure": 100}
        async with Simulation.started(
            taskDefaults={
                "retry": {"limit": 2, "backoffSeconds": 1},
                "ttlSecondsAfterFinished": ttl,
            }
        ) as sim:
            await sim.task("works", "fail-until", "3")
            await sim.task("fails", "fail", "1")
            await sim.task("stays", ttlSecondsAfterFinished=None)
            await sim.task("once", "fail", "1", retry={"limit": 0})
            states = [s["state"] for s in await sim.finished("works", "fails", "stays", "once")]
            assert states == ["Succeeded", "Failed", "Succeeded", "Failed"]
            assert (sim.status("works")["attempt"], sim.status("once")["attempt"]) == (3, 1)
            sim.api.edit(TASKCLUSTERS, "c", lambda cluster: cluster["spec"].pop("taskDefaults"))
            await sim.until(lambda: not sim.api.has(TASKS, "works"), timeout_s=60)
            assert sim.api.has(TASKS, "fails")
            await sim.until(lambda: not sim.api.has(TASKS, "fails"), timeout_s=200)
            await asyncio.sleep(1000)
            assert sim.api.has(TASKS, "stays")

    run(main())


def test_a_graph_takes_from_the_cluster_what_neither_root_nor_task_has() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await bare(sim, "g", tasks=[{"name": "a", "command": ["ok"]}, {"name": "b"}])
            await sim.until(lambda: sim.status("g").get("reason") == "SpecIncomplete")
            assert "spec.tasks[0].image is not set, nor has the root" in sim.status("g")["message"]
            set_defaults(sim, image="i", command=["ok"])
            await sim.until(lambda: sim.status("g")["state"] == "Succeeded")
            assert sim.status("g-b")["defaults"]["command"] == ["ok"]
            assert "command" not in sim.status("g-a")["defaults"]

    run(main())


def test_an_image_that_is_not_allowed_waits_until_it_is() -> None:
    async def main() -> None:
        async with Simulation.started(allowedImages=["good:*"]) as sim:
            await sim.task("bad", image="bad:1")
            await sim.task("good", image="good:1")
            await sim.until(lambda: sim.status("bad").get("reason") == "ImageNotAllowed")
            message = sim.status("bad")["message"]
            assert message == "spec.allowedImages of TaskCluster 'c' does not name image 'bad:1'."
            await sim.finished("good")
            await asyncio.sleep(60)
            assert sim.status("bad")["state"] == "Pending"
            allowed = ["good:*", "bad:1"]
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(allowedImages=allowed))
            await sim.finished("bad")

    run(main())


def test_an_image_that_is_forbidden_while_its_task_waits_for_a_slot() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=1) as sim:
            await sim.task("first", "sleep", "20")
            await sim.until(lambda: sim.status("first")["state"] == "Running")
            await sim.task("t", image="bad:1")
            await asyncio.sleep(3)
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(allowedImages=["img"]))
            await sim.finished("first")
            await asyncio.sleep(30)
            assert sim.status("t")["reason"] == "ImageNotAllowed"

    run(main())


def test_limits_of_a_tree_stay_as_they_were_when_it_began() -> None:
    async def main() -> None:
        async with Simulation.started(taskDefaults={"limits": {"liveTasks": 2}}) as sim:
            step = {"image": "i", "command": ["work", "5"]}
            tasks = [{**step, "name": f"t{n}"} for n in range(5)]
            spec = {"clusterName": "c", "tasks": tasks}
            await sim.api.create(TASKS, {"metadata": {"name": "g"}, "spec": spec}, "ns")
            most = 0

            def over() -> bool:
                nonlocal most
                running = [t for t in sim.tasks() if t["status"].get("state") == "Running"]
                most = max(most, len(running))
                if most == 3:  # the root, which runs nothing, and two tasks
                    set_defaults(sim)
                return sim.condition("g", "Complete") == "True"

            await sim.until(over)
            assert most == 3
            assert sim.status("g")["defaults"] == {"limits": {"liveTasks": 2}}
            assert sim.api.peek(TASKS, "g-t0")["spec"]["limits"] == {"liveTasks": 2}

    run(main())
