"""A task fills the disk that the data directory is on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskctl.embedded.server.storage.persistence import RESERVE_BYTES
from taskctl.kube.resources import Resource
from tests.attacks.conftest import StartLocal
from tests.diskspace import fill, small_file_system

CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
FULL_S = 8.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MiB of its own."""
    with small_file_system(tmp_path / "disk", size_mib=96) as place:
        yield place


async def reserve_is_there(data: Path) -> None:
    """The server takes it soon after its start; on a busy machine later."""
    files = (data / "db.sqlite", data / "db.sqlite-wal")
    async with asyncio.timeout(60):
        while min(file.stat().st_size for file in files) < RESERVE_BYTES:
            await asyncio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_the_stack_outlives_a_full_disk(disk: Path, start_local: StartLocal) -> None:
    local = start_local(disk / "data")
    async with local.world() as world:
        await world.cluster()
        await reserve_is_there(disk / "data")
        filler = fill(disk)
        server = local.pid("server")
        # The server records what comes of it in its reserve.
        for number in range(50):
            await world.make(CONFIGMAPS, f"m{number}", data={"text": "x" * 2000})
        assert local.pid("server") == server
        for component in ("server", "controller", "node", "server"):
            local.kill(component)
            await asyncio.sleep(FULL_S / 4)
        assert local.process is not None
        assert local.process.poll() is None, local.output.read_text()
        filler.unlink()
        await local.answers()
        await world.task("after", "true")
        assert (await world.finished("after", timeout_s=60))["status"]["state"] == "Succeeded"
    assert local.process.poll() is None


@pytest.mark.timeout(180)
async def test_a_task_that_fills_the_disk(disk: Path, start_local: StartLocal) -> None:
    """It fails by itself; its outcome is recorded, and the next ones run."""
    local = start_local(disk / "data")
    async with local.world() as world:
        await world.cluster()
        await reserve_is_there(disk / "data")
        script = "dd if=/dev/zero of=/workspace/fill bs=64k 2>/dev/null; sleep 12; exit 3"
        await world.task("full", "sh", "-c", script)
        ended = await world.finished("full", timeout_s=60)
        assert (ended["status"]["state"], ended["status"]["exitCode"]) == ("Failed", 3)
        (world.workspace() / "fill").unlink()
        await world.task("after", "true")
        assert (await world.finished("after", timeout_s=60))["status"]["state"] == "Succeeded"
