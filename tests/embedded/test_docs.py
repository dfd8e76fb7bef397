"""The programs of the documentation that use a local stack run, and print what it says."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from taskctl.testing.stack import LocalStack
from tests.embedded.world import World

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of a page of the documentation."""
    text = (DOCS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


async def run(stack: LocalStack, world: World, folder: Path, *command: str) -> str:
    """Run a program in the test's namespace; return what it prints."""
    # Beside the original: that is how programs know a local stack.
    kubeconfig = stack.data_dir / f"kubeconfig-{world.namespace}"
    text = stack.kubeconfig.read_text()
    kubeconfig.write_text(re.sub(r"namespace: \S+", f"namespace: {world.namespace}", text))
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_operations(world: World, stack: LocalStack, tmp_path: Path) -> None:
    await world.cluster(replicas=1)
    program, yaml = blocks("operations.md", "python")
    (tmp_path / "words.py").write_text(program)
    out = await run(stack, world, tmp_path, sys.executable, "words.py")
    assert out.strip() == "{'fetch': None, 'words': 3, 'size': None}"
    await run(stack, world, tmp_path, sys.executable, "-c", yaml)
