"""Controllers killed, and several at once; several TaskClusters side by side."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from taskctl.api.resources import TASKS
from taskctl.kube.client import KubeClient
from taskctl.kube.resources import PODS
from tests.cluster.conftest import SYSTEM_NAMESPACE
from tests.cluster.disruptions import Running, kill_container, running_containers
from tests.cluster.oracle import NOTE, Oracle, assert_one_attempt, noting
from tests.cluster.world import ClusterWorld
from tests.embedded.world import eventually
from tests.realnode.node import NativeNode

pytestmark = pytest.mark.timeout(180)

LEAVES = 12
FAN_OUT = f"""
i=0
while [ $i -lt {LEAVES} ]; do
    taskctl-init spawn --key "leaf-$i" --name "$TASK_NAME-$i" -- sh -c '{NOTE}' >/dev/null
    i=$((i + 1))
done
"""
TWICE = "until [ $TASKCTL_ATTEMPT -gt 2 ]; do exit 1; done"
ROUNDS = 3
BACK_S = 90.0


class Extra:
    """A controller beside the installed one, for one namespace, and without a Lease."""

    def __init__(self, world: ClusterWorld, log: Path) -> None:
        self._world = world
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it works."""
        command = ["-m", "taskctl", "controller", "--namespace", self._world.namespace,
                   "--kubeconfig", str(self._world.kubeconfig)]  # fmt: skip
        self._log.write_bytes(b"")
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )

        async def text() -> str:
            return self._log.read_text()

        await eventually(text, lambda said: "caches are in step" in said, what="a controller")

    async def kill(self) -> None:
        """End it without a chance to say anything."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            assert await self._process.wait() == -signal.SIGKILL, "it had ended by itself"
            self._process = None


@asynccontextmanager
async def two_extra(world: ClusterWorld, directory: Path) -> AsyncIterator[list[Extra]]:
    """Run two more controllers for the length of the block."""
    extra = [Extra(world, directory / f"controller-{number}.log") for number in range(2)]
    try:
        await asyncio.gather(*(one.start() for one in extra))
        yield extra
    finally:
        for one in extra:
            await one.kill()


async def test_three_controllers_at_once(
    world: ClusterWorld, oracle: Oracle, tmp_path: Path
) -> None:
    """What one does twice or late, the fence makes nothing of; they may be killed, too."""
    await world.cluster(replicas=2)
    names = []
    async with two_extra(world, tmp_path) as extra:
        for number in range(ROUNDS):
            await world.task(f"fan-{number}", *noting(FAN_OUT))
            await world.task(
                f"twice-{number}", *noting(TWICE), retry={"limit": 2, "backoffSeconds": 0.2}
            )
            names += [f"fan-{number}", f"twice-{number}"]
            names += [f"fan-{number}-{leaf}" for leaf in range(LEAVES)]
            await world.finished(f"fan-{number}")
            victim = extra[number % 2]
            await victim.kill()
            await victim.start()
        await eventually(
            lambda: world.all(TASKS),
            lambda tasks: len(tasks) == len(names),
            what="all children made",
        )
        statuses = await oracle.judge(*names, timeout_s=BACK_S)
    assert {s["state"] for s in statuses.values()} == {"Succeeded"}
    attempts = {name: 3 if name.startswith("twice") else 1 for name in names}
    assert {name: s["attempt"] for name, s in statuses.items()} == attempts
    assert len(await world.workers()) == 2


@pytest.fixture
def replicas(installation: NativeNode) -> list[Running]:
    """Return the containers of the installed controllers."""
    found = running_containers(installation, SYSTEM_NAMESPACE)
    controllers = [c for c in found if c.name == "controller"]
    if not controllers:
        pytest.skip("the controller does not run in the cluster")
    return controllers


async def test_all_controllers_killed(
    world: ClusterWorld, oracle: Oracle, node: NativeNode, replicas: list[Running]
) -> None:
    """What runs goes on and is reported; what waits is placed when one of them is back."""
    await world.cluster()
    await world.task("runs", *noting("until [ -e /workspace/go ]; do sleep 0.1; done; exit 6"))
    await world.in_state("runs", "Running")
    await world.task("fan", *noting(FAN_OUT))
    for controller in replicas:
        await asyncio.to_thread(kill_container, node, controller.id)
    (world.workspace() / "go").touch()
    await world.task("late", *noting())
    status = (await world.finished("runs", timeout_s=5))["status"]
    assert (status["state"], status["exitCode"]) == ("Failed", 6)
    leaves = [f"fan-{number}" for number in range(LEAVES)]
    await world.finished("fan", timeout_s=BACK_S)
    statuses = await oracle.judge("runs", "fan", "late", *leaves, timeout_s=BACK_S)
    assert_one_attempt(statuses)
    succeeded = {name for name, s in statuses.items() if s["state"] == "Succeeded"}
    assert succeeded == {"fan", "late", *leaves}
    assert not any(os.path.exists(f"/proc/{controller.pid}") for controller in replicas)


@pytest.fixture
async def other(client: KubeClient, installation: NativeNode) -> AsyncIterator[ClusterWorld]:
    """Return a second namespace."""
    world = await ClusterWorld.on_node(client, "other", installation)
    yield world
    await world.delete()


async def test_namespaces_do_not_mix(
    world: ClusterWorld, other: ClusterWorld, oracle: Oracle, node: NativeNode
) -> None:
    """All names are the same in both; nothing of the one is found in the other."""
    script = f"echo $TASK_NAMESPACE >>/workspace/where\n{FAN_OUT}"
    leaves = [f"fan-{number}" for number in range(LEAVES)]
    async with Oracle.watching(other, node) as other_oracle:
        await asyncio.gather(world.cluster(), other.cluster())
        for each in (world, other):
            await each.task("fan", *noting(script))
        for each in (world, other):
            await each.finished("fan")
        here, there = await asyncio.gather(
            oracle.judge("fan", *leaves), other_oracle.judge("fan", *leaves)
        )
    for each, statuses in ((world, here), (other, there)):
        assert {s["state"] for s in statuses.values()} == {"Succeeded"}
        assert (each.workspace() / "where").read_text() == f"{each.namespace}\n"
        assert await placed_for(each) == {*statuses}
        uids = {pod["metadata"]["uid"] for pod in await each.workers()}
        assert {s["podUID"] for s in statuses.values()} <= uids
    assert not {*oracle.runs()} & {*other_oracle.runs()}


async def placed_for(world: ClusterWorld) -> set[str]:
    """Return the names of the tasks that this namespace's pods have containers for."""
    containers = [
        container
        for pod in await world.all(PODS)
        for container in pod["spec"].get("ephemeralContainers", [])
    ]
    names = {container["name"] for container in containers}
    handed_over = {
        task["metadata"]["name"]
        for task in await world.all(TASKS)
        if task["status"]["containerName"] in names
    }
    made_for = {
        env["value"]
        for container in containers
        for env in container["env"]
        if env["name"] == "TASKCTL_TASK"
    }
    return handed_over | made_for
