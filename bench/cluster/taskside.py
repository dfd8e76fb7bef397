"""taskctl's side of the comparison: TaskClusters, Tasks, and the controller that serves them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.cluster.kube import CLUSTERS, PODS, TASKS, Kube, Object, until
from bench.cluster.meters import pids_in_pods
from taskctl.clock import SystemClock, format_micro, parse_time
from taskctl.constants import ANNOTATION_CREATED

API: Final = "taskctl.dev/v1alpha1"
READY_S: Final = 90.0
GONE_S: Final = 60.0
_STOP_S: Final = 15
_SERVED_S: Final = 2.0
CONTROLLER_PODS: Final = "/api/v1/pods?labelSelector=app.kubernetes.io/name%3Dtaskctl-controller"


@dataclass(frozen=True)
class TaskCluster:
    """A TaskCluster whose workers are up.

    Attributes:
        name: of the TaskCluster.
        worker: one of its worker pods.
        agents: process ids of its workers' agents.
    """

    name: str
    worker: Object
    agents: list[int]


class TaskSide:
    """Makes TaskClusters and Tasks in a namespace.

    Args:
        kube: client.
        namespace: where.
        image: of the tasks.
    """

    def __init__(self, kube: Kube, namespace: str, image: str) -> None:
        self._kube = kube
        self.namespace = namespace
        self._image = image
        self._clusters = CLUSTERS.format(ns=namespace)
        self._tasks = TASKS.format(ns=namespace)

    async def task(self, cluster: str, name: str, command: list[str]) -> Object:
        """Create a Task."""
        spec = {"clusterName": cluster, "image": self._image, "command": command}
        # As taskctl's own clients do: Kubernetes notes whole seconds only.
        created = {ANNOTATION_CREATED: format_micro(SystemClock().now())}
        metadata = {"name": name, "annotations": created}
        body = {"apiVersion": API, "kind": "Task", "metadata": metadata, "spec": spec}
        return await self._kube.create(self._tasks, body)

    async def tasks(self, prefix: str) -> list[Object]:
        """Return the Tasks whose names begin so."""
        found = await self._kube.items(self._tasks)
        return [task for task in found if task["metadata"]["name"].startswith(prefix)]

    async def all_recorded(self, prefix: str, count: int, limit_s: float) -> list[Object]:
        """Wait until so many Tasks have succeeded; returns them."""

        async def read() -> list[Object] | None:
            tasks = await self.tasks(prefix)
            states = [task.get("status", {}).get("state") for task in tasks]
            bad = [s for s in states if s in ("Failed", "Cancelled")]
            if bad:
                raise RuntimeError(f"{len(bad)} tasks {prefix}* failed")
            return tasks if states.count("Succeeded") == count else None

        done: list[Object] = await until(read, f"all of {prefix} recorded", limit_s)
        return done

    async def create(self, name: str, workers: int, claim: str, slots: int) -> Object:
        """Create a TaskCluster on the bench's one workspace."""
        workspace = {"enable": True, "claimName": claim}
        spec = {"replicas": workers, "slotsPerWorker": slots, "workspace": workspace}
        body = {"apiVersion": API, "kind": "TaskCluster", "metadata": {"name": name}, "spec": spec}
        return await self._kube.create(self._clusters, body)

    async def ready(self, name: str, workers: int) -> TaskCluster:
        """Wait until the workers are up."""

        async def read() -> bool:
            found = await self._kube.get(self._clusters, name)
            return bool(found.get("status", {}).get("ready") == workers)

        await until(read, f"TaskCluster {name} ready with {workers} workers", READY_S)
        selector = f"labelSelector=taskctl.dev/cluster%3D{name}"
        pods = await self._kube.items(PODS.format(ns=self.namespace), selector)
        agents = pids_in_pods((pod["metadata"]["uid"] for pod in pods), "agent")
        return TaskCluster(name, pods[0], agents)

    async def remove(self, name: str) -> None:
        """Delete a TaskCluster and wait until its workers are gone."""
        await self._kube.delete(f"{self._clusters}/{name}")
        selector = f"labelSelector=taskctl.dev/cluster%3D{name}"

        async def gone() -> bool:
            return not await self._kube.items(PODS.format(ns=self.namespace), selector)

        await until(gone, f"workers of {name} gone", GONE_S, every_s=0.3)

    @contextlib.asynccontextmanager
    async def cluster(
        self, name: str, workers: int, claim: str, slots: int = 4
    ) -> AsyncIterator[TaskCluster]:
        """Have a TaskCluster with workers for as long as the block lasts."""
        await self.create(name, workers, claim, slots)
        try:
            yield await self.ready(name, workers)
        finally:
            await self.remove(name)

    async def is_served(self, claim: str) -> bool:
        """Whether some controller looks after this namespace already."""
        await self.create("probe", 0, claim, 1)

        async def noticed() -> bool:
            return bool((await self._kube.get(self._clusters, "probe")).get("status"))

        try:
            return bool(await until(noticed, "", _SERVED_S))
        except TimeoutError:
            return False
        finally:
            await self._kube.delete(f"{self._clusters}/probe")


async def installed_controller(kube: Kube) -> list[int]:
    """Return the process ids of controllers that run in the cluster, on this machine."""
    pods: dict[str, Any] = await kube.call("GET", CONTROLLER_PODS)
    return pids_in_pods((pod["metadata"]["uid"] for pod in pods["items"]), "controller")


@contextlib.contextmanager
def own_controller(kubeconfig: Path, log: Path) -> Iterator[int]:
    """Run a controller for as long as the block lasts; yields its process id."""
    env = dict(os.environ, KUBECONFIG=str(kubeconfig))
    command = [sys.executable, "-m", "taskctl", "controller"]
    with log.open("ab") as output:
        # In a session of its own: Ctrl-C must not end it before it has cleaned up for us.
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stage_ms(tasks: list[Object], first: str, last: str) -> list[float]:
    """Return how long it took each task from one of its recorded times to another, in ms."""
    found = []
    for task in tasks:
        times = task["status"]["times"]
        if first in times and last in times:
            found.append((_seconds(times[last]) - _seconds(times[first])) * 1000)
    return found


def _seconds(text: str) -> float:
    return parse_time(text).timestamp()
