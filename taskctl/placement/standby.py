"""How many containers should be parked, of which class, on each worker?

A kubelet takes 70 ms to 2 s to start a container, so containers are parked ahead. ClassDemand is
measured by what was started: the pace of each class over the last seconds, times the time it takes
to refill a worker; tasks of it that wait for a slot say that the pace will last, and ask for never
more than three times as many. A class of which nothing was ever started is not parked: nobody
knows whether its image can be pulled at all, and its first task finds out.

What is parked stays until nothing of its class was started, or waited for a slot, for ``idle_s``.

A parked container uses up its worker whether or not a task comes for it. So that a TaskCluster that
did not ask for any does not have its workers replaced noticeably more often:

- a class in use has one parked container in the whole TaskCluster, not one on each worker, and that
  is on the worker with the most budget left;
- a class of which tasks come more rarely than every ``idle_s`` has none: it would end unused;
- of the containers of a worker, a share at most may end without having been used (``unused``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from taskctl.backoff import EXACT, Backoff
from taskctl.placement.rest import START_S
from taskctl.placement.rotation import STRICT_BELOW, RotationRule
from taskctl.policy.handover import ContainerClass

DEFAULT_MAX_PER_WORKER: Final = 16
DEFAULT_MIN_PER_WORKER: Final = 0
DEFAULT_MAX: Final = 200
DEFAULT_IDLE_S: Final = 60
# Of a worker's budget, what is parked without being asked for takes this part at most.
SHARE_DIVISOR: Final = 8
# A refill is taken up by a kubelet at rest, which is two seconds after the one before.
HORIZON_S: Final = 3.0
# Starts count less as time passes: e⁻¹ after so long.
_MEMORY_S: Final = 5.0
_RAMP: Final = 3.0
# A parked container that has not started by then is given up, and its class pauses: its image
# cannot be pulled on this node, a Secret is missing, or the node is very busy.
GIVE_UP_AFTER_S: Final = 30.0
# However few are left, so many are parked at once.
_AT_LEAST: Final = 4
_BACKOFF: Final = Backoff(30.0, 600.0, EXACT)
# Of classes that are in use at the same time, the busiest ones are parked.
MAX_CLASSES: Final = 32


@dataclass(frozen=True, slots=True)
class StandbyRule:
    """What a TaskCluster asks for (``spec.standby``).

    Attributes:
        floor: parked containers of each class in use, on each worker, at least.
        ceiling: parked containers on a worker, at most; 0: none are parked.
        total: parked containers on all workers, at most.
        idle_s: they end when nothing of their class was started for so long.
        unused: parked containers of a worker, those that have ended without a task included, at
            most; None: as many as there are.
    """

    floor: int
    ceiling: int
    total: int
    idle_s: float
    unused: int | None = None


OFF: Final = StandbyRule(0, 0, 0, 0.0)


def standby_rule(spec: Mapping[str, Any], rotation: RotationRule) -> StandbyRule:
    """Return what a raw TaskCluster's spec asks for.

    Without ``maxPerWorker`` the limit is a share of the rotation budget; it is 0 where that is so
    small that it is meant as isolation.

    Args:
        spec: of the TaskCluster.
        rotation: when its workers are worn out.
    """
    given = spec.get("standby")
    if given is None:
        return OFF

    def number(name: str, default: int) -> int:
        value = given.get(name)
        return default if value is None else int(value)

    floor = number("minPerWorker", DEFAULT_MIN_PER_WORKER)
    asked = given.get("maxPerWorker") is not None
    share = 0 if rotation.max_tasks < STRICT_BELOW else rotation.max_tasks // SHARE_DIVISOR
    ceiling = number("maxPerWorker", max(min(share, DEFAULT_MAX_PER_WORKER), floor))
    return StandbyRule(
        floor=min(floor, ceiling),
        ceiling=ceiling,
        total=number("max", DEFAULT_MAX),
        idle_s=float(number("idleSeconds", DEFAULT_IDLE_S)),
        unused=None if asked else max(share, floor),
    )


@dataclass(slots=True)
class ClassDemand:
    """What is known of the demand for one class of a TaskCluster.

    Attributes:
        wanted: the class.
        started_s: when an attempt of it was last started (monotonic).
        gap_s: how long before that another one was started; 0: none was.
        waited_s: when one of its tasks was last seen to wait for a slot (monotonic).
        pause_until_s: none is parked before then: the last ones did not start (monotonic).
        failures: how often in a row that was so.
    """

    wanted: ContainerClass
    started_s: float
    gap_s: float = 0.0
    waited_s: float = -math.inf
    pause_until_s: float = -math.inf
    failures: int = 0
    _count: float = 0.0

    def start(self, now_s: float) -> None:
        """Take note that an attempt was started."""
        if self._count:
            self.gap_s = now_s - self.started_s
        self._count = self._count_at(now_s) + 1.0
        self.started_s = now_s

    def wait(self, now_s: float) -> None:
        """Take note that one of its tasks waits for a slot."""
        self.waited_s = now_s

    @property
    def used_s(self) -> float:
        """When it was last asked for (monotonic)."""
        return max(self.started_s, self.waited_s)

    def _count_at(self, now_s: float) -> float:
        return self._count * math.exp((self.started_s - now_s) / _MEMORY_S)

    def pace_per_s(self, now_s: float) -> float:
        """Return how many were started a second of late, about."""
        return self._count_at(now_s) / _MEMORY_S

    def fail(self, now_s: float) -> None:
        """Take note that what was parked did not start, or was refused."""
        self.failures += 1
        self.pause_until_s = now_s + _BACKOFF.pause_s(self.failures)

    def recover(self) -> None:
        """Take note that one has started."""
        self.failures, self.pause_until_s = 0, -math.inf


@dataclass(frozen=True, slots=True)
class WorkerStock:
    """One worker that takes tasks.

    Attributes:
        uid: the pod's UID.
        serial: its number; breaks ties.
        budget_left: containers that it may be given before it should be replaced.
        free: it has a free slot.
        parked: containers that wait there for a task, or will, by class.
        unused: parked containers that have ended there without a task.
    """

    uid: str
    serial: int = 0
    budget_left: int = 100
    free: bool = True
    parked: Mapping[str, int] = field(default_factory=dict)
    unused: int = 0


Targets = dict[str, dict[str, int]]


def targets(
    rule: StandbyRule,
    demands: Mapping[str, ClassDemand],
    workers: Sequence[WorkerStock],
    queued: Mapping[str, int],
    now_s: float,
) -> Targets:
    """Return how many of each class to park on each worker, by UID of its pod; left out: none.

    Args:
        rule: what the TaskCluster asks for.
        demands: by fingerprint of the class.
        workers: those that take tasks.
        queued: tasks that wait for a slot, by fingerprint of their class.
        now_s: the time (monotonic).
    """
    found: Targets = {worker.uid: {} for worker in workers}
    if rule.ceiling <= 0 or rule.total <= 0 or not workers:
        return found
    paces = {
        key: demand.pace_per_s(now_s)
        for key, demand in demands.items()
        if now_s - demand.used_s < rule.idle_s
        and (rule.floor or queued.get(key) or demand.gap_s < rule.idle_s)
    }
    rooms = {worker.uid: _room(rule, worker) for worker in workers}
    left = rule.total
    for key in sorted(paces, key=lambda key: (-paces[key], key))[:MAX_CLASSES]:
        count = _count(rule, paces[key], queued.get(key, 0), len(workers))
        for uid, share in _shares(key, min(count, left), workers, rooms).items():
            found[uid][key] = share
            rooms[uid] -= share
            left -= share
    return found


def refill(wanted: int, there: int, queued: int, pace_per_s: float, rests_in_s: float) -> int:
    """Return how many containers of a class to park on a worker now; 0: none, or not yet.

    A kubelet starts what it is given one after the other, and a task that finds no container
    parked gets one of its own, behind them. So:

    - A worker is refilled before it is empty: at rest, or, where it would be empty before it
      rests, now. Handing over needs no kubelet, so what is left takes the tasks meanwhile.
    - It is given so many as can start before the tasks that come meanwhile have used what is left.
      Where tasks wait for a slot, there is no pause to be kept free: it is given all that it lacks.
    - A patch rewrites the whole pod, so it is not worth it for a few of many.

    Args:
        wanted: how many are to wait there.
        there: how many do.
        queued: tasks of the class that wait for a slot.
        pace_per_s: how many were started a second of late.
        rests_in_s: in how many seconds the pod is at rest.
    """
    lack = wanted - there
    if lack <= 0:
        return 0
    empty_in_s = there / pace_per_s if pace_per_s > 0 else math.inf
    if there and rests_in_s > 0 and (empty_in_s > rests_in_s or lack < wanted / 2):
        return 0
    if there and lack < max(1, wanted // 4):
        return 0
    if queued or pace_per_s <= 0:
        return lack
    meanwhile = max(there, 1) / (pace_per_s * START_S)
    return int(min(lack, max(_AT_LEAST, meanwhile)))


def _room(rule: StandbyRule, worker: WorkerStock) -> int:
    if rule.unused is None:
        return rule.ceiling
    return max(min(rule.ceiling, rule.unused - worker.unused), 0)


def _count(rule: StandbyRule, pace_per_s: float, queued: int, workers: int) -> int:
    """Return how many of a class to park on all workers together."""
    ahead = pace_per_s * HORIZON_S
    # What waits will use what is parked, so each worker may have one of it for its next free slot.
    wanted = max(ahead, min(queued, _RAMP * ahead), min(queued, workers))
    return max(math.ceil(wanted), rule.floor * workers, 1)


def _shares(
    key: str, count: int, workers: Sequence[WorkerStock], rooms: Mapping[str, int]
) -> dict[str, int]:
    """Spread a number over the workers: to all the same, the rest to those that have it already.

    Then to those with the most budget left; always to those with a free slot before others.
    """
    even = count // len(workers)
    most = {
        one.uid: min(rooms[one.uid], one.parked.get(key, 0) + max(one.budget_left, 0))
        for one in workers
    }
    shares = {worker.uid: min(even, most[worker.uid]) for worker in workers}
    left = count - sum(shares.values())
    order = sorted(
        workers,
        key=lambda one: (
            not one.free,
            one.parked.get(key, 0) <= even,
            -one.budget_left,
            one.serial,
        ),
    )
    while left > 0 and (takers := [one.uid for one in order if shares[one.uid] < most[one.uid]]):
        for uid in takers[:left]:
            shares[uid] += 1
        left -= len(takers[:left])
    return {uid: share for uid, share in shares.items() if share > 0}
