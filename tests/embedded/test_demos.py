"""Demos that join: their trees complete, and their own checks accept what the roots returned."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from taskctl.api.resources import TASKS
from tests.embedded.test_growth import DEMO, apply
from tests.embedded.test_results import value
from tests.embedded.world import World, eventually

pytestmark = pytest.mark.timeout(300)

# name: (changes of its task.yaml, arguments of its check, bounds of the number of descendants)
DEMOS = {
    "wordcount": ({"maps: 200": "maps: 12"}, ["12"], (13, 13)),
    "crawl": ({"width: 3, depth: 3": "width: 2, depth: 2"}, ["2", "2"], (7, 7)),
    "sweep": ({}, [], (7, 1000)),
}


@pytest.mark.parametrize("name", DEMOS)
async def test_demo(world: World, name: str) -> None:
    changes, arguments, (fewest, most) = DEMOS[name]
    await apply(world, DEMO / name / "taskcluster.yaml")
    await apply(world, DEMO / name / "task.yaml", **changes)
    root = await eventually(
        lambda: world.get(TASKS, name),
        lambda task: any(
            entry["type"] == "Complete" and entry["status"] == "True"
            for entry in task["status"].get("conditions", [])
        ),
        timeout_s=240,
        what="complete",
    )
    conditions = {entry["type"]: entry["status"] for entry in root["status"]["conditions"]}
    assert conditions["Succeeded"] == "True", root["status"]
    assert fewest <= root["status"]["descendants"]["total"] <= most
    checked = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(DEMO / name / "check.py"), *arguments],
        input=json.dumps(await value(world, root)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    if name == "sweep":
        assert root["status"]["descendants"]["stopped"] >= 4
