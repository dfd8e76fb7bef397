"""Workers come, go, wear out and get lost; the work goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.errors import Invalid
from taskctl.kube.interface import PatchOptions
from taskctl.kube.resources import CONFIGMAPS, NODES, PODS, PVCS
from tests.embedded.world import World, eventually


def words_of(cluster: dict[str, Any]) -> str:
    """Return what the condition Ready of a TaskCluster says."""
    conditions = cluster.get("status", {}).get("conditions") or []
    return next((c["message"] for c in conditions if c["type"] == "Ready"), "")


async def test_worker_deleted_while_a_task_runs(world: World) -> None:
    await world.cluster(replicas=2)
    script = "echo $TASKCTL_ATTEMPT >>/workspace/runs; [ $TASKCTL_ATTEMPT -gt 1 ] || sleep 60"
    await world.task("work", "sh", "-c", script)
    task = await world.in_state("work", "Running")
    workspace = world.workspace()
    await eventually(lambda: asyncio.to_thread((workspace / "runs").exists), bool, what="running")
    await world.remove(PODS, task["status"]["podName"])
    status = (await world.finished("work", timeout_s=45))["status"]
    assert status["state"] == "Succeeded"
    assert status["attempt"] == 2
    assert status["infraFailures"] == 1
    assert status.get("failures", 0) == 0, "a lost worker is not the user's failure"
    assert (workspace / "runs").read_text().split() == ["1", "2"]
    await world.cluster_ready()


async def test_workers_follow_replicas(world: World) -> None:
    await world.cluster(replicas=2)
    await world.patch(TASKCLUSTERS, "c", {"spec": {"replicas": 3}})
    await eventually(world.workers, lambda pods: len(pods) == 3, what="three workers")
    await world.patch(TASKCLUSTERS, "c", {"spec": {"replicas": 1}})
    await eventually(world.workers, lambda pods: len(pods) == 1, what="one worker")


async def test_scale_down_spares_the_busy_one(world: World) -> None:
    await world.cluster(replicas=2)
    await world.task("hold", "sh", "-c", "until [ -e /workspace/go ]; do sleep 0.05; done")
    busy = (await world.in_state("hold", "Running"))["status"]["podName"]
    await world.patch(TASKCLUSTERS, "c", {"spec": {"replicas": 1}})
    pods = await eventually(world.workers, lambda pods: len(pods) == 1, what="one worker")
    assert pods[0]["metadata"]["name"] == busy
    (world.workspace() / "go").touch()
    assert (await world.finished("hold"))["status"]["state"] == "Succeeded"


async def test_rotation_after_its_budget(world: World) -> None:
    await world.cluster(replicas=1, rotation={"maxTasks": 3})
    for number in range(8):
        await world.task(f"t{number}", "true")
    pods = set()
    for number in range(8):
        status = (await world.finished(f"t{number}", timeout_s=45))["status"]
        assert (status["state"], status["attempt"]) == ("Succeeded", 1)
        pods.add(status["podName"])
    assert len(pods) >= 3, "no worker ran more than three"
    await eventually(world.workers, lambda found: len(found) == 1, what="the worn ones are gone")


async def test_task_that_needs_more_slots_than_a_worker_has(world: World) -> None:
    await world.cluster(slotsPerWorker=2)
    await world.task("wide", "true", slots=5)
    task = await eventually(
        lambda: world.get(TASKS, "wide"),
        lambda task: task["status"].get("reason") == "SlotsExceedWorker",
        what="explained",
    )
    assert "5" in task["status"]["message"]


async def test_deleting_the_cluster_takes_workers_and_workspace_along(world: World) -> None:
    await world.cluster()
    await world.remove(TASKCLUSTERS, "c")
    await eventually(world.workers, lambda pods: pods == [], what="no workers")
    await eventually(lambda: world.all(PVCS), lambda claims: claims == [], what="no claim")


async def test_retained_workspace_stays(world: World) -> None:
    await world.cluster(workspace={"enable": True, "reclaim": "Retain"})
    await world.remove(TASKCLUSTERS, "c")
    await eventually(world.workers, lambda pods: pods == [], what="no workers")
    assert len(await world.all(PVCS)) == 1


async def test_log_is_copied_to_the_workspace(world: World) -> None:
    await world.cluster()
    await world.task("talk", "sh", "-c", "echo to be kept")
    await world.finished("talk")
    logs = list((world.workspace() / ".taskctl" / "logs").rglob("*talk*"))
    assert len(logs) == 1
    assert logs[0].read_text() == "to be kept\n"


async def test_files_of_a_task_go_with_it_and_those_of_others_stay(world: World) -> None:
    await world.cluster(workspace={"enable": True, "cleanup": {"periodSeconds": 5}})
    for name in ("goes", "stays"):
        await world.task(name, "sh", "-c", "echo to be kept")
        await world.finished(name)

    def files_of(name: str) -> list[Path]:
        return list((world.workspace() / ".taskctl").rglob(f"*{name}*"))

    assert files_of("goes")
    assert files_of("stays")
    await world.remove(TASKS, "goes")
    await eventually(
        lambda: asyncio.to_thread(files_of, "goes"), lambda found: not found, what="cleaned"
    )
    assert files_of("stays")


async def test_tasks_find_their_files_when_their_cluster_is_made_again(world: World) -> None:
    """While a task that was cut off waits for a TaskCluster, its workspace stays."""
    await world.cluster()
    script = 'if [ -e "$TASKCTL_WORKSPACE/begun" ]; then exit 0; fi; '
    script += 'touch "$TASKCTL_WORKSPACE/begun"; sleep 300'
    await world.task("t", "sh", "-c", script)
    await world.in_state("t", "Running")
    await eventually(
        lambda: asyncio.to_thread((world.workspace() / "begun").exists), bool, what="begun"
    )
    await world.remove(TASKCLUSTERS, "c")
    await eventually(world.workers, lambda pods: pods == [], what="no workers")
    await world.in_state("t", "Pending")
    kept = await world.all(PVCS)
    await world.cluster()
    assert (await world.finished("t"))["status"]["state"] == "Succeeded"
    assert [c["metadata"]["uid"] for c in await world.all(PVCS)] == [
        c["metadata"]["uid"] for c in kept
    ]


async def test_a_cluster_made_again_at_once_has_a_claim_of_its_own(world: World) -> None:
    await world.cluster()
    await world.task("first", "sh", "-c", 'touch "$TASKCTL_WORKSPACE/old"')
    await world.finished("first")
    before = (await world.all(PVCS))[0]["metadata"]["uid"]
    await world.remove(TASKCLUSTERS, "c")
    await world.cluster()
    await world.task("second", "sh", "-c", 'test ! -e "$TASKCTL_WORKSPACE/old"')
    assert (await world.finished("second"))["status"]["state"] == "Succeeded"
    (claim,) = await world.all(PVCS)
    assert claim["metadata"]["uid"] != before
    assert "deletionTimestamp" not in claim["metadata"]


async def test_a_cluster_says_in_whose_words_its_workers_do_not_come(world: World) -> None:
    workspace = {"hostPath": {"path": "/nowhere/at/all", "type": "Directory"}}
    spec = {"replicas": 1, "workspace": workspace}
    await world.make(TASKCLUSTERS, "c", spec=spec)

    await eventually(
        lambda: world.get(TASKCLUSTERS, "c"),
        lambda found: "/nowhere/at/all does not exist" in words_of(found),
        what="told why",
    )


async def test_workers_come_with_a_waiting_task_and_go_when_idle(world: World) -> None:
    zones = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    spec = {
        "maxReplicas": 2,
        "idleSecondsBeforeScaleDown": 1,
        "workspace": {"enable": True},
        "images": ["a:1", "b:1"],
        "template": {"labels": {"team": "x"}, "topologySpreadConstraints": [zones]},
    }
    await world.make(TASKCLUSTERS, "c", spec=spec)
    await world.task("one", "true")
    assert (await world.finished("one", timeout_s=90))["status"]["state"] == "Succeeded"
    await eventually(world.workers, lambda found: found == [], what="no workers", timeout_s=90)
    cluster = await world.get(TASKCLUSTERS, "c")
    assert cluster["spec"]["replicas"] == 1, "the spec is the user's"
    with pytest.raises(Invalid, match="replicas is not used with maxReplicas"):
        await world.patch(TASKCLUSTERS, "c", {"spec": {"replicas": 2}})
    await world.task("two", "sleep", "600")
    task = await world.in_state("two", "Running", timeout_s=90)
    pod = await world.get(PODS, task["status"]["podName"])
    assert pod["metadata"]["labels"]["team"] == "x"
    pulls = {one["name"]: one["state"] for one in pod["status"]["initContainerStatuses"]}
    assert pulls["pull-2"]["terminated"]["exitCode"] == 0
    await world.patch(TASKS, "two", {"spec": {"cancel": True}})
    assert (await world.finished("two", timeout_s=90))["status"]["state"] == "Cancelled"


async def test_a_cordoned_node_gets_no_tasks(world: World) -> None:
    await world.cluster(replicas=1)
    await world.task("hold", "sh", "-c", "until [ -e /workspace/go ]; do sleep 0.05; done")
    busy = (await world.in_state("hold", "Running"))["status"]["podName"]
    directory = world.workspace()
    node = (await world.get(PODS, busy))["spec"]["nodeName"]

    async def cordon(*, yes: bool) -> None:
        await world.client.patch(
            NODES, node, None, {"spec": {"unschedulable": yes}}, options=PatchOptions()
        )

    def unscheduled(found: dict[str, Any]) -> bool:
        return "when the last of them has left it" in words_of(found)

    await cordon(yes=True)
    try:
        await eventually(
            lambda: world.get(TASKCLUSTERS, "c"), unscheduled, timeout_s=60, what="in its words"
        )
        await world.task("next", "true")
        await eventually(
            lambda: world.get(TASKS, "next"),
            lambda task: task["status"].get("reason") == "NoReadyWorker",
            timeout_s=60,
            what="told why it waits",
        )
        assert (await world.get(TASKS, "hold"))["status"]["state"] == "Running"
        (directory / "go").touch()
        await world.finished("hold", timeout_s=60)
        gone = lambda pods: busy not in {pod["metadata"]["name"] for pod in pods}  # noqa: E731
        await eventually(world.workers, gone, timeout_s=60, what="left the node")
        await eventually(
            lambda: world.get(TASKCLUSTERS, "c"),
            lambda found: "node(s) were unschedulable" in words_of(found),
            timeout_s=60,
            what="a replacement that has no node",
        )
    finally:
        await cordon(yes=False)
    status = (await world.finished("next", timeout_s=60))["status"]
    assert (status["state"], status["podName"] != busy) == ("Succeeded", True)


async def test_what_a_device_needs_reaches_the_task(world: World) -> None:
    """Mounts of the workers, and variables that stand in the container's own spec."""
    await world.make(CONFIGMAPS, "devices", data={"visible": "all"})
    volumes = [{"name": "dev", "hostPath": {"path": "/dev/zero", "type": "CharDevice"}}]
    mounts = [{"name": "dev", "mountPath": "/gpu/zero"}]
    await world.cluster(volumes=volumes, volumeMounts=mounts)
    source = {"configMapKeyRef": {"name": "devices", "key": "visible"}}
    env = [{"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": source}]
    script = 'test -c /gpu/zero && test "$NVIDIA_VISIBLE_DEVICES" = all'
    await world.task("gpu", "sh", "-ec", script, env=env)
    status = (await world.finished("gpu", timeout_s=60))["status"]
    assert status["state"] == "Succeeded", status
    pod = await world.get(PODS, status["podName"])
    [container] = [
        one for one in pod["spec"]["ephemeralContainers"] if one["name"] == status["containerName"]
    ]
    assert env[0] in container["env"], "a runtime looks at the spec"
    assert mounts[0] in container["volumeMounts"]
