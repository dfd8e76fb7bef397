"""Workers that are deleted, evicted, or lose a container: their tasks go on, or run again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from taskctl.api.resources import TASKS
from taskctl.errors import AlreadyExists
from taskctl.kube.resources import PODS
from tests.cluster.disruptions import (
    container_id,
    has_container,
    kill_container,
    running_containers,
    status_of,
)
from tests.cluster.oracle import Oracle, assert_one_attempt, noting
from tests.cluster.world import BUSYBOX, ClusterWorld
from tests.embedded.world import Object, eventually
from tests.realnode.node import NativeNode

pytestmark = pytest.mark.timeout(150)

# Runs until it is stopped, but only the first time.
UNTIL_LOST = '[ "$TASKCTL_ATTEMPT" -gt 1 ] || sleep 600'
UNTIL_TOLD = "until [ -e /workspace/go ]; do sleep 0.1; done"
LOST_S = 60.0


async def running(world: ClusterWorld, oracle: Oracle, *names: str) -> dict[str, Object]:
    """Wait until the tasks' own code runs; returns their status."""
    found = {name: await world.in_state(name, "Running") for name in names}
    wanted = {f"{task['metadata']['uid']} 1" for task in found.values()}

    async def runs() -> list[str]:
        return await asyncio.to_thread(oracle.runs)

    await eventually(runs, lambda lines: wanted <= {*lines}, what="user code running")
    return {name: task["status"] for name, task in found.items()}


async def two_until_lost(world: ClusterWorld, oracle: Oracle) -> tuple[str, list[str]]:
    """Start two tasks on two workers that end only when lost; returns a worker and its tasks."""
    await world.cluster(replicas=2)
    for name in ("a", "b"):
        await world.task(name, *noting(UNTIL_LOST))
    placed = await running(world, oracle, "a", "b")
    worker = placed["a"]["podName"]
    return worker, [name for name in ("a", "b") if placed[name]["podName"] == worker]


async def assert_run_again(
    world: ClusterWorld, oracle: Oracle, worker: str, lost: list[str]
) -> None:
    """Judge a run in which those tasks lost their worker, through no fault of theirs."""
    for name in {"a", "b"} - {*lost}:
        task = await world.get(TASKS, name)
        assert task["status"]["state"] == "Running", "another worker's task is left alone"
        await world.patch(TASKS, name, {"spec": {"cancel": True}})
    statuses = await oracle.judge("a", "b")
    for name in lost:
        status = statuses[name]
        assert (status["state"], status["attempt"]) == ("Succeeded", 2), status
        assert (status["infraFailures"], status.get("failures", 0)) == (1, 0), status
        (record,) = status["attempts"]
        assert (record["podName"], record["reason"]) == (worker, "WorkerLost"), record
        assert status["podName"] != worker
    await world.cluster_ready(timeout_s=LOST_S)
    names = {pod["metadata"]["name"] for pod in await world.workers()}
    assert worker not in names, "the lost one was replaced by one of another name"


async def test_worker_deleted(world: ClusterWorld, oracle: Oracle) -> None:
    worker, lost = await two_until_lost(world, oracle)
    await world.kubectl("delete", "pod", worker, "--wait=false")
    await assert_run_again(world, oracle, worker, lost)


async def test_worker_evicted(world: ClusterWorld, oracle: Oracle) -> None:
    worker, lost = await two_until_lost(world, oracle)
    path = f"/api/v1/namespaces/{world.namespace}/pods/{worker}/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": worker}}
    await world.kubectl("create", "--raw", path, "-f", "-", body=eviction)
    await assert_run_again(world, oracle, worker, lost)


async def test_worker_deleted_by_force_and_its_name_taken(
    world: ClusterWorld, oracle: Oracle
) -> None:
    """Who has a lost worker's name but not its UID is no worker."""
    worker, lost = await two_until_lost(world, oracle)
    await world.kubectl("delete", "pod", worker, "--grace-period=0", "--force", "--wait=false")
    stranger = await taken_by_a_stranger(world, worker)
    for name in lost:
        await world.finished(name, timeout_s=LOST_S)
    found = await world.get(PODS, worker)
    assert found["metadata"]["uid"] == stranger["metadata"]["uid"], "nobody removed the stranger"
    assert "deletionTimestamp" not in found["metadata"]
    assert not found["spec"].get("ephemeralContainers"), "nothing was placed on it"
    await assert_run_again(world, oracle, worker, lost)


