"""Takes in events of worker pods: feeds the ledger, and says what was lost."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from taskctl.api.meta import ObjectKey
from taskctl.client.base import KubeObject
from taskctl.constants import LABEL_CLUSTER_UID
from taskctl.controllers.workerstate import Worker
from taskctl.controllers.world import World, is_leaving
from taskctl.policy.podview import parse_pod

log = logging.getLogger(__name__)


class WorkerEvent(StrEnum):
    """Reasons of Events on TaskClusters about their workers."""

    WORKER_LOST = "WorkerLost"


class WorkerEvents:
    """Handler of the pods' informer.

    What becomes of the Tasks is decided by their own reconciler: the ledger queues those
    that a change touches.

    Args:
        world: caches, indexes, queues, client.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def on_pod(
        self, old: KubeObject | None, new: KubeObject | None, *, first_list: bool = False
    ) -> None:
        """Take in a pod event."""
        if new is not None:
            self._on_change(new, first_list=first_list)
        elif old is not None:
            self._on_gone(old)

    def _on_change(self, pod: KubeObject, *, first_list: bool) -> None:
        uid = pod["metadata"]["uid"]
        before = _standing(self._world.ledger.worker(uid))
        self._world.ledger.on_pod(pod, first_list=first_list)
        worker = self._world.ledger.worker(uid)
        after = _standing(worker)
        if is_leaving(self._world, worker.pod if worker is not None else parse_pod(pod)):
            self._world.queues.evidence.add(uid)
        if before == after or worker is None:
            return
        self._wake_cluster(pod)
        cluster = self._world.stores.clusters.get_by_uid(worker.pod.cluster_uid)
        if cluster is None or first_list:
            return
        was_dead = before is not None and before.dead
        if worker.pod.dead and not was_dead and worker.active:
            self._lost(cluster, worker)

    def _on_gone(self, pod: KubeObject) -> None:
        worker = self._world.ledger.worker(pod["metadata"]["uid"])
        if worker is not None:
            cluster = self._world.stores.clusters.get_by_uid(worker.pod.cluster_uid)
            if cluster is not None and worker.active:
                self._lost(cluster, worker)
        self._world.ledger.on_pod_gone(pod["metadata"]["uid"])
        self._wake_cluster(pod)

    def _lost(self, cluster: KubeObject, worker: Worker) -> None:
        message = f"Worker {worker.pod.name} is gone with {worker.active} tasks on it."
        if not self._world.leading:
            return
        log.warning("%s: %s", ObjectKey.of(cluster), message)
        self._world.warn(cluster, WorkerEvent.WORKER_LOST, message)

    def _wake_cluster(self, pod: KubeObject) -> None:
        labels: dict[str, Any] = pod["metadata"].get("labels") or {}
        key = self._world.cluster_key(labels.get(LABEL_CLUSTER_UID, ""))
        if key is not None:
            self._world.queues.clusters.add(key)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What of a worker the workers policy decides on."""

    up: bool
    dead: bool
    going: bool
    unreachable: bool


def _standing(worker: Worker | None) -> _Standing | None:
    if worker is None:
        return None
    pod = worker.pod
    return _Standing(
        pod.agent_running, pod.dead, pod.deletion is not None, pod.unreachable_since is not None
    )
