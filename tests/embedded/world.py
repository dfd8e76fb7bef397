"""What a test sees and does: objects in a namespace of its own, and waiting for a state."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.errors import NotFound
from taskctl.kube.client import KubeClient
from taskctl.kube.interface import DeleteOptions, ListOptions, PatchOptions
from taskctl.kube.resources import EVENTS, NAMESPACES, PODS, Resource

Object = dict[str, Any]
T = TypeVar("T")
TERMINAL = {"Succeeded", "Failed", "Cancelled"}
# More than a pod's grace of 30 s: a SIGTERM that comes before the agent's interpreter has set up
# its handler is lost (the agent is the first process of its container), and SIGKILL ends the pod.
PATIENCE_S = 50.0


async def eventually(
    read: Callable[[], Awaitable[T]],
    accept: Callable[[T], bool],
    *,
    timeout_s: float = PATIENCE_S,
    what: str = "",
) -> T:
    """Read until the value is accepted; fails with the last value when the time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        value = await read()
        if accept(value):
            return value
        if loop.time() > deadline:
            raise AssertionError(f"after {timeout_s:.0f} s still not {what or 'so'}: {value!r}")
        await asyncio.sleep(0.05)


@dataclass(frozen=True)
class World:
    client: KubeClient
    namespace: str
    data_dir: Path
    image: str = "busybox:latest"

    @property
    def kubeconfig(self) -> Path:
        """Of an administrator."""
        return self.data_dir / "kubeconfig"

    @classmethod
    async def create(cls, client: KubeClient, test_name: str, data_dir: Path) -> World:
        digest = hashlib.sha256(test_name.encode()).hexdigest()[:8]
        body = {"metadata": {"generateName": f"t-{digest}-"}}
        made = await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace"} | body)
        return cls(client, made["metadata"]["name"], data_dir)

    async def delete(self) -> None:
        await self.client.delete(NAMESPACES, self.namespace)

    # --- making things -----------------------------------------------------------------
    async def cluster(self, name: str = "c", **spec: Any) -> Object:
        """Create a TaskCluster with a workspace and wait until its workers are ready."""
        body = {"replicas": 1, "slotsPerWorker": 4, "workspace": {"enable": True}} | spec
        await self.make(TASKCLUSTERS, name, spec=body)
        return await self.cluster_ready(name)

    async def cluster_ready(self, name: str = "c", *, timeout_s: float = PATIENCE_S) -> Object:
        def ready(found: Object) -> bool:
            return bool(found.get("status", {}).get("ready", 0) == found["spec"]["replicas"])

        return await eventually(
            lambda: self.get(TASKCLUSTERS, name), ready, what="ready", timeout_s=timeout_s
        )

    async def task(self, name: str, *command: str, **spec: Any) -> Object:
        body = {"clusterName": "c", "image": self.image, "command": list(command)} | spec
        return await self.make(TASKS, name, spec=body)

    async def make(self, resource: Resource, name: str, **parts: Any) -> Object:
        api_version = f"{resource.group}/{resource.version}" if resource.group else resource.version
        body = {"apiVersion": api_version, "kind": resource.kind, "metadata": {"name": name}}
        return await self.client.create(resource, body | parts, self.namespace)

    # --- seeing things -----------------------------------------------------------------
    async def get(self, resource: Resource, name: str) -> Object:
        return await self.client.get(resource, name, self.namespace)

    async def all(self, resource: Resource) -> list[Object]:
        return (await self.client.list_all(resource, self.namespace)).items

    async def finished(self, name: str, *, timeout_s: float = PATIENCE_S) -> Object:
        """Wait until the Task is terminal; returns it."""

        async def read() -> Object:
            try:
                return await self.get(TASKS, name)
            except NotFound:
                return {}

        return await eventually(
            read,
            lambda task: task.get("status", {}).get("state") in TERMINAL,
            timeout_s=timeout_s,
            what=f"{name} finished",
        )

    async def in_state(self, name: str, state: str, *, timeout_s: float = PATIENCE_S) -> Object:
        return await eventually(
            lambda: self.get(TASKS, name),
            lambda task: task.get("status", {}).get("state") == state,
            timeout_s=timeout_s,
            what=f"{name} {state}",
        )

    async def patch(self, resource: Resource, name: str, body: Object) -> Object:
        return await self.client.patch(resource, name, self.namespace, body, options=PatchOptions())

    async def remove(self, resource: Resource, name: str) -> None:
        await self.client.delete(resource, name, self.namespace, options=DeleteOptions())

    async def workers(self) -> list[Object]:
        options = ListOptions(label_selector="app.kubernetes.io/managed-by=taskctl")
        return (await self.client.list(PODS, self.namespace, options=options)).items

    async def events(self) -> list[Object]:
        return await self.all(EVENTS)

    def workspace(self, cluster: str = "c") -> Path:
        """Return the directory behind the cluster's workspace claim."""
        directory = self.data_dir / "volumes" / self.namespace
        return next(path for path in directory.iterdir() if cluster in path.name)
