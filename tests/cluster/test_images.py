"""Images that cannot be pulled, come late, or hold next to nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from taskctl.client.resources import PODS, TASKS
from tests.cluster.disruptions import status_of
from tests.cluster.oracle import Oracle, noting
from tests.cluster.world import BUSYBOX, ClusterWorld
from tests.embedded.world import Object, eventually
from tests.realnode.node import NativeNode

pytestmark = pytest.mark.timeout(120)

SCRATCH = "localhost/taskctl-test-scratch:1"
# Nobody listens there: a pull fails at once, and nothing leaves the machine.
CLOSED_REGISTRY = "127.0.0.1:9"
START_DEADLINE_S = 6
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


async def shown_waiting(world: ClusterWorld, name: str) -> str:
    """Wait until a task says what the kubelet waits for; returns its words."""
    task = await eventually(
        lambda: world.get(TASKS, name),
        lambda task: "ImagePull" in task.get("status", {}).get("message", ""),
        what="the kubelet's words in the message",
    )
    assert (task["status"]["state"], task["status"]["reason"]) == ("Scheduled", "WaitingToStart")
    return str(task["status"]["message"])


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
    deadline = {"startDeadlineSeconds": START_DEADLINE_S}
    await world.task("stuck", *noting(), image=absent, **deadline)
    await world.in_state("stuck", "Scheduled")
    began = time.monotonic()
    for number in range(2):
        await nudge(world, f"beside-{number}")
    took_s = time.monotonic() - began
    assert took_s < NOT_HELD_UP_S, "others on the worker are not held up"
    assert absent in await shown_waiting(world, "stuck")

    status = (await world.finished("stuck"))["status"]
    assert (status["state"], status["reason"]) == ("Failed", "StartDeadlineExceeded")
    for word in (absent, f"startDeadlineSeconds={START_DEADLINE_S}", "connection refused"):
        assert word in status["message"], status["message"]

    # Kubernetes goes on trying for as long as the pod lives.
    await asyncio.to_thread(appear, node, absent)
    await nudge(world, "after")
    ended = await container_ended(world, status)
    assert ended["exitCode"] == 0
    everything = await oracle.judge("stuck", "after", "beside-0", "beside-1")
    assert everything["stuck"] == status, "the outcome stays"
    assert len(oracle.runs()) == 3, "user code of the late one did not run"


async def test_image_that_comes_in_time(
    world: ClusterWorld, oracle: Oracle, node: NativeNode, absent: str
) -> None:
    await world.cluster()
    await world.task("patient", *noting(), image=absent)
    await world.in_state("patient", "Scheduled")
    await nudge(world, "before")
    await shown_waiting(world, "patient")
    await asyncio.to_thread(appear, node, absent)
    await nudge(world, "after")
    statuses = await oracle.judge("patient", "before", "after")
    assert {s["state"] for s in statuses.values()} == {"Succeeded"}
    assert statuses["patient"]["attempt"] == 1, "no attempt was wasted"


async def test_cancelled_or_deleted_while_its_image_is_missing(
    world: ClusterWorld, oracle: Oracle, node: NativeNode, absent: str
) -> None:
    await world.cluster()
    await world.task("cancelled", *noting(), image=absent)
    await world.task("deleted", *noting(), image=absent)
    await world.in_state("deleted", "Scheduled")
    await nudge(world, "before")
    placed = {}
    for name in ("cancelled", "deleted"):
        await shown_waiting(world, name)
        placed[name] = (await world.get(TASKS, name))["status"]
    await world.patch(TASKS, "cancelled", {"spec": {"cancel": True}})
    await world.remove(TASKS, "deleted")
    status = (await world.finished("cancelled"))["status"]
    assert (status["state"], status["reason"]) == ("Cancelled", "Cancelled")
    await asyncio.to_thread(appear, node, absent)
    await nudge(world, "after")
    for name in ("cancelled", "deleted"):
        assert (await container_ended(world, placed[name]))["exitCode"] == 0
    await oracle.judge("cancelled", "before", "after", removed={"deleted"})
    assert len(oracle.runs()) == 2, "only those of the others"


async def test_name_that_is_no_image(world: ClusterWorld, oracle: Oracle) -> None:
    await world.cluster()
    await world.task("odd", *noting(), image="No Such:Name", startDeadlineSeconds=5)
    await world.in_state("odd", "Scheduled")
    await nudge(world, "beside")
    status = (await world.finished("odd"))["status"]
    assert (status["state"], status["reason"]) == ("Failed", "StartDeadlineExceeded")
    assert "InvalidImageName" in status["message"], status["message"]
    await oracle.judge("odd", "beside")


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
