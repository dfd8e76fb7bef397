"""What people do without taskctl: a bare pod for each task, or a Job for each task."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from bench.cluster.kube import JOBS, PODS, Kube, Object, RequestFailed
from bench.cluster.stamps import user_command

_AT_A_TIME: Final = 32
_BACKGROUND: Final = {"kind": "DeleteOptions", "apiVersion": "v1"} | {
    "propagationPolicy": "Background",
    "gracePeriodSeconds": 0,
}


class PodSide:
    """Makes pods and Jobs with the workspace mounted, of the tasks' image.

    Args:
        kube: client.
        namespace: where.
        image: of the tasks.
        claim: of the workspace.
        security: as taskctl's pods have it: ``pod`` and ``container`` security contexts.
    """

    def __init__(
        self, kube: Kube, namespace: str, image: str, claim: str, security: dict[str, Object]
    ) -> None:
        self._kube = kube
        self._pods = PODS.format(ns=namespace)
        self._jobs = JOBS.format(ns=namespace)
        self._image = image
        self._claim = claim
        self._security = security
        self._made: list[str] = []

    async def pod(self, name: str) -> None:
        """Create a bare pod for one task."""
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
        self._made.append(f"{self._pods}/{name}")
        await self._kube.create(self._pods, body | {"spec": self._spec(name)})

    async def job(self, name: str) -> None:
        """Create a Job for one task."""
        spec = {"backoffLimit": 0, "template": {"spec": self._spec(name)}}
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        self._made.append(f"{self._jobs}/{name}")
        await self._kube.create(self._jobs, body)

    def _spec(self, name: str) -> dict[str, Any]:
        claim = {"persistentVolumeClaim": {"claimName": self._claim}}
        container = {
            "name": "task",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": user_command(name),
            "volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}],
            "securityContext": self._security["container"],
        }
        return {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": self._security["pod"],
            "containers": [container],
            "volumes": [{"name": "workspace"} | claim],
        }

    async def clear(self) -> None:
        """Delete everything made so far."""
        gate = asyncio.Semaphore(_AT_A_TIME)

        async def remove(path: str) -> None:
            async with gate:
                with contextlib.suppress(RequestFailed):
                    await self._kube.call("DELETE", path, _BACKGROUND)

        made, self._made = self._made, []
        await asyncio.gather(*(remove(path) for path in made))
