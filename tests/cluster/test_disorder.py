"""Everything that a test of its own does to the node, at random, while a tree grows."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import signal
from dataclasses import dataclass, field

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from tests.cluster.conftest import SYSTEM_NAMESPACE
from tests.cluster.disruptions import (
    Component,
    Running,
    container_id,
    running_containers,
    status_of,
    stopped,
)
from tests.cluster.oracle import NOTE, Oracle, link
from tests.cluster.world import ClusterWorld
from tests.embedded.world import TERMINAL
from tests.realnode.node import NativeNode

SEED = int(os.environ.get("TASKCTL_DISORDER_SEED", "1"))
CHAIN = int(os.environ.get("TASKCTL_DISORDER_CHAIN", "40"))
SIDE = CHAIN // 2
TASKS_BETWEEN = 6
ENDED_S = 400.0
# Each second link has a child beside the chain, and reads nothing but its input.
STEP = link(
    CHAIN,
    f"""if [ $((n % 2)) = 0 ] && [ "$n" -lt {CHAIN} ]; then
    taskctl-init spawn --key side --name "s-$n" -- sh -c '{NOTE}; sleep 2' >/dev/null
fi
""",
)


@dataclass
class Disorder:
    """Does one thing after another to a world."""

    world: ClusterWorld
    node: NativeNode
    dice: random.Random
    done: collections.Counter[str] = field(default_factory=collections.Counter)

    async def strike(self) -> None:
        """Do one of them."""
        deeds = (
            self.delete_worker, self.delete_worker_by_force, self.kill_agent, self.kill_task,
            self.kill_sandbox, self.remove_ended, self.kill_kubelet, self.kill_controllers,
        )  # fmt: skip
        deed = self.dice.choice(deeds)
        if await deed():
            self.done[deed.__name__] += 1

    async def _containers(self) -> list[Running]:
        return await asyncio.to_thread(running_containers, self.node, self.world.namespace)

    async def _kill(self, containers: list[Running]) -> bool:
        if not containers:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.dice.choice(containers).pid, signal.SIGKILL)
        return True

    async def kill_agent(self) -> bool:
        return await self._kill([c for c in await self._containers() if c.name == "agent"])

    async def kill_task(self) -> bool:
        return await self._kill([c for c in await self._containers() if c.name.startswith("t-")])

    async def kill_sandbox(self) -> bool:
        return await self._kill([c for c in await self._containers() if not c.name])

    async def delete_worker(self, *options: str) -> bool:
        names = [pod["metadata"]["name"] for pod in await self.world.workers()]
        if not names:
            return False
        arguments = ("--wait=false", "--ignore-not-found", *options)
        await self.world.kubectl("delete", "pod", self.dice.choice(names), *arguments)
        return True

    async def delete_worker_by_force(self) -> bool:
        return await self.delete_worker("--grace-period=0", "--force")

    async def remove_ended(self) -> bool:
        """Remove all ended containers of a worker: the kubelet starts them all again."""
        pods = [pod for pod in await self.world.workers() if "ephemeralContainers" in pod["spec"]]
        if not pods:
            return False
        pod = self.dice.choice(pods)
        for entry in pod["spec"]["ephemeralContainers"]:
            name = entry["name"]
            if "terminated" in status_of(pod, name).get("state", {}):
                with contextlib.suppress(Exception):  # the kubelet may have been faster
                    await asyncio.to_thread(self.node.remove_container, container_id(pod, name))
        return True

    async def kill_kubelet(self) -> bool:
        async with stopped(self.node, Component.KUBELET, hard=True):
            pass
        return True

    async def kill_controllers(self) -> bool:
        found = await asyncio.to_thread(running_containers, self.node, SYSTEM_NAMESPACE)
        for container in found:
            if container.name == "controller":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(container.pid, signal.SIGKILL)
        return bool(found)


@pytest.mark.chaos
@pytest.mark.timeout(520)
async def test_disorder(world: ClusterWorld, oracle: Oracle, node: NativeNode) -> None:
    await world.cluster(replicas=3)
    await world.make(TASKOBJECTS, "start", data={"n": "0"})
    await world.task("c-0", "sh", "-ec", STEP, inputObject="start")
    disorder = Disorder(world, node, random.Random(SEED))
    next_at = TASKS_BETWEEN
    async with asyncio.timeout(ENDED_S):
        while True:
            tasks = await world.all(TASKS)
            ended = [t for t in tasks if t.get("status", {}).get("state") in TERMINAL]
            if any(task["metadata"]["name"] == f"c-{CHAIN}" for task in ended):
                break
            if len(ended) >= next_at:
                next_at = len(ended) + TASKS_BETWEEN
                await disorder.strike()
                print(len(ended), disorder.done, flush=True)
            await asyncio.sleep(0.1)
    names = [f"c-{n}" for n in range(CHAIN + 1)] + [f"s-{n}" for n in range(0, CHAIN, 2)]
    statuses = await oracle.judge(*names, agent_restarts=None, timeout_s=120)
    assert {s["state"] for s in statuses.values()} == {"Succeeded"}
    print(disorder.done)
