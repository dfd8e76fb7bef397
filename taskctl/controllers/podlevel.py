"""Finds out whether the cluster has pod-level resources."""

from __future__ import annotations

from typing import Any, Final

from taskctl.controllers.cachedapi import CachedApi
from taskctl.kube.resources import PODS
from taskctl.policy.podlevel import pod_resources

# A cluster may be upgraded; workers that are made later are to profit from it.
_KNOWN_S: Final = 600.0


class PodLevel:
    """Knows whether pods keep ``spec.resources``: a dry run of a worker's creation shows it.

    Args:
        api: the API server and its caches.
    """

    def __init__(self, api: CachedApi) -> None:
        self._api = api
        self._kept: bool | None = None
        self._until_s = float("-inf")

    async def keeps(self, manifest: dict[str, Any]) -> bool:
        """Whether the API server keeps the pod-level resources of a worker.

        Raises:
            ApiError: it refuses the pod as such, or did not answer.
        """
        now_s = self._api.now_s()
        if self._kept is None or now_s >= self._until_s:
            namespace = manifest["metadata"]["namespace"]
            tried = await self._api.client.create(PODS, manifest, namespace, dry_run=True)
            self._kept, self._until_s = pod_resources(tried) is not None, now_s + _KNOWN_S
        return self._kept
