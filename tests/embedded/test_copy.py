"""``taskctl cp``: into a workspace and out of it, in place and through a worker."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from taskctl.outside.copyframes import TransferError
from taskctl.outside.copying import Omissions, WorkspacePath, copy_from, copy_to
from taskctl.outside.session import Session
from tests.embedded.world import World

TIMEOUT_S = 120.0
pytestmark = pytest.mark.timeout(300)


def fill(folder: Path) -> None:
    (folder / "deep" / "none").mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "large").write_bytes(os.urandom(1 << 20) * 5)
    (folder / "deep" / "run").write_text("#!/bin/sh\necho ran $1\n")
    (folder / "deep" / "run").chmod(0o755)
    (folder / "deep" / "inside").symlink_to("../empty")
    (folder / "secrets").symlink_to("/etc")


def assert_same(copy: Path, original: Path) -> None:
    names = {str(path.relative_to(original)) for path in original.rglob("*")}
    assert {str(path.relative_to(copy)) for path in copy.rglob("*")} == names - {"secrets"}
    for name in ("empty", "large", "deep/run"):
        assert (copy / name).read_bytes() == (original / name).read_bytes()
    assert os.readlink(copy / "deep" / "inside") == "../empty"
    assert os.access(copy / "deep" / "run", os.X_OK)


async def cp(world: World, kubeconfig: Path, *words: str, stdin: bytes = b"") -> tuple[int, bytes]:
    start = [sys.executable, "-m", "taskctl", "--kubeconfig", str(kubeconfig)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *start, "--namespace", world.namespace, "cp", *words, stdin=pipe, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out + err


async def test_both_ways(world: World, tmp_path: Path) -> None:
    await world.cluster()
    # Elsewhere, nothing says that the workspace is a directory of this machine.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(world.kubeconfig.read_text())
    original = tmp_path / "original"
    original.mkdir()
    fill(original)
    for way, kubeconfig in (("here", world.kubeconfig), ("worker", elsewhere)):
        session = Session(world.client, world.namespace, str(kubeconfig))
        told: list[str] = []
        report = Omissions(told.append)
        async with asyncio.timeout(TIMEOUT_S):
            await copy_to(session, str(original), WorkspacePath("c", f"/workspace/{way}"), report)
            assert_same(world.workspace() / way, original)
            (world.workspace() / way / "secrets").symlink_to("/etc")
            copied = tmp_path / f"copied-{way}"
            await copy_from(session, WorkspacePath("c", way), str(copied), report)
            assert_same(copied, original)
        assert len(told) == 2
        assert all("secrets is a symbolic link that leads out" in line for line in told)
        assert not report.wrong
        links = [f"{way}/secrets", f"{way}/secrets/passwd"] if way == "here" else []
        for path in ("gone", *links):
            with pytest.raises(TransferError, match=f"^c:{path} ") as raised:
                await copy_from(session, WorkspacePath("c", path), str(tmp_path / "new"), report)
            assert raised.value.missing is (path == "gone")
            assert not (tmp_path / "new").exists()
        with pytest.raises(TransferError, match=f"^c:{way}/secrets/new leads through"):
            await copy_to(session, str(original), WorkspacePath("c", f"{way}/secrets/new"), report)

    # A task finds what has come, and may change it.
    script = "here/deep/run $(wc -c < worker/large); echo more >> here/empty; rm -r worker"
    await world.task("user", "sh", "-c", f"cd /workspace && {script}")
    done = await world.finished("user", timeout_s=90)
    assert done["status"]["state"] == "Succeeded", done["status"]
    # The folder of the stack holds the workspace, and keys.
    told = []
    session = Session(world.client, world.namespace, str(world.kubeconfig))
    await copy_to(
        session, str(world.data_dir.parent), WorkspacePath("c", "all"), Omissions(told.append)
    )
    assert any(f": {world.data_dir.name} belongs to the local stack" in line for line in told)
    assert not (world.workspace() / "all" / world.data_dir.name).exists()
    # The command line; a stream in, a stream out.
    code, said = await cp(world, elsewhere, "-", "task/user:typed", stdin=b"from a pipe\n")
    assert (code, said) == (0, b"")
    assert await cp(world, world.kubeconfig, "c:typed", "-") == (0, b"from a pipe\n")
