"""``taskctl cp`` on a real kubelet: through a worker, by exec in its agent's container."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.cluster.world import ClusterWorld


async def test_a_folder_goes_both_ways_and_a_task_uses_it(
    world: ClusterWorld, tmp_path: Path
) -> None:
    await world.cluster()

    async def cp(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "taskctl", "--kubeconfig", str(world.kubeconfig)]
        command += ["-n", world.namespace, "cp", *words]
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=150, check=False
        )

    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(5 << 20))
    (folder / "deep" / "empty").touch()
    done = await cp(str(folder), "c:sent")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    await world.task("user", "sh", "-ec", "cd /workspace && ls sent/deep && mv sent back")
    assert (await world.finished("user"))["status"]["state"] == "Succeeded"
    done = await cp("task/user:back", str(tmp_path / "back"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "back" / "large").read_bytes() == (folder / "large").read_bytes()
    assert (tmp_path / "back" / "deep" / "empty").read_bytes() == b""
    done = await cp("c:sent", str(tmp_path / "gone"))
    assert done.returncode == 3
    assert "c:sent" in done.stderr
    assert not (tmp_path / "gone").exists()
