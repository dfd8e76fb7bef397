"""Lets worker pods go once each of their task containers is accounted for.

The pod's spec says what was placed in it, the Tasks say what became of it; see
:mod:`taskctl.policy.evidence`. What is still open when nothing can run in the pod any more is
written off by the Tasks' own reconciler (:mod:`taskctl.policy.lost`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.constants import FIELD_MANAGER, FINALIZER_EVIDENCE, LABEL_CLUSTER
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.queues import Queues, look_again
from taskctl.errors import Invalid, NotFound
from taskctl.kube.controller import DONE, Result
from taskctl.kube.interface import KubeObject, PatchOptions, PatchType
from taskctl.kube.resources import PODS
from taskctl.objectkey import ObjectKey
from taskctl.placement.machine import PlacementMachine
from taskctl.policy.entry import EntryView, parse_entry
from taskctl.policy.evidence import (
    KeepPod,
    PinFacts,
    PinnedAttempt,
    Release,
    Standing,
    WaitFor,
    decide_release,
    standing_of,
)
from taskctl.policy.handover import is_parked_name
from taskctl.policy.podview import PodView, parse_pod
from taskctl.policy.view import TaskView, parse_task

log = logging.getLogger(__name__)

# The watch shows a Task that was there when its attempt was placed within this time; that one
# placed earlier is not in the cache means that it was deleted since.
_WATCH_LAG_S: Final = 30.0
# Events tell when an attempt is over; this is in case one of them went astray.
_WAIT_LOOK_S: Final = 10.0
_JSON_PATCH: Final = PatchOptions(type=PatchType.JSON, field_manager=FIELD_MANAGER)


@dataclass(frozen=True, slots=True)
class _Open:
    """An entry of the pod and what is known of its Task."""

    entry: EntryView
    standing: Standing


class EvidenceReconciler:
    """Removes the finalizer of one worker pod when it may go.

    Args:
        api: the API server and its caches.
        queues: keys to reconcile.
        machine: knows when a worker's pod has come to its end.
    """

    def __init__(self, api: CachedApi, queues: Queues, machine: PlacementMachine) -> None:
        self._api = api
        self._queues = queues
        self._machine = machine

    async def reconcile(self, uid: str) -> Result:
        """Look at the worker pod with that UID.

        Raises:
            ApiError: the API server refused, or did not answer.
        """
        raw = self._api.caches.pods.get_by_uid(uid)
        if raw is None:
            return DONE
        pod = parse_pod(raw)
        if not pod.pinned:
            return DONE
        orphaned = await self._is_orphaned(raw, pod)
        if pod.deletion is None and not orphaned:
            return DONE
        end = self._machine.end_of(pod, self._api.moment())
        entries = [*_entries(raw), *self._handed_over(pod)]
        attempts = [await self._judge(pod, entry, ended=end.over) for entry in entries]
        facts = PinFacts(
            pinned=pod.pinned,
            going=pod.deletion is not None,
            orphaned=orphaned,
            ended=end.over,
            attempts=[PinnedAttempt(item.entry.container, item.standing) for item in attempts],
        )
        match decide_release(facts):
            case KeepPod():
                return DONE
            case WaitFor(containers):
                log.debug("pod %s is held for %s", pod.name, ", ".join(containers))
                if end.over:
                    self._have_written_off(pod, attempts)
                return look_again(end.look_again_s, _WAIT_LOOK_S)
            case Release():
                await self._release(raw, pod)
                return DONE

    # --- facts --------------------------------------------------------------------------

    async def _is_orphaned(self, raw: KubeObject, pod: PodView) -> bool:
        """Whether the worker's TaskCluster is gone; asked for where the cache lacks it."""
        caches = self._api.caches
        if caches.cluster_key(pod.cluster_uid) is not None:
            return False
        name = _cluster_name(raw, pod.cluster_uid)
        if not name:
            return True
        try:
            found = await self._api.client.get(TASKCLUSTERS, name, pod.namespace)
        except NotFound:
            return True
        if found["metadata"]["uid"] != pod.cluster_uid:
            return True
        caches.clusters.observe(found)
        return False

    def _handed_over(self, pod: PodView) -> list[EntryView]:
        """The attempts that its parked containers were given and that are not over."""
        worker = self._machine.worker(pod.uid)
        attempts = () if worker is None else worker.attempts.values()
        return [
            EntryView(
                container=attempt.container,
                task_name=attempt.task.name,
                task_uid=attempt.id.task_uid,
                attempt=attempt.id.number,
                placed=None,
                image="",
            )
            for attempt in attempts
            if is_parked_name(attempt.container)
        ]

    async def _judge(self, pod: PodView, entry: EntryView, *, ended: bool) -> _Open:
        view = self._api.caches.task_by_uid(entry.task_uid)
        standing = standing_of(entry.attempt, pod.uid, view)
        if standing is Standing.UNKNOWN:
            if not self._surely_deleted(entry, view):
                view = await self._read(pod, entry)
                standing = standing_of(entry.attempt, pod.uid, view)
            if standing is Standing.UNKNOWN:
                standing = Standing.CLOSED  # no such Task, or one that knows of no such attempt
        if view is not None and view.deleting and ended:
            standing = Standing.CLOSED  # no outcome is written to a Task that is being deleted
        return _Open(entry, standing)

    def _surely_deleted(self, entry: EntryView, view: TaskView | None) -> bool:
        if view is not None or entry.placed is None:
            return False
        age_s = (self._api.timing.clock.now() - entry.placed).total_seconds()
        return age_s >= _WATCH_LAG_S

    async def _read(self, pod: PodView, entry: EntryView) -> TaskView | None:
        """Ask for a Task that the cache lacks, or has an old state of; None: it is gone."""
        try:
            raw = await self._api.client.get(TASKS, entry.task_name, pod.namespace)
        except NotFound:
            return None
        if raw["metadata"]["uid"] != entry.task_uid:
            return None
        self._api.caches.tasks.observe(raw)
        return parse_task(raw)

    # --- effects ------------------------------------------------------------------------

    def _have_written_off(self, pod: PodView, attempts: list[_Open]) -> None:
        """Queue the Tasks that still say that they run here; their reconciler writes them off."""
        for item in attempts:
            if item.standing is Standing.CLAIMED:
                self._queues.tasks.add(ObjectKey(pod.namespace, item.entry.task_name))

    async def _release(self, raw: KubeObject, pod: PodView) -> None:
        """Remove our finalizer, and no other, from this very pod."""
        finalizers: list[str] = raw["metadata"].get("finalizers") or []
        position = finalizers.index(FINALIZER_EVIDENCE)
        path = f"/metadata/finalizers/{position}"
        body: list[dict[str, Any]] = [
            {"op": "test", "path": "/metadata/uid", "value": pod.uid},
            {"op": "test", "path": path, "value": FINALIZER_EVIDENCE},
            {"op": "remove", "path": path},
        ]
        pods = self._api.caches.pods
        try:
            stored = await self._api.client.patch(
                PODS, pod.name, pod.namespace, body, options=_JSON_PATCH
            )
        except NotFound:
            return
        except Invalid:
            # Another finalizer came or went, a user removed ours, or the name belongs to
            # another pod by now: look at what is there, and decide again.
            try:
                pods.observe(await self._api.client.get(PODS, pod.name, pod.namespace))
            except NotFound:
                return
            raise
        log.info("pod %s is released: all of its containers are accounted for", pod.name)
        pods.observe(stored)


def _entries(raw: KubeObject) -> list[EntryView]:
    containers = raw["spec"].get("ephemeralContainers") or ()
    return [entry for entry in map(parse_entry, containers) if entry is not None]


def _cluster_name(raw: KubeObject, cluster_uid: str) -> str:
    """Return the name of a worker's TaskCluster, as its owner reference or its label says."""
    metadata: dict[str, Any] = raw["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("uid") == cluster_uid:
            return str(owner.get("name", ""))
    return str((metadata.get("labels") or {}).get(LABEL_CLUSTER, ""))
