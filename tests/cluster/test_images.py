"""Images that cannot be pulled, come late, or hold next to nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from taskctl.api.resources import TASKS
from taskctl.kube.resources import PODS
from tests.cluster.disruptions import status_of
from tests.cluster.oracle import Oracle, noting
from tests.cluster.world import BUSYBOX, ClusterWorld
from tests.embedded.world import Object, eventually
from tests.realnode.node import NativeNode

pytestmark = pytest.mark.timeout(120)

SCRATCH = "localhost/taskctl-test-scratch:1"
# Nobody listens there: a pull fails at once, and nothing leaves the machine.
CLOSED_REGISTRY = "127.0.0.1:9"
START_DEADLINE_S = 12
MOST_NUDGES = 8
# For a task beside one whose image cannot be pulled: a second for the start, a second for
# the pull that is tried first, and room for a busy machine.
NOT_HELD_UP_S = 8.0


@pytest.fixture
def absent(world: ClusterWorld, node: NativeNode) -> Iterator[str]:
    """Return the name of an image that the node has not and cannot get; it may appear later."""
    name = f"{CLOSED_REGISTRY}/{world.namespace}:1"
    yield name
    node.ctr("images", "rm", name)


def appear(node: NativeNode, image: str) -> None:
    """Let the node have an image under that name, as if it had been loaded there."""
    done = node.ctr("images", "tag", BUSYBOX, image)
    assert done.returncode == 0, done.stderr


async def nudge(world: ClusterWorld, name: str) -> None:
    """Run a task on the worker: with nothing to do for a pod, the kubelet looks every 10 s."""
    await world.task(name, *noting())
    status = (await world.finished(name))["status"]
    assert (status["state"], status["attempt"]) == ("Succeeded", 1)


async def shown_waiting(world: ClusterWorld, *names: str) -> list[str]:
    """Wait until tasks say what the kubelet waits for; returns the names of others that ran.

    The kubelet tells of a failed pull when it next looks at the pod.
    """
    others: list[str] = []
    while True:
        found = [await world.get(TASKS, name) for name in names]
        if all("Image" in task.get("status", {}).get("message", "") for task in found):
            break
        assert len(others) < MOST_NUDGES, found
        others.append(f"beside-{len(others)}")
        await nudge(world, others[-1])
    for task in found:
        assert task["spec"]["image"] in task["status"]["message"]
        assert (task["status"]["state"], task["status"]["reason"]) == (
            "Scheduled",
            "WaitingToStart",
        )
    return others


async def container_ended(world: ClusterWorld, status: Object) -> Object:
    """Wait until the container of a task was started after all, and has ended."""
    entry = await eventually(
        lambda: world.get(PODS, status["podName"]),
        lambda pod: "terminated" in status_of(pod, status["containerName"]).get("state", {}),
        what=f"a late start of {status['containerName']}",
    )
    ended: Object = status_of(entry, status["containerName"])["state"]["terminated"]
    return ended


async def test_image_that_cannot_be_pulled(
    world: ClusterWorld, oracle: Oracle, node: NativeNode, absent: str
) -> None:
    """The start deadline ends the task with the pull's error; its late container runs nothing."""
    await world.cluster()
    for name, image in (("stuck", absent), ("odd", "No Such:Image")):
        await world.task(name, *noting(), image=image, startDeadlineSeconds=START_DEADLINE_S)
    began = time.monotonic()
    others = await shown_waiting(world, "stuck", "odd")
    took_s = time.monotonic() - began
    assert took_s < NOT_HELD_UP_S * len(others), "others on the worker are not held up"

    odd = (await world.finished("odd"))["status"]
    status = (await world.finished("stuck"))["status"]
    for ended_so, words in (
        (odd, ("InvalidImageName", "No Such:Image")),
        (status, (absent, "connection refused", f"startDeadlineSeconds={START_DEADLINE_S}")),
    ):
        assert (ended_so["state"], ended_so["reason"]) == ("Failed", "StartDeadlineExceeded")
        assert all(word in ended_so["message"] for word in words), ended_so["message"]

    # Kubernetes goes on trying for as long as the pod lives.
    await asyncio.to_thread(appear, node, absent)
    await nudge(world, "after")
    ended = await container_ended(world, status)
    assert ended["exitCode"] == 0
    everything = await oracle.judge("stuck", "odd", "after", *others)
    assert everything["stuck"] == status, "the outcome stays"
    assert len(oracle.runs()) == len(others) + 1, "user code of the late one did not run"


async def test_image_that_comes_in_time(
    world: ClusterWorld, oracle: Oracle, node: NativeNode, absent: str
) -> None:
    await world.cluster()
    await world.task("patient", *noting(), image=absent)
    others = await shown_waiting(world, "patient")
    await asyncio.to_thread(appear, node, absent)
    await nudge(world, "after")
    statuses = await oracle.judge("patient", "after", *others)
    assert {s["state"] for s in statuses.values()} == {"Succeeded"}
    assert statuses["patient"]["attempt"] == 1, "no attempt was wasted"


async def test_cancelled_or_deleted_while_its_image_is_missing(
    world: ClusterWorld, oracle: Oracle, node: NativeNode, absent: str
) -> None:
    await world.cluster()
    await world.task("cancelled", *noting(), image=absent)
    await world.task("deleted", *noting(), image=absent)
    others = await shown_waiting(world, "cancelled", "deleted")
    placed = {name: (await world.get(TASKS, name))["status"] for name in ("cancelled", "deleted")}
    await world.patch(TASKS, "cancelled", {"spec": {"cancel": True}})
    await world.remove(TASKS, "deleted")
    status = (await world.finished("cancelled"))["status"]
    assert (status["state"], status["reason"]) == ("Cancelled", "Cancelled")
    await asyncio.to_thread(appear, node, absent)
    await nudge(world, "after")
    for name in ("cancelled", "deleted"):
        assert (await container_ended(world, placed[name]))["exitCode"] == 0
    await oracle.judge("cancelled", "after", *others, removed={"deleted"})
    assert len(oracle.runs()) == len(others) + 1, "only those of the others"


async def test_image_without_anything_but_the_program(world: ClusterWorld, oracle: Oracle) -> None:
    """No shell, no libc, no /tmp: taskctl-init brings along what it needs."""
    await world.cluster()
    steps = ["env", "TASK_NAME", "write", "/workspace/made", "by scratch", "exit", "7"]
    await world.task("bare", "/probe", *steps, image=SCRATCH)
    status = (await world.finished("bare"))["status"]
    assert (status["state"], status["reason"], status["exitCode"]) == ("Failed", "NonZeroExit", 7)
    assert "TASK_NAME=bare" in status["message"], "its last words are on record"
    assert (world.workspace() / "made").read_text() == "by scratch"
    output = ["/taskctl/bin/taskctl-init", "output", "--data", "n=5"]
    await world.task("speaks", *output, image=SCRATCH)
    await world.finished("speaks")
    log = await world.kubectl("logs", status["podName"], "-c", status["containerName"])
    assert log == "TASK_NAME=bare\n"
    statuses = await oracle.judge("bare", "speaks")
    assert statuses["speaks"]["state"] == "Succeeded"
    assert statuses["speaks"]["outputObject"] == "speaks-output"
