"""The ledger: which attempts are open on which worker.

A worker pod's own spec is the record of what was placed there; this is the index over all
of them, joined with the Tasks' status, kept up to date one event at a time and made again
from the informers after a restart. Nothing here is written anywhere.

An attempt is *open* from the moment it is decided until its Task says that it is over
(ended, superseded, written off); then it is dropped, and only the container's name stays,
so that the entry is not taken for a new one. Ended tasks cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from taskctl.api.meta import ObjectKey
from taskctl.clock import Clock
from taskctl.controllers.ages import Ages
from taskctl.controllers.workerstate import NEVER_S, Attempt, Worker
from taskctl.placement.choice import WorkerState
from taskctl.placement.fleet import RetireReason, serial_of
from taskctl.placement.rest import after_report
from taskctl.placement.rotation import STATUS_BYTES, Rotation
from taskctl.policy.entry import container_name, json_bytes, parse_entry
from taskctl.policy.evidence import Standing, standing_of
from taskctl.policy.lost import WorkerEnd, worker_end
from taskctl.policy.podview import ContainerState, PodView, container_report, parse_pod
from taskctl.policy.task import PlacedFacts, WorkerFacts
from taskctl.policy.view import TaskView

_STARTED = frozenset({ContainerState.RUNNING, ContainerState.TERMINATED})


class LedgerListener(Protocol):
    """Is told what changed; each call must be quick and must not call back."""

    def slots_changed(self, cluster_uid: str, *, freed: bool) -> None:
        """Slots were taken, or became free, on a worker of that TaskCluster."""
        ...

    def worker_idle(self, cluster_uid: str) -> None:
        """A worker that is retiring has nothing open any more."""
        ...

    def attempt_closed(self, worker: Worker) -> None:
        """An attempt in that worker's pod is accounted for."""
        ...

    def look_at(self, task: ObjectKey) -> None:
        """Something about that Task's placement has changed."""
        ...


