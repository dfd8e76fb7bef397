"""Everything may be killed at any moment: one outcome per attempt, nothing lost.

A chain of 200 tasks runs while processes are killed with SIGKILL: the API server, the
controller, the local node, the agents, and all of them at once.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.errors import ApiError
from taskctl.kube.client import KubeClient
from taskctl.testing.stack import Component, LocalStack
from tests.embedded.world import TERMINAL, Object, World, eventually

SEED = 20
LIMIT = 200
TASKS_BETWEEN_KILLS = 8
STEP = f"""
echo "$TASK_NAME $TASKCTL_ATTEMPT" >>/workspace/runs
n=$(taskctl-init input n)
if [ "$n" -lt {LIMIT} ]; then
    taskctl-init spawn --key next --name "c-$((n + 1))" --data "n=$((n + 1))" >/dev/null
fi
taskctl-init output --data "n=$n"
"""


@pytest.fixture
async def stack() -> AsyncIterator[LocalStack]:
    """Return a stack of this test's own: others would not survive its treatment."""
    directory = Path(tempfile.mkdtemp(prefix="taskctl-chaos-"))
    stack = LocalStack(directory / "data")
    try:
        await asyncio.to_thread(stack.start)
        await stack.wait_ready()
        yield stack
    finally:
        await asyncio.to_thread(stack.stop)
        shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Monkey:
    """Kills one thing, or everything, and starts again what has no supervisor."""

    stack: LocalStack
    dice: random.Random
    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    agents_killed: int = 0

    def strike(self) -> None:
        victim = self.dice.choice([*Component, "agent", "agents", "all"])
        self.kills[victim] += 1
        if victim in ("agent", "agents", "all"):
            pids = self.stack.agent_pids()
            for pid in pids if victim != "agent" else self.dice.sample(pids, min(1, len(pids))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.agents_killed += 1
        for component in Component if victim == "all" else (victim,):
            if isinstance(component, Component):
                self.stack.kill(component)
        self.stack.start()


async def finished_names(client: KubeClient, namespace: str) -> set[str] | None:
    """Return the tasks that are over, or None while the server is away."""
    try:
        tasks = (await client.list_all(TASKS, namespace)).items
    except ApiError:
        return None
    return {task["metadata"]["name"] for task in tasks if task["status"].get("state") in TERMINAL}


def check_outcomes(tasks: list[Object], runs: list[str]) -> None:
    names = {task["metadata"]["name"] for task in tasks}
    assert names == {f"c-{number}" for number in range(LIMIT + 1)}, "each child was made once"
    for task in tasks:
        status = task["status"]
        assert status["state"] == "Succeeded", (task["metadata"]["name"], status)
        recorded = len(status.get("attempts", [])) + 1
        assert recorded == min(status["attempt"], 11), "each attempt is on record"
    ran = collections.Counter(runs)
    twice = {line: times for line, times in ran.items() if times > 1}
    assert not twice, "the user's code never ran twice within one attempt"
    for line in ran:
        name, attempt = line.split()
        recorded_attempts = next(
            task["status"]["attempt"] for task in tasks if task["metadata"]["name"] == name
        )
        assert int(attempt) <= recorded_attempts


@pytest.mark.chaos
@pytest.mark.timeout(420)
async def test_everything_may_be_killed(stack: LocalStack) -> None:
    async with await KubeClient.connect(stack.client_settings()) as client:
        world = await World.create(client, "chaos", stack.data_dir)
        await world.cluster(replicas=3)
        script = ["sh", "-ec", STEP]
        await world.make(TASKOBJECTS, "start", data={"n": "0"})
        await world.task("c-0", *script, inputObject="start")

        monkey = Monkey(stack, random.Random(SEED))
        strikes_at = TASKS_BETWEEN_KILLS
        while True:
            done = await finished_names(client, world.namespace)
            if done is not None and f"c-{LIMIT}" in done:
                break
            if done is not None and len(done) >= strikes_at:
                strikes_at = len(done) + TASKS_BETWEEN_KILLS
                await asyncio.to_thread(monkey.strike)
            await asyncio.sleep(0.02)

        async def all_over() -> set[str]:
            return await finished_names(client, world.namespace) or set()

        await eventually(all_over, lambda done: len(done) > LIMIT, what="all over")
        runs = (world.workspace() / "runs").read_text().splitlines()
        check_outcomes(await world.all(TASKS), runs)
        assert monkey.kills.total() >= 20, monkey.kills
        assert monkey.agents_killed >= 5
        objects = {item["metadata"]["name"] for item in await world.all(TASKOBJECTS)}
        assert len([name for name in objects if name.endswith("-input")]) == LIMIT
