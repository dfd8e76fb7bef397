"""Workers on a node that is cordoned or drained, in virtual time."""

from __future__ import annotations

import asyncio

from taskctl.controllers.workerfacts import NODES_NOT_VISIBLE
from taskctl.errors import Forbidden
from taskctl.kube.resources import EVENTS, NODES, PODS
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run


async def node(sim: Simulation, name: str) -> None:
    await sim.api.create(NODES, {"metadata": {"name": name}, "spec": {}})


def place(sim: Simulation, node_name: str) -> None:
    """Say that all pods without a node are on this one."""
    for pod in sim.api.all(PODS):
        if "nodeName" not in pod["spec"]:
            name = pod["metadata"]["name"]
            sim.api.edit(PODS, name, lambda pod: pod["spec"].update(nodeName=node_name))


def cordon(sim: Simulation, name: str, *, yes: bool = True) -> None:
    sim.api.edit(NODES, name, lambda node: node["spec"].update(unschedulable=yes))


def worker_of(sim: Simulation, task: str) -> str:
    return str(sim.status(task)["podName"])


def test_a_cordoned_node_gets_no_tasks_and_is_left_when_its_tasks_are_over() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await node(sim, "old")
            await node(sim, "new")
            await sim.task("long", "sleep", "100")
            await sim.until(lambda: sim.status("long")["state"] == "Running")
            place(sim, "old")
            await asyncio.sleep(1)
            before = {pod["metadata"]["name"] for pod in sim.api.all(PODS)}
            cordon(sim, "old")
            await sim.until(lambda: len(sim.api.all(PODS)) == 3)
            place(sim, "new")
            await asyncio.sleep(10)
            for number in range(12):
                await sim.task(f"t{number}")
            await sim.finished(*(f"t{number}" for number in range(12)))
            assert not before & {worker_of(sim, f"t{number}") for number in range(12)}
            assert sim.status("long")["state"] == "Running", "what runs there is left alone"
            (status,) = await sim.finished("long")
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)
            names = {pod["metadata"]["name"] for pod in sim.api.all(PODS)}
            await sim.until(lambda: len(sim.api.all(PODS)) == 2)
            assert not before & {pod["metadata"]["name"] for pod in sim.api.all(PODS)}, names

    run(main())


def test_a_node_that_is_given_back_keeps_its_workers() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=1) as sim:
            await node(sim, "only")
            await sim.task("long", "sleep", "100")
            await sim.until(lambda: sim.status("long")["state"] == "Running")
            place(sim, "only")
            await asyncio.sleep(1)
            sim.node.pods_come_up = False  # the scheduler has no other node for the replacement
            cordon(sim, "only")
            await sim.until(lambda: len(sim.api.all(PODS)) == 2)
            await sim.task("next")
            await asyncio.sleep(20)
            assert sim.status("next")["state"] == "Pending"
            assert sim.status("next")["reason"] == "NoReadyWorker"
            cordon(sim, "only", yes=False)
            (status,) = await sim.finished("next")
            assert status["podName"] == worker_of(sim, "long")
            await sim.until(lambda: len(sim.api.all(PODS)) == 1)

    run(main())


def test_a_role_without_nodes_is_told_of_and_done_without() -> None:
    """That of a version which did not look at Nodes: ready all the same, and better once it may."""
    allowed = False

    def forbid(call: Call, after: bool) -> Exception | None:
        if call.plural == "nodes" and call.verb in ("list", "watch") and not after and not allowed:
            return Forbidden("nodes is forbidden", 403)
        return None

    def told(sim: Simulation) -> list[str]:
        return [e["message"] for e in sim.api.all(EVENTS) if e["reason"] == NODES_NOT_VISIBLE]

    async def main() -> None:
        nonlocal allowed
        async with Simulation.started(replicas=2) as sim:
            await sim.kill_controller()
            sim.api.faults = forbid
            await sim.start_controller()
            await node(sim, "old")
            await node(sim, "new")
            await sim.task("first")
            assert (await sim.finished("first"))[0]["state"] == "Succeeded"
            await sim.until(lambda: bool(told(sim)))
            await asyncio.sleep(60)
            (message,) = told(sim)
            assert "taskctl install" in message
            assert "nodes is forbidden" in message
            place(sim, "old")
            before = names(sim)
            allowed = True
            await asyncio.sleep(60)
            cordon(sim, "old")

            def left() -> bool:
                place(sim, "new")
                return not before & names(sim) and len(names(sim)) == 2

            await sim.until(left)

    run(main())


def names(sim: Simulation) -> set[str]:
    return {pod["metadata"]["name"] for pod in sim.api.all(PODS)}
