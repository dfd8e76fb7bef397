"""Workspaces' claims in virtual time: never used wrongly, never taken from Tasks that need them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.constants import LABEL_CLUSTER_UID
from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import PODS, PVCS
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run

NAME = "c-workspace"


def claim(sim: Simulation) -> KubeObject:
    return sim.api.peek(PVCS, NAME)


def has_claim(sim: Simulation) -> bool:
    return sim.api.has(PVCS, NAME)


def condition(sim: Simulation, kind: str = "WorkspaceReady") -> dict[str, Any]:
    conditions = sim.api.peek(TASKCLUSTERS, "c").get("status", {}).get("conditions") or ()
    return next((dict(c) for c in conditions if c["type"] == kind), {"reason": "", "message": ""})


def workers(sim: Simulation) -> list[str]:
    return [pod["metadata"]["name"] for pod in sim.api.all(PODS)]


def uid(sim: Simulation) -> str:
    return str(sim.api.peek(TASKCLUSTERS, "c")["metadata"]["uid"])


async def ready(sim: Simulation) -> None:
    await sim.until(lambda: condition(sim, "Ready").get("status") == "True")


async def delete_cluster(sim: Simulation) -> None:
    await sim.api.delete(TASKCLUSTERS, "c", "ns")


def edit_workspace(sim: Simulation, **changes: Any) -> None:
    sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"]["workspace"].update(changes))


def pin(sim: Simulation) -> None:
    """As the API server's protection of claims that pods use."""
    sim.api.edit(PVCS, NAME, lambda c: c["metadata"].update(finalizers=["kubernetes.io/pvc"]))


def test_the_claim_goes_with_its_taskcluster() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            await sim.task("t")
            await sim.finished("t")
            await delete_cluster(sim)
            await sim.until(lambda: not has_claim(sim), timeout_s=60)

    run(main())


@pytest.mark.parametrize("controller", ["sees it go", "is away"])
def test_reclaim_counts_as_it_stands_at_the_end(controller: str) -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            edit_workspace(sim, reclaim="Retain")
            if controller == "is away":
                await asyncio.sleep(2)
                await sim.kill_controller()
                await delete_cluster(sim)
                await sim.start_controller()
            else:
                await delete_cluster(sim)  # in the same moment
            await asyncio.sleep(60)
            assert has_claim(sim)
            await sim.cluster(workspace={"reclaim": "Delete"})
            await ready(sim)
            assert claim(sim)["metadata"]["labels"][LABEL_CLUSTER_UID] == uid(sim), "taken over"
            await delete_cluster(sim)
            await sim.until(lambda: not has_claim(sim), timeout_s=60)

    run(main())


def test_a_controller_that_was_away_deletes_what_is_to_go() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            await sim.kill_controller()
            await delete_cluster(sim)
            await sim.start_controller()
            await sim.until(lambda: not has_claim(sim), timeout_s=60)

    run(main())


def test_orphaning_keeps_the_claim() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["metadata"].update(finalizers=["orphan"]))
            await delete_cluster(sim)
            sim.api.remove(TASKCLUSTERS, "c")
            await asyncio.sleep(60)
            assert has_claim(sim)

    run(main())


def test_unfinished_tasks_keep_the_claim_and_run_on_it_later() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            before = claim(sim)["metadata"]["uid"]
            await sim.task("t", "sleep", "30")
            await sim.until(lambda: sim.status("t")["state"] == "Running")
            await delete_cluster(sim)
            await sim.until(lambda: sim.status("t")["state"] == "Pending", timeout_s=120)
            await asyncio.sleep(120)
            assert claim(sim)["metadata"]["uid"] == before
            await sim.cluster(workspace={})
            await sim.finished("t")
            assert claim(sim)["metadata"]["uid"] == before
            assert claim(sim)["metadata"]["labels"][LABEL_CLUSTER_UID] == uid(sim)
            await asyncio.sleep(60)
            assert has_claim(sim), "it is the new one's"

    run(main())


@pytest.mark.parametrize("how", ["cancelled", "deleted", "while the controller is away"])
def test_the_claim_goes_once_no_task_needs_it(how: str) -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            await sim.task("t", suspend=True)
            await asyncio.sleep(1)
            await delete_cluster(sim)
            await asyncio.sleep(60)
            assert has_claim(sim)
            if how == "cancelled":
                sim.spec("t", cancel=True)
            elif how == "deleted":
                await sim.api.delete(TASKS, "t", "ns")
            else:
                await sim.kill_controller()
                await sim.api.delete(TASKS, "t", "ns")
                await sim.start_controller()
            await sim.until(lambda: not has_claim(sim), timeout_s=60)

    run(main())


