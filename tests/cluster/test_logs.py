"""What tasks wrote: through the kubelet while their worker lives, and after it is gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from taskctl.api.resources import TASKS
from tests.cluster.world import ClusterWorld
from tests.embedded.world import eventually


async def taskctl(world: ClusterWorld, *arguments: str) -> str:
    """Run taskctl in the test's namespace; returns what it prints."""
    command = [sys.executable, "-m", "taskctl", "--kubeconfig", str(world.kubeconfig)]
    command += ["--namespace", world.namespace, *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_kubectl_and_taskctl_show_a_task_s_output(world: ClusterWorld) -> None:
    await world.cluster()
    await world.task("talk", "sh", "-c", "echo out; echo err >&2; seq 1 5")
    status = (await world.finished("talk"))["status"]
    # taskctl knows that the task has ended before the kubelet does.
    printed = await taskctl(world, "logs", "talk")
    assert set(printed.split()) == {"out", "err", "1", "2", "3", "4", "5"}

    async def shown() -> str:
        try:
            return await world.kubectl("logs", status["podName"], "-c", status["containerName"])
        except AssertionError as error:
            return str(error)

    def same(text: str) -> bool:
        # Two streams: which of two lines written at once comes first, either reader may see
        # in its own way. The order within each stream holds.
        theirs, ours = text.split(), printed.split()
        without = [[word for word in words if word != "err"] for words in (theirs, ours)]
        return sorted(theirs) == sorted(ours) and without[0] == without[1]

    await eventually(shown, same, what="the same by kubectl")


async def test_the_output_outlives_its_worker(world: ClusterWorld) -> None:
    await world.cluster()
    await world.task("talk", "sh", "-c", "seq 1 1000")
    pod = (await world.finished("talk"))["status"]["podName"]
    await world.kubectl("delete", "pod", pod, "--wait=false")

    async def names() -> list[str]:
        return [worker["metadata"]["name"] for worker in await world.workers()]

    await eventually(names, lambda now: pod not in now and len(now) == 1, what="replaced")
    await world.cluster_ready()
    assert (await taskctl(world, "logs", "talk")).split() == [str(n) for n in range(1, 1001)]
    assert (await taskctl(world, "logs", "talk", "--tail", "2")).split() == ["999", "1000"]
    assert (await world.get(TASKS, "talk"))["status"]["state"] == "Succeeded"


async def test_a_log_that_the_kubelet_has_rotated_comes_whole(world: ClusterWorld) -> None:
    await world.cluster()
    # A kubelet looks every ten seconds whether a log has grown beyond 10 MiB.
    await world.task("big", "sh", "-c", "seq 1 2000000; sleep 25; echo end")
    await world.finished("big", timeout_s=80)
    printed = await taskctl(world, "logs", "big")
    assert printed == "".join(f"{number}\n" for number in range(1, 2_000_001)) + "end\n"
