"""Graphs that come together: groups and subtrees, and roots with tasks, with real processes."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.clock import SystemClock
from taskctl.errors import AlreadyExists
from taskctl.outside.rerunning import Rerunner
from taskctl.outside.session import Session
from tests.embedded.world import World, eventually

DEMO = Path(__file__).resolve().parents[2] / "demo" / "pipeline"

JOIN = """
from taskctl.sdk.sync import spawn, spawn_many, child
spawn(
    ["sh", "-c", "test $(ls /workspace/done | wc -l) = 6"],
    key="join",
    name="join",
    run_after={"group": "parts", "count": 3, "subtree": True},
)
write = "mkdir -p /workspace/done; sleep 0.5; touch /workspace/done/$TASKCTL_TASK"
grow = write + "; taskctl-init spawn --key below -- sh -c '" + write + "'"
spawn_many(child(["sh", "-c", grow], key=f"p{n}", group="parts") for n in range(3))
"""


async def test_a_task_joins_what_has_grown(world: World) -> None:
    await world.cluster()
    await world.task("root", "python3", "-c", JOIN)
    await eventually(
        lambda: world.all(TASKS), lambda tasks: len(tasks) >= 2, what="the join", timeout_s=30
    )
    join = await world.finished("join", timeout_s=60)
    assert join["status"]["state"] == "Succeeded", join["status"]


async def complete(world: World, name: str) -> dict[str, Any]:
    def over(task: dict[str, Any]) -> bool:
        conditions = task["status"].get("conditions") or ()
        return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)

    return await eventually(
        lambda: world.get(TASKS, name), over, what="the graph's end", timeout_s=60
    )


async def demo(world: World, **changes: Any) -> dict[str, Any]:
    """Create the demo's graph; returns it."""
    cluster = yaml.safe_load((DEMO / "taskcluster.yaml").read_text())
    with contextlib.suppress(AlreadyExists):
        await world.client.create(TASKCLUSTERS, cluster, world.namespace)
    graph = yaml.safe_load((DEMO / "pipeline.yaml").read_text())
    graph["spec"]["image"] = world.image
    for task in graph["spec"]["tasks"]:
        task |= changes.get(task["name"], {})
    return await world.client.create(TASKS, copy.deepcopy(graph), world.namespace)


async def states(world: World, root: str) -> dict[str, str]:
    return {
        task["metadata"]["name"].removeprefix(f"{root}-"): task["status"]["state"]
        for task in await world.all(TASKS)
        if task["metadata"]["name"].startswith(root)
    }


async def test_a_graph_in_one_object(world: World) -> None:
    first, second = await demo(world), await demo(world)
    for root in (first, second):
        name = root["metadata"]["name"]
        ended = await complete(world, name)
        assert ended["status"]["state"] == "Succeeded", ended["status"]
        assert await states(world, name) == {
            name: "Succeeded",
            "clone": "Succeeded",
            "build": "Succeeded",
            "lint": "Succeeded",
            "test": "Succeeded",
            "publish": "Succeeded",
            "alarm": "Skipped",
        }
    assert (world.workspace("pipeline") / "published-1.0").read_text() == "HELLO, VERSION 1.0\n"
    await world.remove(TASKS, first["metadata"]["name"])
    await eventually(
        lambda: states(world, first["metadata"]["name"]), lambda left: not left, what="all gone"
    )


MAP_REDUCE = """
for n in $(seq "$(taskctl-init input parts)"); do
    taskctl-init spawn --key "$n" --group parts -- taskctl-init output "$n" >/dev/null
done
taskctl-init output "$(taskctl-init input parts)"
"""