def test_the_tasks_of_another_taskcluster_keep_nothing() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            await sim.task("t", clusterName="another")
            await delete_cluster(sim)
            await sim.until(lambda: not has_claim(sim), timeout_s=60)

    run(main())


def test_a_claim_that_another_taskcluster_names_stays() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            await sim.cluster("d", workspace={"claimName": NAME})
            await asyncio.sleep(1)
            await delete_cluster(sim)
            await asyncio.sleep(60)
            assert has_claim(sim)
            await sim.api.delete(TASKCLUSTERS, "d", "ns")
            await sim.until(lambda: not has_claim(sim), timeout_s=60)

    run(main())


@pytest.mark.parametrize("workspace", [{}, {"claimName": NAME}])
def test_workers_wait_for_a_claim_that_is_not_dying(workspace: dict[str, Any]) -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            pin(sim)
            before = claim(sim)["metadata"]["uid"]
            await delete_cluster(sim)
            await sim.until(lambda: "deletionTimestamp" in claim(sim)["metadata"], timeout_s=60)
            await sim.until(lambda: workers(sim) == [], timeout_s=120)
            await sim.cluster(workspace=workspace)
            await asyncio.sleep(60)
            assert workers(sim) == []
            assert condition(sim)["reason"] == "WorkspaceTerminating"
            assert condition(sim)["message"] in condition(sim, "Ready")["message"]
            sim.api.remove(PVCS, NAME)
            if workspace:
                await sim.api.create(PVCS, {"metadata": {"name": NAME}, "spec": {}}, "ns")
            await ready(sim)
            assert claim(sim)["metadata"]["uid"] != before

    run(main())


def test_a_claim_deleted_by_hand_is_given_up_and_made_again() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            pin(sim)
            await sim.task("t", "sleep", "20")
            await sim.until(lambda: sim.status("t")["state"] == "Running")
            await sim.api.delete(PVCS, NAME, "ns")
            await sim.until(lambda: condition(sim)["reason"] == "WorkspaceTerminating")
            assert (await sim.finished("t"))[0]["attempt"] == 1, "what runs may end"
            await sim.until(lambda: workers(sim) == [], timeout_s=60)
            sim.api.remove(PVCS, NAME)
            await ready(sim)
            assert "deletionTimestamp" not in claim(sim)["metadata"]

    run(main())


def test_workers_of_a_claim_that_was_replaced_are_replaced() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            sim.api.remove(PVCS, NAME)  # with its finalizers taken away
            await sim.until(lambda: workers(sim) == ["c-2"], timeout_s=120)

    run(main())


STRANGER = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "taskctl"}])
def test_no_worker_runs_on_a_strangers_claim(labels: dict[str, str]) -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            foreign = {"metadata": {"name": NAME, "labels": labels}, "spec": STRANGER}
            await sim.api.create(PVCS, foreign, "ns")
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=1, workspace={}))
            await sim.until(lambda: condition(sim)["reason"] == "NameConflict", timeout_s=30)
            await asyncio.sleep(60)
            assert workers(sim) == []
            asked = [c for c in sim.api.log if c.plural == "persistentvolumeclaims"]
            assert len([c for c in asked if c.who == "controller"]) < 20, (
                "it is not asked all the time"
            )
            await delete_cluster(sim)
            await asyncio.sleep(30)
            assert has_claim(sim), "not ours to delete"
            sim.api.remove(PVCS, NAME)
            await sim.cluster(workspace={})
            await ready(sim)

    run(main())


def test_no_worker_runs_on_a_kept_claim_of_another_size() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={"reclaim": "Retain"}) as sim:
            await ready(sim)
            await delete_cluster(sim)
            await sim.until(lambda: workers(sim) == [], timeout_s=120)
            await sim.cluster(workspace={"pvc": {"resources": {"requests": {"storage": "2Gi"}}}})
            await sim.until(lambda: condition(sim)["reason"] == "WorkspaceMismatch", timeout_s=30)
            await asyncio.sleep(60)
            assert workers(sim) == []
            assert "wanted 2Gi, actual 1Gi" in condition(sim)["message"]
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(workspace={}))
            await ready(sim)

    run(main())


def test_a_claim_of_an_earlier_version_loses_its_owner() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await ready(sim)
            owner = {"apiVersion": "taskctl.dev/v1alpha1", "kind": "TaskCluster", "name": "c"}
            old = {"ownerReferences": [owner | {"uid": uid(sim)}], "annotations": {}}
            sim.api.edit(PVCS, NAME, lambda c: c["metadata"].update(old))
            await sim.until(lambda: not claim(sim)["metadata"].get("ownerReferences"))
            assert claim(sim)["metadata"]["annotations"] == {"taskctl.dev/reclaim": "Delete"}

    run(main())
