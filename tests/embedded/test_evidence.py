"""Workers that are deleted by somebody: what their pods know is used, and none stays for ever."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.clock import parse_time
from taskctl.constants import FINALIZER_EVIDENCE
from taskctl.errors import NotFound
from taskctl.kube.interface import DeleteOptions, PatchOptions, Propagation
from taskctl.kube.resources import NAMESPACES, PODS
from taskctl.testing.stack import Component, LocalStack
from tests.embedded.world import Object, World, eventually

KEEP = "tests.example/keep"
# Attempt 1 ignores SIGTERM and leaves a trace every 50 ms; later ones say when they began.
STUBBORN = """
if [ "$TASKCTL_ATTEMPT" -gt 1 ]; then date +%s.%N >/workspace/again; exit 0; fi
trap '' TERM
while :; do date +%s.%N >/workspace/trace.tmp; mv /workspace/trace.tmp /workspace/trace
sleep 0.05; done
"""


async def pod_or_none(world: World, name: str) -> Object | None:
    try:
        return await world.get(PODS, name)
    except NotFound:
        return None


async def gone(world: World, name: str, *, timeout_s: float = 20.0) -> None:
    await eventually(
        lambda: pod_or_none(world, name),
        lambda pod: pod is None,
        what=f"{name} gone",
        timeout_s=timeout_s,
    )


async def set_finalizers(world: World, name: str, finalizers: list[str]) -> Object:
    return await world.patch(PODS, name, {"metadata": {"finalizers": finalizers}})


async def begun(world: World, file: str = "trace") -> None:
    path = world.workspace() / file
    await eventually(lambda: asyncio.to_thread(path.exists), bool, what=f"{file} written")


def stamp(world: World, file: str) -> float:
    return float((world.workspace() / file).read_text())


async def test_last_state_of_a_deleted_worker(world: World) -> None:
    """As a kubelet leaves it: phase final, every container terminated; then the pin is removed."""
    await world.cluster()
    await world.task("work", "sleep", "60")
    name = (await world.in_state("work", "Running"))["status"]["podName"]
    pod = await world.get(PODS, name)
    assert pod["metadata"]["finalizers"] == [FINALIZER_EVIDENCE]
    await set_finalizers(world, name, [FINALIZER_EVIDENCE, KEEP])
    await world.client.delete(PODS, name, world.namespace, options=DeleteOptions(grace_s=5))

    def released(found: Object | None) -> bool:
        return found is not None and found["metadata"]["finalizers"] == [KEEP]

    await eventually(lambda: pod_or_none(world, name), released, what="released")
    final = await eventually(
        lambda: pod_or_none(world, name),
        lambda found: bool(found and found["status"]["phase"] in ("Failed", "Succeeded")),
        what="a final phase",
    )
    assert final is not None
    states = [
        entry["state"]
        for key in ("containerStatuses", "ephemeralContainerStatuses")
        for entry in final["status"][key]
    ]
    assert all("terminated" in state for state in states)
    await set_finalizers(world, name, [])
    await gone(world, name)


async def test_the_next_attempt_never_runs_beside_a_stubborn_one(world: World) -> None:
    """It is killed when its grace is over; only then is the attempt written off."""
    await world.cluster(replicas=2)
    await world.task("work", "sh", "-c", STUBBORN)
    name = (await world.in_state("work", "Running"))["status"]["podName"]
    await begun(world)
    await world.client.delete(PODS, name, world.namespace, options=DeleteOptions(grace_s=3))
    status = (await world.finished("work"))["status"]
    assert (status["state"], status["attempt"]) == ("Succeeded", 2)
    assert status["attempts"][0]["reason"] == "WorkerLost"
    assert stamp(world, "again") > stamp(world, "trace")
    await gone(world, name)


async def test_force_deletion_does_not_lose_the_evidence(world: World) -> None:
    await world.cluster(replicas=2)
    await world.task("work", "sh", "-c", STUBBORN)
    name = (await world.in_state("work", "Running"))["status"]["podName"]
    await begun(world)
    await world.client.delete(PODS, name, world.namespace, options=DeleteOptions(grace_s=0))
    status = (await world.finished("work"))["status"]
    assert (status["state"], status["attempt"]) == ("Succeeded", 2)
    assert stamp(world, "again") > stamp(world, "trace")
    await gone(world, name)


async def test_controller_was_away(world: World, stack: LocalStack) -> None:
    """The pod waits for it, and everything is found in the pod and the Task."""
    await world.cluster()
    await world.task("work", "sh", "-c", "[ $TASKCTL_ATTEMPT -gt 1 ] || sleep 60")
    name = (await world.in_state("work", "Running"))["status"]["podName"]
    await asyncio.to_thread(stack.kill, Component.CONTROLLER)
    try:
        await world.client.delete(PODS, name, world.namespace, options=DeleteOptions(grace_s=1))
        await asyncio.sleep(3)
        pod = await world.get(PODS, name)
        assert pod["metadata"]["finalizers"] == [FINALIZER_EVIDENCE]
    finally:
        await asyncio.to_thread(stack.start)
    await gone(world, name)
    status = (await world.finished("work"))["status"]
    assert (status["state"], status["attempt"], status["infraFailures"]) == ("Succeeded", 2, 1)


async def test_taskcluster_deleted_while_tasks_run(world: World) -> None:
    await world.cluster(replicas=2)
    for number in range(3):
        await world.task(f"t{number}", "sleep", "60")
        await world.in_state(f"t{number}", "Running")
    await world.remove(TASKCLUSTERS, "c")
    await eventually(world.workers, lambda pods: pods == [], what="no workers")
    for number in range(3):
        status = (await world.get(TASKS, f"t{number}"))["status"]
        assert (status["state"], status["infraFailures"]) == ("Pending", 1)


async def test_workers_left_behind_by_their_taskcluster(world: World) -> None:
    await world.cluster()
    await world.task("work", "sh", "-c", "until [ -e /workspace/go ]; do sleep 0.05; done")
    name = (await world.in_state("work", "Running"))["status"]["podName"]
    workspace = world.workspace()
    orphan = DeleteOptions(propagation=Propagation.ORPHAN)
    await world.client.delete(TASKCLUSTERS, "c", world.namespace, options=orphan)
    await eventually(lambda: world.all(TASKCLUSTERS), lambda found: found == [], what="gone")
    await asyncio.sleep(1)
    pod = await world.get(PODS, name)
    assert pod["metadata"]["finalizers"] == [FINALIZER_EVIDENCE], "the task still runs"
    (workspace / "go").touch()
    assert (await world.finished("work"))["status"]["state"] == "Succeeded"
    await eventually(
        lambda: world.get(PODS, name),
        lambda pod: "finalizers" not in pod["metadata"],
        what="released",
        timeout_s=40,
    )
    await world.remove(PODS, name)
    await gone(world, name)


async def test_namespace_deleted_while_tasks_run(world: World) -> None:
    await world.cluster(replicas=2)
    for number in range(3):
        await world.task(f"t{number}", "sleep", "60")
        await world.in_state(f"t{number}", "Running")
    await world.client.delete(NAMESPACES, world.namespace)
    # Their account goes with the namespace: agents can report nothing, and would take all of
    # their grace to try.
    for pod in await world.workers():
        options = DeleteOptions(grace_s=2)
        await world.client.delete(PODS, pod["metadata"]["name"], world.namespace, options=options)

    async def exists() -> bool:
        try:
            await world.client.get(NAMESPACES, world.namespace)
        except NotFound:
            return False
        return True

    await eventually(exists, lambda there: not there, what="namespace gone")
    # The fixture deletes a namespace at the end.
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}}
    await world.client.create(NAMESPACES, body)


async def test_stranger_takes_the_name_of_a_worker(world: World) -> None:
    """Another pod of the same name, labels and all, is not taken for the one that is gone."""
    await world.cluster()
    await world.task("work", "sh", "-c", "[ $TASKCTL_ATTEMPT -gt 1 ] || sleep 60")
    first = (await world.in_state("work", "Running"))["status"]
    name = first["podName"]
    old = await world.get(PODS, name)
    await world.client.delete(PODS, name, world.namespace, options=DeleteOptions(grace_s=1))
    await gone(world, name)
    stranger = await world.make(
        PODS, name, spec={"containers": [{"name": "x", "image": "busybox", "command": ["true"]}]}
    )
    assert stranger["metadata"]["uid"] != old["metadata"]["uid"]
    status = (await world.finished("work"))["status"]
    assert (status["state"], status["attempt"]) == ("Succeeded", 2)
    assert status["podUID"] not in (old["metadata"]["uid"], stranger["metadata"]["uid"])
    again = await world.get(PODS, name)
    assert again["metadata"]["uid"] == stranger["metadata"]["uid"], "left alone"
    await world.remove(PODS, name)


# --- rotation -----------------------------------------------------------------------


def paused(tasks: list[Object]) -> bool:
    """Whether nothing was started for a good part of the time that all took."""
    starts = sorted(parse_time(task["status"]["times"]["started"]) for task in tasks)
    longest_s = max((b - a).total_seconds() for a, b in pairwise(starts))
    return longest_s >= max(3.0, (starts[-1] - starts[0]).total_seconds() / 4)


def used(tasks: list[Object]) -> dict[str, int]:
    pods: dict[str, int] = {}
    for task in tasks:
        name = task["status"]["podName"]
        pods[name] = pods.get(name, 0) + 1
    return pods


async def ended(world: World, count: int, *, timeout_s: float) -> list[Object]:
    def all_over(tasks: list[Object]) -> bool:
        states = [task["status"].get("state") for task in tasks]
        assert "Failed" not in states
        return states.count("Succeeded") == count

    return await eventually(
        lambda: world.all(TASKS), all_over, timeout_s=timeout_s, what=f"{count} done"
    )


@pytest.mark.timeout(240)
async def test_chain_runs_through_rotations_without_a_pause(world: World) -> None:
    await world.cluster(replicas=3, rotation={"maxTasks": 20})
    script = (
        "n=$(taskctl-init input n); sleep 0.05; [ $n -ge 100 ] || "
        'taskctl-init spawn --key next --data "n=$((n + 1))" >/dev/null'
    )
    await world.task("chain", "sh", "-ec", script, input={"n": 0})
    tasks = await ended(world, 101, timeout_s=180)
    assert len(used(tasks)) >= 5, "several rotations"
    assert not paused(tasks)
    assert {task["status"]["attempt"] for task in tasks} == {1}


@pytest.mark.timeout(240)
async def test_burst_does_not_stall_while_replacements_come_up(world: World) -> None:
    await world.cluster(replicas=3, slotsPerWorker=8, rotation={"maxTasks": 20})
    names = [f"t{number}" for number in range(120)]
    await asyncio.gather(*(world.task(name, "true") for name in names))
    tasks = await ended(world, 120, timeout_s=180)
    assert not paused(tasks)
    assert max(used(tasks).values()) <= 40
    assert {task["status"]["attempt"] for task in tasks} == {1}


async def test_task_without_a_ready_worker_says_so(world: World) -> None:
    await world.make(TASKCLUSTERS, "c", spec={"replicas": 1, "template": NOWHERE})
    await world.task("work", "true")
    task: Any = await eventually(
        lambda: world.get(TASKS, "work"),
        lambda task: task["status"].get("reason") == "NoReadyWorker",
        what="explained",
        timeout_s=15,
    )
    assert "0 of 1 workers are ready" in task["status"]["message"]
    body = {"spec": {"template": None}}
    await world.client.patch(TASKCLUSTERS, "c", world.namespace, body, options=PatchOptions())
    assert (await world.finished("work"))["status"]["state"] == "Succeeded"


NOWHERE = {"nodeSelector": {"tests.example/no": "such-node"}}
