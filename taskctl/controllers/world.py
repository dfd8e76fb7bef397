"""What the reconcilers share: the caches, the indexes over them, the queues, the client."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from taskctl.api.meta import ObjectKey
from taskctl.client.base import Client, KubeObject
from taskctl.client.timing import SYSTEM_TIMING, Timing
from taskctl.controllers.ages import Ages
from taskctl.controllers.arrivals import Arrivals
from taskctl.controllers.backoffs import Backoffs
from taskctl.controllers.families import Families
from taskctl.controllers.pending import PendingTasks
from taskctl.controllers.placements import Ledger
from taskctl.controllers.waiting import Waiting
from taskctl.controllers.workerstate import Worker
from taskctl.policy.cycles import Cycles
from taskctl.policy.podview import PodView
from taskctl.policy.view import TaskView, parse_task
from taskctl.runtime.controller import DONE, Result
from taskctl.runtime.events import EventRecorder, EventSort
from taskctl.runtime.store import Store
from taskctl.runtime.workqueue import WorkQueue

# TaskClusters' counters move with every task; they are shown at most so often.
CLUSTER_STATUS_PERIOD_S: Final = 1.0
_SHORTEST_LOOK_S: Final = 0.001


def new_nonce() -> str:
    """Return a one-time secret: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def look_again(*delays_s: float | None) -> Result:
    """Return the Result that asks for another look after the shortest of some delays.

    A delay is never below a millisecond: the rest that rounding may leave of one must not
    make a reconciler run in circles. None among them counts as no wish.
    """
    given = [delay for delay in delays_s if delay is not None]
    return Result(max(min(given), _SHORTEST_LOOK_S)) if given else DONE


@dataclass(frozen=True, slots=True)
class Stores:
    """The caches that informers feed."""

    tasks: Store
    objects: Store
    clusters: Store
    pods: Store
    claims: Store


@dataclass(frozen=True, slots=True)
class Queues:
    """Keys to reconcile, by controller.

    Attributes:
        tasks: Tasks.
        clusters: TaskClusters.
        evidence: UIDs of worker pods that are going or have lost their TaskCluster.
        trees: UIDs of root Tasks.
        ttl: ended Tasks with a time to live.
        claims: workspaces' claims whose TaskCluster is gone.
    """

    tasks: WorkQueue[ObjectKey]
    clusters: WorkQueue[ObjectKey]
    evidence: WorkQueue[str]
    trees: WorkQueue[str]
    ttl: WorkQueue[ObjectKey]
    claims: WorkQueue[ObjectKey]


@dataclass(slots=True)
class Wakeups:
    """TaskClusters for which the scheduler should look at its queue."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    clusters: dict[ObjectKey, None] = field(default_factory=dict)

    def wake(self, cluster: ObjectKey) -> None:
        """Have the scheduler look at that TaskCluster's queue soon."""
        self.clusters[cluster] = None
        self.event.set()

    def take(self) -> list[ObjectKey]:
        """Return the TaskClusters to look at, and forget them."""
        clusters = list(self.clusters)
        self.clusters.clear()
        self.event.clear()
        return clusters


class World:
    """Everything a reconciler may look at or write to.

    Args:
        client: the API server.
        stores: the caches.
        queues: keys to reconcile.
        recorder: Events.
        timing: clock, sleep and chance.
        nonce: draws a one-time secret.
    """

    def __init__(
        self,
        client: Client,
        stores: Stores,
        queues: Queues,
        recorder: EventRecorder,
        *,
        timing: Timing = SYSTEM_TIMING,
        nonce: Callable[[], str] = new_nonce,
    ) -> None:
        self.client = client
        self.stores = stores
        self.queues = queues
        self.recorder = recorder
        self.timing = timing
        self.nonce = nonce
        # Set once we may act; a second controller that only watches publishes nothing.
        self.leading = False
        self.wakeups = Wakeups()
        self.pending = PendingTasks()
        self.waiting = Waiting()
        # Of TaskClusters that have had no ready worker for a while: why, for people.
        self.unserved: dict[ObjectKey, str] = {}
        self.ages = Ages(timing.clock)
        self.arrivals = Arrivals(self.ages)
        self.backoffs = Backoffs(timing.clock)
        self.families = Families(self.task_by_uid)
        self.cycles = Cycles()
        self.ledger = Ledger(_LedgerEvents(self), self.task_by_uid, timing.clock, self.ages)

    def task_by_uid(self, uid: str) -> TaskView | None:
        """Return the cached Task with that UID, or None."""
        raw = self.stores.tasks.get_by_uid(uid)
        return None if raw is None else parse_task(raw)

    def relative(self, view: TaskView, uid: str) -> TaskView | None:
        """Return the cached Task with that UID if it can belong to the same tree.

        A lineage is taken at its word within a namespace only.
        """
        found = self.task_by_uid(uid) if uid else None
        return found if found is not None and found.namespace == view.namespace else None

    def cluster_key(self, uid: str) -> ObjectKey | None:
        """Return the key of the cached TaskCluster with that UID, or None."""
        raw = self.stores.clusters.get_by_uid(uid)
        return None if raw is None else ObjectKey.of(raw)

    def queued_per_worker(self, cluster: ObjectKey, cluster_uid: str) -> float:
        """Return how many of a TaskCluster's waiting tasks each worker will get, about."""
        workers = self.ledger.accepting_workers(cluster_uid)
        return self.pending.length(cluster) / max(workers, 1)

    def now_s(self) -> float:
        """Return the monotonic time in seconds."""
        return self.timing.clock.monotonic_s()

    def warn(self, obj: KubeObject, reason: str, message: str) -> None:
        """Publish a warning Event."""
        self.recorder.record(obj, EventSort.WARNING, reason, message)

    def note(self, obj: KubeObject, reason: str, message: str) -> None:
        """Publish a normal Event."""
        self.recorder.record(obj, EventSort.NORMAL, reason, message)


class _LedgerEvents:
    """Turns what the ledger notices into keys to reconcile."""

    def __init__(self, world: World) -> None:
        self._world = world

    def slots_changed(self, cluster_uid: str, *, freed: bool) -> None:
        key = self._world.cluster_key(cluster_uid)
        if key is None:
            return
        if freed:
            self._world.wakeups.wake(key)
        self._world.queues.clusters.add_after(key, CLUSTER_STATUS_PERIOD_S)

    def worker_idle(self, cluster_uid: str) -> None:
        key = self._world.cluster_key(cluster_uid)
        if key is not None:
            self._world.queues.clusters.add(key)

    def attempt_closed(self, worker: Worker) -> None:
        if is_leaving(self._world, worker.pod):
            self._world.queues.evidence.add(worker.pod.uid)

    def look_at(self, task: ObjectKey) -> None:
        self._world.queues.tasks.add(task)


def is_leaving(world: World, pod: PodView) -> bool:
    """Whether a worker's evidence may have to be released: it goes, or has no TaskCluster."""
    gone = pod.deletion is not None or world.cluster_key(pod.cluster_uid) is None
    return pod.pinned and gone
