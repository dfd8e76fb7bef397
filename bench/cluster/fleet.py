"""The yardstick's workers: the very pods that taskctl makes, with nothing in them that acts.

Copied from a worker of a TaskCluster: same image, volumes, mounts, users and rights. But the
main container sleeps, no label has a controller look at them, and containers are added by a
PATCH of our own whose entry runs the user's command itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.cluster.kube import PODS, STRATEGIC, Kube, Object, until
from bench.cluster.stamps import user_command
from taskctl.constants import AGENT_CONTAINER
from taskctl.placement.rest import ALWAYS, Rest, after_batch, after_report
from taskctl.policy.workerpod import parse_frame

READY_S: Final = 60.0
LABEL: Final = "bench/fleet"
_COPIED: Final = (
    "restartPolicy",
    "serviceAccountName",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "securityContext",
    "initContainers",
    "containers",
    "volumes",
)


@dataclass
class RawWorker:
    """A warm pod and what the client knows of it.

    Attributes:
        name: of the pod.
        entry: what all containers added to it have in common.
        changed_s: when it was last given a container or told anything (monotonic).
        unreported: containers that its status has not shown started yet.
        rest: the product's guess at when it will start a container at once.
    """

    name: str
    entry: Object
    changed_s: float = float("-inf")
    unreported: set[str] = field(default_factory=set)
    rest: Rest = ALWAYS


class Fleet:
    """Raw workers in a namespace.

    Args:
        kube: client.
        namespace: where.
        image: of the tasks.
        workers: at least one.
    """

    def __init__(self, kube: Kube, namespace: str, image: str, workers: list[RawWorker]) -> None:
        self._kube = kube
        self._pods = PODS.format(ns=namespace)
        self._image = image
        self.workers = workers

    async def start(self, worker: RawWorker, names: Sequence[str]) -> None:
        """Add one container for each name, in one PATCH."""
        worker.changed_s = time.monotonic()
        worker.rest = after_batch(worker.rest, worker.changed_s)
        worker.unreported.update(names)
        entries = [
            worker.entry | {"name": name, "image": self._image, "command": user_command(name)}
            for name in names
        ]
        body = {"spec": {"ephemeralContainers": entries}}
        path = f"{self._pods}/{worker.name}/ephemeralcontainers"
        await self._kube.call("PATCH", path, body, STRATEGIC)

    async def follow(self) -> None:
        """Take in the pods' statuses until cancelled."""
        by_name = {worker.name: worker for worker in self.workers}
        async for _, pod in self._kube.watch(self._pods, f"labelSelector={LABEL}"):
            worker = by_name.get(pod["metadata"]["name"])
            if worker is None:
                continue
            worker.changed_s = time.monotonic()
            for status in pod["status"].get("ephemeralContainerStatuses") or ():
                if "waiting" not in (status.get("state") or {"waiting": None}):
                    worker.unreported.discard(status["name"])
            settled = not worker.unreported
            worker.rest = after_report(worker.rest, worker.changed_s, settled=settled)


@contextlib.asynccontextmanager
async def raw_fleet(kube: Kube, worker: Object, image: str, count: int) -> AsyncIterator[Fleet]:
    """Make raw workers like a TaskCluster's worker; deleted at the end of the block."""
    namespace = worker["metadata"]["namespace"]
    pods = PODS.format(ns=namespace)
    names = [f"raw-{time.monotonic_ns() // 1_000_000 % 10**8}-{number}" for number in range(count)]
    workers = [RawWorker(name, _entry(worker)) for name in names]
    fleet = Fleet(kube, namespace, image, workers)
    try:
        for name in names:
            await kube.create(pods, _manifest(worker, name))
        for name in names:
            await wait_running(kube, pods, name)
        follower = asyncio.create_task(fleet.follow())
        try:
            yield fleet
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
    finally:
        await asyncio.gather(*(kube.delete(f"{pods}/{name}", grace_s=0) for name in names))


async def wait_running(kube: Kube, pods: str, name: str) -> None:
    """Wait until the pod's containers run."""

    async def read() -> bool:
        statuses = (await kube.get(pods, name)).get("status", {}).get("containerStatuses") or ()
        return bool(statuses) and all("running" in status["state"] for status in statuses)

    await until(read, f"{name} running", READY_S)


def _manifest(worker: Object, name: str) -> Object:
    spec = {key: worker["spec"][key] for key in _COPIED if key in worker["spec"]}
    # All on the workers' node; their affinity is to pods with taskctl's labels.
    spec["nodeName"] = worker["spec"]["nodeName"]
    spec["terminationGracePeriodSeconds"] = 0
    spec["containers"] = [
        container | {"command": ["sleep", "2147483647"]}
        if container["name"] == AGENT_CONTAINER
        else container
        for container in spec["containers"]
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {LABEL: "raw"}},
        "spec": spec,
    }


def _entry(worker: Object) -> Object:
    frame: dict[str, Any] = parse_frame(worker) or {}
    return frame | {"imagePullPolicy": "IfNotPresent", "terminationMessagePolicy": "File"}
