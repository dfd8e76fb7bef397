"""When is an ended Task removed (``spec.ttlSecondsAfterFinished``)?

A member of a tree stays until the whole tree is complete: a continuation may still want
its result, and the root's counters are made from the members that exist. Where the root has
``onExit`` or ``notify``, the exit task must have ended and the receivers been told, too. A Task
that another one waits for (``runAfter``) stays as long as that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from taskctl.policy.notify import told_time
from taskctl.policy.onexit import settled_time
from taskctl.policy.status import FINE
from taskctl.policy.view import TaskView, time_or_none

# How often to ask whether another Task still waits for one whose time is up.
AWAITED_LOOK_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete it now."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Not yet.

    Attributes:
        delay_s: seconds until its time is up.
    """

    delay_s: float


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do until something changes.

    Attributes:
        for_tree: it has a time to live that begins when its tree is complete.
    """

    for_tree: bool = False


def released_time(root: TaskView) -> datetime | None:
    """Return when a tree and all that its end entails had ended; None: they have not."""
    settled, told = settled_time(root), told_time(root)
    return None if settled is None or told is None else max(settled, told)


def ttl_s(view: TaskView) -> int | None:
    """Return the seconds an ended Task stays, by how it ended; None: forever."""
    ttl = view.spec.get("ttlSecondsAfterFinished") or {}
    value = ttl.get("success" if view.state in FINE else "failure")
    return None if value is None else int(value)


def decide_ttl(
    view: TaskView, root: TaskView | None, *, awaited: bool, age_s: Callable[[datetime], float]
) -> Remove | LookAgain | Keep:
    """Decide on a Task.

    Args:
        view: the Task.
        root: the root of its tree (itself, for a root); None: it no longer exists.
        awaited: another Task that has not started names this one in ``runAfter``.
        age_s: returns how many seconds ago a moment was.
    """
    if view.deleting or not view.state.terminal:
        return Keep()
    stay_s = ttl_s(view)
    if stay_s is None:
        return Keep()
    if awaited:
        return LookAgain(AWAITED_LOOK_S)
    ended = _ended(view)
    if root is not None:
        completed = released_time(root)
        if completed is None:
            return Keep(for_tree=True)
        ended = completed if ended is None else max(ended, completed)
    if ended is None:
        return Keep()
    left_s = stay_s - age_s(ended)
    return Remove() if left_s <= 0 else LookAgain(left_s)


def _ended(view: TaskView) -> datetime | None:
    times = view.status.get("times") or {}
    return time_or_none(times.get("observed")) or time_or_none(times.get("exited"))
