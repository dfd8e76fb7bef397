"""Which attempts are open on which worker.

A worker pod's own spec is the record of what was placed there; this is the index over all
of them, joined with the Tasks' status, kept up to date one event at a time and made again from the
objects after a restart. Nothing here is written anywhere.

An attempt is *open* from the moment it is decided until its Task says that it is over (ended,
superseded, written off); then it is dropped, and only the container's name stays, so that the
entry is not taken for a new one. Ended tasks cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from taskctl.clock import Moment
from taskctl.objectkey import ObjectKey
from taskctl.placement.attempts import AttemptId, OpenAttempt
from taskctl.placement.candidates import candidate_of
from taskctl.placement.changes import Changes
from taskctl.placement.choice import Candidate
from taskctl.placement.fleet import RetireReason, serial_of
from taskctl.placement.moments import deadline_s, past_s
from taskctl.placement.rest import after_report
from taskctl.placement.rotation import STATUS_BYTES, RotationRule
from taskctl.placement.shelf import Shelf
from taskctl.placement.states import AttemptState
from taskctl.placement.workers import NEVER_S, Worker
from taskctl.policy.entry import json_bytes, parse_entry
from taskctl.policy.evidence import Standing, standing_of
from taskctl.policy.handover import Handover, is_parked_name
from taskctl.policy.lost import WorkerEnd, worker_end
from taskctl.policy.podview import ContainerState, PodView, container_report, parse_pod
from taskctl.policy.resources import requested
from taskctl.policy.task import ClaimedAttempt, PlacedAttempt
from taskctl.policy.view import TaskView

_STARTED = frozenset({ContainerState.RUNNING, ContainerState.TERMINATED})


class Placements:
    """All workers and the attempts open on them.

    Args:
        tasks: all Tasks as they were last seen, by UID; read-only.

    Attributes:
        shelf: the parked containers of the workers.
    """

    def __init__(self, tasks: Mapping[str, TaskView]) -> None:
        self._tasks = tasks
        self._workers: dict[str, Worker] = {}
        self._by_cluster: dict[str, dict[str, Worker]] = {}
        # Attempts not known to be over, by Task UID: usually one, the next or the running
        # one; more where the same attempt was placed twice.
        self._by_task: dict[str, list[tuple[Worker, OpenAttempt]]] = {}
        # By UID of the root: attempts of its tree that take slots.
        self._live: dict[str, int] = {}
        # By pod UID: its deletionTimestamp, and that moment by the monotonic clock.
        self._deadlines: dict[str, tuple[datetime, float]] = {}
        self._changes = Changes()
        self.shelf = Shelf(self)

    def take_changes(self) -> Changes:
        """Return what has come of everything since this was last called."""
        changes, self._changes = self._changes, Changes()
        return changes

    # --- reading ------------------------------------------------------------------------

    def worker(self, uid: str) -> Worker | None:
        """Return the worker with that pod UID, or None."""
        return self._workers.get(uid)

    def workers(self) -> Iterable[Worker]:
        """Return all workers."""
        return list(self._workers.values())

    def workers_of(self, cluster_uid: str) -> list[Worker]:
        """Return the workers of a TaskCluster."""
        return list(self._by_cluster.get(cluster_uid, {}).values())

    def candidates(
        self, cluster_uid: str, prefix: str, rotation: RotationRule, now: Moment
    ) -> list[Candidate]:
        """Return the workers of a TaskCluster as the choice sees them."""
        now_s = now.monotonic_s
        return [
            candidate_of(one, serial_of(one.pod.name, prefix), rotation, self._tasks, now_s)
            for one in self._by_cluster.get(cluster_uid, {}).values()
        ]

    def accepting_workers(self, cluster_uid: str) -> int:
        """Return how many workers of a TaskCluster tasks may be placed on."""
        return sum(worker.accepting for worker in self._by_cluster.get(cluster_uid, {}).values())

    def open_attempts(self) -> int:
        """Return how many attempts are open in all. Costs O(workers)."""
        return sum(worker.active for worker in self._workers.values())

    def live(self, root_uid: str) -> int:
        """Return how many attempts of a tree are placed or run; who waits for children is none."""
        return self._live.get(root_uid, 0)

    def is_live(self, attempt_id: AttemptId) -> bool:
        """Whether the Task of an attempt is there and not over."""
        view = self._tasks.get(attempt_id.task_uid)
        return view is not None and not view.state.terminal

    def is_placed(self, attempt_id: AttemptId) -> bool:
        """Whether that attempt is open on a worker that may still start it."""
        return self._unclaimed(attempt_id) is not None

    def _unclaimed(self, attempt_id: AttemptId) -> tuple[Worker, OpenAttempt] | None:
        for worker, attempt in self._by_task.get(attempt_id.task_uid, ()):
            waits = attempt.open and not attempt.claimed and worker.alive
            if waits and attempt.id == attempt_id:
                return worker, attempt
        return None

    def runs_well(self, view: TaskView) -> bool:
        """Whether a Running Task's worker is alive and its container not seen to have ended."""
        worker = self._workers.get(view.pod_uid)
        if worker is None or not worker.alive:
            return False
        attempt = worker.attempts.get(view.container)
        return attempt is None or attempt.ended_at_s is None

    def placed(self, view: TaskView, now: Moment) -> PlacedAttempt | None:
        """Return what is known of the next attempt's placement; None: it has none."""
        found = self._unclaimed(AttemptId(view.uid, view.next_attempt))
        if found is None:
            return None
        worker, attempt = found
        return PlacedAttempt(
            pod_name=worker.pod.name,
            pod_uid=worker.pod.uid,
            container=attempt.container,
            waited_s=now.monotonic_s - attempt.placed_at_s,
            ended_for_s=attempt.ended_for_s(now.monotonic_s),
            waiting=attempt.waiting,
        )

    def claimed(self, view: TaskView, now: Moment) -> ClaimedAttempt:
        """Return what is known of the attempt that a Running Task names."""
        worker = self._workers.get(view.pod_uid)
        if worker is None:
            return ClaimedAttempt(gone=True, why="its pod is gone")
        end = self.end_of(worker.pod, now)
        attempt = worker.attempts.get(view.container)
        return ClaimedAttempt(
            gone=end.over,
            why=end.why,
            ended_for_s=None if attempt is None else attempt.ended_for_s(now.monotonic_s),
            look_again_s=end.look_again_s,
            ended=None if attempt is None else attempt.ended,
        )

    def end_of(self, pod: PodView, now: Moment) -> WorkerEnd:
        """Return whether anything may still run in a worker's pod."""
        if pod.deletion is None:
            return worker_end(pod, 0.0)
        known = self._deadlines.get(pod.uid)
        at_s = known[1] if known and known[0] == pod.deletion else deadline_s(pod, now)
        return worker_end(pod, now.monotonic_s - at_s)

    # --- pods ---------------------------------------------------------------------------

    def on_pod(self, raw: Mapping[str, Any], now: Moment, *, first_list: bool = False) -> None:
        """Take in a worker pod.

        Args:
            raw: the pod.
            now: the time.
            first_list: it comes from the first list, so it is not known to have changed
                just now.
        """
        pod = parse_pod(raw)
        self._note_deadline(pod, now)
        if not pod.cluster_uid:
            return
        worker = self._workers.get(pod.uid)
        if worker is None:
            worker = self._workers[pod.uid] = Worker.seen(pod, raw, _bare_bytes(raw))
            worker.record = self.shelf.stashed(pod.uid)
            self._by_cluster.setdefault(pod.cluster_uid, {})[pod.uid] = worker
            was_alive, was_accepting, was_dead = True, False, False
        else:
            was_alive, was_accepting, was_dead = worker.alive, worker.accepting, worker.pod.dead
        worker.pod, worker.raw = pod, raw
        worker.settle()
        if not pod.agent_running:
            worker.up_at_s = None
        elif worker.up_at_s is None:
            worker.up_at_s = NEVER_S if first_list else now.monotonic_s
        self._read_spec(worker, raw, now)
        gathering = bool(worker.unreported)
        self._read_status(worker, raw, now)
        self.shelf.on_pod_read(worker, now)
        if gathering and not worker.unreported:
            self._changes.slots_changed(pod.cluster_uid, freed=True)
        if not first_list:
            settled = not worker.unreported
            worker.rest = after_report(worker.rest, now.monotonic_s, settled=settled)
        if (was_alive and not worker.alive) or (pod.dead and not was_dead):
            self._touch_open(worker)
        if worker.accepting != was_accepting or worker.alive != was_alive:
            self._changes.slots_changed(pod.cluster_uid, freed=worker.accepting)

    def _note_deadline(self, pod: PodView, now: Moment) -> None:
        if pod.deletion is not None:
            known = self._deadlines.get(pod.uid)
            if known is None or known[0] != pod.deletion:
                self._deadlines[pod.uid] = (pod.deletion, deadline_s(pod, now))

    def _read_spec(self, worker: Worker, raw: Mapping[str, Any], now: Moment) -> None:
        for container in raw["spec"].get("ephemeralContainers") or ():
            name = container["name"]
            if name in worker.names:
                attempt = worker.attempts.get(name)
                if attempt is not None and not is_parked_name(name):
                    self.confirm(attempt)
                if name in worker.parked:
                    worker.parked[name].in_spec = True
                continue
            worker.names.add(name)
            worker.images.add(container.get("image", ""))
            worker.size_bytes += json_bytes(container) + STATUS_BYTES
            if self.shelf.on_container(worker, container, now.monotonic_s):
                continue
            entry = parse_entry(container)
            if entry is not None:
                attempt = OpenAttempt(
                    id=AttemptId(entry.task_uid, entry.attempt),
                    container=name,
                    task=ObjectKey(worker.pod.namespace, entry.task_name),
                    placed_at_s=past_s(entry.placed, now),
                    in_spec=True,
                    amount=entry.amount,
                )
                attempt.become(AttemptState.PLACED)
                self.add(worker, attempt)

    def on_record(self, raw: Mapping[str, Any], now: Moment) -> None:
        """Take in a worker's handover record."""
        worker = self._workers.get(self.shelf.on_record(raw))
        if worker is not None:
            self.shelf.read_record(worker, now)

    def read_report(self, worker: Worker, attempt: OpenAttempt, now: Moment) -> None:
        """Take in what the pod's status says of an attempt's container."""
        for entry in (worker.raw.get("status") or {}).get("ephemeralContainerStatuses") or ():
            if entry.get("name") == attempt.container:
                self._read_container(worker, attempt, entry, now)

    def may_be_claimed(self, attempt_id: AttemptId) -> bool:
        """Whether an agent that has read of that attempt may still claim it, as far as is known."""
        view = self._tasks.get(attempt_id.task_uid)
        return view is None or (not view.state.terminal and view.attempt < attempt_id.number)

    def freed(self, worker: Worker) -> None:
        """Slots of a worker that were kept are free."""
        self._changes.slots_changed(worker.pod.cluster_uid, freed=True)

    def past_s(self, handover: Handover, now: Moment) -> float:
        """Return when an attempt was handed over, by the monotonic clock."""
        return past_s(handover.placed_at, now)

    def add(self, worker: Worker, attempt: OpenAttempt) -> None:
        """Take in an attempt, and judge it."""
        worker.attempts[attempt.container] = attempt
        self._by_task.setdefault(attempt.id.task_uid, []).append((worker, attempt))
        self._judge(worker, attempt, self._tasks.get(attempt.id.task_uid))

    def _read_status(self, worker: Worker, raw: Mapping[str, Any], now: Moment) -> None:
        if not worker.attempts and not worker.unreported and not worker.parked:
            return
        for entry in (raw.get("status") or {}).get("ephemeralContainerStatuses") or ():
            name = entry.get("name", "")
            if name in worker.unreported and container_report(entry).state in _STARTED:
                worker.unreported.discard(name)
            if name in worker.parked:
                self._read_parked(worker, name, entry, now.monotonic_s)
            attempt = worker.attempts.get(name)
            if attempt is not None:
                self._read_container(worker, attempt, entry, now)

    def _read_parked(self, worker: Worker, name: str, raw: Mapping[str, Any], now_s: float) -> None:
        uid, fingerprint = worker.pod.cluster_uid, worker.parked[name].fingerprint
        news = self.shelf.on_status(worker, name, container_report(raw), now_s)
        if news is not None:
            self._changes.parked.append((uid, fingerprint, news))

    def _read_container(
        self, worker: Worker, attempt: OpenAttempt, entry: Mapping[str, Any], now: Moment
    ) -> None:
        report = container_report(entry)
        running = report.state is ContainerState.RUNNING
        ended = report.state is ContainerState.TERMINATED
        waiting = report.words
        news = waiting != attempt.waiting and not attempt.claimed
        attempt.waiting = waiting
        if ended and attempt.ended_at_s is None:
            attempt.ended_at_s = now.monotonic_s
            attempt.ended = report
            news = True
        if running != attempt.running:
            attempt.running = running
            # A container whose Task was deleted holds its slots until it has ended.
            self._judge(worker, attempt, self._tasks.get(attempt.id.task_uid))
        if news:
            self._changes.touched[attempt.task] = None

    def on_pod_gone(self, uid: str) -> None:
        """Forget a worker; the Tasks that were open on it have to be looked at."""
        self._deadlines.pop(uid, None)
        worker = self._workers.pop(uid, None)
        if worker is None:
            return
        worker.settle(removed=True)
        cluster_uid = worker.pod.cluster_uid
        siblings = self._by_cluster[cluster_uid]
        del siblings[uid]
        if not siblings:
            del self._by_cluster[cluster_uid]
        self._touch_open(worker)
        self.shelf.on_worker_gone(worker)
        for attempt in list(worker.attempts.values()):
            over = attempt.claimed or attempt.id.task_uid not in self._tasks
            self.drop(worker, attempt, AttemptState.OVER if over else AttemptState.WAITING)
        self._changes.slots_changed(cluster_uid, freed=False)

    def _touch_open(self, worker: Worker) -> None:
        for attempt in worker.attempts.values():
            if attempt.open:
                self._changes.touched[attempt.task] = None

    def set_retiring(self, uid: str, reason: RetireReason | None, *, worn: bool) -> None:
        """Say whether a worker is to get more tasks, and whether it nears its end."""
        worker = self._workers.get(uid)
        if worker is None:
            return
        changed = worker.retiring is not reason
        worker.retiring, worker.worn = reason, worn
        worker.settle()
        if changed:
            self._changes.slots_changed(worker.pod.cluster_uid, freed=reason is None)

    # --- tasks --------------------------------------------------------------------------

    def on_task(self, uid: str, now: Moment) -> None:
        """Judge a Task's attempts again after it has changed or gone."""
        view = self._tasks.get(uid)
        worker = self._workers.get(self.shelf.on_task(uid, view))
        if worker is not None:
            self.shelf.adopt_all(worker, now)
        for pod_uid, container in self.shelf.withdrawn_of(uid):
            if view is None or not self.may_be_claimed(
                self._workers[pod_uid].withdrawn[container].id
            ):
                self.shelf.release(self._workers[pod_uid], container)
        attempts = self._by_task.get(uid)
        if not attempts:
            return
        for worker, attempt in list(attempts):
            self._judge(worker, attempt, view)

    def _judge(self, worker: Worker, attempt: OpenAttempt, view: TaskView | None) -> None:
        if view is not None and not attempt.root_uid:
            attempt.root_uid = view.root_uid
            self._count_live(view.root_uid, int(attempt.live))
        standing = standing_of(attempt.id.number, worker.pod.uid, view)
        elsewhere = view is not None and view.container != attempt.container
        if standing is Standing.CLAIMED and elsewhere:
            standing = Standing.CLOSED  # it was placed twice here
        if standing is Standing.CLOSED:
            self.drop(worker, attempt, AttemptState.OVER)
            self._changes.closed[worker.pod.uid] = worker.pod
            return
        slots = attempt.slots if view is None else view.slots_taken
        if standing is Standing.CLAIMED:
            attempt.in_spec = True  # its agent has read it there
            if not attempt.claimed:
                self._changes.started.append((worker.pod.cluster_uid, attempt.id.task_uid))
            attempt.become(AttemptState.CLAIMED)
            self.shelf.on_claimed(worker, attempt)
            if worker.up_at_s is not None:
                worker.up_at_s = NEVER_S  # its agent serves
        elif attempt.claimed:
            attempt.become(AttemptState.PLACED)
        if standing is Standing.UNKNOWN:
            self._account(worker, attempt, is_open=attempt.running, slots=slots)
            self._changes.closed[worker.pod.uid] = worker.pod
        else:
            self._account(worker, attempt, is_open=True, slots=slots)

    def _account(self, worker: Worker, attempt: OpenAttempt, *, is_open: bool, slots: int) -> None:
        before = attempt.slots if attempt.open else 0
        after = slots if is_open else 0
        committed = worker.committed - attempt.taken
        self._count_live(attempt.root_uid, (after > 0) - (before > 0))
        closes = attempt.open and not is_open
        worker.active += is_open - attempt.open
        attempt.open, attempt.slots = is_open, slots
        worker.committed = committed + attempt.taken
        if before != after:
            worker.used += after - before
            self._changes.slots_changed(worker.pod.cluster_uid, freed=after < before)
        # Who waits for children takes no slot, and is active for all that.
        if closes and worker.retiring is not None and worker.active == 0:
            self._changes.idle[worker.pod.cluster_uid] = None

    def _count_live(self, root_uid: str, change: int) -> None:
        if not root_uid or not change:
            return
        count = self._live.get(root_uid, 0) + change
        if count:
            self._live[root_uid] = count
        else:
            del self._live[root_uid]

    def drop(self, worker: Worker, attempt: OpenAttempt, state: AttemptState) -> None:
        """An attempt is not open on that worker any more."""
        self._account(worker, attempt, is_open=False, slots=attempt.slots)
        attempt.become(state)
        worker.attempts.pop(attempt.container, None)
        self.shelf.on_dropped(worker, attempt)
        if state is AttemptState.WAITING:
            self._changes.touched[attempt.task] = None
        uid = attempt.id.task_uid
        rest = [pair for pair in self._by_task.get(uid, ()) if pair[1] is not attempt]
        if rest:
            self._by_task[uid] = rest
        else:
            self._by_task.pop(uid, None)

    # --- assumptions --------------------------------------------------------------------

    def assume(
        self, worker: Worker, view: TaskView, entry_bytes: int, now: Moment
    ) -> OpenAttempt | None:
        """Take a Task's next attempt as placed on a worker, before it is written.

        Args:
            worker: where to.
            view: the Task.
            entry_bytes: how large the container's entry is as JSON.
            now: the time.

        Returns:
            The attempt; None where the worker has had a container of that name.
        """
        attempt_id = AttemptId(view.uid, view.next_attempt)
        name = attempt_id.container
        if name in worker.names:
            return None
        attempt = OpenAttempt(
            id=attempt_id,
            container=name,
            task=ObjectKey(view.namespace, view.name),
            placed_at_s=now.monotonic_s,
            size_bytes=entry_bytes + STATUS_BYTES,
            amount=requested(view.spec),
        )
        attempt.become(AttemptState.ASSUMED)
        worker.names.add(name)
        worker.images.add(str(view.spec.get("image", "")))
        worker.unreported.add(name)
        worker.size_bytes += attempt.size_bytes
        worker.count(now.monotonic_s)
        self.add(worker, attempt)
        return attempt

    def confirm(self, attempt: OpenAttempt) -> None:
        """The attempt is in the pod's spec."""
        attempt.in_spec = True
        if attempt.state is AttemptState.ASSUMED:
            attempt.become(AttemptState.PLACED)

    def undo(self, worker: Worker, attempt: OpenAttempt) -> None:
        """The attempt did not get into the pod's spec, and will not."""
        if attempt.in_spec:
            return  # the watch has seen it there
        worker.names.discard(attempt.container)
        worker.unreported.discard(attempt.container)
        worker.size_bytes -= attempt.size_bytes
        attempt.size_bytes = 0
        if worker.attempts.get(attempt.container) is attempt:
            self.drop(worker, attempt, AttemptState.WAITING)
        self._changes.touched[attempt.task] = None


def _bare_bytes(raw: Mapping[str, Any]) -> int:
    """What a pod takes without its ephemeral containers and their states."""
    spec = {key: value for key, value in raw["spec"].items() if key != "ephemeralContainers"}
    return json_bytes({"metadata": raw["metadata"], "spec": spec})
