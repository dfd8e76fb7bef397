"""How many workers a TaskCluster needs between ``minReplicas`` and ``maxReplicas``.

The *need* follows from what runs and what waits: workers that run something, and those that the
waiting tasks would fill. A higher need counts at once. A lower one counts when it has been lower
for ``idleSecondsBeforeScaleDown``: the number wanted is the highest need of that time, so a worker
is not made again that was let go a moment ago. A worker that runs a task is always needed, so only
idle ones go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.placement.fleet import cluster_slots
from taskctl.placement.queue import Size
from taskctl.policy.resources import NOTHING, Amount, capacity_of, cluster_resources

DEFAULT_IDLE_S: Final = 300


@dataclass(frozen=True, slots=True)
class ScaleRule:
    """What a TaskCluster asks for.

    Attributes:
        least: ``minReplicas``.
        most: ``maxReplicas``.
        idle_s: ``idleSecondsBeforeScaleDown``.
    """

    least: int
    most: int
    idle_s: float

    def clamp(self, need: int) -> int:
        """Return the need within the bounds."""
        return min(max(need, self.least), self.most)


def scale_rule(cluster: Mapping[str, Any]) -> ScaleRule | None:
    """Return the rule of a raw TaskCluster; None: it has a fixed number of workers."""
    spec = cluster["spec"]
    most = spec.get("maxReplicas")
    if most is None:
        return None
    idle_s = spec.get("idleSecondsBeforeScaleDown")
    return ScaleRule(
        least=int(spec.get("minReplicas") or 0),
        most=int(most),
        idle_s=float(DEFAULT_IDLE_S if idle_s is None else idle_s),
    )


def cluster_size(cluster: Mapping[str, Any]) -> Size:
    """Return what each worker of a raw TaskCluster has for tasks."""
    return Size(cluster_slots(cluster), capacity_of(cluster_resources(cluster).template))


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker does that is to stay.

    Attributes:
        used: slots taken.
        busy: it runs something, or did since the last look.
        committed: CPU and memory taken.
    """

    used: int
    busy: bool
    committed: Amount = NOTHING


def needed_workers(
    worker: Size, loads: Iterable[Load], queued: Mapping[Size, int], most: int
) -> int:
    """Return how many workers are needed now, ``most`` at most.

    Args:
        worker: what each has for tasks.
        loads: of the workers there are.
        queued: how many tasks wait, by what each takes.
        most: workers that there may be.
    """
    slots, capacity = worker
    found = sorted(loads, key=lambda load: (load.busy, load.used), reverse=True)
    free = [max(slots - load.used, 0) for load in found]
    free += [slots] * max(most - len(found), 0)
    left_over = [capacity - load.committed for load in found]
    left_over += [capacity] * max(most - len(found), 0)
    filled = [load.busy or load.used > 0 for load in found] + [False] * (len(free) - len(found))
    for size, count in sorted(queued.items(), reverse=True):
        left = count
        for index, room in enumerate(free):
            if left <= 0:
                break
            taken = size.amount.times_in(left_over[index], min(left, room // size.slots))
            if taken:
                left -= taken
                free[index] -= taken * size.slots
                left_over[index] -= size.amount.times(taken)
                filled[index] = True
    return min(sum(filled), most)


@dataclass(frozen=True, slots=True)
class _Need:
    """A need that was there until then (monotonic); None: it is the present one."""

    need: int
    until_s: float | None


@dataclass(frozen=True, slots=True)
class Demand:
    """The needs of late that are higher than any later one, oldest first."""

    levels: tuple[_Need, ...] = ()

    @classmethod
    def starting(cls, workers: int, now_s: float) -> Demand:
        """Return the demand of a TaskCluster of which nothing is known but its workers."""
        return cls((_Need(workers, now_s),))

    def with_need(self, need: int, now_s: float, idle_s: float) -> Demand:
        """Return the demand after a look, without what is too long ago."""
        recent = []
        for level in self.levels:
            until_s = now_s if level.until_s is None else level.until_s
            if level.need > need and until_s + idle_s > now_s:
                recent.append(_Need(level.need, until_s))
        return Demand((*recent, _Need(need, None)))

    @property
    def highest(self) -> int:
        """The highest need that still counts."""
        return self.levels[0].need if self.levels else 0

    def falls_in_s(self, now_s: float, idle_s: float) -> float | None:
        """Return in how many seconds the highest need counts no more; None: it is present."""
        if not self.levels or self.levels[0].until_s is None:
            return None
        return max(self.levels[0].until_s + idle_s - now_s, 0.0)
