"""The life of tasks, through all controllers, against a fake API server and node."""

from __future__ import annotations

import asyncio

from taskctl.client.resources import PODS, TASKCLUSTERS, TASKS
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run


def test_one_task() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t")
            (status,) = await sim.finished("t")
            assert status["state"] == "Succeeded"
            assert status["attempt"] == 1
            assert sim.condition("t", "Complete") == "True"
            assert sim.node.runs == [("t", 1)]

    run(main())
