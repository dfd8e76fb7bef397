"""What operators want to know of Tasks, queues and workers, as Prometheus metrics.

Only the controller that acts reports these: one that stands by sees the same, and a sum over
both would be twice the truth. Counters hold what was seen to happen, so what ends while no
controller leads is not in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from taskctl.clock import Clock
from taskctl.constants import Reason
from taskctl.controllers.metrics import Metrics
from taskctl.kube.interface import KubeObject
from taskctl.metrics import catalog
from taskctl.metrics.catalog import Metric
from taskctl.metrics.registry import counters, gauges, histogram
from taskctl.objectkey import ObjectKey
from taskctl.placement.cluster import ClusterView
from taskctl.placement.machine import PlacementMachine
from taskctl.placement.states import WorkerState
from taskctl.placement.workers import Worker
from taskctl.policy.stages import AttemptStage, stages_of
from taskctl.policy.view import TaskView

# TaskClusters with series of their own; what more there are share one, with OTHER as its name.
MAX_CLUSTERS: Final = 200
OTHER: Final = "(other)"
# The series of a TaskCluster outlast it by so much, or its last counts would never be scraped.
KEPT_S: Final = 600.0
_REASONS: Final = frozenset(reason.value for reason in Reason)
# What counters of their own are kept of, each by TaskCluster.
_COUNTED: Final = (
    catalog.TASKS_FINISHED,
    catalog.ATTEMPTS_STARTED,
    catalog.ATTEMPTS_FAILED,
    catalog.ATTEMPTS_LOST,
    catalog.WORKERS_REMOVED,
)


class _CountedAs(NamedTuple):
    """What a Task counts as."""

    cluster: ObjectKey
    state: str
    reason: str


class TaskMetrics(Collector):
    """Counts what happens to Tasks and workers; asks the placement machine at each scrape.

    Args:
        metrics: of this process; it gets these, too.
        machine: knows queues and workers.
        leads: whether this controller acts.
        clock: source of time.
    """

    def __init__(
        self,
        metrics: Metrics,
        machine: PlacementMachine,
        leads: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._machine = machine
        self._leads = leads
        self._clock = clock
        self._tasks: Counter[_CountedAs] = Counter()
        self._labels: dict[ObjectKey, tuple[str, str]] = {}
        self._gone_s: dict[ObjectKey, float] = {}
        self._counts: dict[str, Counter[tuple[str, ...]]] = {m.name: Counter() for m in _COUNTED}
        self._stages = histogram(catalog.STAGE_SECONDS, metrics.registry)
        self._attempts = histogram(catalog.TASK_ATTEMPTS, metrics.registry)
        for stage in AttemptStage:
            self._stages.labels(stage.value)
        metrics.registry.register(self)

    # --- what has happened ----------------------------------------------------------------

    def on_task(self, before: TaskView | None, after: TaskView | None) -> None:
        """Take in that a Task came, changed or went."""
        if before is not None:
            standing = _standing(before)
            self._tasks[standing] -= 1
            if not self._tasks[standing]:
                del self._tasks[standing]
        if after is not None:
            self._tasks[_standing(after)] += 1
        # A Task that is new to us may have come to its state long ago.
        if before is not None and after is not None and self._leads():
            self._count_steps(before, after)

    def _count_steps(self, before: TaskView, after: TaskView) -> None:
        standing = _standing(after)
        if after.attempt > before.attempt and after.pod_uid:
            container = "standby" if after.parked_container else "own"
            self._count(catalog.ATTEMPTS_STARTED, standing.cluster, container)
        failed = after.failures - before.failures
        lost = after.infra_failures - before.infra_failures
        self._count(catalog.ATTEMPTS_FAILED, standing.cluster, by=failed)
        self._count(catalog.ATTEMPTS_LOST, standing.cluster, by=lost)
        if after.state.terminal and not before.state.terminal:
            self._count(catalog.TASKS_FINISHED, standing.cluster, standing.state, standing.reason)
            self._attempts.observe(after.attempt)
            for stage, seconds in stage_seconds(after).items():
                self._stages.labels(stage).observe(seconds)

    def on_pod(self, old: KubeObject | None, new: KubeObject | None) -> None:
        """Take in that a worker's pod came, changed or went, before the machine does."""
        if old is None or _is_going(old) or (new is not None and not _is_going(new)):
            return
        worker = self._machine.worker(old["metadata"]["uid"])
        if worker is None or not self._leads():
            return
        uid = worker.pod.cluster_uid
        cluster = next((one.key for one in self._machine.clusters() if one.uid == uid), None)
        if cluster is None:
            cluster = ObjectKey(worker.pod.namespace, "")
        self._count(catalog.WORKERS_REMOVED, cluster, _why_removed(worker, vanished=new is None))

    def on_cluster(self, key: ObjectKey, *, exists: bool) -> None:
        """Take in that there is a TaskCluster, or is not any more."""
        if exists:
            self._gone_s.pop(key, None)
            self._label(key)
        elif key in self._labels:
            self._gone_s[key] = self._clock.monotonic_s()

    # --- labels -----------------------------------------------------------------------------

    def _label(self, key: ObjectKey) -> tuple[str, str]:
        self._drop_gone()
        label = self._labels.get(key)
        if label is None and len(self._labels) < MAX_CLUSTERS:
            label = self._labels[key] = (key.namespace, key.name)
        return label or ("", OTHER)

    def _known(self, key: ObjectKey) -> tuple[str, str]:
        """A Task may name a TaskCluster that is not there; such names get no series."""
        return self._labels.get(key) or ("", OTHER)

    def _drop_gone(self) -> None:
        now_s = self._clock.monotonic_s()
        for key, gone_s in list(self._gone_s.items()):
            if now_s - gone_s < KEPT_S:
                break  # they are in the order in which they went
            label = self._labels.pop(key)
            del self._gone_s[key]
            for counts in self._counts.values():
                for values in [one for one in counts if one[:2] == label]:
                    del counts[values]

    def _count(self, metric: Metric, cluster: ObjectKey, *values: str, by: int = 1) -> None:
        if by > 0:
            self._counts[metric.name][(*self._known(cluster), *values)] += by

    # --- a scrape -----------------------------------------------------------------------------

    def collect(self) -> Iterable[Family]:
        """Return everything as it stands."""
        self._drop_gone()
        leads = self._leads()
        for metric in _COUNTED:
            family = counters(metric)
            for values, count in self._counts[metric.name].items():
                family.add_metric(values, count)
            yield family
        tasks: Counter[tuple[str, ...]] = Counter()
        if leads:
            for standing, count in self._tasks.items():
                tasks[(*self._known(standing.cluster), standing.state, standing.reason)] += count
        yield _gauges(catalog.TASKS, tasks)
        yield from self._collect_clusters(self._machine.clusters() if leads else [])

    def _collect_clusters(self, clusters: Iterable[ClusterView]) -> Iterable[Family]:
        """One walk over the TaskClusters for all that the machine knows of them."""
        sums: dict[str, Counter[tuple[str, ...]]] = {
            metric.name: Counter()
            for metric in (
                catalog.QUEUE_LENGTH,
                catalog.SLOTS,
                catalog.SLOTS_USED,
                catalog.WORKERS,
                catalog.STANDBY_READY,
            )
        }
        ages_s: dict[tuple[str, ...], float] = {}
        now_s = self._clock.monotonic_s()
        for cluster in clusters:
            label = self._known(cluster.key)
            since_s = self._machine.queue_oldest_s(cluster.key)
            age_s = 0.0 if since_s is None else max(now_s - since_s, 0.0)
            ages_s[label] = max(ages_s.get(label, 0.0), age_s)
            workers = self._machine.workers_of(cluster.uid)
            serving = sum(worker.accepting for worker in workers)
            sums[catalog.QUEUE_LENGTH.name][label] += self._machine.queue_length(cluster.key)
            sums[catalog.SLOTS.name][label] += serving * cluster.rotation.slots
            sums[catalog.SLOTS_USED.name][label] += sum(worker.used for worker in workers)
            sums[catalog.STANDBY_READY.name][label] += sum(
                sum(worker.ready().values()) for worker in workers
            )
            for worker in workers:
                if worker.state is not WorkerState.GONE:
                    sums[catalog.WORKERS.name][(*label, worker.state.value)] += 1
        by_name = {metric.name: metric for metric in catalog.CATALOG}
        yield _gauges(catalog.QUEUE_AGE, ages_s)
        for name, values in sums.items():
            yield _gauges(by_name[name], values)


def stage_seconds(view: TaskView) -> dict[str, float]:
    """Return how long a Task spent in each stage of its last attempt, as far as is known."""
    return {one.stage.value: (one.ended - one.begun).total_seconds() for one in stages_of(view)}


def _standing(view: TaskView) -> _CountedAs:
    reason = str(view.status.get("reason") or "")
    if reason and reason not in _REASONS:
        reason = OTHER  # a client that may write a status may write any word
    return _CountedAs(ObjectKey(view.namespace, view.cluster), view.state.value, reason)


def _is_going(pod: KubeObject) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _why_removed(worker: Worker, *, vanished: bool) -> str:
    if worker.pod.dead:
        return "lost"
    if worker.retiring is not None:
        return worker.retiring.value
    return "lost" if vanished else "deleted"


def _gauges(metric: Metric, values: Mapping[tuple[str, ...], float]) -> Family:
    family = gauges(metric)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
