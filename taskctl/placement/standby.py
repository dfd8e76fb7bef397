"""How many containers should be parked, of which class, on each worker?

A kubelet takes 70 ms to 2 s to start a container, so containers are parked ahead. ClassDemand is
measured by what was started: the pace of each class over the last seconds, times the time it takes
to refill a worker; tasks of it that wait for a slot say that the pace will last, and ask for never
more than three times as many. A class of which nothing was ever started is not parked: nobody
knows whether its image can be pulled at all, and its first task finds out.

What is parked stays until nothing of its class was started, or waited for a slot, for ``idle_s``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.policy.handover import ContainerClass

DEFAULT_MAX_PER_WORKER: Final = 16
DEFAULT_MIN_PER_WORKER: Final = 1
DEFAULT_MAX: Final = 200
DEFAULT_IDLE_S: Final = 60
# A refill is taken up by a kubelet at rest, which is two seconds after the one before.
HORIZON_S: Final = 3.0
# Starts count less as time passes: e⁻¹ after so long.
_MEMORY_S: Final = 5.0
_RAMP: Final = 3.0
# A parked container that has not started by then is given up, and its class pauses: its image
# cannot be pulled on this node, a Secret is missing, or the node is very busy.
GIVE_UP_AFTER_S: Final = 30.0
_PAUSE_S: Final = 30.0
_MAX_PAUSE_S: Final = 600.0
_MAX_DOUBLINGS: Final = 6
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
    """

    floor: int
    ceiling: int
    total: int
    idle_s: float


OFF: Final = StandbyRule(0, 0, 0, 0.0)


def standby_rule(spec: Mapping[str, Any]) -> StandbyRule:
    """Return what a raw TaskCluster's spec asks for."""
    given = spec.get("standby")
    if given is None:
        return OFF

    def number(name: str, default: int) -> int:
        value = given.get(name)
        return default if value is None else int(value)

    ceiling = number("maxPerWorker", DEFAULT_MAX_PER_WORKER)
    return StandbyRule(
        floor=min(number("minPerWorker", DEFAULT_MIN_PER_WORKER), ceiling),
        ceiling=ceiling,
        total=number("max", DEFAULT_MAX),
        idle_s=float(number("idleSeconds", DEFAULT_IDLE_S)),
    )


@dataclass(slots=True)
class ClassDemand:
    """What is known of the demand for one class of a TaskCluster.

    Attributes:
        wanted: the class.
        started_s: when an attempt of it was last started (monotonic).
        waited_s: when one of its tasks was last seen to wait for a slot (monotonic).
        pause_until_s: none is parked before then: the last ones did not start (monotonic).
        failures: how often in a row that was so.
    """

    wanted: ContainerClass
    started_s: float
    waited_s: float = -math.inf
    pause_until_s: float = -math.inf
    failures: int = 0
    _count: float = 0.0

    def start(self, now_s: float) -> None:
        """Take note that an attempt was started."""
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
        pause_s = _PAUSE_S * 2.0 ** min(self.failures - 1, _MAX_DOUBLINGS)
        self.pause_until_s = now_s + min(pause_s, _MAX_PAUSE_S)

    def recover(self) -> None:
        """Take note that one has started."""
        self.failures, self.pause_until_s = 0, -math.inf


def targets(
    rule: StandbyRule,
    demands: Mapping[str, ClassDemand],
    workers: int,
    queued: Mapping[str, int],
    now_s: float,
) -> dict[str, int]:
    """Return how many of each class to park on each worker; classes left out: none.

    Args:
        rule: what the TaskCluster asks for.
        demands: by fingerprint of the class.
        workers: workers that take tasks.
        queued: tasks that wait for a slot, by fingerprint of their class.
        now_s: the time (monotonic).
    """
    if rule.ceiling <= 0 or rule.total <= 0 or workers <= 0:
        return {}
    live = {k: d for k, d in demands.items() if now_s - d.used_s < rule.idle_s}
    paces = {key: demand.pace_per_s(now_s) for key, demand in live.items()}
    room = min(rule.ceiling, max(rule.total // workers, 1))
    found = {}
    for key in sorted(paces, key=lambda key: (-paces[key], key))[:MAX_CLASSES]:
        ahead = paces[key] * HORIZON_S
        wanted = max(ahead, min(queued.get(key, 0), _RAMP * ahead))
        count = min(max(math.ceil(wanted / workers), rule.floor), room)
        if count > 0:
            found[key] = count
            room -= count
    return found
