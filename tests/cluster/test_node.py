"""Parts of the node stop and come back: kubelet, API server, container runtime; a drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.kube.client import KubeClient
from taskctl.policy.lost import SHOW_WAITING_AFTER_S
from tests.cluster.disruptions import Component, paused, running_tasks, status_of, stopped
from tests.cluster.oracle import Oracle, assert_one_attempt, link, noting
from tests.cluster.world import ClusterWorld
from tests.embedded.world import Object, eventually
from tests.realnode.node import NODE, NativeNode

pytestmark = pytest.mark.timeout(180)

KUBELET_AWAY_S = 8.0
# Longer than a controller may go without renewing its Lease: all of them start anew.
API_AWAY_S = 11.0
# A worker that cannot work has said so by then.
FAILS_WITHIN_S = 4.0
CHAIN = 8
BACK_S = 90.0
# After an outage the kubelet and the scheduler come back when they please: client-go's watches
# pause up to a minute, longest where there was another outage in the two minutes before.
OUTAGE_S = 150.0
COUNT = link(CHAIN)


def until(file: str, then: str = "") -> list[str]:
    """Return the command of a task that waits for a file in the workspace."""
    return noting(f"until [ -e /workspace/{file} ]; do sleep 0.1; done\n{then}")


async def started(world: ClusterWorld, oracle: Oracle, count: int) -> None:
    """Wait until so many tasks have begun."""

    async def runs() -> list[str]:
        return await asyncio.to_thread(oracle.runs)

    await eventually(runs, lambda lines: len(lines) == count, what=f"{count} tasks running")


async def busy(world: ClusterWorld, oracle: Oracle) -> None:
    """Keep one worker busy: two tasks run, two are placed, two wait in the queue."""
    await world.cluster(slotsPerWorker=2)
    await world.task("short", *until("go", "exit 4"))
    await world.task("long", *until("later"))
    await started(world, oracle, 2)
    for number in range(4):
        await world.task(f"queued-{number}", *noting())


def one_waits_to_start(tasks: list[Object]) -> bool:
    """Whether a task has been placed, and waits for the kubelet."""
    reasons = [task.get("status", {}).get("reason") for task in tasks]
    return reasons.count("WaitingToStart") == 1


BUSY = ("short", "long", *(f"queued-{number}" for number in range(4)))


async def assert_nothing_was_repeated(oracle: Oracle) -> None:
    """All tasks of :func:`busy` must have ended with their first attempt."""
    statuses = await oracle.judge(*BUSY, timeout_s=BACK_S)
    assert_one_attempt(statuses)
    assert statuses["short"]["exitCode"] == 4
    succeeded = {name for name, s in statuses.items() if s["state"] == "Succeeded"}
    assert succeeded == {*BUSY} - {"short"}


@pytest.mark.parametrize("hard", [False, True], ids=["stopped", "killed"])
async def test_kubelet_away(
    world: ClusterWorld, oracle: Oracle, node: NativeNode, hard: bool
) -> None:
    """What runs goes on, and its outcome is recorded without the kubelet; the rest waits."""
    await busy(world, oracle)
    async with stopped(node, Component.KUBELET, hard=hard):
        (world.workspace() / "go").touch()
        status = (await world.finished("short", timeout_s=5))["status"]
        assert (status["state"], status["exitCode"]) == ("Failed", 4)
        await eventually(
            lambda: world.all(TASKS),
            one_waits_to_start,
            timeout_s=2 * SHOW_WAITING_AFTER_S,
            what="the next one placed",
        )
        await asyncio.sleep(0 if hard else KUBELET_AWAY_S)
        assert (await world.get(TASKS, "long"))["status"]["state"] == "Running"
        assert len(oracle.runs()) == 2, "nobody can start anything meanwhile"
    (world.workspace() / "later").touch()
    await assert_nothing_was_repeated(oracle)


async def test_container_runtime_restarted(
    world: ClusterWorld, oracle: Oracle, node: NativeNode
) -> None:
    """Containers go on without containerd, which finds them again."""
    await busy(world, oracle)
    async with stopped(node, Component.CONTAINERD, hard=True):
        (world.workspace() / "go").touch()
        await world.finished("short", timeout_s=5)
        await asyncio.sleep(2)
    assert {c.name for c in running_tasks(node, world.namespace)} >= {
        (await world.get(TASKS, "long"))["status"]["containerName"]
    }
    (world.workspace() / "later").touch()
    await assert_nothing_was_repeated(oracle)


@pytest.mark.timeout(2 * OUTAGE_S)
async def test_api_server_away(world: ClusterWorld, oracle: Oracle, node: NativeNode) -> None:
    """A chain grows while the API server goes; tasks end, and are reported when it is back."""
    await world.cluster(replicas=2)
    workspace = world.workspace()
    await world.task("ends-meanwhile", *until("go", "exit 4"))
    await started(world, oracle, 1)
    await world.make(TASKOBJECTS, "start", data={"n": "0"})
    await world.task("c-0", "sh", "-ec", COUNT, inputObject="start")
    await world.finished("c-2")
    async with stopped(node, Component.API_SERVER, hard=True):
        (workspace / "go").touch()
        await asyncio.sleep(API_AWAY_S)
    links = [f"c-{number}" for number in range(CHAIN + 1)]
    await eventually(
        lambda: world.all(TASKS),
        lambda tasks: len(tasks) == len(links) + 1,
        timeout_s=OUTAGE_S,
        what="the whole chain",
    )
    statuses = await oracle.judge("ends-meanwhile", *links, timeout_s=OUTAGE_S)
    assert_one_attempt(statuses)
    assert statuses["ends-meanwhile"]["exitCode"] == 4
    assert {statuses[name]["state"] for name in links} == {"Succeeded"}
    assert (await world.get(TASKOBJECTS, f"c-{CHAIN}-output"))["data"] == {"n": str(CHAIN)}
    # Nobody has to be woken: new workers come, too, once all of Kubernetes is back in step.
    await world.patch(TASKCLUSTERS, "c", {"spec": {"replicas": 3}})
    await world.cluster_ready(timeout_s=OUTAGE_S)


@asynccontextmanager
async def drained(world: ClusterWorld) -> AsyncIterator[None]:
    """Drain the node of this world's pods for the length of the block."""
    try:
        await world.kubectl(
            "drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--force",
            "--pod-selector=taskctl.dev/cluster=c-drain", "--timeout=50s", "--request-timeout=0",
        )  # fmt: skip
        yield
    finally:
        await world.kubectl("uncordon", NODE)


