"""One tree over two TaskClusters."""

from __future__ import annotations

from typing import Any

from taskctl.api.resources import TASKOBJECTS, TASKS
from tests.embedded.world import World, eventually

PROGRAM = """
from taskctl.sdk import current, spawn, task


@task
def double(number: int) -> list:
    return [2 * number, current().cluster]


@task
def blob() -> str:
    return "x" * 400_000


@task
async def back() -> str:
    try:
        await spawn(double, 1, cluster="home")
    except Exception as error:
        return str(error)
    return "it went through"


@task
async def both() -> dict:
    there = await spawn(double, 2, cluster="gpu")
    here = await spawn(double, 3)
    returning = await spawn(back, cluster="gpu")
    large = await spawn(blob, cluster="gpu")
    found = {"there": await there.result(), "here": await here.result()}
    found["back"] = await returning.result()
    try:
        await large.result()
    except Exception as error:
        found["large"] = str(error)
    return found
"""


async def test_a_tree_over_two_taskclusters(world: World) -> None:
    await world.cluster("home", peers=["gpu"])
    await world.cluster("gpu")
    for name in ("home", "gpu"):
        (world.workspace(f"{name}-") / "work.py").write_text(PROGRAM)
    command = ["python3", "-m", "taskctl.sdk.run", "/workspace/work.py:both"]
    await world.task("root", *command, image="counter:latest", clusterName="home")
    root = await world.finished("root", timeout_s=120)
    assert root["status"]["state"] == "Succeeded", root["status"]
    found = (await world.get(TASKOBJECTS, root["status"]["outputObject"]))["value"]
    assert found["there"] == [4, "gpu"]
    assert found["here"] == [6, "home"]
    assert "spec.peers of TaskCluster 'gpu'" in found["back"]
    assert "workspace of TaskCluster 'gpu'" in found["large"]
    children = [task for task in await world.all(TASKS) if "lineage" in task["spec"]]
    assert sorted(task["spec"]["clusterName"] for task in children) == ["gpu", "gpu", "gpu", "home"]
    await cancelled_over_both(world)


async def cancelled_over_both(world: World) -> None:
    script = "taskctl-init spawn --cluster gpu --name far -- sleep 600; taskctl-init results"
    await world.task("stopped", "sh", "-ec", script, clusterName="home")

    async def far() -> Any:
        return [t for t in await world.all(TASKS) if t["metadata"]["name"] == "far"]

    await eventually(far, bool, timeout_s=60, what="created in the other TaskCluster")
    running = await world.in_state("far", "Running", timeout_s=60)
    assert running["status"]["podName"].startswith("gpu-")
    await world.patch(TASKS, "stopped", {"spec": {"cancel": True}})
    for name in ("far", "stopped"):
        assert (await world.finished(name, timeout_s=60))["status"]["state"] == "Cancelled"
