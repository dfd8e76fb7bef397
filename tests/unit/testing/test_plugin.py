"""The plugin for pytest, as a user's pytest loads it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SUITE = """
import pytest

from taskctl.api.resources import TASKS
from taskctl.testing import builders


@pytest.fixture
def taskctl_cluster_options():
    from tests.unit.clocks import SetClock

    return {"clock": SetClock()}


@pytest.mark.asyncio
async def test_it(taskctl_cluster):
    client = taskctl_cluster.client()
    made = await client.create(TASKS, builders.task("a").manifest(), "default")
    assert made["metadata"]["creationTimestamp"] == "2030-01-01T00:00:00Z"


@pytest.mark.asyncio
async def test_another_has_its_own(taskctl_cluster):
    assert taskctl_cluster.objects(TASKS) == []
"""


def pytest_run(folder: Path, *plugins: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    for plugin in plugins:
        command += ["-p", plugin]
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def test_a_cluster_for_each_test(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, "taskctl.testing.plugin", "pytest_asyncio.plugin")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Without pytest-asyncio there is no fixture that could run in the test's event loop."""
    (tmp_path / "pytest_asyncio.py").write_text("raise ModuleNotFoundError('pytest_asyncio')\n")
    done = pytest_run(tmp_path, "taskctl.testing.plugin")
    assert "needs pytest-asyncio: install it" in done.stdout, done.stdout + done.stderr


def test_pytest_finds_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"taskctl": "taskctl.testing.plugin"}
