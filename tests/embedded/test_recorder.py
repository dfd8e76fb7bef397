"""The recorder of a cluster as a process: what it answers after objects are gone, and a restart."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from taskctl.api.resources import TASKS
from taskctl.history.asking import TOKEN_HEADER, parse_end
from tests.embedded.test_history import taskctl
from tests.embedded.world import World, eventually

TIMEOUT_S = 120.0
TOKEN = "0123456789abcdef" * 2
# Each command is a process of its own, which takes seconds to start on a busy machine.
pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def recording(world: World, root: Path) -> AsyncIterator[str]:
    """Run a recorder, and kill it in the end; yields the address that it answers on."""
    token = root / "token"
    token.write_text(TOKEN)
    start = [sys.executable, "-m", "taskctl", "--kubeconfig", str(world.kubeconfig), "recorder"]
    start += [f"--directory={root}", f"--token-file={token}", f"--namespace={world.namespace}"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*start, stderr=pipe)
    assert process.stderr is not None
    said = ""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not (found := re.search(r"history on (http://\S+)", said)):
                line = await process.stderr.readline()
                assert line, said
                said += line.decode()
        yield found[1]
    finally:
        process.kill()
        await process.communicate()


async def gone(url: str) -> dict[str, Any]:
    """Return the Tasks that the recorder says are gone, by name."""
    async with (
        aiohttp.ClientSession(headers={TOKEN_HEADER: TOKEN}) as http,
        http.get(url, params={"gone": "true"}) as answer,
    ):
        *lines, end = (await answer.read()).splitlines()
    assert parse_end(end) is not None
    return {(task := orjson.loads(line))["metadata"]["name"]: task for line in lines}


async def test_a_recorder_answers_after_the_tasks_are_gone(world: World, tmp_path: Path) -> None:
    await world.cluster()
    await world.task("top", "sh", "-c", "taskctl-init spawn --name kid -- sh -c 'exit 3'")
    await world.finished("kid", timeout_s=90)
    await world.finished("top", timeout_s=90)
    await world.task("next", "true")
    await world.finished("next", timeout_s=90)
    async with recording(world, tmp_path) as url:
        await eventually(
            lambda: asyncio.to_thread(lambda: list((tmp_path / "history").glob("tasks-*"))),
            lambda files: any(file.stat().st_size for file in files),
            timeout_s=90,
        )
        await world.client.delete(TASKS, "top", world.namespace)
        await eventually(lambda: gone(url), lambda found: {*found} == {"top", "kid"}, timeout_s=90)
    # Killed. What happens before the next one begins is not lost.
    await world.client.delete(TASKS, "next", world.namespace)
    async with recording(world, tmp_path) as url:
        found = await eventually(lambda: gone(url), lambda found: "next" in found, timeout_s=90)
        assert {*found} == {"top", "kid", "next"}
        assert found["next"]["history"]["late"] is True
    files = str(tmp_path / "history")
    code, out, err = await taskctl(world, "tree", "top", "--from", files)
    assert (code, "kid" in out, "NonZeroExit 3" in out) == (0, True, True), out + err
    code, out, err = await taskctl(world, "get", "kid", "--from", files, "-o", "name")
    assert (code, out.strip()) == (0, "task.taskctl.dev/kid"), err
