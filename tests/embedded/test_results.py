"""Graphs that join: parents that wait for their children's results."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from tests.embedded.test_growth import DEMO, apply
from tests.embedded.world import World, eventually

PROGRAM = """
import asyncio
import os
import sys
import time
from dataclasses import dataclass

from taskctl.sdk import (
    ChildFailed, as_completed, child, current, gather, output, spawn, spawn_many, sync, task,
    wait,
)


@dataclass
class Sum:
    total: int
    names: list


@task
async def add(left: int, right: int) -> Sum:
    return Sum(left + right, [current().name])


@task
async def order() -> list[int]:
    children = await spawn_many(
        child(["sh", "-c", f"sleep 0.{9 - number}; taskctl-init output {number}"], key=str(number))
        for number in range(10)
    )
    return await gather(children)


@task
async def typed() -> int:
    made = await spawn(add, 2, 3)
    result = await made.result()
    assert type(result) is Sum and len(result.names) == 1, result
    return result.total


@task
def boom(text: str) -> None:
    raise ValueError(text)


@task
async def failures() -> list[str]:
    bad = await spawn(boom, "no luck")
    good = await spawn(add, 1, 1)
    found = await gather([bad, good], return_exceptions=True)
    error = found[0]
    assert type(error) is ChildFailed, error
    try:
        await bad.result()
    except ChildFailed as again:
        assert str(again) == str(error)
    else:
        raise AssertionError("a failed child has no result")
    return [error.reason, error.last_line, str(error.exit_code), str(found[1].total)]


@task(retry={"limit": 2, "backoffSeconds": 0.1})
async def flaky() -> int:
    await output("of an attempt that fails")
    attempt = current().attempt
    if attempt < 3:
        raise RuntimeError("not yet")
    return attempt


@task
async def last_attempt() -> int:
    return await (await spawn(flaky)).result()


@task
async def dive(depth: int) -> int:
    if depth == 0:
        return 0
    [below] = await gather([await spawn(dive, depth - 1)])
    return below + 1


@task
def dive_blocking(depth: int) -> int:
    return 0 if depth == 0 else sync.spawn(dive_blocking, depth - 1).result() + 1


BUSY = "taskctl-init spawn --key below -- sleep 600; touch /workspace/grown-$0; sleep 600"


@task
async def sweep() -> list:
    children = await spawn_many(child(["sh", "-c", BUSY, str(n)], key=str(n)) for n in range(3))
    children.append(await spawn(add, 1, 1))
    async for first in as_completed(children):
        break
    while len([name for name in os.listdir("/workspace") if name.startswith("grown")]) < 3:
        await asyncio.sleep(0.05)
    _, others = await wait(children, first=1)
    for other in others:
        assert await other.cancel()
    found = await gather(children, return_exceptions=True)
    return [(await first.result()).total, *(type(item).__name__ for item in found)]


@task
def total(sums: list[Sum], extra: Sum, title: str) -> str:
    return f"{title} {sum(one.total for one in sums) + extra.total}"


@task
def both(left: Sum, right: Sum) -> Sum:
    return Sum(left.total + right.total, left.names + right.names)


@task
async def graph() -> None:
    children = await spawn_many(child(add.call(n, 0), key=str(n)) for n in range(20))
    twelve = await spawn(both, await spawn(add, 1, 2, key="three"), await spawn(add, 4, 5))
    await gather(children, then=total, extra=twelve, title="total")
    await spawn(["sh", "-c", "taskctl-init output \\"$(taskctl-init input)\\""],
                input={"first": children[0], "all": children[1:3]}, name="shell")


@task
async def large() -> int:
    made = await spawn_many(child(blob.call(number), key=str(number)) for number in range(5))
    return sum(len(text) for text in await gather(made))


@task
def blob(number: int) -> str:
    return str(number) * 400_000


@task
async def twice() -> list[int]:
    me = current()
    children = await spawn_many(child(add.call(n, 0), key=f"n{n}") for n in range(5))
    if me.attempt == 1:
        while not os.path.exists("/workspace/go"):
            await asyncio.sleep(0.05)
        sys.exit(7)
    assert not any(made.created for made in children)
    return [found.total for found in await gather(children)]
