"""Writes that may be repeated without harm: objects of a TaskCluster, and several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from taskctl.constants import LABEL_CLUSTER_UID
from taskctl.errors import AlreadyExists, ApiError, Forbidden, NotFound
from taskctl.kube.interface import Client, KubeObject
from taskctl.kube.resources import Resource
from taskctl.kube.store import Store

_PARALLEL: Final = 16


def namespace_goes(error: ApiError) -> bool:
    """Whether nothing can be created because the namespace is being deleted."""
    if not isinstance(error, Forbidden):
        return False
    return any(cause.reason == "NamespaceTerminating" for cause in error.causes) or (
        "being terminated" in error.message
    )


async def create_owned(
    client: Client, res: Resource, manifest: KubeObject, existing: Store
) -> KubeObject | None:
    """Create an object of a TaskCluster, or return the one that the TaskCluster has already.

    Returns:
        The object as stored; None: an object of another owner has the name.

    Raises:
        ApiError: any other refusal, or no answer.
    """
    metadata = manifest["metadata"]
    try:
        stored = await client.create(res, manifest, metadata["namespace"])
    except AlreadyExists:
        return await _ours(client, res, manifest, existing)
    existing.observe(stored)
    return stored


async def _ours(
    client: Client, res: Resource, manifest: KubeObject, existing: Store
) -> KubeObject | None:
    metadata = manifest["metadata"]
    try:
        found: KubeObject = await client.get(res, metadata["name"], metadata["namespace"])
    except NotFound:
        return None  # it went just now; the next pass creates it
    wanted_owner = metadata["labels"][LABEL_CLUSTER_UID]
    if (found["metadata"].get("labels") or {}).get(LABEL_CLUSTER_UID) != wanted_owner:
        return None
    existing.observe(found)
    return found


async def in_parallel(coroutines: Sequence[Any]) -> None:
    """Run a few at a time; all are tried, then the first error is raised."""
    first: BaseException | None = None
    for start in range(0, len(coroutines), _PARALLEL):
        chunk = coroutines[start : start + _PARALLEL]
        for result in await asyncio.gather(*chunk, return_exceptions=True):
            if isinstance(result, BaseException) and first is None:
                first = result
    if first is not None:
        raise first
