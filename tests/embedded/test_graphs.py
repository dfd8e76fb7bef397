"""Graphs that come together: groups and subtrees, and roots with tasks, with real processes."""

from __future__ import annotations

from taskctl.client.resources import TASKS
from tests.embedded.world import World, eventually

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
