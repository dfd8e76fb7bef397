"""Parking containers, handing attempts over to them, and ending those that are not needed.

How many is decided in :mod:`taskctl.placement.standby`. Containers are parked with the same patch
that appends those of tasks, one batch per worker at a time. Attempts are handed over, and parked
containers told to end, by the worker's record: one write for all that a cycle gives to a worker.
Entries that are over are taken out with the next one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from taskctl.backoff import Backoff
from taskctl.clock import Moment
from taskctl.errors import ApiError
from taskctl.objectkey import ObjectKey
from taskctl.placement import events as ev
from taskctl.placement.attempts import OpenAttempt
from taskctl.placement.choice import MAX_BATCH
from taskctl.placement.cluster import ClusterView
from taskctl.placement.fleet import serial_of
from taskctl.placement.instructions import (
    Append,
    HandOver,
    Instruction,
    Log,
    LogSeverity,
    LookAtCluster,
    LookAtTask,
    ReadPod,
)
from taskctl.placement.ledger import Placements
from taskctl.placement.parked import Parked, ParkedNews
from taskctl.placement.refusals import AppendVerdict, judge_append
from taskctl.placement.rest import after_batch, gather_s
from taskctl.placement.rotation import STATUS_BYTES
from taskctl.placement.shelf import next_due_s, overdue
from taskctl.placement.standby import (
    GIVE_UP_AFTER_S,
    ClassDemand,
    Targets,
    WorkerStock,
    refill,
    targets,
)
from taskctl.placement.states import AttemptState, ParkedState, WorkerState
from taskctl.placement.workers import Worker
from taskctl.policy.entry import json_bytes
from taskctl.policy.handover import build_parked, parkable_class, parked_name, record_name
from taskctl.policy.lost import SHOW_SCHEDULED_AFTER_S
from taskctl.policy.view import TaskView
from taskctl.policy.workerpod import parse_frame

_COOL_BACKOFF: Final = Backoff(1.0, 30.0, (1.0, 1.25))
# What else is to be taken out of a record waits for the next write, up to so many entries.
_MOST_STALE: Final = 32
# How rarely tasks of a class come is known for so long, and of so many classes of a TaskCluster.
_KNOWN_S: Final = 3600.0
_MOST_DEMANDS: Final = 256

Answer = ev.BatchStored | ev.BatchRefused | ev.BatchPodRead | ev.BatchBroke


@dataclass(slots=True)
class _Parking:
    """Containers on their way into a worker's spec.

    Attributes:
        cluster: UID of the TaskCluster.
        worker: where to.
        demand: of their class.
        parked: the containers.
        asked: the pod is being read, since there was no answer.
    """

    cluster: str
    worker: Worker
    demand: ClassDemand
    parked: Sequence[Parked]
    asked: bool = False


@dataclass(slots=True)
class _Writing:
    """Changes on their way into a worker's record.

    Attributes:
        worker: whose.
        changes: by container; None: to be taken out.
        attempts: that are handed over.
    """

    worker: Worker
    changes: dict[str, str | None]
    attempts: Sequence[OpenAttempt]


class Stock:
    """See the module.

    Args:
        placements: workers and attempts.
        nonce: draws 32 random hexadecimal digits.
    """

    def __init__(self, placements: Placements, nonce: Callable[[], str]) -> None:
        self._placements = placements
        self._shelf = placements.shelf
        self._nonce = nonce
        self._demands: dict[str, dict[str, ClassDemand]] = {}
        self._parking: dict[int, _Parking] = {}
        self._writing: dict[int, _Writing] = {}
        self._last = 0  # counted downwards: batches of attempts have the numbers above 0

    def forget(self, cluster_uid: str) -> None:
        """Forget a TaskCluster that is gone."""
        self._demands.pop(cluster_uid, None)

    # --- demand -------------------------------------------------------------------------

    def started(self, cluster_uid: str, view: TaskView, now_s: float) -> None:
        """Take note that an attempt of a Task was started."""
        wanted = parkable_class(view)
        if wanted is None:
            return
        demands = self._demands.setdefault(cluster_uid, {})
        demand = demands.get(wanted.fingerprint)
        if demand is None:
            if len(demands) >= _MOST_DEMANDS:
                del demands[min(demands, key=lambda one: demands[one].used_s)]
            demand = demands[wanted.fingerprint] = ClassDemand(wanted, now_s)
        demand.start(now_s)

    def reported(self, cluster_uid: str, fingerprint: str, news: ParkedNews, now_s: float) -> None:
        """Take note that a parked container has started, or has ended."""
        demand = self._demands.get(cluster_uid, {}).get(fingerprint)
        if demand is not None and news is ParkedNews.ARRIVED:
            demand.recover()
        elif demand is not None and news is ParkedNews.BROKE and now_s >= demand.pause_until_s:
            demand.fail(now_s)

    # --- one look -----------------------------------------------------------------------

    def take_back(self, cluster_uid: str, now: Moment) -> list[Instruction]:
        """Take back what was handed over and is not begun; it goes elsewhere."""
        out: list[Instruction] = []
        for worker in self._placements.workers_of(cluster_uid):
            for attempt in overdue(worker, now.monotonic_s):
                line = (
                    f"worker {worker.pod.name}: attempt {attempt.id.number} of task "
                    f"{attempt.task.name} was not begun in parked container {attempt.container}"
                )
                out.append(Log(LogSeverity.WARNING, line))
                if attempt.ended_at_s is None:
                    self._cool(worker, now.monotonic_s, 0.5)
                self._shelf.take_back(worker, attempt)
        return out

    def look(
        self, cluster: ClusterView, queued: Mapping[str, int], now: Moment
    ) -> list[Instruction]:
        """Park what is missing, end what is not needed, write the records.

        Args:
            cluster: the TaskCluster.
            queued: its tasks that wait for a slot, by fingerprint of their class.
            now: the time.
        """
        now_s = now.monotonic_s
        workers = self._placements.workers_of(cluster.uid)
        if not cluster.standby.ceiling and not any(w.parked or w.record_wanted for w in workers):
            return []
        demands = self._demands.get(cluster.uid, {})
        idle_s = cluster.standby.idle_s
        for key in queued:
            if key in demands:
                demands[key].wait(now_s)
        for key in [k for k, d in demands.items() if now_s - d.used_s >= max(idle_s, _KNOWN_S)]:
            if now_s >= demands[key].pause_until_s:
                del demands[key]
        serving = [worker for worker in workers if worker.state is WorkerState.SERVING]
        stocks = [_stock_of(cluster, worker) for worker in serving]
        wanted = targets(cluster.standby, demands, stocks, queued, now_s)
        self._end(cluster, workers, wanted, now_s)
        spare = sum(len(worker.spare()) for worker in workers)
        out: list[Instruction] = []
        for worker in serving:
            room, before = cluster.standby.total - spare, len(worker.spare())
            out += self._refill(cluster, worker, wanted[worker.pod.uid], queued, room, now)
            spare += len(worker.spare()) - before
        for worker in workers:
            out += self.write(worker, now_s)
        return out

    def next_look_s(self, cluster: ClusterView, now_s: float) -> float:
        """Return when time alone may change something (monotonic); infinity: only events do."""
        workers = self._placements.workers_of(cluster.uid)
        times = [next_due_s(worker) for worker in workers]
        demands = self._demands.get(cluster.uid, {}) if cluster.standby.ceiling else {}
        times += [demand.used_s + cluster.standby.idle_s for demand in demands.values()]
        times += [demand.pause_until_s for demand in demands.values()]
        for worker in workers:
            coming = [p for p in worker.parked.values() if p.state is ParkedState.COMING]
            times += [parked.since_s + GIVE_UP_AFTER_S for parked in coming]
            times += [parked.since_s + cluster.standby.idle_s for parked in worker.spare()]
            if worker.record_wanted:
                times.append(worker.record_cool_until_s)
            if demands and worker.state is WorkerState.SERVING:
                times += [worker.rest.at_s, worker.cool_until_s, worker.gather_until_s]
        return min((at_s for at_s in times if at_s > now_s), default=math.inf)

    def dismiss_all(self, worker: Worker, now_s: float) -> list[Instruction]:
        """End what is parked in a worker whose TaskCluster is gone."""
        self._shelf.dismiss(worker, worker.spare())
        return self.write(worker, now_s)

    def _end(
        self,
        cluster: ClusterView,
        workers: Sequence[Worker],
        wanted: Targets,
        now_s: float,
    ) -> None:
        """End what is parked without a use: nothing of its class is started any more, say."""
        left = cluster.standby.total
        for worker in workers:
            kept: Counter[str] = Counter()
            here = wanted.get(worker.pod.uid, {})
            surplus: list[Parked] = []
            for parked in worker.spare():
                if not parked.in_spec:
                    kept[parked.fingerprint] += 1  # its batch is on its way
                elif self._is_idle(cluster, worker, parked, now_s):
                    self._shelf.dismiss(worker, [parked])
                elif kept[parked.fingerprint] < here.get(parked.fingerprint, 0):
                    kept[parked.fingerprint] += 1
                else:
                    surplus.append(parked)
            room = max(min(cluster.standby.ceiling, left) - kept.total(), 0)
            self._shelf.dismiss(worker, surplus[room:])
            left -= kept.total() + min(room, len(surplus))

    def _is_idle(self, cluster: ClusterView, worker: Worker, parked: Parked, now_s: float) -> bool:
        if worker.state is WorkerState.RETIRING or not cluster.standby.ceiling:
            return True
        demand = self._demands.get(cluster.uid, {}).get(parked.fingerprint)
        if parked.state is ParkedState.COMING and now_s - parked.since_s >= GIVE_UP_AFTER_S:
            if demand is not None and now_s >= demand.pause_until_s:
                demand.fail(now_s)
            return True
        used_s = parked.since_s if demand is None else max(demand.used_s, parked.since_s)
        return now_s - used_s >= cluster.standby.idle_s

    # --- parking ------------------------------------------------------------------------

    def _refill(
        self,
        cluster: ClusterView,
        worker: Worker,
        wanted: dict[str, int],
        queued: Mapping[str, int],
        room: int,
        now: Moment,
    ) -> list[Instruction]:
        """Park what a worker lacks of one class: the one that lacks most."""
        now_s = now.monotonic_s
        if not worker.takes_batch(now_s) or worker.serves_in_s(now_s) > 0 or worker.full:
            return []
        entries = len(worker.names)
        serial = serial_of(worker.pod.name, cluster.prefix)
        room = min(room, cluster.rotation.budget(serial) - entries, MAX_BATCH)
        if cluster.standby.unused is not None:
            room = min(room, cluster.standby.unused - worker.unused - len(worker.spare()))
        lacks: dict[str, int] = {}
        demands = self._demands.get(cluster.uid, {})
        for key, count in wanted.items():
            there = worker.spare(key)
            # Nothing more of a class of which the last ones have not started yet.
            if any(parked.state is ParkedState.COMING for parked in there):
                continue
            demand = demands[key]
            if now_s < demand.pause_until_s:
                continue
            pace_per_s = demand.pace_per_s(now_s)
            rests_in_s = worker.rest.at_s - now_s
            count = refill(count, len(there), queued.get(key, 0), pace_per_s, rests_in_s)
            if count > 0:
                lacks[key] = count
        if not lacks or room <= 0:
            return []
        key = max(lacks, key=lambda one: (lacks[one], one))
        return self._park(cluster, worker, demands[key], min(lacks[key], room), now)

    def _park(
        self, cluster: ClusterView, worker: Worker, demand: ClassDemand, count: int, now: Moment
    ) -> list[Instruction]:
        frame = parse_frame(worker.raw)
        if frame is None:
            return []
        now_s = now.monotonic_s
        entries, parked = [], []
        for _ in range(count):
            name = parked_name(self._nonce())
            if name in worker.names:
                continue  # as good as impossible; one fewer this time
            entry = build_parked(name, demand.wanted, self._nonce(), frame)
            size_bytes = json_bytes(entry) + STATUS_BYTES
            one = Parked(name, demand.wanted.fingerprint, now_s, size_bytes)
            worker.parked[name] = one
            worker.names.add(name)
            worker.images.add(demand.wanted.image)
            worker.unreported.add(name)
            worker.size_bytes += size_bytes
            worker.count(now_s)
            entries.append(entry)
            parked.append(one)
        if not parked:
            return []
        self._last -= 1
        self._parking[self._last] = _Parking(cluster.uid, worker, demand, parked)
        worker.in_flight = True
        worker.rest = after_batch(worker.rest, now_s)
        worker.gather_until_s = now_s + gather_s(len(worker.unreported))
        pod = ObjectKey(worker.pod.namespace, worker.pod.name)
        out: list[Instruction] = [Append(self._last, pod, worker.pod.uid, tuple(entries))]
        serial = serial_of(worker.pod.name, cluster.prefix)
        if cluster.rotation.nears_end(worker.wear(now_s), serial):
            out.append(LookAtCluster(cluster.key))
        return out

    def answered(self, event: Answer, now_s: float) -> tuple[str, list[Instruction]]:
        """Take in the answer to a batch of parked containers, or to a write to a record.

        Returns:
            UID of the TaskCluster, empty where it was answered before; and what is to be done.
        """
        if event.batch in self._writing:
            return self._written(event, now_s)
        parking = self._parking.get(event.batch)
        if parking is None:
            return "", []
        out = self._parked(event, parking, now_s)
        if out is None:
            return "", [ReadPod(event.batch, _key(parking.worker), parking.worker.pod.uid)]
        del self._parking[event.batch]
        parking.worker.in_flight = False
        return parking.cluster, out

    def _parked(self, event: Answer, parking: _Parking, now_s: float) -> list[Instruction] | None:
        """Settle a batch of parked containers; None: the pod is to be read."""
        names = {parked.container for parked in parking.parked}
        worker = parking.worker
        match event:
            case ev.BatchStored():
                for parked in parking.parked:
                    parked.in_spec = True
                return []
            case ev.BatchPodRead():
                present = names & (event.present or frozenset())
                for parked in parking.parked:
                    parked.in_spec |= parked.container in present
                self._shelf.forget_unwritten(worker, names - present)
                return []
            case ev.BatchRefused():
                verdict = judge_append(event.error)
                if verdict is AppendVerdict.UNKNOWN:
                    again = parking.asked
                    parking.asked = True
                    worker.cool_until_s = now_s + _COOL_BACKOFF.first_s * (1.0 + event.jitter)
                    return [] if again else None
                worker.full |= verdict is AppendVerdict.TOO_LARGE
                self._shelf.forget_unwritten(worker, names)
                parking.demand.fail(now_s)
                line = f"worker {worker.pod.name}: {len(names)} containers not parked: "
                return [Log(LogSeverity.WARNING, f"{line}{event.error}")]
            case ev.BatchBroke():
                self._shelf.forget_unwritten(worker, names)
                parking.demand.fail(now_s)
                return []

    # --- records ------------------------------------------------------------------------

    def write(self, worker: Worker, now_s: float) -> list[Instruction]:
        """Return the write to a worker's record that is due; at most one is on its way."""
        changes = worker.record_wanted
        urgent = any(text is not None for text in changes.values())
        if not (urgent or len(changes) >= _MOST_STALE) or worker.state is WorkerState.GONE:
            return []
        if worker.record_in_flight or now_s < worker.record_cool_until_s:
            return []
        worker.record_wanted, worker.record_in_flight = {}, True
        found = (worker.attempts.get(name) for name, text in changes.items() if text is not None)
        attempts = [a for a in found if a is not None and not a.in_spec]
        self._last -= 1
        self._writing[self._last] = _Writing(worker, changes, attempts)
        pod = worker.pod
        name = record_name(pod.name, pod.uid)
        return [HandOver(self._last, _key(worker), pod.uid, pod.cluster_uid, name, changes)]

    def _written(self, event: Answer, now_s: float) -> tuple[str, list[Instruction]]:
        writing = self._writing.pop(event.batch)
        worker = writing.worker
        worker.record_in_flight = False
        out: list[Instruction] = []
        if isinstance(event, ev.BatchStored):
            worker.record_failures = 0
            for attempt in writing.attempts:
                attempt.in_spec = True
                if attempt.state is AttemptState.ASSUMED:
                    attempt.become(AttemptState.PLACED)
                out.append(LookAtTask(attempt.task, SHOW_SCHEDULED_AFTER_S))
            return worker.pod.cluster_uid, out
        jitter = event.jitter if isinstance(event, ev.BatchRefused) else 0.5
        error: ApiError | str = event.error if isinstance(event, ev.BatchRefused) else "it broke"
        # What was refused is not there; what had no answer may be, and its agent may be faster.
        written = (
            not isinstance(event, ev.BatchRefused)
            or judge_append(event.error) is AppendVerdict.UNKNOWN
        )
        line = f"worker {worker.pod.name}: {len(writing.attempts)} attempts not handed over: "
        out.append(Log(LogSeverity.WARNING, f"{line}{error}"))
        self._cool(worker, now_s, jitter)
        for name, text in writing.changes.items():
            worker.record_wanted.setdefault(name, text)
        for attempt in writing.attempts:
            if not attempt.in_spec and attempt.state is AttemptState.ASSUMED:
                self._shelf.take_back(worker, attempt, kept=written)
        return worker.pod.cluster_uid, out

    def _cool(self, worker: Worker, now_s: float, jitter: float) -> None:
        """Hand nothing over to a worker for a while."""
        worker.record_failures += 1
        wait_s = _COOL_BACKOFF.pause_s(worker.record_failures, jitter)
        worker.record_cool_until_s = max(worker.record_cool_until_s, now_s + wait_s)


def _stock_of(cluster: ClusterView, worker: Worker) -> WorkerStock:
    """Return a worker as the policy sees it."""
    serial = serial_of(worker.pod.name, cluster.prefix)
    return WorkerStock(
        uid=worker.pod.uid,
        serial=serial,
        budget_left=cluster.rotation.budget(serial) - len(worker.names),
        free=worker.used < cluster.rotation.slots,
        parked=Counter(one.fingerprint for one in worker.spare()),
        unused=worker.unused,
    )


def _key(worker: Worker) -> ObjectKey:
    return ObjectKey(worker.pod.namespace, worker.pod.name)
