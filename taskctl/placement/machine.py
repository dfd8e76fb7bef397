"""The placement machine: events in, instructions out, and nothing else.

It decides which task runs on which worker, from what it is told of Tasks, TaskClusters and worker
pods. It holds no record of its own that counts: a new machine that is told of the same objects
comes to the same. See docs/placement.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from taskctl.api.states import TaskState
from taskctl.clock import Moment
from taskctl.objectkey import ObjectKey
from taskctl.placement import events as ev
from taskctl.placement.agenda import Agenda
from taskctl.placement.batches import Batch, Batches
from taskctl.placement.changes import Changes
from taskctl.placement.cluster import ClusterView, parse_cluster
from taskctl.placement.cycle import PlacementCycle
from taskctl.placement.instructions import (
    Instruction,
    LookAtCluster,
    LookAtTask,
    ReleasePod,
    TellLoss,
    WakeAt,
)
from taskctl.placement.ledger import Placements
from taskctl.placement.pending import Hold, PendingTasks
from taskctl.placement.queue import PendingTask, Size
from taskctl.placement.stock import Stock
from taskctl.placement.unserved import Telling, Unserved
from taskctl.placement.workers import Worker
from taskctl.policy.handover import parkable_class
from taskctl.policy.lost import WorkerEnd
from taskctl.policy.podview import PodView, parse_pod
from taskctl.policy.task import ClaimedAttempt, PlacedAttempt
from taskctl.policy.view import TaskView, with_defaults

COALESCE_S: Final = 0.003
# TaskClusters' counters move with every task; they are shown at most so often.
COUNT_PERIOD_S: Final = 1.0
# From one batch for a worker to the next while more tasks wait than there are slots: the hop
# of a chain must not wait, but a crowd is served faster by fewer patches, as each carries and
# sends around the whole pod.
_GATHER_S: Final = 0.05
# Timers may ring early; a look that comes a hair too soon finds nothing to do.
_SLACK_S: Final = 0.01
_EPSILON_S: Final = 1e-6
_WAITS: Final = frozenset({TaskState.PENDING, TaskState.SCHEDULED})


class PlacementMachine:
    """Turns events into instructions.

    Args:
        nonce: draws a one-time secret.
        coalesce_s: pause between an event and the cycle it causes, in seconds.
    """

    def __init__(self, nonce: Callable[[], str], *, coalesce_s: float = COALESCE_S) -> None:
        self._coalesce_s = coalesce_s
        self._tasks: dict[str, TaskView] = {}
        self._clusters: dict[ObjectKey, ClusterView] = {}
        self._key_of_cluster: dict[str, ObjectKey] = {}
        self._placements = Placements(self._tasks)
        self._pending = PendingTasks()
        self._batches = Batches(self._placements, self._pending)
        self._cycle = PlacementCycle(
            self._tasks, self._placements, self._pending, self._batches, nonce
        )
        self._stock = Stock(self._placements, nonce)
        self._unserved = Unserved()
        self._agenda = Agenda()
        self._leads = False
        self._wake_s = math.inf
        self._now = Moment.never()
        self._out: list[Instruction] = []

    def handle(self, event: ev.Event, now: Moment) -> list[Instruction]:
        """Take in an event; return what is to be done, in order.

        Args:
            event: what has happened.
            now: the time; it never goes back by the monotonic clock.
        """
        self._now, self._out = now, []
        self._dispatch(event)
        self._after(event)
        return self._out

    def _dispatch(self, event: ev.Event) -> None:  # noqa: C901 - one line for each event
        match event:
            case ev.TaskSeen():
                self._on_task(event.view)
            case ev.TaskGone():
                self._on_task_gone(event.uid)
            case ev.TaskReady():
                self._on_ready(event)
            case ev.TaskUnready():
                self._pending.discard(event.uid)
            case ev.PodSeen():
                self._on_pod(event)
            case ev.PodGone():
                self._on_pod_gone(event)
            case ev.ClusterSeen():
                self._on_cluster(parse_cluster(event.raw))
            case ev.ClusterGone():
                self._on_cluster_gone(event)
            case ev.RecordSeen():
                self._placements.on_record(event.raw, self._now)
            case ev.RecordGone():
                self._placements.shelf.on_record_gone(event.pod_uid)
            case ev.FleetPlanned():
                self._on_plan(event)
            case ev.ClusterCounted():
                self._on_count(event)
            case ev.BatchStored() | ev.BatchRefused() | ev.BatchPodRead() | ev.BatchBroke():
                self._on_answer(event)
            case ev.Led():
                self._leads = True
            case ev.TimeCame():
                self._wake_s = math.inf

    def _after(self, event: ev.Event) -> None:
        """Turn what the event has changed into instructions, place what can be placed."""
        self._tell_changes()
        if not self._leads:
            return
        if isinstance(event, ev.TimeCame):
            for key in self._agenda.take(self._now.monotonic_s + _EPSILON_S):
                cluster = self._clusters.get(key)
                if cluster is not None:
                    self._look(cluster)
            self._tell_changes()
        if self._agenda.next_s < self._wake_s:
            self._wake_s = self._agenda.next_s
            self._out.append(WakeAt(self._wake_s))

    def _look(self, cluster: ClusterView) -> None:
        """Place what can be placed; then see to the parked containers."""
        self._out += self._stock.take_back(cluster.uid, self._now)
        self._tell_changes()
        self._out += self._cycle.run(cluster, self._now)
        self._tell_changes()
        self._out += self._stock.look(cluster, self._pending.classes(cluster.key), self._now)
        next_s = self._stock.next_look_s(cluster, self._now.monotonic_s)
        if next_s < math.inf:
            self._agenda.by(cluster.key, next_s + _SLACK_S)

    def _tell_changes(self) -> None:
        changes = self._placements.take_changes()
        self._tell_stock(changes)
        self._out += [LookAtTask(task) for task in changes.touched]
        for uid, pod in changes.closed.items():
            if self._is_leaving(pod):
                self._out.append(ReleasePod(uid))
        for uid in changes.idle:
            key = self._key_of_cluster.get(uid)
            if key is not None:
                self._out.append(LookAtCluster(key))
        for uid, freed in changes.slots.items():
            key = self._key_of_cluster.get(uid)
            if key is not None:
                if freed:
                    self._soon(key)
                self._out.append(LookAtCluster(key, COUNT_PERIOD_S))

    def _tell_stock(self, changes: Changes) -> None:
        for uid, task_uid in changes.started:
            view, key = self._tasks.get(task_uid), self._key_of_cluster.get(uid)
            if view is not None and key is not None:
                self._stock.started(uid, view, self._now.monotonic_s)
                cluster = self._clusters.get(key)
                if cluster is not None and cluster.standby.ceiling:
                    self._soon(key)
        for uid, fingerprint, news in changes.parked:
            self._stock.reported(uid, fingerprint, news, self._now.monotonic_s)
            key = self._key_of_cluster.get(uid)
            if key is not None:
                self._soon(key)

    def _soon(self, cluster: ObjectKey) -> None:
        self._agenda.soon(cluster, self._now.monotonic_s + self._coalesce_s)

    # --- Tasks --------------------------------------------------------------------------

    def _on_task(self, view: TaskView) -> None:
        self._tasks[view.uid] = view
        self._placements.on_task(view.uid, self._now)
        if view.state in _WAITS:
            self._out.append(LookAtTask(ObjectKey(view.namespace, view.name)))
            return
        self._pending.discard(view.uid)
        self._pending.release(view.uid)
        runs = view.state is TaskState.RUNNING and not view.is_graph
        if runs and not self._placements.runs_well(view):
            self._out.append(LookAtTask(ObjectKey(view.namespace, view.name)))

    def _on_task_gone(self, uid: str) -> None:
        self._tasks.pop(uid, None)
        self._cycle.forget(uid)
        self._placements.on_task(uid, self._now)
        self._pending.discard(uid)
        self._pending.release(uid)

    def _on_ready(self, event: ev.TaskReady) -> None:
        view = self._tasks.get(event.task.uid)
        if view is None or view.state not in _WAITS:
            return  # it has changed since it was found ready
        hold = self._pending.held(event.task.uid)
        left_s = 0.0 if hold is None else hold.until_s - self._now.monotonic_s
        if left_s > 0:
            self._pending.discard(event.task.uid)
            self._out.append(LookAtTask(event.key, left_s))
        elif self._pending.push(
            event.cluster, self._with_class(event, view), self._now.monotonic_s
        ):
            self._soon(event.cluster)
            self._out.append(LookAtCluster(event.cluster, COUNT_PERIOD_S))

    def _with_class(self, event: ev.TaskReady, view: TaskView) -> PendingTask:
        """Say which parked containers fit a task."""
        cluster = self._clusters.get(event.cluster)
        if cluster is None or not cluster.standby.ceiling:
            return event.task
        wanted = parkable_class(with_defaults(view, cluster.defaults))
        return (
            event.task
            if wanted is None
            else replace(event.task, container_class=wanted.fingerprint)
        )

    # --- TaskClusters -------------------------------------------------------------------

    def _on_cluster(self, cluster: ClusterView) -> None:
        before = self._clusters.get(cluster.key)
        self._clusters[cluster.key] = cluster
        self._key_of_cluster[cluster.uid] = cluster.key
        self._out.append(LookAtCluster(cluster.key))
        self._soon(cluster.key)
        if before is None or before.generation != cluster.generation:
            self._look_at_queue(cluster.key)

    def _on_cluster_gone(self, event: ev.ClusterGone) -> None:
        self._key_of_cluster.pop(event.uid, None)
        self._stock.forget(event.uid)
        known = self._clusters.get(event.key)
        if known is not None and known.uid == event.uid:
            del self._clusters[event.key]
            self._unserved.forget(event.key)
        for worker in self._placements.workers_of(event.uid):
            self._out.append(ReleasePod(worker.pod.uid))
            if self._leads:
                self._out += self._stock.dismiss_all(worker, self._now.monotonic_s)
        self._look_at_queue(event.key)

    def _look_at_queue(self, cluster: ObjectKey) -> None:
        """The TaskCluster has changed: a rare event, so O(queue)."""
        queue = self._pending.queue(cluster)
        if queue is not None:
            self._look_at_all(queue.uids())

    def _look_at_all(self, uids: Iterable[str]) -> None:
        for uid in uids:
            view = self._tasks.get(uid)
            if view is not None:
                self._out.append(LookAtTask(ObjectKey(view.namespace, view.name)))

    def _on_plan(self, event: ev.FleetPlanned) -> None:
        for worker in self._placements.workers_of(event.cluster_uid):
            uid = worker.pod.uid
            worn = uid in event.worn
            self._placements.set_retiring(uid, event.retiring.get(uid), worn=worn)

    def _on_count(self, event: ev.ClusterCounted) -> None:
        queue = self._pending.queue(event.key)
        telling: Telling
        if event.ready > 0 or queue is None:
            telling = self._unserved.served(event.key)
        else:
            now_s = self._now.monotonic_s
            telling = self._unserved.silent(event.key, queue.uids(), event.why, now_s)
        self._look_at_all(telling.uids)
        if telling.again_s is not None:
            self._out.append(LookAtCluster(event.key, telling.again_s))

    # --- worker pods --------------------------------------------------------------------

    def _on_pod(self, event: ev.PodSeen) -> None:
        uid = event.raw["metadata"]["uid"]
        before = _standing(self._placements.worker(uid))
        self._placements.on_pod(event.raw, self._now, first_list=event.first_list)
        worker = self._placements.worker(uid)
        if self._is_leaving(parse_pod(event.raw) if worker is None else worker.pod):
            self._out.append(ReleasePod(uid))
        after = _standing(worker)
        if worker is None or before == after:
            return
        key = self._key_of_cluster.get(worker.pod.cluster_uid)
        if key is None:
            return
        self._out.append(LookAtCluster(key))
        was_dead = before is not None and before.dead
        if worker.pod.dead and not was_dead and not event.first_list:
            self._tell_loss(key, worker)

    def _on_pod_gone(self, event: ev.PodGone) -> None:
        worker = self._placements.worker(event.uid)
        cluster_uid = event.cluster_uid if worker is None else worker.pod.cluster_uid
        key = self._key_of_cluster.get(cluster_uid)
        if key is not None and worker is not None:
            self._tell_loss(key, worker)
        self._placements.on_pod_gone(event.uid)
        if key is not None:
            self._out.append(LookAtCluster(key))

    def _tell_loss(self, cluster: ObjectKey, worker: Worker) -> None:
        if worker.active:
            message = f"Worker {worker.pod.name} is gone with {worker.active} tasks on it."
            self._out.append(TellLoss(cluster, message))

    def _is_leaving(self, pod: PodView) -> bool:
        """Whether a worker's evidence may have to be released: it goes, or has no TaskCluster."""
        gone = pod.deletion is not None or pod.cluster_uid not in self._key_of_cluster
        return pod.pinned and gone

    # --- batches ------------------------------------------------------------------------

    def _on_answer(
        self, event: ev.BatchStored | ev.BatchRefused | ev.BatchPodRead | ev.BatchBroke
    ) -> None:
        now_s = self._now.monotonic_s
        if event.batch < 0:
            cluster_uid, out = self._stock.answered(event, now_s)
            self._out += out
            key = self._key_of_cluster.get(cluster_uid)
            if key is not None:
                self._soon(key)
            return
        batch = self._batches.get(event.batch)
        if batch is None:
            return  # it was answered before
        match event:
            case ev.BatchStored():
                self._out += self._batches.stored(batch, now_s)
            case ev.BatchRefused():
                self._out += self._batches.refused(batch, event.error, now_s, event.jitter)
            case ev.BatchPodRead():
                self._out += self._batches.pod_read(batch, event.present, now_s, event.jitter)
            case ev.BatchBroke():
                self._out += self._batches.broke(batch, event.why, now_s)
        if self._batches.get(batch.number) is None:
            self._settle(batch)

    def _settle(self, batch: Batch) -> None:
        """The last answer has come: say when its worker may be given more."""
        worker, cluster = batch.worker, batch.cluster
        if self._pending.length(cluster):
            worker.cool_until_s = max(worker.cool_until_s, batch.begun_s + _GATHER_S)
        self._soon(cluster)
        for at_s in {worker.cool_until_s, worker.gather_until_s}:
            if at_s > self._now.monotonic_s:
                self._agenda.at(cluster, at_s + _SLACK_S)

    # --- questions ----------------------------------------------------------------------

    def placed(self, view: TaskView, now: Moment) -> PlacedAttempt | None:
        """Return what is known of the next attempt's placement; None: it has none."""
        return self._placements.placed(view, now)

    def claimed(self, view: TaskView, now: Moment) -> ClaimedAttempt:
        """Return what is known of the attempt that a Running Task names."""
        return self._placements.claimed(view, now)

    def held(self, uid: str) -> Hold | None:
        """Return what is known of failures to place a task."""
        return self._pending.held(uid)

    def unserved(self, cluster: ObjectKey) -> str:
        """Return why a TaskCluster has had no ready worker for a while; empty: it has."""
        return self._unserved.why(cluster)

    def queue_length(self, cluster: ObjectKey) -> int:
        """Return how many tasks wait for a slot of a TaskCluster."""
        return self._pending.length(cluster)

    def queue_oldest_s(self, cluster: ObjectKey) -> float | None:
        """Return when the task that has waited longest was queued (monotonic). Costs O(queue)."""
        return self._pending.oldest_s(cluster)

    def clusters(self) -> list[ClusterView]:
        """Return the TaskClusters that are known."""
        return list(self._clusters.values())

    def queued_sizes(self, cluster: ObjectKey) -> Mapping[Size, int]:
        """Return how many tasks wait for a slot of a TaskCluster, by what each takes."""
        queue = self._pending.queue(cluster)
        return {} if queue is None else queue.sizes()

    def queued_per_worker(self, cluster: ObjectKey, cluster_uid: str) -> float:
        """Return how many of a TaskCluster's waiting tasks each worker will get, about."""
        return self._cycle.queued_per_worker(cluster, cluster_uid)

    def worker(self, pod_uid: str) -> Worker | None:
        """Return the worker with that pod UID, or None; read-only."""
        return self._placements.worker(pod_uid)

    def workers_of(self, cluster_uid: str) -> list[Worker]:
        """Return the workers of a TaskCluster; read-only."""
        return self._placements.workers_of(cluster_uid)

    def end_of(self, pod: PodView, now: Moment) -> WorkerEnd:
        """Return whether anything may still run in a worker's pod."""
        return self._placements.end_of(pod, now)

    def open_attempts(self) -> int:
        """Return how many attempts are open in all. Costs O(workers)."""
        return self._placements.open_attempts()

    def waiting(self) -> int:
        """Return how many tasks wait for a slot in all."""
        return len(self._pending)


class _Standing(NamedTuple):
    """What of a worker the plan for a TaskCluster's workers depends on."""

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
