"""The programs of the documentation that use a local stack run, and print what it says."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskctl.testing.stack import LocalStack
from tests.embedded.world import World

# Many processes, one after another, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

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


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return an empty directory that containers see: their /tmp is their own."""
    with tempfile.TemporaryDirectory(prefix=".tutorial-", dir=DOCS.parent) as name:
        yield Path(name)


async def test_the_tutorial(world: World, stack: LocalStack, folder: Path) -> None:
    """Its programs, in its order, print what it says."""
    await world.cluster(replicas=2)
    text = (DOCS / "tutorial.md").read_text()
    out, compared = "", 0
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        first = block.splitlines()[0]
        if language == "python":
            (folder / first.removeprefix("# ")).write_text(block)
        elif language == "sh" and first.startswith("python "):
            out = await run(stack, world, folder, sys.executable, first.split()[1])
        elif language == "text":
            assert out == block
            compared += 1
    assert compared == len(re.findall(r"^python \w+", text, re.MULTILINE)) == 5
