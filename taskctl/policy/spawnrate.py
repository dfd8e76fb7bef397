"""How fast a tree may grow (``limits.spawnRate`` of its root): a token bucket on the root.

Of the bucket stands only one moment on the root (``status.tree.spawnPaid``): until when what was
spawned has used up the rate. It is the theoretical arrival time of the generic cell rate algorithm
(ITU-T I.371), which lets through what a token bucket does. The agents of a tree move it by
compare-and-swap, so that together they keep to the rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from taskctl.clock import format_micro
from taskctl.policy.limits import WHERE_TO_RAISE
from taskctl.policy.status import StatusPatch
from taskctl.policy.view import TaskView, time_or_none

# Times are noted to the microsecond; what is due within one is due.
_ROUNDING_S: Final = 2e-6


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate.

    Attributes:
        tasks: how many.
        per_s: in how many seconds.
        burst: how many at once.
    """

    tasks: int
    per_s: int
    burst: int

    @property
    def each_s(self) -> float:
        """Seconds that one task uses up."""
        return self.per_s / self.tasks


@dataclass(frozen=True, slots=True)
class InTime:
    """The children may be created.

    Attributes:
        patch: of the root's status, to be written before; None: none is needed.
    """

    patch: StatusPatch | None


@dataclass(frozen=True, slots=True)
class TooFast:
    """Not now.

    Attributes:
        message: for people.
        after_s: seconds after which it is possible, if no other task spawns; None: never.
    """

    message: str
    after_s: float | None


def spawn_rate(task: TaskView) -> Rate | None:
    """Return ``limits.spawnRate`` of a Task, or None."""
    found = (task.spec.get("limits") or {}).get("spawnRate")
    if not found:
        return None
    tasks = int(found["tasks"])
    return Rate(tasks, int(found.get("perSeconds") or 1), int(found.get("burst") or tasks))


def decide_pace(root: TaskView, parent: TaskView, missing: int, now: datetime) -> InTime | TooFast:
    """Decide whether a parent may create children now.

    Args:
        root: the root, as just read.
        parent: who spawns.
        missing: how many of the children that it asks for do not exist.
        now: by the agent's clock.
    """
    # The root may take it from its TaskCluster, and not have it yet.
    rate = spawn_rate(root) or spawn_rate(parent)
    if rate is None or not missing:
        return InTime(None)
    named = (
        f"limits.spawnRate of root task {root.name} allows {rate.tasks} tasks in {rate.per_s} s, "
        f"{rate.burst} at once"
    )
    if missing > rate.burst:
        remedy = f"spawn fewer at a time, or {WHERE_TO_RAISE}"
        message = f"{missing} tasks in one call are too many; {named}; {remedy}"
        return TooFast(message, None)
    room_s = rate.burst * rate.each_s
    paid = time_or_none((root.status.get("tree") or {}).get("spawnPaid"))
    # An agent whose clock is ahead must not stop the tree: no more than the burst can be used up.
    used_s = 0.0 if paid is None else min(max((paid - now).total_seconds(), 0.0), room_s)
    used_s += missing * rate.each_s
    late_s = used_s - room_s
    if late_s > _ROUNDING_S:
        message = (
            f"{missing} more tasks are too many at the moment; {named}; try again in "
            f"{late_s:.3g} s, or {WHERE_TO_RAISE}"
        )
        return TooFast(message, late_s)
    return InTime({"tree": {"spawnPaid": format_micro(now + timedelta(seconds=used_s))}})
