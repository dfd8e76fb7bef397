"""Remembers what a TaskCluster needed recently; says how many workers it is to have now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from taskctl.placement.fleet import RetireReason
from taskctl.placement.queue import Size
from taskctl.placement.scaling import Demand, Load, ScaleRule, needed_workers
from taskctl.placement.workers import Worker


@dataclass(frozen=True, slots=True)
class WantedWorkers:
    """How many workers there are to be.

    Attributes:
        replicas: the number.
        look_again_s: seconds until time alone makes it smaller; None: only events do.
    """

    replicas: int
    look_again_s: float | None = None


@dataclass(slots=True)
class Autoscaler:
    """Of one TaskCluster. What it remembers makes it slower to let go; losing it does no harm."""

    _demand: Demand | None = None
    _entries: dict[str, int] = field(default_factory=dict)

    def wanted(
        self,
        rule: ScaleRule,
        size: Size,
        workers: Sequence[Worker],
        queued: Mapping[Size, int],
        now_s: float,
    ) -> WantedWorkers:
        """Return how many workers are wanted.

        Args:
            rule: what the TaskCluster asks for.
            size: what a worker has for tasks.
            workers: those there are.
            queued: how many tasks wait for a slot, by what each takes.
            now_s: the time (monotonic).
        """
        staying = [worker for worker in workers if _stays(worker)]
        loads = [Load(worker.used, self._is_busy(worker), worker.committed) for worker in staying]
        self._entries = {worker.pod.uid: len(worker.names) for worker in staying}
        need = needed_workers(size, loads, queued, rule.most)
        before = self._demand or Demand.starting(len(staying), now_s)
        self._demand = before.with_need(need, now_s, rule.idle_s)
        falls_s = self._demand.falls_in_s(now_s, rule.idle_s)
        matters = self._demand.highest > rule.least
        return WantedWorkers(rule.clamp(self._demand.highest), falls_s if matters else None)

    def _is_busy(self, worker: Worker) -> bool:
        """Whether it runs something or was given something since the last look."""
        entries = len(worker.names)
        moved = self._entries.get(worker.pod.uid, entries) != entries
        return moved or worker.active > 0 or worker.in_flight


def _stays(worker: Worker) -> bool:
    gone = worker.pod.dead or worker.pod.deletion is not None
    return not gone and worker.retiring in (None, RetireReason.SURPLUS)
