"""Tasks that are ready and wait for a slot, by TaskCluster; and those held back for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from taskctl.backoff import EXACT, Backoff
from taskctl.objectkey import ObjectKey
from taskctl.placement.queue import PendingQueue, PendingTask

# The API server refused the container so often in a row: the Task is at fault.
MAX_REFUSALS: Final = 3
_HOLD_BACKOFF: Final = Backoff(0.5, 30.0, EXACT)


class HoldKind(Enum):
    """Why placing a task failed."""

    INVALID = auto()  # the server called its container invalid
    FORBIDDEN = auto()  # a policy of the cluster, or a right that we lack
    FAILED = auto()  # anything else


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a Task is not queued although it is ready.

    Attributes:
        until_s: look again then (monotonic).
        since_s: when the first of these failures was (monotonic).
        refusals: how often in a row the API server called its container invalid.
        failures: how often in a row placing it failed in any way.
        forbidden: the last failure that said anything was of that kind.
        message: the server's sentence.
    """

    until_s: float
    since_s: float
    refusals: int
    failures: int
    forbidden: bool
    message: str


class PendingTasks:
    """The queues of all TaskClusters."""

    def __init__(self) -> None:
        self._queues: dict[ObjectKey, PendingQueue] = {}
        self._cluster_of: dict[str, ObjectKey] = {}
        self._since_s: dict[str, float] = {}
        self._holds: dict[str, Hold] = {}

    def __len__(self) -> int:
        return len(self._cluster_of)

    def clusters(self) -> Iterator[ObjectKey]:
        """Go over the TaskClusters that tasks wait for."""
        return iter(list(self._queues))

    def queue(self, cluster: ObjectKey) -> PendingQueue | None:
        """Return the queue of a TaskCluster; None: nothing waits."""
        return self._queues.get(cluster)

    def length(self, cluster: ObjectKey) -> int:
        """Return how many tasks wait for that TaskCluster."""
        queue = self._queues.get(cluster)
        return len(queue) if queue is not None else 0

    def classes(self, cluster: ObjectKey) -> Mapping[str, int]:
        """Return how many tasks wait for that TaskCluster, by class of parked containers."""
        queue = self._queues.get(cluster)
        return queue.classes() if queue is not None else {}

    def oldest_s(self, cluster: ObjectKey) -> float | None:
        """Return when that of a TaskCluster's waiting tasks was queued that waits longest.

        Monotonic; None: nothing waits. Costs O(queue).
        """
        queue = self._queues.get(cluster)
        if queue is None:
            return None
        return min((self._since_s[uid] for uid in queue.uids()), default=None)

    def push(self, cluster: ObjectKey, task: PendingTask, now_s: float) -> bool:
        """Queue a task. Returns whether that changed anything."""
        if self._cluster_of.get(task.uid, cluster) != cluster:
            self.discard(task.uid)
        queue = self._queues.get(cluster)
        if queue is None:
            queue = self._queues[cluster] = PendingQueue()
        self._cluster_of[task.uid] = cluster
        self._since_s.setdefault(task.uid, now_s)
        return queue.push(task)

    def discard(self, uid: str) -> ObjectKey | None:
        """Take a task out; return the TaskCluster it waited for, or None."""
        cluster = self._cluster_of.pop(uid, None)
        if cluster is not None:
            self._since_s.pop(uid, None)
            self._queues[cluster].discard(uid)
            self._tidy(cluster)
        return cluster

    def taken(self, cluster: ObjectKey, uids: Iterable[str]) -> None:
        """Take note that the placement policy took those tasks out of the queue."""
        for uid in uids:
            self._cluster_of.pop(uid, None)
            self._since_s.pop(uid, None)
        self._tidy(cluster)

    def _tidy(self, cluster: ObjectKey) -> None:
        # An empty queue remembers whose turn it was; that is worth keeping only while
        # there is somebody to be fair to.
        queue = self._queues.get(cluster)
        if queue is not None and not queue:
            del self._queues[cluster]

    # --- holds --------------------------------------------------------------------------

    def hold(self, uid: str, now_s: float, message: str, kind: HoldKind) -> float:
        """Hold a task back after its placing failed; return for how many seconds.

        Args:
            uid: the Task's UID.
            now_s: the time (monotonic).
            message: why.
            kind: what sort of failure it was.
        """
        before = self._holds.get(uid)
        failures = 1 + (before.failures if before else 0)
        refused = kind is HoldKind.INVALID
        # What is forbidden may also fail for other reasons; that one is what people must know.
        known = before is not None and before.forbidden and kind is HoldKind.FAILED
        delay_s = _HOLD_BACKOFF.pause_s(failures)
        self._holds[uid] = Hold(
            until_s=now_s + delay_s,
            since_s=before.since_s if before else now_s,
            refusals=int(refused) + (before.refusals if before else 0),
            failures=failures,
            forbidden=known or kind is HoldKind.FORBIDDEN,
            message=before.message if before is not None and known else message,
        )
        return delay_s

    def held(self, uid: str) -> Hold | None:
        """Return what is known of failures to place a task."""
        return self._holds.get(uid)

    def release(self, uid: str) -> None:
        """Forget failures: the task was placed, or is gone."""
        self._holds.pop(uid, None)
