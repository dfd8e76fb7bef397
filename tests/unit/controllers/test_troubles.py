"""The condition Ready says why workers do not come up, also where only an Event tells."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS
from taskctl.errors import Conflict, Forbidden, Unavailable
from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import EVENTS, PODS, PVCS
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run

MOUNT = 'MountVolume.SetUp failed for volume "data" : hostPath type check failed: /x'


def condition(sim: Simulation, kind: str = "Ready") -> dict[str, Any]:
    conditions = sim.api.peek(TASKCLUSTERS, "c").get("status", {}).get("conditions") or ()
    return next((dict(c) for c in conditions if c["type"] == kind), {"message": ""})


async def warn(sim: Simulation, about: KubeObject, reason: str, message: str) -> None:
    event = {
        "metadata": {"name": f"{reason.lower()}-1"},
        "involvedObject": {"uid": about["metadata"]["uid"]},
        "type": "Warning",
        "reason": reason,
        "message": message,
    }
    await sim.api.create(EVENTS, event, "ns")


def starting(sim: Simulation, reason: str) -> None:
    waiting = {"waiting": {"reason": reason}}
    sim.node.set_pod(
        "c-1", {"phase": "Pending", "containerStatuses": [{"name": "agent", "state": waiting}]}
    )


@pytest.mark.parametrize("reason", ["PodInitializing", "ContainerCreating", ""])
def test_a_volume_that_cannot_be_mounted(reason: str) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            sim.node.pods_come_up = False
            await sim.until(lambda: sim.api.has(PODS, "c-1"))
            if reason:
                starting(sim, reason)
            await warn(sim, sim.api.peek(PODS, "c-1"), "FailedMount", MOUNT)
            await sim.until(lambda: "FailedMount" in condition(sim)["message"], timeout_s=15)
            assert (
                condition(sim)["message"] == f"0 of 1 workers are ready. c-1: FailedMount: {MOUNT}"
            )
            sim.node.set_pod("c-1", {"phase": "Running"} | RUNNING)
            await sim.until(lambda: condition(sim)["message"] == "1 workers are ready.")

    run(main())


RUNNING = {"containerStatuses": [{"name": "agent", "state": {"running": {}}}]}


def test_a_claim_that_gets_no_volume() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            sim.node.pods_come_up = False
            await sim.until(lambda: sim.api.has(PVCS, "c-workspace"))
            claim = sim.api.peek(PVCS, "c-workspace")
            await warn(sim, claim, "ProvisioningFailed", 'storageclass "x" not found')
            words = 'ProvisioningFailed: storageclass "x" not found'
            await sim.until(lambda: words in condition(sim)["message"], timeout_s=15)
            await sim.until(lambda: words in condition(sim, "WorkspaceReady")["message"])

    run(main())


def test_events_are_asked_for_seldom_and_only_while_workers_are_missing() -> None:
    asked: list[str] = []

    def listen(call: Call, after: bool) -> Exception | None:
        if call.plural == "events" and call.verb == "list" and not after:
            asked.append(call.verb)
        return None

    async def main() -> None:
        async with Simulation.started() as sim:
            sim.api.faults = listen
            await asyncio.sleep(60)
            assert asked == []
            sim.node.pods_come_up = False
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=9))
            await asyncio.sleep(60)
            assert 1 <= len(asked) <= 3 * 13, "three objects every five seconds"

    run(main())


@pytest.mark.parametrize("error", [Forbidden("no", 403), Unavailable("no", 503)])
def test_without_events_the_status_is_written_all_the_same(error: Exception) -> None:
    def refuse(call: Call, after: bool) -> Exception | None:
        return error if call.plural == "events" and call.verb == "list" else None

    async def main() -> None:
        async with Simulation.started() as sim:
            sim.node.pods_come_up = False
            sim.api.faults = refuse
            await sim.until(lambda: sim.api.has(PODS, "c-1"))
            starting(sim, "PodInitializing")
            await sim.until(lambda: "PodInitializing" in condition(sim)["message"], timeout_s=15)

    run(main())


def test_the_status_keeps_up_with_the_spec_whatever_fails() -> None:
    def refuse(call: Call, after: bool) -> Exception | None:
        return Conflict("busy", 409) if call.plural == "pods" and call.verb == "create" else None

    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.until(lambda: condition(sim).get("status") == "True")
            sim.api.faults = refuse
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=3))

            def observed() -> int:
                return int(sim.api.peek(TASKCLUSTERS, "c")["status"]["observedGeneration"])

            await sim.until(lambda: observed() == 2, timeout_s=15)
            assert condition(sim)["message"].startswith("1 of 3")

    run(main())


def test_what_is_said_of_a_generation_was_worked_out_from_it() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.until(lambda: condition(sim).get("status") == "True")
            for replicas in (2, 3, 1, 2, 5):
                change = {"replicas": replicas}
                sim.api.edit(TASKCLUSTERS, "c", partial(_update_spec, change))
                await asyncio.sleep(0.3)
                cluster = sim.api.peek(TASKCLUSTERS, "c")
                if cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"]:
                    assert cluster["status"]["replicas"] == replicas
            await sim.until(lambda: sim.api.peek(TASKCLUSTERS, "c")["status"]["ready"] == 5)

    run(main())


def _update_spec(change: dict[str, Any], cluster: KubeObject) -> None:
    cluster["spec"].update(change)


def test_a_server_that_does_not_answer() -> None:
    """The mount hangs for minutes, and no Event tells of it."""

    async def main() -> None:
        server = {"server": "10.0.0.9", "path": "/data"}
        async with Simulation.started(workspace={"nfs": server}) as sim:
            sim.node.pods_come_up = False
            await sim.until(lambda: sim.api.has(PODS, "c-1"))
            sim.api.edit(PODS, "c-1", lambda pod: pod["spec"].update(nodeName="n"))
            starting(sim, "ContainerCreating")
            words = "NFS server 10.0.0.9, path /data"
            await sim.until(lambda: words in condition(sim)["message"], timeout_s=30)
            before = condition(sim)
            await asyncio.sleep(60)
            assert condition(sim) == before, "said once"

    run(main())
