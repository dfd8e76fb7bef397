"""The API server as reconcilers use it: its client, the caches beside it, and the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taskctl.clock import Moment
from taskctl.errors import NotFound
from taskctl.kube.interface import Client, KubeObject
from taskctl.kube.resources import Resource
from taskctl.kube.store import Store
from taskctl.kube.timing import SYSTEM_TIMING, Timing
from taskctl.objectkey import ObjectKey
from taskctl.policy.status import StatusPatch, status_body
from taskctl.policy.taskdefaults import defaults_of
from taskctl.policy.view import TaskView, parse_task, with_defaults


@dataclass(frozen=True, slots=True)
class Caches:
    """What informers have brought.

    ``nodes`` is None where the controller does not look at Nodes: one that serves a single
    namespace. ``nodes_refusal`` returns in which words the API server forbids it to; empty where it
    does not.
    """

    tasks: Store
    objects: Store
    clusters: Store
    pods: Store
    claims: Store
    records: Store
    nodes: Store | None = None
    nodes_refusal: Callable[[], str] = str

    def living_task(self, uid: str) -> KubeObject | None:
        """Return the cached Task with that UID; None if it is gone, or is being deleted."""
        task = self.tasks.get_by_uid(uid)
        return None if task is None or task["metadata"].get("deletionTimestamp") else task

    def task_by_uid(self, uid: str) -> TaskView | None:
        """Return the cached Task with that UID, or None."""
        raw = self.tasks.get_by_uid(uid)
        return None if raw is None else parse_task(raw)

    def relative(self, view: TaskView, uid: str) -> TaskView | None:
        """Return the cached Task with that UID if it can belong to the same tree.

        A lineage is taken at its word within a namespace only.
        """
        found = self.task_by_uid(uid) if uid else None
        return found if found is not None and found.namespace == view.namespace else None

    def filled(self, view: TaskView) -> TaskView:
        """Return the view with what its TaskCluster gives to Tasks (``spec.taskDefaults``)."""
        cluster = self.clusters.get(ObjectKey(view.namespace, view.cluster))
        return with_defaults(view, defaults_of(cluster))

    def cluster_key(self, uid: str) -> ObjectKey | None:
        """Return the key of the cached TaskCluster with that UID, or None."""
        raw = self.clusters.get_by_uid(uid)
        return None if raw is None else ObjectKey.of(raw)


@dataclass(frozen=True, slots=True)
class CachedApi:
    """Reads from the caches, writes to the server.

    Attributes:
        client: the API server.
        caches: what informers have brought.
        timing: clock, sleep and chance.
    """

    client: Client
    caches: Caches
    timing: Timing = SYSTEM_TIMING

    def now_s(self) -> float:
        """Return the monotonic time in seconds."""
        return self.timing.clock.monotonic_s()

    def moment(self) -> Moment:
        """Return the present moment on both clocks."""
        return Moment.of(self.timing.clock)

    async def write_status(
        self, res: Resource, obj: Mapping[str, Any], patch: StatusPatch
    ) -> KubeObject | None:
        """Merge-patch a status under the resourceVersion of the object it was decided on.

        The cache sees the answer at once, so the next decision knows of this one.

        Returns:
            The object as stored; None: it is gone, and with it the reason to write.

        Raises:
            Conflict: it has changed since; decide again.
            ApiError: any other refusal, or no answer: then it may have been written, and a
                repetition ends in a Conflict.
        """
        metadata = obj["metadata"]
        body = status_body(obj, patch)
        try:
            stored = await self.client.patch_status(
                res, metadata["name"], metadata.get("namespace"), body
            )
        except NotFound:
            return None
        store = self.caches.tasks if res.plural == "tasks" else self.caches.clusters
        store.observe(stored)
        return stored
