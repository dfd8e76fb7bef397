"""Where the workers of a TaskCluster go on two nodes: a real scheduler, nodes without a kubelet.

The nodes are objects that say they are ready, so pods are bound to them and never start: this
is the half of a second node that the scheduler decides. The workers are made by taskctl's own
function, and the controller has no part in it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from taskctl.errors import NotFound
from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings
from taskctl.kube.interface import DeleteOptions, PatchOptions
from taskctl.kube.resources import NAMESPACES, NODES, PODS, PVCS, Resource
from taskctl.policy.colocation import Sharing
from taskctl.policy.workerpod import build_worker
from tests.embedded.world import eventually
from tests.realnode.node import NativeNode

PVS = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
ZONE, OURS = "topology.kubernetes.io/zone", "taskctl-test/two-nodes"
NAMES = ("two-a", "two-b")
AT_ONCE = DeleteOptions(grace_s=0)


def node_object(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, ZONE: f"zone-{name}", OURS: "yes"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def ready_status() -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "",
             "lastHeartbeatTime": now, "lastTransitionTime": now}  # fmt: skip
    room = {"cpu": "4", "memory": "8Gi", "pods": "50"}
    return {"status": {"conditions": [ready], "capacity": room, "allocatable": room}}


class TwoNodes:
    """A namespace, and two nodes that only the scheduler takes for such."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    async def beat(self) -> None:
        """Have the nodes answer, as the node controller sees it, until cancelled."""
        while True:
            for name in NAMES:
                options = PatchOptions(subresource="status")
                await self.client.patch(NODES, name, None, ready_status(), options=options)
            await asyncio.sleep(10)

    async def untainted(self) -> None:
        """Wait until the node controller has seen both ready: before, only one may take pods."""
        for name in NAMES:
            await eventually(
                lambda name=name: self.client.get(NODES, name),  # type: ignore[misc]
                lambda found: not found["spec"].get("taints"),
                timeout_s=60,
                what=f"{name} takes pods",
            )

    async def worker(self, number: int, sharing: Sharing, **spec: Any) -> str:
        """Create a worker, as the controller would; returns its name."""
        cluster = {
            "metadata": {"name": "c", "namespace": self.namespace, "uid": "two-nodes"},
            "spec": {"template": {"nodeSelector": {OURS: "yes"}}} | spec,
        }
        pod = build_worker(cluster, f"c-{number}", sharing=sharing)
        # No controller is to see to these, and no account has been made for them.
        pod["metadata"]["labels"].pop("app.kubernetes.io/managed-by")
        for field in ("finalizers", "ownerReferences"):
            pod["metadata"].pop(field)
        pod["spec"]["serviceAccountName"] = "default"
        return str((await self.client.create(PODS, pod, self.namespace))["metadata"]["name"])

    async def node_of(self, name: str) -> str:
        """Wait until the scheduler has placed a pod; returns the node."""
        pod = await eventually(
            lambda: self.client.get(PODS, name, self.namespace),
            lambda pod: bool(pod["spec"].get("nodeName")),
            timeout_s=60,
            what=f"{name} placed",
        )
        return str(pod["spec"]["nodeName"])

    async def words_about(self, name: str, words: str) -> None:
        """Wait until the scheduler says that of a pod."""
        await eventually(
            lambda: self.client.get(PODS, name, self.namespace),
            lambda pod: words in str((pod.get("status") or {}).get("conditions")),
            timeout_s=60,
            what=f"told {words!r} of {name}",
        )

    async def cordon(self, node: str) -> None:
        body = {"spec": {"unschedulable": True}}
        await self.client.patch(NODES, node, None, body, options=PatchOptions())

    async def evict(self, name: str) -> None:
        await self.client.delete(PODS, name, self.namespace, options=AT_ONCE)

    async def volume_in(self, node: str) -> str:
        """Make a ReadWriteOnce volume in one node's zone, and its claim; returns its name."""
        name, size = f"{self.namespace}-{node}", {"storage": "1Mi"}
        selector = {
            "matchExpressions": [{"key": ZONE, "operator": "In", "values": [f"zone-{node}"]}]
        }
        spec = {
            "capacity": size,
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "two-nodes",
            "hostPath": {"path": "/var/empty"},
            "claimRef": {"namespace": self.namespace, "name": name},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [selector]}},
        }
        head = {"apiVersion": "v1", "metadata": {"name": name}}
        await self.client.create(PVS, head | {"kind": "PersistentVolume", "spec": spec})
        wanted = {"accessModes": ["ReadWriteOnce"], "storageClassName": "two-nodes",
                  "resources": {"requests": size}}  # fmt: skip
        claim = head | {"kind": "PersistentVolumeClaim", "spec": wanted}
        await self.client.create(PVCS, claim, self.namespace)
        return name


