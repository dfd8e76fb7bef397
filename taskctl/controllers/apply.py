"""Carries out plans: writes, in an order and with guards that make a repetition harmless."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskctl.client.base import KubeObject, Writer
from taskctl.client.resources import Resource
from taskctl.constants import LABEL_CLUSTER_UID
from taskctl.controllers.world import World
from taskctl.errors import AlreadyExists, ApiError, Forbidden, NotFound
from taskctl.policy.status import StatusPatch, status_body
from taskctl.runtime.store import Store


async def write_status(
    world: World, res: Resource, obj: Mapping[str, Any], patch: StatusPatch
) -> KubeObject | None:
    """Merge-patch a status under the resourceVersion of the object it was decided on.

    The cache sees the answer at once, so the next decision knows of this one.

    Returns:
        The object as stored; None: it is gone, and with it the reason to write.

    Raises:
        Conflict: it has changed since; decide anew.
        ApiError: any other refusal, or no answer: then it may have been written, and a
            repetition ends in a Conflict.
    """
    metadata = obj["metadata"]
    body = status_body(obj, patch)
    try:
        stored = await world.client.patch_status(
            res, metadata["name"], metadata.get("namespace"), body
        )
    except NotFound:
        return None
    _store_of(world, res).observe(stored)
    return stored


def _store_of(world: World, res: Resource) -> Store:
    by_plural = {"tasks": world.stores.tasks, "taskclusters": world.stores.clusters}
    return by_plural[res.plural]


def namespace_goes(error: ApiError) -> bool:
    """Whether nothing can be created because the namespace is being deleted."""
    if not isinstance(error, Forbidden):
        return False
    return any(cause.reason == "NamespaceTerminating" for cause in error.causes) or (
        "being terminated" in error.message
    )


async def create_owned(
    client: Writer, res: Resource, manifest: KubeObject, existing: Store
) -> KubeObject | None:
    """Create an object of a TaskCluster; one that is there already and ours is fine.

    Returns:
        The object as stored, or as it is; None: the name is taken by somebody else's.

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
    client: Writer, res: Resource, manifest: KubeObject, existing: Store
) -> KubeObject | None:
    metadata = manifest["metadata"]
    reader: Any = client
    try:
        found: KubeObject = await reader.get(res, metadata["name"], metadata["namespace"])
    except NotFound:
        return None  # it went just now; the next pass creates it
    wanted_owner = metadata["labels"][LABEL_CLUSTER_UID]
    if (found["metadata"].get("labels") or {}).get(LABEL_CLUSTER_UID) != wanted_owner:
        return None
    existing.observe(found)
    return found
