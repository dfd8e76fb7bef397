"""The demo's notebook runs, and shows trees as HTML."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from taskctl.testing.stack import LocalStack
from tests.embedded.test_docs import run
from tests.embedded.world import World

# Many processes, one after another, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)
NOTEBOOK = Path(__file__).resolve().parents[2] / "demo" / "notebook" / "tree.ipynb"
# A process of its own: a kernel's client changes much in the process that it runs in.
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.execute(notebook, timeout=300, kernel_name="python3")
nbformat.write(notebook, sys.argv[2])
"""


async def test_the_notebook(world: World, stack: LocalStack, tmp_path: Path) -> None:
    await world.cluster(replicas=1)
    executed = tmp_path / "executed.ipynb"
    await run(stack, world, tmp_path, sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(executed))
    outputs = [
        output
        for cell in json.loads(executed.read_text())["cells"]
        for output in cell.get("outputs", [])
    ]
    assert all(output["output_type"] != "error" for output in outputs)
    shown = [output["data"] for output in outputs if "data" in output]
    assert "".join(shown[0]["text/plain"]) == "4950"
    # A file of a notebook holds texts as lists of their lines.
    tree, pipeline = ["".join(data["text/html"]) for data in shown if "text/html" in data]
    assert "<b>total</b>" in tree
    assert tree.count("Succeeded") == 15
    assert "15 succeeded" in tree
    assert "<b>pipeline-build</b>" in pipeline
    assert "NonZeroExit" in pipeline
    assert "DependencyFailed" in pipeline
    assert "ChildFailed\n" in ["".join(output.get("text", "")) for output in outputs]
