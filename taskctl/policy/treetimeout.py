"""A tree that has run out of time (``spec.treeTimeoutSeconds`` of its root).

The verdict is written on the root (``status.tree.timedOut``) before anything is stopped: who is
killed half way, or restarted with another clock, must not change their mind.
"""

from __future__ import annotations

from datetime import datetime

from taskctl.api.conditions import ConditionUpdate, set_condition
from taskctl.api.states import ConditionStatus, ConditionType, TaskState
from taskctl.clock import format_micro
from taskctl.constants import Reason
from taskctl.policy.status import Ending, StatusPatch, is_complete
from taskctl.policy.view import TaskView


def timeout_left_s(root: TaskView, age_s: float) -> float | None:
    """Return the seconds until a tree has run out of time; None: time does not matter to it.

    Args:
        root: the root.
        age_s: seconds since this run of its tree began.
    """
    limit_s = root.tree_timeout_s
    over = is_complete(root) or root.tree_timed_out or root.cancels_tree or root.deleting
    return None if limit_s is None or over else limit_s - age_s


def timed_out_patch(root: TaskView, now: datetime) -> StatusPatch:
    """Return the patch that says on the root that its tree has run out of time."""
    update = ConditionUpdate(
        type=ConditionType.COMPLETE,
        status=ConditionStatus.FALSE,
        reason=Reason.TREE_TIMEOUT,
        message=f"{timed_out_sentence(root)} What has not ended is being stopped.",
        observed_generation=root.generation,
    )
    return {
        "tree": {"timedOut": format_micro(now)},
        "observedGeneration": root.generation,
        "conditions": set_condition(root.status.get("conditions"), update, now=now),
    }


def timed_out_sentence(root: TaskView) -> str:
    """Return the sentence on what has happened."""
    return f"The tree took longer than treeTimeoutSeconds={root.tree_timeout_s}."


def timed_out_end(view: TaskView, what: str) -> tuple[TaskState, Ending]:
    """Return how a Task ends whose tree has run out of time.

    The root has failed, as its tree has; what was stopped with it has not failed by itself.

    Args:
        view: the Task.
        what: sentence on what that meant for it.
    """
    if view.is_root:
        return TaskState.FAILED, Ending(Reason.TREE_TIMEOUT, f"{timed_out_sentence(view)} {what}")
    why = f"The tree of {view.root_name} took longer than its treeTimeoutSeconds."
    return TaskState.CANCELLED, Ending(Reason.TREE_TIMEOUT, f"{why} {what}")


def cancelled_end(view: TaskView, what: str) -> tuple[TaskState, Ending]:
    """Return how a Task ends that was cancelled (``spec.cancel``), by whomever.

    Args:
        view: the Task.
        what: sentence on what that meant for it.
    """
    if view.stopped_by_timeout:
        return timed_out_end(view, what)
    return TaskState.CANCELLED, Ending(view.cancel_reason, what)
