"""Workers with resources of the whole pod, on a cluster with and without these."""

from __future__ import annotations

import asyncio

import pytest

from taskctl.kube.resources import EVENTS, PODS
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run

POD = {"limits": {"cpu": "2", "memory": "2Gi"}}


@pytest.mark.parametrize("has_them", [True, False])
def test_workers_come_up_once_and_stay(has_them: bool) -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            sim.api.pod_level_resources = has_them
            await sim.cluster("big", replicas=2, template={"podResources": POD})
            await sim.until(lambda: len(sim.api.all(PODS)) == 2)
            await asyncio.sleep(60)
            assert {pod["metadata"]["name"] for pod in sim.api.all(PODS)} == {"big-1", "big-2"}
            for pod in sim.api.all(PODS):
                [agent] = pod["spec"]["containers"]
                assert pod["spec"].get("resources") == (POD if has_them else None)
                wanted = None if has_them else {"requests": POD["limits"]}
                assert agent.get("resources") == wanted
            reasons = {event.get("reason") for event in sim.api.all(EVENTS)}
            assert ("PodResourcesNotApplied" in reasons) != has_them
            await sim.task("fits", clusterName="big", resources={"requests": {"memory": "2Gi"}})
            await sim.task("never", clusterName="big", resources={"requests": {"memory": "3Gi"}})
            await sim.finished("fits")
            await sim.until(lambda: sim.status("never").get("reason") == "ResourcesExceedWorker")
            assert "podResources.limits.memory" in sim.status("never")["message"]

    run(main())
