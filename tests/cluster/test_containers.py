"""What a task's container may see and touch, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from taskctl.api.resources import TASKS
from taskctl.kube.resources import PODS
from tests.cluster.disruptions import Running, kill_container, running_tasks, status_of
from tests.cluster.oracle import Oracle, noting
from tests.cluster.world import ClusterWorld
from tests.embedded.world import eventually
from tests.realnode.node import NativeNode

pytestmark = pytest.mark.timeout(120)

USER = 65532
# Each line fails the task by its number if it does not hold.
CONFINED = """
n=0
holds() { n=$((n + 1)); "$@" || { echo "not so, $n: $*" >&2; exit $((n + 10)); }; }
fails() { ! "$@" 2>/dev/null; }
env_has() { env | grep -q "$1"; }
holds fails ls /var/run/secrets
holds fails ls /run/secrets
holds fails ls /taskctl-state
holds env_has '^TASKCTL_TOKEN=.'
holds fails env_has '^TASKCTL_NONCE'
holds fails cat /proc/1/environ
holds fails ls /proc/1/fd
holds fails head -c 1 /proc/1/mem
holds fails touch /taskctl/x
holds fails touch /taskctl/bin/x
holds fails rm /taskctl/agent.sock
holds test -S /taskctl/agent.sock
holds [ "$(id -u)" = 65532 ]
holds [ "$(id -g)" = 65532 ]
holds grep -q 'CapEff:.0000000000000000' /proc/self/status
holds grep -q 'CapBnd:.0000000000000000' /proc/self/status
holds grep -q 'NoNewPrivs:.1' /proc/self/status
holds grep -q 'Seccomp:.2' /proc/self/status
holds [ "$(cat /proc/1/comm)" = taskctl-init ]
holds fails ls /proc/99999
holds [ "$(ls /proc | grep -c '^[0-9]')" -lt 8 ]
holds touch /workspace/mine /tmp/mine
"""


async def test_a_task_is_confined(world: ClusterWorld, oracle: Oracle) -> None:
    """Under the restricted Pod Security Standard, which the namespace enforces."""
    await world.cluster()
    await world.task("beside", *noting("until [ -e /workspace/go ]; do sleep 0.1; done"))
    await world.task("confined", *noting(CONFINED))
    await world.task("looks", "sh", "-c", "! touch /workspace/looked", readOnlyWorkspace=True)
    status = (await world.finished("confined"))["status"]
    assert status["state"] == "Succeeded", status["message"]
    mine = (world.workspace() / "mine").stat()
    assert (mine.st_uid, mine.st_gid) == (USER, USER)
    (world.workspace() / "go").touch()
    statuses = await oracle.judge("beside", "confined", "looks")
    assert statuses["looks"]["state"] == "Succeeded", "it can read the workspace, not write"


async def test_a_task_of_an_account_finds_its_token(world: ClusterWorld, oracle: Oracle) -> None:
    await world.kubectl("create", "serviceaccount", "robot")
    await world.cluster(serviceAccountName="robot")
    await world.task("bare", *noting("test -s /var/run/secrets/kubernetes.io/serviceaccount/token"))
    statuses = await oracle.judge("bare")
    assert statuses["bare"]["state"] == "Succeeded"


async def test_what_is_stopped_is_gone(
    world: ClusterWorld, oracle: Oracle, node: NativeNode
) -> None:
    """Also what ignores SIGTERM, or has left its process group."""
    await world.cluster()
    escape = "trap '' TERM; setsid sleep 600 & sleep 600 & while :; do sleep 1; done"
    await world.task("timeout", *noting(escape), timeoutSeconds=3)
    for name in ("cancel", "delete"):
        await world.task(name, *noting(escape))

    async def runs() -> list[str]:
        return await asyncio.to_thread(oracle.runs)

    await eventually(runs, lambda lines: len(lines) == 3, what="all three running")
    containers = await asyncio.to_thread(running_tasks, node, world.namespace)
    assert [len(await asyncio.to_thread(processes_of, c)) >= 4 for c in containers] == [True] * 3
    worker = (await world.workers())[0]["metadata"]["name"]
    await world.patch(TASKS, "cancel", {"spec": {"cancel": True}})
    await world.remove(TASKS, "delete")
    statuses = await oracle.judge("timeout", "cancel", removed={"delete"})
    assert not any([await asyncio.to_thread(processes_of, c) for c in containers])
    ends = {name: (s["state"], s["reason"]) for name, s in statuses.items()}
    assert ends == {"timeout": ("Failed", "Timeout"), "cancel": ("Cancelled", "Cancelled")}
    pod = await world.get(PODS, worker)
    assert all("terminated" in status_of(pod, c.name)["state"] for c in containers)


def processes_of(container: Running) -> list[int]:
    """Return the processes of a container that ran: those in its control group."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            groups = (entry / "cgroup").read_text()
        except OSError:
            continue  # it has ended meanwhile
        if container.id in groups:
            found.append(int(entry.name))
    return found


async def test_init_killed(world: ClusterWorld, oracle: Oracle, node: NativeNode) -> None:
    """By the lack of memory, say: what it supervised dies with it, and runs again."""
    await world.cluster()
    await world.task("work", *noting('[ "$TASKCTL_ATTEMPT" -gt 1 ] || sleep 600'))
    await eventually(lambda: asyncio.to_thread(oracle.runs), bool, what="running")
    (container,) = await asyncio.to_thread(running_tasks, node, world.namespace)
    await asyncio.to_thread(kill_container, node, container.id)
    status = (await oracle.judge("work"))["work"]
    assert (status["state"], status["attempt"], status["infraFailures"]) == ("Succeeded", 2, 1)
    assert [record["reason"] for record in status["attempts"]] == ["ContainerLost"]
    assert "failures" not in status or status["failures"] == 0