async def test_drain(world: ClusterWorld, oracle: Oracle) -> None:
    """What ran there runs again when there is a place for it, and was not at fault."""
    await world.cluster("c-drain", replicas=2)
    script = noting('[ "$TASKCTL_ATTEMPT" -gt 1 ] || sleep 600')
    for name in ("a", "b"):
        await world.task(name, *script, clusterName="c-drain")
    for name in ("a", "b"):
        await world.in_state(name, "Running")
    async with drained(world):
        await world.task("new", *noting(), clusterName="c-drain")
        found = await eventually(
            lambda: world.get(TASKCLUSTERS, "c-drain"), says_unschedulable, what="the reason"
        )
        assert found["status"]["ready"] == 0
        for name in ("a", "b", "new"):
            assert (await world.get(TASKS, name))["status"]["state"] == "Pending"
    statuses = await oracle.judge("a", "b", "new", clusters=("c-drain",), timeout_s=BACK_S)
    assert {s["state"] for s in statuses.values()} == {"Succeeded"}
    assert {name: s["attempt"] for name, s in statuses.items()} == {"a": 2, "b": 2, "new": 1}
    for name in ("a", "b"):
        assert (statuses[name]["infraFailures"], statuses[name].get("failures", 0)) == (1, 0)


def says_unschedulable(cluster: Object) -> bool:
    """Whether the TaskCluster says why its workers are not there."""
    conditions = cluster.get("status", {}).get("conditions", [])
    return any("unschedulable" in condition.get("message", "") for condition in conditions)


async def test_namespace_made_a_moment_ago(client: KubeClient, node: NativeNode) -> None:
    """Workers come when Kubernetes has put there what pods need, and have not failed before."""
    async with AsyncExitStack() as stack:
        with paused(node, Component.CONTROLLER_MANAGER):
            world = await ClusterWorld.on_node(client, "early", node)
            stack.push_async_callback(world.delete)
            await world.make(TASKCLUSTERS, "c", spec={"replicas": 1})
            await eventually(world.workers, bool, what="a worker")
            await asyncio.sleep(FAILS_WITHIN_S)
        await world.cluster_ready(timeout_s=BACK_S)
        (pod,) = await world.workers()
        assert status_of(pod, "agent")["restartCount"] == 0
        await world.task("first", "true")
        assert (await world.finished("first"))["status"]["state"] == "Succeeded"
