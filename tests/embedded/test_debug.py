"""``taskctl debug``: a shell beside a task that has failed."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from contextlib import suppress

import pytest

from taskctl.kube.resources import PODS
from tests.embedded.world import World, eventually

TIMEOUT_S = 120.0
# Each command is a process of its own, which takes seconds to start on a busy machine.
pytestmark = pytest.mark.timeout(300)


def words(world: World, *arguments: str) -> list[str]:
    start = [sys.executable, "-m", "taskctl", "--kubeconfig", str(world.kubeconfig)]
    return [*start, "--namespace", world.namespace, "debug", *arguments]


async def debug(world: World, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *words(world, *arguments), stdin=pipe, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def containers(world: World) -> list[str]:
    """Return the containers for debugging that run."""
    return [
        entry["name"]
        for pod in await world.workers()
        for entry in pod["status"].get("ephemeralContainerStatuses") or ()
        if entry["name"].startswith("debug-") and "running" in entry["state"]
    ]


async def test_commands_beside_a_failed_task(world: World) -> None:
    await world.cluster()
    await world.task("bad", "sh", "-c", "echo left > /workspace/left; exit 1")
    pod = (await world.finished("bad", timeout_s=90))["status"]["podName"]
    script = "cat left -; env; ls /var/run/secrets/*; echo oh >&2; exit 7"
    code, out, err = await debug(world, "task/bad", "--", "sh", "-c", script, stdin=b"typed\n")
    assert code == 7
    assert out.startswith("left\ntyped\n")
    assert err.endswith("oh\n")
    # No credentials: neither the agent's nor those of its socket.
    assert not any(word in out for word in ("TASKCTL_NONCE", "TASKCTL_TOKEN", "serviceaccount"))
    await eventually(lambda: containers(world), lambda now: not now, what="all are gone")

    await world.client.delete(PODS, pod, world.namespace)

    async def workers() -> list[str]:
        return [worker["metadata"]["name"] for worker in await world.workers()]

    await eventually(
        workers, lambda now: len(now) == 1 and pod not in now, what="another worker", timeout_s=90
    )
    await world.cluster_ready(timeout_s=90)
    code, out, err = await debug(world, "bad", "--", "cat", "left")
    assert (code, out) == (0, "left\n")
    assert f"worker {pod}, where bad ran, is gone" in err


async def test_a_shell_in_a_terminal(world: World) -> None:
    await world.cluster()
    await world.task("bad", "false")
    await world.finished("bad", timeout_s=90)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, words(world, "bad"))
    try:
        # A terminal echoes what is typed, so the words that are waited for are put together.
        await typed(terminal, "", "Leave with exit.")
        await typed(terminal, "echo ready$((1 + 1)); sleep 1000; echo slept\n", "ready2")
        await typed(terminal, "\x03", "")
        await typed(terminal, "echo again$((1 + 1))\n", "again2")
        await typed(terminal, "exit 5\n", "")
        async with asyncio.timeout(TIMEOUT_S):
            while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
                with suppress(OSError):
                    os.set_blocking(terminal, False)
                    os.read(terminal, 65536)
                await asyncio.sleep(0.05)
        assert os.waitstatus_to_exitcode(found[1]) == 5
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
    await eventually(lambda: containers(world), lambda now: not now, what="it is gone")


async def typed(terminal: int, keys: str, awaited: str) -> None:
    """Type, and wait for what then stands on the screen."""
    os.set_blocking(terminal, False)
    os.write(terminal, keys.encode())
    seen = ""
    async with asyncio.timeout(TIMEOUT_S):
        while awaited not in seen:
            with suppress(BlockingIOError):
                seen += os.read(terminal, 65536).decode(errors="replace")
            await asyncio.sleep(0.05)
