"""The fixture ``taskctl_stack`` as docs/testing.md shows it, in a pytest of the user's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def example(text: str) -> str:
    [found] = [code for code in EXAMPLES if text in code]
    return str(found)


def test_a_graph_runs_on_the_stack_of_the_session(tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text(example("async def total("))
    (tmp_path / "test_graph.py").write_text(example("def test_a_graph("))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environ = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "taskctl.testing.plugin"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
