"""The main job on a real kubelet: a counter, a fan-out, and a counter through rotations."""

from __future__ import annotations

import collections
import itertools
from typing import Any

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.clock import parse_time
from tests.cluster.world import ClusterWorld
from tests.embedded.world import TERMINAL, Object, eventually

# What the counter does, in shell: a kubelet's work, not an interpreter's, is looked at here.
COUNT = """
echo "$TASKCTL_TASK_UID $TASKCTL_ATTEMPT" >>/workspace/runs
n=$(taskctl-init input n)
if [ "$n" -lt {limit} ]; then
    taskctl-init spawn --key next --name "c-$((n + 1))" --data "n=$((n + 1))" >/dev/null
fi
taskctl-init output --data "n=$n"
"""
FAN_OUT = """
i=0
while [ $i -lt 100 ]; do
    taskctl-init spawn --key "leaf-$i" --name "leaf-$i" -- \
        sh -c 'echo "$TASKCTL_TASK_UID $TASKCTL_ATTEMPT" >>/workspace/runs' >/dev/null
    i=$((i + 1))
done
"""
MAX_PAUSE_S = 3.0


async def tree_complete(world: ClusterWorld, root: str, timeout_s: float) -> list[Object]:
    """Wait until the root's tree is complete; returns all tasks."""

    def complete(task: Object) -> bool:
        conditions = task.get("status", {}).get("conditions", [])
        return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)

    await eventually(
        lambda: world.get(TASKS, root), complete, timeout_s=timeout_s, what="a complete tree"
    )
    return await world.all(TASKS)


def times(task: Object) -> dict[str, float]:
    """Return the stages of a task as seconds."""
    return {
        name: parse_time(text).timestamp()
        for name, text in task["status"]["times"].items()
        if name in ("created", "placed", "started", "userCode", "exited")
    }


def assert_each_ran_once(world: ClusterWorld, tasks: list[Object]) -> None:
    bad = {t["metadata"]["name"]: t["status"] for t in tasks if t["status"]["state"] != "Succeeded"}
    assert not bad
    ran = collections.Counter((world.workspace() / "runs").read_text().splitlines())
    expected = {f"{t['metadata']['uid']} 1": 1 for t in tasks}
    assert {line: count for line, count in ran.items() if line in expected} == expected
    assert all(count == 1 for count in ran.values())


async def count_to(world: ClusterWorld, limit: int, timeout_s: float) -> list[Object]:
    await world.make(TASKOBJECTS, "start", data={"n": "0"})
    await world.task("c-0", "sh", "-ec", COUNT.format(limit=limit), inputObject="start")
    tasks = await tree_complete(world, "c-0", timeout_s)
    assert {t["metadata"]["name"] for t in tasks} == {f"c-{n}" for n in range(limit + 1)}
    last = await world.get(TASKOBJECTS, f"c-{limit}-output")
    assert last["data"] == {"n": str(limit)}
    assert_each_ran_once(world, tasks)
    return tasks


@pytest.mark.timeout(180)
async def test_counter_to_50(world: ClusterWorld) -> None:
    await world.cluster(replicas=3)
    tasks = await count_to(world, 50, 120)
    assert {task["status"]["attempt"] for task in tasks} == {1}


@pytest.mark.timeout(240)
async def test_fan_out_of_100_over_4_workers(world: ClusterWorld) -> None:
    await world.cluster(replicas=4)
    await world.task("root", "sh", "-ec", FAN_OUT)
    tasks = await tree_complete(world, "root", 180)
    assert len(tasks) == 101
    leaves = [task for task in tasks if task["metadata"]["name"] != "root"]
    assert_each_ran_once(world, leaves)
    used = collections.Counter(task["status"]["podName"] for task in leaves)
    assert len(used) == 4, used
    assert max(used.values()) <= 2 * min(used.values()), f"evenly spread: {used}"


@pytest.mark.timeout(560)
async def test_counter_to_500_through_rotations(world: ClusterWorld) -> None:
    """Workers are replaced under way, and the chain never waits for a replacement."""
    await world.cluster(replicas=3)
    seen: set[str] = set()

    async def finished() -> tuple[int, set[str]]:
        seen.update(pod["metadata"]["name"] for pod in await world.workers())
        tasks = await world.all(TASKS)
        return sum(t.get("status", {}).get("state") in TERMINAL for t in tasks), seen

    await world.make(TASKOBJECTS, "start", data={"n": "0"})
    await world.task("c-0", "sh", "-ec", COUNT.format(limit=500), inputObject="start")
    await eventually(finished, lambda now: now[0] == 501, timeout_s=540, what="counted to 500")
    tasks = await tree_complete(world, "c-0", 10)
    assert_each_ran_once(world, tasks)
    used = collections.Counter(task["status"]["podName"] for task in tasks)
    assert max(used.values()) <= 110, f"no worker goes far beyond its budget: {used}"
    assert len(used) >= 6, f"several rotations: {used}"
    in_order = sorted(tasks, key=lambda task: int(task["metadata"]["name"].removeprefix("c-")))
    starts = [times(task)["userCode"] for task in in_order]
    pauses = {in_order[n + 1]["metadata"]["name"]: b - a
              for n, (a, b) in enumerate(itertools.pairwise(starts))}  # fmt: skip
    slow = {name: round(pause, 2) for name, pause in pauses.items() if pause > MAX_PAUSE_S}
    assert not slow, f"no pause over {MAX_PAUSE_S:.0f} s: {slow}"
    await only_wanted_workers(world, 3)


async def only_wanted_workers(world: ClusterWorld, count: int) -> None:
    """Wait until spent workers are gone, and evidence with them is not pinned for ever."""

    async def names() -> list[Any]:
        return [pod["metadata"]["name"] for pod in await world.workers()]

    await eventually(
        names, lambda now: len(now) == count, timeout_s=60, what=f"down to {count} workers"
    )