async def taken_by_a_stranger(world: ClusterWorld, name: str) -> Object:
    """Make a pod of that name as soon as it is free."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "agent",
        "image": BUSYBOX,
        "command": ["sleep", "600"],
        "securityContext": security,
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}

    async def make() -> Object | None:
        try:
            return await world.make(PODS, name, spec=spec)
        except AlreadyExists:
            return None

    made: Any = await eventually(make, bool, timeout_s=LOST_S, what=f"{name} free")
    return dict(made)


async def test_agent_killed(world: ClusterWorld, oracle: Oracle, node: NativeNode) -> None:
    """The kubelet starts the agent again; what runs goes on, and is reported to the new one."""
    await world.cluster(slotsPerWorker=3)
    await world.task("ends-meanwhile", *noting(f"{UNTIL_TOLD}; exit 3"))
    await world.task("goes-on", *noting("until [ -e /workspace/later ]; do sleep 0.1; done"))
    worker = (await running(world, oracle, "ends-meanwhile", "goes-on"))["goes-on"]["podName"]
    before = container_id(await world.get(PODS, worker), "agent")
    await asyncio.to_thread(kill_container, node, before)
    (world.workspace() / "go").touch()
    await world.finished("ends-meanwhile")
    pod = await eventually(
        lambda: world.get(PODS, worker),
        lambda pod: "running" in status_of(pod, "agent").get("state", {}),
        what="the agent running again",
    )
    assert container_id(pod, "agent") != before
    assert status_of(pod, "agent")["restartCount"] == 1
    assert (await world.get(TASKS, "goes-on"))["status"]["state"] == "Running"
    (world.workspace() / "later").touch()
    await world.task("after", *noting())
    statuses = await oracle.judge("ends-meanwhile", "goes-on", "after", agent_restarts=1)
    assert_one_attempt(statuses)
    assert statuses["ends-meanwhile"]["exitCode"] == 3
    assert {s["podName"] for s in statuses.values()} == {worker}


async def test_agent_without_rights(world: ClusterWorld) -> None:
    """A cluster whose rights somebody has cut says so where people look: on the Task."""
    role = json.loads(await world.kubectl("get", "clusterrole", "taskctl-worker", "-o", "json"))
    cut = [{"op": "replace", "path": "/rules", "value": []}]
    await world.kubectl("patch", "clusterrole", role["metadata"]["name"], "--type=json",
                        "-p", json.dumps(cut))  # fmt: skip
    try:
        await world.cluster()
        await world.task("t", "true")
        task = await eventually(
            lambda: world.get(TASKS, "t"),
            lambda task: "forbidden" in task.get("status", {}).get("message", ""),
            timeout_s=LOST_S,
            what="the API server's words on the Task",
        )
        assert "the agent refused hello (rejected)" in task["status"]["message"]
        assert task["status"]["state"] != "Failed"
    finally:
        back = [{"op": "replace", "path": "/rules", "value": role["rules"]}]
        await world.kubectl("patch", "clusterrole", role["metadata"]["name"], "--type=json",
                            "-p", json.dumps(back))  # fmt: skip
    done = await world.finished("t", timeout_s=LOST_S)
    assert done["status"]["state"] == "Succeeded"


async def test_sandbox_killed(world: ClusterWorld, oracle: Oracle, node: NativeNode) -> None:
    """All of a pod's containers die with its sandbox, as when a machine is switched off."""
    await world.cluster()
    await world.task("work", *noting(UNTIL_LOST))
    worker = (await running(world, oracle, "work"))["work"]["podName"]
    found = await asyncio.to_thread(running_containers, node, world.namespace)
    (sandbox,) = (c for c in found if c.pod == worker and not c.name)
    await asyncio.to_thread(kill_container, node, sandbox.id)
    statuses = await oracle.judge("work", agent_restarts=1, timeout_s=LOST_S)
    assert (statuses["work"]["state"], statuses["work"]["attempt"]) == ("Succeeded", 2)
    assert (statuses["work"]["infraFailures"], statuses["work"].get("failures", 0)) == (1, 0)


async def test_ended_container_removed_and_started_again(
    world: ClusterWorld, oracle: Oracle, node: NativeNode
) -> None:
    """The kubelet starts what its runtime has forgotten; user code must not run twice."""
    await world.cluster()
    await world.task("once", *noting("exit 5"))
    status = (await world.finished("once"))["status"]
    worker, container = status["podName"], status["containerName"]
    before = await ended(world, worker, container, "")
    await asyncio.to_thread(node.remove_container, before)
    assert not await asyncio.to_thread(has_container, node, before)
    await world.task("nudge", *noting())  # any news of the pod makes the kubelet look
    after = await ended(world, worker, container, before)
    assert await asyncio.to_thread(has_container, node, after), "it was really started again"
    second = status_of(await world.get(PODS, worker), container)["state"]["terminated"]
    assert second["exitCode"] == 0, "it ran nothing"
    log = await world.kubectl("logs", worker, "-c", container)
    assert f"the nonce of {container} was used before" in log, log
    await world.task("later", *noting())
    statuses = await oracle.judge("once", "nudge", "later")
    assert statuses["once"] == status, "the outcome stays"
    assert statuses["later"]["podName"] == worker, "the worker is as good as before"


async def ended(world: ClusterWorld, worker: str, container: str, before: str) -> str:
    """Wait until a container other than the one before has ended; returns its id."""

    def other(pod: Object) -> bool:
        entry = status_of(pod, container)
        return "terminated" in entry.get("state", {}) and container_id(pod, container) != before

    pod = await eventually(
        lambda: world.get(PODS, worker), other, timeout_s=90, what="another container ended"
    )
    return container_id(pod, container)


async def test_running_container_removed(
    world: ClusterWorld, oracle: Oracle, node: NativeNode
) -> None:
    """It can tell nobody about its end, and the one that the kubelet starts runs nothing."""
    await world.cluster()
    await world.task("work", *noting(UNTIL_LOST))
    status = (await running(world, oracle, "work"))["work"]
    worker, container = status["podName"], status["containerName"]
    found = await asyncio.to_thread(running_containers, node, world.namespace)
    (victim,) = (c for c in found if c.name == container)
    await asyncio.to_thread(node.remove_container, victim.id)
    await world.task("nudge", *noting())  # as above
    again = await ended(world, worker, container, victim.id)
    assert await asyncio.to_thread(has_container, node, again), "it was really started again"
    statuses = await oracle.judge("work", "nudge", timeout_s=LOST_S)
    assert (statuses["work"]["state"], statuses["work"]["attempt"]) == ("Succeeded", 2)
    (record,) = statuses["work"]["attempts"]
    assert record["reason"] == "ContainerLost"
    assert (statuses["work"]["infraFailures"], statuses["work"].get("failures", 0)) == (1, 0)
