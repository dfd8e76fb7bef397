"""Workers that share a claim of one node are kept on one, whoever made the claim."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import PODS, PVCS
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run

VOLUME = {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}
SPECS: dict[str, dict[str, Any]] = {
    "workspace": {"workspace": {"claimName": "mine"}},
    "volume": {"volumes": [VOLUME], "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
}


async def make_claim(sim: Simulation, mode: str) -> None:
    claim: KubeObject = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "mine", "namespace": "ns"},
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}},
    }
    await sim.api.create(PVCS, claim, "ns")


def living(sim: Simulation) -> dict[str, KubeObject]:
    pods = sim.api.all(PODS)
    return {
        p["metadata"]["name"]: dict(p["spec"])
        for p in pods
        if "deletionTimestamp" not in p["metadata"]
    }


def together(sim: Simulation) -> list[bool]:
    return ["affinity" in spec for spec in living(sim).values()]


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteMany"])
def test_the_mode_of_a_claim_that_is_there(kind: str, mode: str) -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await make_claim(sim, mode)
            await sim.cluster("d", replicas=2, **SPECS[kind])
            await sim.until(lambda: len(living(sim)) == 2)
            assert together(sim) == [mode == "ReadWriteOnce"] * 2
            first = set(living(sim))
            await sim.restart_controller()
            await sim.task("t", clusterName="d")
            await sim.finished("t")
            assert set(living(sim)) == first, "nothing was replaced"

    run(main())


@pytest.mark.parametrize("kind", SPECS)
def test_a_claim_that_comes_later(kind: str) -> None:
    """Until then it counts as one of a single node; then the workers fit what it is."""

    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await sim.cluster("d", replicas=2, **SPECS[kind])
            await sim.until(lambda: together(sim) == [True, True])
            await make_claim(sim, "ReadWriteMany")
            await sim.until(lambda: together(sim) == [False, False], timeout_s=120)
            before = set(living(sim))
            await sim.api.delete(PVCS, "mine", "ns")
            await sim.task("t", "sleep", "700", clusterName="d")
            await sim.finished("t", timeout_s=900)
            assert set(living(sim)) == before, "they run with what they have mounted"

    run(main())
