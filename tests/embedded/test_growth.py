"""Graphs that grow while they run: the demos' programs, spawning, lineage, values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.kube.resources import SERVICEACCOUNTS
from tests.embedded.world import TERMINAL, World, eventually

DEMO = Path(__file__).resolve().parents[2] / "demo"


async def apply(world: World, path: Path, **changes: str) -> None:
    """Create a manifest's objects in the test's namespace."""
    resources = {
        "Task": TASKS,
        "TaskObject": TASKOBJECTS,
        "TaskCluster": TASKCLUSTERS,
        "ServiceAccount": SERVICEACCOUNTS,
    }
    text = path.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    for body in yaml.safe_load_all(text):
        if body["kind"] in resources:
            body["metadata"].pop("namespace", None)
            await world.client.create(resources[body["kind"]], body, world.namespace)


async def chain(world: World, prefix: str, limit: int) -> list[dict[str, Any]]:
    """Wait for the chain's last task; returns all tasks, which must all have succeeded."""

    async def read() -> list[dict[str, Any]]:
        return await world.all(TASKS)

    def over(tasks: list[dict[str, Any]]) -> bool:
        states = {task["metadata"]["name"]: task["status"].get("state") for task in tasks}
        return states.get(f"{prefix}{limit}") in TERMINAL or "Failed" in states.values()

    tasks = await eventually(read, over, timeout_s=50, what="counted to the end")
    assert {task["metadata"]["name"] for task in tasks} == {
        f"{prefix}{number}" for number in range(limit + 1)
    }
    bad = [task["status"] for task in tasks if task["status"]["state"] != "Succeeded"]
    assert not bad
    return tasks


@pytest.mark.parametrize(
    ("demo", "prefix"), [("counter", "task-"), ("counter-sh", "sh-task-"), ("prototype", "task-")]
)
async def test_counter(world: World, demo: str, prefix: str) -> None:
    folder = DEMO / demo
    for manifest in ("serviceaccount.yaml", "taskcluster.yaml"):
        if (folder / manifest).exists():
            await apply(world, folder / manifest)
    changes = {'"50"': '"12"'}
    if demo == "prototype":  # the local image of that name is the other demo's here
        changes["counter:latest"] = "prototype:latest"
    await apply(world, folder / "task.yaml", **changes)
    tasks = await chain(world, prefix, 12)
    assert all(task["status"]["attempt"] == 1 for task in tasks)
    if demo == "prototype":
        last = await world.get(TASKOBJECTS, "task-11-output")
    else:
        last = await world.get(TASKOBJECTS, f"{prefix}12-output")
    content = last.get("data") or last["value"]
    assert str(content["count"]) == "12"


async def test_root_knows_its_tree_and_deleting_it_deletes_the_tree(world: World) -> None:
    await world.cluster()
    script = "for k in a b c; do taskctl-init spawn --key $k -- true; done"
    await world.task("root", "sh", "-c", script)
    root = await eventually(
        lambda: world.get(TASKS, "root"),
        lambda task: any(
            entry["type"] == "Complete" and entry["status"] == "True"
            for entry in task["status"].get("conditions", [])
        ),
        what="complete",
    )
    assert root["status"]["descendants"]["total"] == 3
    assert root["status"]["descendants"]["succeeded"] == 3
    children = [task for task in await world.all(TASKS) if task["metadata"]["name"] != "root"]
    assert {task["status"]["parent"] for task in children} == {"root"}
    assert {task["status"]["depth"] for task in children} == {1}
    await world.remove(TASKS, "root")
    await eventually(lambda: world.all(TASKS), lambda found: found == [], what="all gone")


async def test_a_parent_that_runs_again_finds_its_children(world: World) -> None:
    await world.cluster()
    script = (
        "taskctl-init spawn --key one -- true; taskctl-init spawn -- true;"
        " [ -e /workspace/again ] || { touch /workspace/again; exit 1; }"
    )
    await world.task("root", "sh", "-c", script, retry={"limit": 1, "backoffSeconds": 0.1})
    assert (await world.finished("root"))["status"]["attempt"] == 2
    names = [task["metadata"]["name"] for task in await world.all(TASKS)]
    assert len(names) == 3