class Ledger:
    """All workers and the attempts open on them.

    Args:
        listener: told of changes.
        find_task: the Task with that UID as the cache knows it, or None.
        clock: the time.
        ages: how long ago stamps of other clocks were.
    """

    def __init__(
        self,
        listener: LedgerListener,
        find_task: Callable[[str], TaskView | None],
        clock: Clock,
        ages: Ages | None = None,
    ) -> None:
        self._listener = listener
        self._find_task = find_task
        self._clock = clock
        self._ages = Ages(clock) if ages is None else ages
        self._workers: dict[str, Worker] = {}
        self._by_cluster: dict[str, dict[str, Worker]] = {}
        # Attempts not known to be over, by Task UID: usually one, the next or the running
        # one; more where the same attempt was placed twice.
        self._by_task: dict[str, list[tuple[Worker, Attempt]]] = {}

    # --- reading ------------------------------------------------------------------------

    def worker(self, uid: str) -> Worker | None:
        """Return the worker with that pod UID, or None."""
        return self._workers.get(uid)

    def workers_of(self, cluster_uid: str) -> list[Worker]:
        """Return the workers of a TaskCluster."""
        return list(self._by_cluster.get(cluster_uid, {}).values())

    def worker_states(self, cluster_uid: str, prefix: str, rotation: Rotation) -> list[WorkerState]:
        """Return the workers of a TaskCluster as the placement policy sees them."""
        return [
            self._state(worker, serial_of(worker.pod.name, prefix), rotation)
            for worker in self._by_cluster.get(cluster_uid, {}).values()
        ]

    def _state(self, worker: Worker, serial: int, rotation: Rotation) -> WorkerState:
        now_s = self._clock.monotonic_s()
        wear = worker.wear(now_s)
        return WorkerState(
            uid=worker.pod.uid,
            serial=serial,
            used=worker.used,
            entries_total=wear.entries,
            max_entries=rotation.entry_limit,
            rest=worker.rest,
            accepting=worker.accepting
            and worker.takes_batch(now_s)
            and not rotation.is_spent(wear),
            worn=rotation.is_worn(wear, serial),
            serves=worker.serves_in_s(now_s) <= 0,
            images=worker.images,
        )

    def accepting_workers(self, cluster_uid: str) -> int:
        """Return how many workers of a TaskCluster tasks may be placed on."""
        return sum(worker.accepting for worker in self._by_cluster.get(cluster_uid, {}).values())

    def open_attempts(self) -> int:
        """Return how many attempts are open in all. Costs O(workers)."""
        return sum(worker.active for worker in self._workers.values())

    def is_placed(self, uid: str, number: int) -> bool:
        """Whether that attempt is open on a worker that may still start it."""
        return self._waiting_attempt(uid, number) is not None

    def _waiting_attempt(self, uid: str, number: int) -> tuple[Worker, Attempt] | None:
        for worker, attempt in self._by_task.get(uid, ()):
            if attempt.number == number and attempt.open and not attempt.claimed and worker.alive:
                return worker, attempt
        return None

    def runs_well(self, view: TaskView) -> bool:
        """Whether a Running Task's worker is alive and its container not seen to have ended."""
        worker = self._workers.get(view.pod_uid)
        if worker is None or not worker.alive:
            return False
        attempt = worker.attempts.get(view.container)
        return attempt is None or attempt.ended_at_s is None

    def placed_facts(self, view: TaskView) -> PlacedFacts | None:
        """Return what is known of the next attempt's placement; None: it has none."""
        found = self._waiting_attempt(view.uid, view.next_attempt)
        if found is None:
            return None
        worker, attempt = found
        return PlacedFacts(
            pod_name=worker.pod.name,
            pod_uid=worker.pod.uid,
            container=attempt.container,
            waited_s=self._ages.age_s(_placed_key(attempt), attempt.placed),
            ended_for_s=self._ended_for_s(attempt),
            waiting=attempt.waiting,
        )

    def worker_facts(self, view: TaskView) -> WorkerFacts:
        """Return what is known of the worker that a Running Task names."""
        worker = self._workers.get(view.pod_uid)
        if worker is None:
            return WorkerFacts(gone=True, why="its pod is gone")
        end = self.end_of(worker.pod)
        attempt = worker.attempts.get(view.container)
        return WorkerFacts(
            gone=end.over,
            why=end.why,
            ended_for_s=None if attempt is None else self._ended_for_s(attempt),
            look_again_s=end.look_again_s,
            ended=None if attempt is None else attempt.ended,
        )

    def end_of(self, pod: PodView) -> WorkerEnd:
        """Return whether anything may still run in a worker's pod."""
        if pod.deletion is None:
            return worker_end(pod, 0.0)
        key = ("deleted", pod.uid)
        return worker_end(pod, self._ages.age_s(key, pod.deletion, at_least_s=-pod.grace_s))

    def _ended_for_s(self, attempt: Attempt) -> float | None:
        if attempt.ended_at_s is None:
            return None
        return self._clock.monotonic_s() - attempt.ended_at_s

    # --- pods ---------------------------------------------------------------------------

    def on_pod(self, raw: Mapping[str, Any], *, first_list: bool = False) -> None:
        """Take in a worker pod.

        Args:
            raw: the pod.
            first_list: it comes from the first list, so it is not known to have changed
                just now.
        """
        pod = parse_pod(raw)
        if not pod.cluster_uid:
            return
        worker = self._workers.get(pod.uid)
        if worker is None:
            worker = self._workers[pod.uid] = Worker(pod, raw, size_bytes=_bare_bytes(raw))
            self._by_cluster.setdefault(pod.cluster_uid, {})[pod.uid] = worker
            was_alive, was_accepting, was_dead = True, False, False
        else:
            was_alive, was_accepting, was_dead = worker.alive, worker.accepting, worker.pod.dead
        worker.pod, worker.raw = pod, raw
        if not pod.agent_running:
            worker.up_at_s = None
        elif worker.up_at_s is None:
            worker.up_at_s = NEVER_S if first_list else self._clock.monotonic_s()
        self._read_spec(worker, raw)
        gathering = bool(worker.unreported)
        self._read_status(worker, raw)
        if gathering and not worker.unreported:
            self._listener.slots_changed(pod.cluster_uid, freed=True)
        if not first_list:
            now_s, settled = self._clock.monotonic_s(), not worker.unreported
            worker.rest = after_report(worker.rest, now_s, settled=settled)
        if (was_alive and not worker.alive) or (pod.dead and not was_dead):
            self._look_at_open(worker)
        if worker.accepting != was_accepting or worker.alive != was_alive:
            self._listener.slots_changed(pod.cluster_uid, freed=worker.accepting)

    def _read_spec(self, worker: Worker, raw: Mapping[str, Any]) -> None:
        for container in raw["spec"].get("ephemeralContainers") or ():
            name = container["name"]
            if name in worker.names:
                attempt = worker.attempts.get(name)
                if attempt is not None:
                    attempt.assumed = False
                continue
            worker.names.add(name)
            worker.images.add(container.get("image", ""))
            worker.size_bytes += json_bytes(container) + STATUS_BYTES
            entry = parse_entry(container)
            if entry is not None:
                attempt = Attempt(
                    container=name,
                    task=ObjectKey(worker.pod.namespace, entry.task_name),
                    uid=entry.task_uid,
                    number=entry.attempt,
                    placed=entry.placed or self._clock.now(),
                )
                self._add(worker, attempt)

    def _add(self, worker: Worker, attempt: Attempt) -> None:
        worker.attempts[attempt.container] = attempt
        self._by_task.setdefault(attempt.uid, []).append((worker, attempt))
        self._ages.age_s(_placed_key(attempt), attempt.placed)  # counts from here
        self._judge(worker, attempt, self._find_task(attempt.uid))

    def _read_status(self, worker: Worker, raw: Mapping[str, Any]) -> None:
        if not worker.attempts and not worker.unreported:
            return
        for entry in (raw.get("status") or {}).get("ephemeralContainerStatuses") or ():
            name = entry.get("name", "")
            if name in worker.unreported and container_report(entry).state in _STARTED:
                worker.unreported.discard(name)
            attempt = worker.attempts.get(name)
            if attempt is not None:
                self._read_container(worker, attempt, entry)

    def _read_container(self, worker: Worker, attempt: Attempt, entry: Mapping[str, Any]) -> None:
        report = container_report(entry)
        running = report.state is ContainerState.RUNNING
        ended = report.state is ContainerState.TERMINATED
        waiting = report.words
        news = waiting != attempt.waiting and not attempt.claimed
        attempt.waiting = waiting
        if ended and attempt.ended_at_s is None:
            attempt.ended_at_s = self._clock.monotonic_s()
            attempt.ended = report
            news = True
        if running != attempt.running:
            attempt.running = running
            # A container whose Task was deleted holds its slots until it has ended.
            self._judge(worker, attempt, self._find_task(attempt.uid))
        if news:
            self._listener.look_at(attempt.task)

    def on_pod_gone(self, uid: str) -> None:
        """Forget a worker; the Tasks that were open on it have to be looked at."""
        worker = self._workers.pop(uid, None)
        self._ages.drop(("deleted", uid))
        if worker is None:
            return
        cluster_uid = worker.pod.cluster_uid
        siblings = self._by_cluster[cluster_uid]
        del siblings[uid]
        if not siblings:
            del self._by_cluster[cluster_uid]
        self._look_at_open(worker)
        for attempt in list(worker.attempts.values()):
            self._drop(worker, attempt)
        self._listener.slots_changed(cluster_uid, freed=False)

    def _look_at_open(self, worker: Worker) -> None:
        for attempt in worker.attempts.values():
            if attempt.open:
                self._listener.look_at(attempt.task)

    def set_retiring(self, uid: str, reason: RetireReason | None) -> None:
        """Say whether a worker is to get more tasks."""
        worker = self._workers.get(uid)
        if worker is not None and worker.retiring is not reason:
            worker.retiring = reason
            self._listener.slots_changed(worker.pod.cluster_uid, freed=reason is None)

    # --- tasks --------------------------------------------------------------------------

    def on_task(self, uid: str) -> None:
        """Look at a Task's attempts anew after it has changed or gone."""
        attempts = self._by_task.get(uid)
        if not attempts:
            return
        view = self._find_task(uid)
        for worker, attempt in list(attempts):
            self._judge(worker, attempt, view)

    def _judge(self, worker: Worker, attempt: Attempt, view: TaskView | None) -> None:
        standing = standing_of(attempt.number, worker.pod.uid, view)
        if standing is Standing.CLOSED:
            self._drop(worker, attempt)
            self._listener.attempt_closed(worker)
            return
        slots = attempt.slots if view is None else view.slots_taken
        attempt.claimed = standing is Standing.CLAIMED
        if attempt.claimed and worker.up_at_s is not None:
            worker.up_at_s = NEVER_S  # its agent serves
        if standing is Standing.UNKNOWN:
            self._account(worker, attempt, is_open=attempt.running, slots=slots)
            self._listener.attempt_closed(worker)
        else:
            self._account(worker, attempt, is_open=True, slots=slots)

    def _account(self, worker: Worker, attempt: Attempt, *, is_open: bool, slots: int) -> None:
        before = attempt.slots if attempt.open else 0
        after = slots if is_open else 0
        worker.active += is_open - attempt.open
        attempt.open, attempt.slots = is_open, slots
        if before == after:
            return
        worker.used += after - before
        self._listener.slots_changed(worker.pod.cluster_uid, freed=after < before)
        if worker.retiring is not None and worker.active == 0:
            self._listener.worker_idle(worker.pod.cluster_uid)

    def _drop(self, worker: Worker, attempt: Attempt) -> None:
        self._account(worker, attempt, is_open=False, slots=attempt.slots)
        worker.attempts.pop(attempt.container, None)
        self._ages.drop(_placed_key(attempt))
        rest = [pair for pair in self._by_task.get(attempt.uid, ()) if pair[1] is not attempt]
        if rest:
            self._by_task[attempt.uid] = rest
        else:
            self._by_task.pop(attempt.uid, None)

    # --- assumptions --------------------------------------------------------------------

    def assume(self, worker: Worker, view: TaskView, placed: datetime) -> Attempt | None:
        """Take a Task's next attempt as placed on a worker, before it is written.

        The caller says with :meth:`grow` how large the entry is, once it is made.

        Returns:
            The attempt; None where the worker has had a container of that name.
        """
        name = container_name(view.uid, view.next_attempt)
        if name in worker.names:
            return None
        attempt = Attempt(
            container=name,
            task=ObjectKey(view.namespace, view.name),
            uid=view.uid,
            number=view.next_attempt,
            placed=placed,
            assumed=True,
        )
        worker.names.add(name)
        worker.images.add(str(view.spec.get("image", "")))
        worker.unreported.add(name)
        worker.count(self._clock.monotonic_s())
        self._add(worker, attempt)
        return attempt

    def grow(self, worker: Worker, attempt: Attempt, entry_bytes: int) -> None:
        """Count in what an assumed attempt adds to its pod."""
        attempt.size_bytes = entry_bytes + STATUS_BYTES
        worker.size_bytes += attempt.size_bytes

    def confirm(self, worker: Worker, attempt: Attempt) -> None:
        """The attempt is in the pod's spec."""
        attempt.assumed = False

    def undo(self, worker: Worker, attempt: Attempt) -> None:
        """The attempt did not get into the pod's spec, and will not."""
        if not attempt.assumed:
            return  # the watch has seen it there
        worker.names.discard(attempt.container)
        worker.unreported.discard(attempt.container)
        worker.size_bytes -= attempt.size_bytes
        attempt.size_bytes = 0
        if worker.attempts.get(attempt.container) is attempt:
            self._drop(worker, attempt)
        self._listener.look_at(attempt.task)


def _placed_key(attempt: Attempt) -> tuple[str, str]:
    return ("placed", attempt.container)


def _bare_bytes(raw: Mapping[str, Any]) -> int:
    """What a pod takes without its ephemeral containers and their states."""
    spec = {key: value for key, value in raw["spec"].items() if key != "ephemeralContainers"}
    return json_bytes({"metadata": raw["metadata"], "spec": spec})
