"""Volumes that workers cannot have, each told of in the words of an Event.

All are made at once, in one namespace, and looked at one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS
from taskctl.kube.client import KubeClient
from taskctl.kube.resources import PVCS, Resource
from taskctl.testing.stack import LocalStack
from tests.embedded.world import World, eventually

PVS = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
STORAGECLASSES = Resource(
    "storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False
)
STATIC, LATER, LATER_STATIC = "sit-static", "sit-later", "sit-later-static"
ZONE = "topology.kubernetes.io/zone"


def pvc(**spec: Any) -> dict[str, Any]:
    return {"workspace": {"pvc": spec}}


def further(claim: str) -> dict[str, Any]:
    volume = {"name": "more", "persistentVolumeClaim": {"claimName": claim}}
    return {"volumes": [volume], "volumeMounts": [{"name": "more", "mountPath": "/more"}]}


# What each TaskCluster asks for, and what its condition Ready has to say.
SITUATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "one-pod-only": (
        {"replicas": 2} | pvc(accessModes=["ReadWriteOncePod"]),
        "ReadWriteOncePod access mode already in-use by another pod",
    ),
    "two-zones": (
        {"workspace": {"claimName": "zone-a"}} | further("zone-b"),
        "node(s) didn't match PersistentVolume's node affinity",
    ),
    "no-provisioner": (pvc(storageClassName=STATIC), "ProvisioningFailed: no PersistentVolume"),
    "no-volume-later": (
        pvc(storageClassName=LATER_STATIC),
        "node(s) didn't find available persistent volumes to bind",
    ),
    "nfs": (
        {"workspace": {"nfs": {"server": "192.0.2.1", "path": "/x"}}},
        "FailedMount: volume 'workspace': the local node cannot mount nfs volumes",
    ),
    "host-path": (
        {"workspace": {"hostPath": {"path": "/nowhere/at/all", "type": "Directory"}}},
        "FailedMount: hostPath type check failed: /nowhere/at/all does not exist",
    ),
    "no-claim": (
        {"workspace": {"claimName": "absent"}},
        'persistentvolumeclaim "absent" not found',
    ),
    "no-further-claim": (
        {"workspace": {}} | further("absent"),
        'persistentvolumeclaim "absent" not found',
    ),
    "no-secret": (
        {"volumes": [{"name": "s", "secret": {"secretName": "absent"}}]},
        "FailedMount: volume 's': secret \"absent\" not found",
    ),
}


async def make_all(stack: LocalStack) -> str:
    async with await KubeClient.connect(stack.client_settings()) as client:
        world = await World.create(client, "situations", stack.data_dir)
        binding = {STATIC: "Immediate", LATER: "WaitForFirstConsumer"}
        binding[LATER_STATIC] = "WaitForFirstConsumer"
        for name, mode in binding.items():
            made_by = "x.example/disks" if name == LATER else "kubernetes.io/no-provisioner"
            body = {"provisioner": made_by, "volumeBindingMode": mode}
            await world.make(STORAGECLASSES, name, **body)
        here = {"hostPath": {"path": str(stack.data_dir), "type": "Directory"}}
        for name, zone in (("zone-a", "a"), ("zone-b", "b")):
            term = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": [zone]}]}
            size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
            volume = here | {
                "capacity": size,
                "accessModes": modes,
                "storageClassName": STATIC,
                "claimRef": {"namespace": world.namespace, "name": name},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            }
            await world.make(PVS, f"{world.namespace}-{name}", spec=volume)
            claim = {"accessModes": modes, "resources": {"requests": size}}
            await world.make(PVCS, name, spec=claim | {"storageClassName": STATIC})
        for name, (spec, _) in SITUATIONS.items():
            await world.make(TASKCLUSTERS, name, spec={"replicas": 1} | spec)
        return world.namespace


@pytest.fixture(scope="module")
def namespace(stack: LocalStack) -> Iterator[str]:
    """Return a namespace in which all of that was made."""
    made = asyncio.run(make_all(stack))
    yield made

    async def remove() -> None:
        async with await KubeClient.connect(stack.client_settings()) as client:
            await World(client, made, stack.data_dir).delete()
            for name in (STATIC, LATER, LATER_STATIC):
                await client.delete(STORAGECLASSES, name)
            for name in ("zone-a", "zone-b"):
                await client.delete(PVS, f"{made}-{name}")

    asyncio.run(remove())


@pytest.fixture
async def world(stack: LocalStack, namespace: str) -> Any:
    async with await KubeClient.connect(stack.client_settings()) as client:
        yield World(client, namespace, stack.data_dir)


def words_of(cluster: dict[str, Any], kind: str = "Ready") -> str:
    conditions = cluster.get("status", {}).get("conditions") or []
    return next((c["message"] for c in conditions if c["type"] == kind), "")


@pytest.mark.parametrize("name", SITUATIONS)
async def test_the_condition_has_the_words(world: World, name: str) -> None:
    wanted = SITUATIONS[name][1]
    await eventually(
        lambda: world.get(TASKCLUSTERS, name),
        lambda found: wanted in words_of(found),
        timeout_s=90,
        what=f"told {wanted!r}",
    )


async def test_a_claim_that_waits_for_its_first_pod(world: World) -> None:
    """Without workers it waits and says so; the first worker has it bound."""
    spec = {"replicas": 0} | pvc(storageClassName=LATER)
    await world.make(TASKCLUSTERS, "later", spec=spec)

    async def claim() -> dict[str, Any]:
        return await world.get(PVCS, "later-workspace")

    async def reasons() -> set[str]:
        uid = (await claim())["metadata"]["uid"]
        events = await world.events()
        return {one["reason"] for one in events if one["involvedObject"].get("uid") == uid}

    await eventually(
        lambda: world.all(PVCS),
        lambda found: "later-workspace" in {one["metadata"]["name"] for one in found},
        timeout_s=60,
    )
    await eventually(reasons, lambda found: "WaitForFirstConsumer" in found, timeout_s=60)
    assert (await claim())["status"]["phase"] == "Pending"
    await world.patch(TASKCLUSTERS, "later", {"spec": {"replicas": 1}})
    await world.cluster_ready("later", timeout_s=90)
    assert (await claim())["status"]["phase"] == "Bound"


async def test_one_worker_of_two_has_a_claim_for_one_pod(world: World) -> None:
    """It serves; when it goes, the other gets the claim."""
    found = await eventually(
        lambda: world.get(TASKCLUSTERS, "one-pod-only"),
        lambda found: found.get("status", {}).get("ready") == 1,
        timeout_s=90,
    )
    assert "1 of 2 workers are ready" in words_of(found)
    await world.patch(TASKCLUSTERS, "one-pod-only", {"spec": {"replicas": 1}})
    await world.cluster_ready("one-pod-only", timeout_s=90)
