"""One look at a TaskCluster's queue: snapshot, choose, assume; what comes of it is to be written.

A cycle follows every event that may matter (a task became ready, a slot became free, a
worker came up), a few milliseconds later, so that what happens together is placed together.
Each worker has one batch in flight at most; the queue gathers the next one meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from taskctl.api.states import TaskState
from taskctl.clock import Moment, format_micro
from taskctl.objectkey import ObjectKey
from taskctl.placement.attempts import AttemptId
from taskctl.placement.batches import Batch, Batches, BatchItem
from taskctl.placement.choice import Assignment, Snapshot, place
from taskctl.placement.cluster import ClusterView
from taskctl.placement.fleet import serial_of
from taskctl.placement.instructions import (
    Instruction,
    Log,
    LogSeverity,
    LookAtCluster,
    LookAtTask,
    TellLimit,
)
from taskctl.placement.ledger import Placements
from taskctl.placement.pending import HoldKind, PendingTasks
from taskctl.placement.rest import after_batch, gather_s
from taskctl.placement.rotation import ENTRY_LIMIT_BYTES
from taskctl.placement.workers import Worker
from taskctl.policy.entry import Ticket, build_entry, json_bytes
from taskctl.policy.handover import handover_of, parkable_class
from taskctl.policy.imagerule import is_allowed
from taskctl.policy.limits import live_tasks_sentence
from taskctl.policy.taskdefaults import missing_field
from taskctl.policy.view import TaskView, with_defaults
from taskctl.policy.workerpod import parse_frame


@dataclass(slots=True)
class _Outcome:
    """What comes of a cycle: batches by UID of the worker, and instructions."""

    instructions: list[Instruction] = field(default_factory=list)
    batches: dict[str, Batch] = field(default_factory=dict)


class PlacementCycle:
    """Decides on one queue after the other.

    Args:
        tasks: all Tasks as they were last seen, by UID; read-only.
        placements: workers and attempts.
        pending: queues and holds.
        batches: those in flight.
        nonce: draws a one-time secret.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskView],
        placements: Placements,
        pending: PendingTasks,
        batches: Batches,
        nonce: Callable[[], str],
    ) -> None:
        self._tasks = tasks
        self._placements = placements
        self._pending = pending
        self._batches = batches
        self._nonce = nonce
        self._told: set[str] = set()

    def run(self, cluster: ClusterView, now: Moment) -> list[Instruction]:
        """Decide on the queue of a TaskCluster; what is to be written is assumed."""
        queue = self._pending.queue(cluster.key)
        if queue is None:
            return []
        snapshot = Snapshot(
            slots=cluster.rotation.slots,
            workers=self._placements.candidates(cluster.uid, cluster.prefix, cluster.rotation, now),
            now_s=now.monotonic_s,
        )
        decided = place(queue, snapshot, self._room_of)
        outcome = _Outcome([*self._tell_limited(decided.limited)])
        if not decided.assignments:
            return outcome.instructions
        self._pending.taken(cluster.key, [one.task.uid for one in decided.assignments])
        for assignment in decided.assignments:
            self._assume(cluster, assignment, outcome, now)
        queued = self.queued_per_worker(cluster.key, cluster.uid)
        for batch in outcome.batches.values():
            self._send(cluster, batch, queued, outcome, now.monotonic_s)
        return outcome.instructions

    def _room_of(self, root_uid: str) -> int | None:
        """Return how many more tasks of a tree may be live (``limits.liveTasks`` of its root)."""
        root = self._tasks.get(root_uid)
        limit = None if root is None else root.limit("liveTasks")
        return None if limit is None else limit - self._placements.live(root_uid)

    def _tell_limited(self, roots: set[str]) -> Iterator[Instruction]:
        """Say of each tree once that its limit holds up some of it."""
        for uid in sorted(roots - self._told):
            root = self._tasks[uid]
            self._told.add(uid)
            yield TellLimit(ObjectKey(root.namespace, root.name), live_tasks_sentence(root))

    def forget(self, uid: str) -> None:
        """A Task is gone."""
        self._told.discard(uid)

    def queued_per_worker(self, cluster: ObjectKey, cluster_uid: str) -> float:
        """Return how many of a TaskCluster's waiting tasks each worker will get, about."""
        workers = self._placements.accepting_workers(cluster_uid)
        return self._pending.length(cluster) / max(workers, 1)

    def _send(
        self, cluster: ClusterView, batch: Batch, queued: float, outcome: _Outcome, now_s: float
    ) -> None:
        worker = batch.worker
        worker.rest = after_batch(worker.rest, now_s)
        worker.gather_until_s = now_s + gather_s(len(worker.unreported))
        outcome.instructions.append(batch.append())
        serial = serial_of(worker.pod.name, cluster.prefix)
        if cluster.rotation.nears_end(worker.wear(now_s, queued), serial):
            # Its replacement should be on its way.
            outcome.instructions.append(LookAtCluster(cluster.key))

    def _assume(
        self, cluster: ClusterView, assignment: Assignment, outcome: _Outcome, now: Moment
    ) -> None:
        view = self._tasks.get(assignment.task.uid)
        worker = self._placements.worker(assignment.worker_uid)
        if view is None or worker is None:
            return  # the event that removed it has seen to the rest
        view = with_defaults(view, cluster.defaults)
        placed = self._placements.is_placed(AttemptId(view.uid, view.next_attempt))
        item = None
        fits = not missing_field(view.spec) and is_allowed(
            str(view.spec["image"]), cluster.allowed_images
        )
        if may_be_placed(view, cluster.key) and not placed and fits:
            if assignment.parked:
                self._hand_over(worker, view, assignment.task.container_class, outcome, now)
                return
            item = self._item(worker, view, outcome, now)
        if item is None:
            outcome.instructions.append(LookAtTask(ObjectKey(view.namespace, view.name)))
            return
        batch = outcome.batches.get(worker.pod.uid)
        if batch is None:
            batch = self._batches.begin(cluster.key, worker, now.monotonic_s)
            outcome.batches[worker.pod.uid] = batch
        batch.sent.append(item)

    def _hand_over(
        self, worker: Worker, view: TaskView, fingerprint: str, outcome: _Outcome, now: Moment
    ) -> None:
        """Hand the attempt to a parked container; the worker's record is written afterwards."""
        ready = [one for one in worker.spare(fingerprint) if one.ready]
        wanted = parkable_class(view)
        if not ready or wanted is None or wanted.fingerprint != fingerprint:
            # It has gone, or the Task has changed, since the snapshot.
            outcome.instructions.append(LookAtTask(ObjectKey(view.namespace, view.name)))
            return
        entry = handover_of(view, format_micro(now.wall))
        self._placements.shelf.hand_over(worker, ready[0], view, entry, now)

    def _item(
        self, worker: Worker, view: TaskView, outcome: _Outcome, now: Moment
    ) -> BatchItem | None:
        """Make the entry and assume it; None: it cannot be placed there, and is held back."""
        why, kind, name = "", HoldKind.FAILED, worker.pod.name
        frame = parse_frame(worker.raw)
        if frame is None:
            why = f"worker {name} has no task frame; it was not made by taskctl"
        else:
            ticket = Ticket(view.next_attempt, self._nonce(), format_micro(now.wall))
            entry = build_entry(view, ticket, frame)
            size_bytes = json_bytes(entry)
            if size_bytes > ENTRY_LIMIT_BYTES:
                kind = HoldKind.INVALID
                why = (
                    f"it takes {size_bytes} bytes in the worker's pod, and may take "
                    f"{ENTRY_LIMIT_BYTES}; shorten spec.env."
                )
            else:
                attempt = self._placements.assume(worker, view, size_bytes, now)
                if attempt is not None:
                    return BatchItem(attempt, entry)
                why = f"worker {name} had attempt {view.next_attempt} before"
        line = f"task {view.name} is not placed: {why}"
        outcome.instructions.append(Log(LogSeverity.WARNING, line))
        self._pending.hold(view.uid, now.monotonic_s, why, kind)
        return None


def may_be_placed(view: TaskView, cluster: ObjectKey) -> bool:
    """Whether the Task, as it is now, still is what was queued."""
    return (
        not view.deleting
        and view.state in (TaskState.PENDING, TaskState.SCHEDULED)
        and not view.cancel
        and not view.suspend
        and view.cluster == cluster.name
    )
