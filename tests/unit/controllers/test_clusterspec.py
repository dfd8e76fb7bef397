"""A spec that is not understood makes no worker, and says so."""

from __future__ import annotations

import asyncio
from typing import Any

from taskctl.api.resources import TASKCLUSTERS
from taskctl.kube.resources import PODS
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run

MISSPELT = {"tolerations": [{"kye": "gpu", "operator": "Exists"}]}


def ready(sim: Simulation) -> dict[str, Any]:
    conditions = sim.api.peek(TASKCLUSTERS, "c").get("status", {}).get("conditions") or ()
    return next((dict(c) for c in conditions if c["type"] == "Ready"), {})


def test_no_worker_is_made_of_a_spec_that_is_not_understood() -> None:
    async def main() -> None:
        async with Simulation.started(template=MISSPELT) as sim:
            await sim.until(lambda: ready(sim).get("reason") == "SpecInvalid")
            await asyncio.sleep(60)
            assert sim.api.all(PODS) == []
            assert "spec.template.tolerations[0].kye" in ready(sim)["message"]
            assert sim.api.peek(TASKCLUSTERS, "c")["status"]["observedGeneration"] == 1
            good = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(template=good))
            await sim.until(lambda: ready(sim).get("status") == "True")

    run(main())


def test_workers_of_the_spec_before_go_on() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.until(lambda: ready(sim).get("status") == "True")
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(template=MISSPELT))
            await sim.until(lambda: ready(sim).get("reason") == "SpecInvalid")
            assert ready(sim)["observedGeneration"] == 2
            await sim.task("t")
            assert (await sim.finished("t"))[0]["state"] == "Succeeded"
            await asyncio.sleep(60)
            assert [pod["metadata"]["name"] for pod in sim.api.all(PODS)] == ["c-1"]
            await sim.api.delete(TASKCLUSTERS, "c", "ns")
            await sim.until(lambda: sim.api.all(PODS) == [], timeout_s=120)

    run(main())
