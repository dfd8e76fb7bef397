"""``taskctl debug`` on a real kubelet."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from tests.cluster.world import ClusterWorld
from tests.embedded.world import eventually


async def test_a_command_beside_a_failed_task(world: ClusterWorld) -> None:
    await world.cluster()
    await world.task("bad", "sh", "-c", "echo left > /workspace/left; exit 1")
    await world.finished("bad")
    command = [sys.executable, "-m", "taskctl", "--kubeconfig", str(world.kubeconfig)]
    command += ["-n", world.namespace, "debug", "bad", "--", "sh", "-c"]
    # Standard input reaches it, its end too; the container's first process is ours.
    command += ["cat left -; cat /proc/1/cmdline | tr '\\0' ' '; echo oh >&2; exit 7"]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        input="typed\n",
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith("left\ntyped\n/taskctl/bin/taskctl-init debug-hold debug-")
    assert done.stderr.endswith("oh\n")

    async def running() -> list[str]:
        return [
            entry["name"]
            for pod in await world.workers()
            for entry in pod["status"].get("ephemeralContainerStatuses") or ()
            if entry["name"].startswith("debug-") and "running" in entry["state"]
        ]

    await eventually(running, lambda now: not now, what="it is gone")
