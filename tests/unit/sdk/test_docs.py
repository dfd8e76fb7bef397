"""The examples of docs/sdk.md run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.sdk.fake_agent import FakeAgent

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "sdk.md").read_text(), re.M | re.S)
# The name of an example's function, an input for it, and what then was asked of the agent.
RUNS = {
    "count": ({"n": 0, "limit": 50}, ["spawn", "output"]),
    "crawl": ({"page": {"url": "http://x", "saved": "/y"}}, ["spawn", "output"]),
    "total": ({"numbers": [1, 2]}, ["spawn", "children", "results", "output"]),
    "search": (
        {"seeds": [4, 2]},
        ["spawn", "children", "results", "cancel", "cancel", "output"],
    ),
    "plan": ({"numbers": [1, 2]}, ["spawn", "spawn", "spawn"]),
    "measure": ({"lines": ["a", "bc"]}, ["spawn", "spawn"]),
    "build": ({"target": "all"}, ["spawn", "spawn"]),
    "sweep": ({"steps": 2}, ["progress", "progress", "info", "output"]),
}
PROGRAMS = {
    "count = current().input": ({"count": 3}, ["input", "spawn", "output"]),
    "except TaskCancelled": (None, []),
}


def find(text: str) -> str:
    [example] = [code for code in EXAMPLES if text in code]
    return str(example)


def run(folder: Path, *arguments: str) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def operations(agent: FakeAgent) -> list[str]:
    return [request["op"] for request in agent.requests]


@pytest.mark.parametrize("name", RUNS)
def test_function(agent: FakeAgent, tmp_path: Path, name: str) -> None:
    (tmp_path / "example.py").write_text(find(f"async def {name}("))
    agent.input = {"value": RUNS[name][0]}
    agent.at_once = 0.5 if name == "search" else 4
    run(tmp_path, "-m", "taskctl.sdk.run", f"example:{name}")
    assert operations(agent) == ["input", *RUNS[name][1]]


@pytest.mark.parametrize("text", PROGRAMS)
def test_program(agent: FakeAgent, tmp_path: Path, text: str) -> None:
    agent.input = {"value": PROGRAMS[text][0]}
    run(tmp_path, "-c", find(text))
    assert operations(agent) == PROGRAMS[text][1]


def test_every_example_is_run() -> None:
    assert len(EXAMPLES) == len(RUNS) + len(PROGRAMS)


def test_options_are_all_there() -> None:
    from taskctl.sdk import _options

    text = (ROOT / "docs" / "sdk.md").read_text()
    assert all(f"`{name}`" in text for name in _options.FIELDS)


def test_errors_are_all_there() -> None:
    from taskctl import sdk

    text = (ROOT / "docs" / "sdk.md").read_text()
    errors = [
        name
        for name in sdk.__all__
        if isinstance(getattr(sdk, name), type)
        and issubclass(getattr(sdk, name), BaseException)
        and name != "Refused"
    ]
    assert all(f"`{name}`" in text for name in errors)