async def test_depth_limit(world: World) -> None:
    await world.cluster()
    script = "taskctl-init spawn --key next"
    await world.task("root", "sh", "-c", script, limits={"depth": 2})

    async def failed() -> list[str]:
        return [
            task["status"].get("message", "")
            for task in await world.all(TASKS)
            if task["status"].get("state") == "Failed"
        ]

    messages = await eventually(failed, lambda found: len(found) == 1, what="stopped at the depth")
    assert "depth" in messages[0]
    assert len(await world.all(TASKS)) == 3


async def test_descendants_limit(world: World) -> None:
    """Many tasks spawn at the same time: the tree has as many as it may, and not one more."""
    await world.cluster()
    script = "for n in 1 2 3; do taskctl-init spawn --key $n || exit 9; done"
    await world.task("root", "sh", "-c", script, limits={"descendants": 11})

    async def over() -> bool:
        root = await world.get(TASKS, "root")
        conditions = root["status"].get("conditions") or ()
        return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)

    await eventually(over, lambda done: done, what="the tree's end", timeout_s=90)
    tasks = await world.all(TASKS)
    assert len(tasks) == 12
    messages = [task["status"].get("message", "") for task in tasks]
    assert any("limits.descendants allows 11" in message for message in messages)


async def test_spawn_rate(world: World) -> None:
    """The SDK waits until it may; the command fails, and says why."""
    await world.cluster()
    program = "from taskctl.sdk.sync import spawn_many; spawn_many([['true']] * 5)"
    rate = {"tasks": 2, "perSeconds": 1, "burst": 2}
    limits = {"spawnRate": rate}
    # With Python, also on a real node.
    await world.task("patient", "python3", "-c", program, image="counter:latest", limits=limits)
    script = "for n in 1 2 3; do taskctl-init spawn --key $n -- true || exit 9; done"
    slow = {"tasks": 1, "perSeconds": 86400, "burst": 2}
    await world.task("hasty", "sh", "-c", script, limits={"spawnRate": slow})
    assert (await world.finished("patient", timeout_s=90))["status"]["state"] == "Succeeded"
    hasty = (await world.finished("hasty", timeout_s=90))["status"]
    assert (hasty["state"], hasty["exitCode"]) == ("Failed", 9)
    assert "limits.spawnRate of root task hasty allows 1 tasks in 86400 s" in hasty["message"]
    roots = [(task["spec"].get("lineage") or {}).get("root") for task in await world.all(TASKS)]
    assert (roots.count("patient"), roots.count("hasty")) == (5, 2)


async def test_large_values_are_spilled_and_come_back(world: World) -> None:
    await world.cluster()
    size = 1_000_000
    produce = (
        "from taskctl.sdk.sync import spawn, output\n"
        f"text = 'x' * {size}\n"
        "spawn(['python3', '-c', 'from taskctl.sdk import current;"
        " print(len(current().input)); assert len(current().input) == 1_000_000'],"
        " input=text, key='reader')\n"
        "output(text)\n"
    )
    await world.task("producer", "python3", "-c", produce, image="counter:latest")
    task = await world.finished("producer")
    assert task["status"]["state"] == "Succeeded", task["status"]
    made = await world.get(TASKOBJECTS, task["status"]["outputObject"])
    assert made["ref"]["size"] >= size
    assert len(json.dumps(made)) < 3000
    for found in await world.all(TASKS):
        assert (await world.finished(found["metadata"]["name"]))["status"]["state"] == "Succeeded"


async def test_progress_shows(world: World) -> None:
    await world.cluster()
    script = "taskctl-init progress 3 10 working; until [ -e /workspace/go ]; do sleep 0.05; done"
    await world.task("p", "sh", "-c", script)
    task = await eventually(
        lambda: world.get(TASKS, "p"),
        lambda task: "progress" in task["status"],
        what="progress shown",
    )
    assert task["status"]["progress"] == {"done": 3, "total": 10, "message": "working"}
    (world.workspace() / "go").touch()
    await world.finished("p")