"""


async def run(world: World, function: str, **spec: Any) -> dict[str, Any]:
    """Run a function of the program as a root and return the Task when it is over."""
    await begin(world, function, **spec)
    return await world.finished("root", timeout_s=spec.pop("finish_s", 60))


async def begin(world: World, function: str, **spec: Any) -> None:
    path = world.workspace() / "graphs.py"
    path.write_text(PROGRAM)
    command = ["python3", "-m", "taskctl.sdk.run", f"/workspace/graphs.py:{function}"]
    await world.task("root", *command, image="counter:latest", **spec)


async def value(world: World, task: dict[str, Any]) -> Any:
    assert task["status"]["state"] == "Succeeded", task["status"]
    status = task["status"]
    if "outputObject" not in status:
        return status["output"]
    return (await world.get(TASKOBJECTS, status["outputObject"]))["value"]


async def test_results_stand_in_the_order_of_spawning(world: World) -> None:
    await world.cluster(slotsPerWorker=11)
    assert await value(world, await run(world, "order")) == list(range(10))


async def test_a_result_is_what_the_function_returned(world: World) -> None:
    await world.cluster(inlineOutputs=True)
    # Made first, so it waits for an object that never comes: a small result is in the Task.
    await world.task("reader", "taskctl-init", "input", inputObject="root-output")
    root = await run(world, "typed")
    assert await value(world, root) == 5
    assert (root["status"]["output"], await world.all(TASKOBJECTS)) == (5, [])
    reader = await world.finished("reader")
    assert reader["status"]["state"] == "Succeeded", reader["status"]


async def test_failures_have_a_type_and_a_cause(world: World) -> None:
    await world.cluster()
    found = await value(world, await run(world, "failures"))
    assert found == ["NonZeroExit", "ValueError: no luck", "1", "2"]


async def test_the_last_attempt_counts(world: World) -> None:
    await world.cluster()
    assert await value(world, await run(world, "last_attempt")) == 3


@pytest.mark.timeout(300)
async def test_a_tree_deeper_than_the_slots_does_not_wait_for_itself(world: World) -> None:
    await world.cluster(slotsPerWorker=1)
    await begin(world, "dive", input={"depth": 50})
    task = await world.finished("root", timeout_s=280)
    assert await value(world, task) == 50
    tasks = await world.all(TASKS)
    assert len(tasks) == 51
    assert {task["status"]["attempt"] for task in tasks} == {1}
    assert not any("waitingSince" in task["status"] for task in tasks)


async def test_blocking_code_frees_its_slot_too(world: World) -> None:
    await world.cluster(slotsPerWorker=1)
    assert await value(world, await run(world, "dive_blocking", input={"depth": 5})) == 5


async def test_a_sweep_stops_early(world: World) -> None:
    await world.cluster(slotsPerWorker=5)
    found = await value(world, await run(world, "sweep"))
    assert found == [2, "ChildCancelled", "ChildCancelled", "ChildCancelled", "Sum"]
    root = await eventually(
        lambda: world.get(TASKS, "root"),
        lambda task: task["status"].get("descendants", {}).get("stopped") == 6,
        what="told of what it stopped",
    )
    conditions = {entry["type"]: entry["status"] for entry in root["status"]["conditions"]}
    assert conditions == {"Complete": "True", "Succeeded": "True"}
    reasons = [task["status"]["reason"] for task in await world.all(TASKS)]
    assert sorted(reasons) == ["Completed"] * 2 + ["StoppedByTask"] * 6


async def test_results_are_inputs_of_others(world: World) -> None:
    await world.cluster(slotsPerWorker=3)
    done = (await run(world, "graph"))["status"]
    assert done["state"] == "Succeeded", done
    root = await eventually(
        lambda: world.get(TASKS, "root"),
        lambda task: any(
            entry["type"] == "Complete" and entry["status"] == "True"
            for entry in task["status"].get("conditions", [])
        ),
        timeout_s=60,
        what="complete",
    )
    tasks = await world.all(TASKS)
    assert root["status"]["descendants"]["succeeded"] == 25, [task["status"] for task in tasks]
    outputs = [
        await value(world, task)
        for task in tasks
        if task["status"].keys() & {"output", "outputObject"}
    ]
    assert "total 202" in outputs
    shell = await value(world, await world.get(TASKS, "shell"))
    assert shell["first"]["total"] == 0
    assert [one["total"] for one in shell["all"]] == [1, 2]


async def test_large_results(world: World) -> None:
    await world.cluster()
    assert await value(world, await run(world, "large")) == 2_000_000


async def test_quicksort(world: World) -> None:
    folder = DEMO / "quicksort"
    await apply(world, folder / "taskcluster.yaml")
    await apply(world, folder / "task.yaml")
    await eventually(
        lambda: world.get(TASKS, "quicksort"),
        lambda task: any(
            entry["type"] == "Complete" and entry["status"] == "True"
            for entry in task["status"].get("conditions", [])
        ),
        timeout_s=100,
        what="complete",
    )
    command = [sys.executable, str(folder / "check.py"), "--count", "20000"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--namespace", world.namespace],
        env=os.environ | {"KUBECONFIG": str(world.kubeconfig)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "20000 numbers sorted" in done.stdout


async def test_agent_and_parent_die_between_spawn_and_gather(world: World) -> None:
    await world.cluster()
    await begin(world, "twice", retry={"limit": 1, "backoffSeconds": 0.1})
    await eventually(lambda: world.all(TASKS), lambda found: len(found) == 6, what="spawned")
    for pid in agents(world):
        os.kill(pid, signal.SIGKILL)
    (world.workspace() / "go").touch()
    task = await world.finished("root", timeout_s=60)
    assert await value(world, task) == list(range(5))
    assert task["status"]["attempt"] == 2
    assert len(await world.all(TASKS)) == 6


def agents(world: World) -> list[int]:
    """Return the processes of the agents of this namespace."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"POD_NAMESPACE={world.namespace}".encode() in environment and b"agent" in words:
            found.append(int(path.name))
    assert found
    return found
