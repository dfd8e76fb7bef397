"""Interpreters that are started before their tasks exist, on the local stack."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from tests.embedded.test_standby import STANDBY, WAIT_S
from tests.embedded.world import World, eventually

SDK = [sys.executable, "-m", "taskctl.sdk.run", "--path", "/workspace"]
# What stands at the level of the module runs when it is imported; `main` when there is a task.
PROGRAM = """
import os, sys, time

KNOWS_ITS_TASK = "TASKCTL_TOKEN" in os.environ
ME = os.readlink("/proc/self/ns/pid") + f" {os.getpid()} {time.monotonic_ns()}"
with open("/workspace/imported", "a") as file:
    file.write(ME + "\\n")
if os.environ.get("TROUBLE") and not KNOWS_ITS_TASK:
    open("/workspace/trouble", "w").close()
    if os.environ["TROUBLE"] == "crash":
        os.abort()
    while True:
        pass


def main(name):
    open(f"/tmp/of-{name}", "w").close()
    found = sorted(entry for entry in os.listdir("/tmp") if entry.startswith("of-"))
    return {"me": ME, "imported_ahead": not KNOWS_ITS_TASK, "files": found}
"""


def imported(world: World) -> list[str]:
    """Return the interpreters that have imported the module so far."""
    path = world.workspace() / "imported"
    return path.read_text().splitlines() if path.exists() else []


async def ran(world: World, name: str, **spec: Any) -> dict[str, Any]:
    """Run the function as a task of a tree of its own; returns what it returned."""
    await world.task(name, *SDK, "program:main", input={"name": name}, **spec)
    status = (await world.finished(name, timeout_s=WAIT_S))["status"]
    assert (status["state"], status["attempt"]) == ("Succeeded", 1), status
    found: dict[str, Any] = status["output"]
    return found


async def stocked(world: World) -> None:
    await world.cluster(standby=STANDBY, inlineOutputs=True)
    (world.workspace() / "program.py").write_text(PROGRAM)


@pytest.mark.timeout(400)
async def test_a_task_gets_an_interpreter_that_was_there_before_it(world: World) -> None:
    await stocked(world)
    results: list[dict[str, Any]] = []
    was_there: list[bool] = []
    while not any(was_there):
        assert len(results) < 50, results
        before = imported(world)
        results.append(await ran(world, f"t{len(results)}"))
        was_there.append(results[-1]["me"] in before)
        assert results[-1]["imported_ahead"] or not was_there[-1]
    for number, found in enumerate(results):
        assert found["files"] == [f"of-t{number}"], "nothing of another task is there"
    assert len({found["me"] for found in results}) == len(results), "each has its own process"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("trouble", ["crash", "hang"])
async def test_one_that_fails_costs_no_task_anything(world: World, trouble: str) -> None:
    await stocked(world)
    env = [{"name": "TROUBLE", "value": trouble}]
    await ran(world, "first", env=env)
    marker = world.workspace() / "trouble"
    await eventually(
        lambda: asyncio.to_thread(marker.exists), bool, timeout_s=WAIT_S, what="tried ahead"
    )
    for number in (1, 2):
        assert not (await ran(world, f"t{number}", env=env))["imported_ahead"]