@pytest.fixture
async def nodes(node: NativeNode) -> AsyncIterator[TwoNodes]:
    """Return two nodes of the test's own, and a namespace."""
    async with await KubeClient.connect(ClientSettings(kubeconfig=node.admin)) as client:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "two-nodes-"}}
        namespace = (await client.create(NAMESPACES, body))["metadata"]["name"]
        two = TwoNodes(client, namespace)
        for name in NAMES:
            await client.create(NODES, node_object(name))
        beat = asyncio.create_task(two.beat())
        try:
            await asyncio.to_thread(_account, node, namespace)
            await two.untainted()
            yield two
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            for pod in (await client.list_all(PODS, namespace)).items:
                await two.evict(pod["metadata"]["name"])
            for name in NAMES:
                await client.delete(NODES, name)
                with contextlib.suppress(NotFound):
                    await client.delete(PVS, f"{namespace}-{name}")
            await client.delete(NAMESPACES, namespace)


def _account(node: NativeNode, namespace: str) -> None:
    """Wait for the account that the controller manager makes in each namespace."""
    done = node.kubectl(
        "-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=60s",
        "--request-timeout=0", timeout_s=70,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


async def test_workers_on_a_claim_of_one_node_are_together_and_move_when_it_is_drained(
    nodes: TwoNodes,
) -> None:
    first = await nodes.worker(1, Sharing.ONE_NODE)
    place = await nodes.node_of(first)
    second = await nodes.worker(2, Sharing.ONE_NODE)
    assert await nodes.node_of(second) == place
    await nodes.cordon(place)
    # The controller, too, makes the next one when these have gone: the scheduler would look at it
    # again minutes later only.
    await nodes.evict(first)
    await nodes.evict(second)
    third = await nodes.worker(3, Sharing.ONE_NODE)
    other = await nodes.node_of(third)
    assert {place, other} == set(NAMES)
    fourth = await nodes.worker(4, Sharing.ONE_NODE)
    assert await nodes.node_of(fourth) == other


async def test_workers_on_claims_of_many_nodes_are_spread(nodes: TwoNodes) -> None:
    first = await nodes.node_of(await nodes.worker(1, Sharing.MANY_NODES))
    second = await nodes.node_of(await nodes.worker(2, Sharing.MANY_NODES))
    assert {first, second} == set(NAMES)


async def test_volumes_of_two_zones_leave_no_node(nodes: TwoNodes) -> None:
    claims = [await nodes.volume_in(name) for name in NAMES]
    volumes = [
        {"name": f"v{number}", "persistentVolumeClaim": {"claimName": claim}}
        for number, claim in enumerate(claims)
    ]
    one = await nodes.worker(1, Sharing.ONE_NODE, volumes=volumes[1:])
    assert await nodes.node_of(one) == NAMES[1], "the volume draws the worker"
    both = await nodes.worker(2, Sharing.ONE_NODE, volumes=volumes)
    await nodes.words_about(both, "PersistentVolume's node affinity")
