"""What a tree left in the history of a local stack, after its objects are gone."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.history.files import LOCAL_DIRECTORY
from taskctl.history.reading import Wanted, read_history
from tests.embedded.world import World, eventually

TIMEOUT_S = 120.0
# Each command is a process of its own, which takes seconds to start on a busy machine.
pytestmark = pytest.mark.timeout(300)


async def taskctl(world: World, *words: str) -> tuple[int, str, str]:
    start = [sys.executable, "-m", "taskctl", "--kubeconfig", str(world.kubeconfig)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *start, "--namespace", world.namespace, *words, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_deleted_tree_is_answered_from_the_history(world: World, tmp_path: Path) -> None:
    keep = {"enable": True, "reclaim": "Retain", "cleanup": {"afterDeletionSeconds": 3600}}
    await world.cluster(workspace=keep)
    script = "taskctl-init spawn --name kid -- sh -c 'echo it broke; exit 3'; echo the root"
    await world.task("top", "sh", "-c", script)
    await world.finished("kid", timeout_s=90)
    await world.finished("top", timeout_s=90)
    await world.client.delete(TASKS, "top", world.namespace)
    await world.client.delete(TASKCLUSTERS, "c", world.namespace)

    async def gone() -> set[str]:
        wanted = Wanted(namespace=world.namespace, gone=True)
        found = await asyncio.to_thread(read_history, world.data_dir, LOCAL_DIRECTORY, wanted)
        return {task["metadata"]["name"] for task in found.tasks}

    await eventually(gone, lambda names: names == {"kid", "top"}, timeout_s=90)

    code, out, err = await taskctl(world, "tree", "top")
    assert (code, "kid" in out, "NonZeroExit 3" in out) == (0, True, True), out + err
    assert "top is gone; this is from the history" in err
    code, out, err = await taskctl(world, "logs", "kid")
    assert (code, out) == (0, "it broke\n"), err
    code, out, err = await taskctl(world, "report", "top", "-o", str(tmp_path / "top.html"))
    assert code == 0, err
    assert "it broke" in (tmp_path / "top.html").read_text()
    code, out, err = await taskctl(world, "get", "--history", "-o", "name")
    assert code == 0, err
    assert set(out.split()) == {"task.taskctl.dev/top", "task.taskctl.dev/kid"}