async def test_results_within_a_graph(world: World) -> None:
    """Tasks of a root with inputs of their own, results of others, and a group that grows."""
    await world.cluster()

    def step(name: str, script: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "command": ["sh", "-ec", script], **more}

    echo = 'taskctl-init output "$(taskctl-init input)"'
    inputs = [{"path": "/all", "group": "parts"}, {"path": "/asked", "task": "split"}]
    spec = {
        "clusterName": "c",
        "image": world.image,
        "params": [{"name": "parts", "value": "4"}],
        "tasks": [
            step("split", MAP_REDUCE, input={"parts": "{{params.parts}}"}),
            step("sum", echo, runAfterGroup="parts", count=4, inputFrom=inputs, input={"n": 1}),
            step("last", echo, inputFrom=[{"tasks": ["sum", "split"]}]),
        ],
    }
    body = {"apiVersion": "taskctl.dev/v1alpha1", "kind": "Task", "spec": spec}
    await world.client.create(TASKS, {**body, "metadata": {"name": "mr"}}, world.namespace)
    root = await complete(world, "mr")
    assert root["status"]["state"] == "Succeeded", root["status"]
    last = await world.get(TASKS, "mr-last")
    found = await world.get(TASKOBJECTS, last["status"]["outputObject"])
    total, asked = found["value"]
    assert asked == 4
    assert (total["n"], total["asked"], sorted(total["all"])) == (1, 4, [1, 2, 3, 4])


async def test_a_graph_fails_as_its_tree_does(world: World) -> None:
    lint = {"command": ["test", "-e", "/workspace/repaired"], "retry": {"limit": 0}}
    root = await demo(world, lint=lint)
    name = root["metadata"]["name"]
    ended = await complete(world, name)
    assert (ended["status"]["state"], ended["status"]["reason"]) == ("Failed", "TreeFailed")
    assert "lint" in ended["status"]["message"]
    assert (await states(world, name))["alarm"] == "Succeeded"
    assert (await states(world, name))["publish"] == "Failed"
    (world.workspace("pipeline") / "repaired").touch()
    session = Session(world.client, world.namespace)
    again = await Rerunner(session, SystemClock()).retry(name, failed=True)
    assert {task["metadata"]["name"].removeprefix(f"{name}-") for task in again} == {
        name,
        "lint",
        "publish",
    }
    ended = await complete(world, name)
    assert ended["status"]["state"] == "Succeeded", ended["status"]
    assert "suspend" not in ended["spec"]


def exit_note(task: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = (task["status"].get("tree") or {}).get("exit") or {}
    return entry


async def test_a_graph_that_runs_out_of_time(world: World) -> None:
    """Its exit task runs all the same, and is told."""
    await world.cluster()
    script = 'touch "/workspace/$TREE_STATE"; taskctl-init output "$(taskctl-init input)"'
    on_exit = {"command": ["sh", "-ec", script]}
    tasks = [
        {"name": "long", "command": ["sleep", "900"]},
        {"name": "next", "command": ["true"], "runAfter": ["long"]},
    ]
    spec = {"clusterName": "c", "image": "any", "tasks": tasks, "treeTimeoutSeconds": 4}
    await world.make(TASKS, "late", spec=spec | {"onExit": on_exit})
    root = await complete(world, "late")
    assert (root["status"]["state"], root["status"]["reason"]) == ("Failed", "TreeTimeout")
    for name in ("late-long", "late-next"):
        status = (await world.get(TASKS, name))["status"]
        assert (status["state"], status["reason"]) == ("Cancelled", "TreeTimeout")
    root = await eventually(
        lambda: world.get(TASKS, "late"),
        lambda task: bool(exit_note(task).get("finished")),
        what="the exit task",
        timeout_s=60,
    )
    assert exit_note(root)["state"] == "Succeeded", exit_note(root)
    found = await world.get(TASKOBJECTS, f"{exit_note(root)['task']}-output")
    outcome = found["value"]["outcome"]
    assert (outcome["state"], outcome["reason"]) == ("Failed", "TreeTimeout")
    assert (outcome["root"], outcome["descendants"]["cancelled"]) == ("late", 2)
    assert (world.workspace("c") / "Failed").exists()


@pytest.mark.parametrize("file", ["write-read.yaml"])
async def test_the_smallest_graph(world: World, file: str) -> None:
    cluster = yaml.safe_load((DEMO / "taskcluster.yaml").read_text())
    await world.client.create(TASKCLUSTERS, cluster, world.namespace)
    graph = yaml.safe_load((DEMO / file).read_text())
    await world.client.create(TASKS, graph, world.namespace)
    ended = await complete(world, graph["metadata"]["name"])
    assert ended["status"]["state"] == "Succeeded", ended["status"]
