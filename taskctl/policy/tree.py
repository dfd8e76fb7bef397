"""What a root says about the tree below it: counters, and whether it is complete.

All children of a task exist before its exit is recorded, and both are Tasks on one watch,
so a tree whose known members have all ended is quiet: no task is left to create more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from taskctl.api.conditions import ConditionUpdate, cap_message, set_condition
from taskctl.api.states import ConditionStatus, ConditionType, TaskState
from taskctl.clock import format_micro
from taskctl.constants import Reason
from taskctl.policy.graph import decide_graph_end
from taskctl.policy.runs import run_again
from taskctl.policy.status import (
    FINE,
    Ending,
    StatusPatch,
    active_conditions,
    end_conditions,
    is_complete,
)
from taskctl.policy.treetimeout import timed_out_sentence
from taskctl.policy.view import TaskView

FIELDS: Final = ("pending", "running", "succeeded", "failed", "cancelled", "skipped")
_FIELD_OF: Final = {
    TaskState.PENDING: "pending",
    TaskState.SCHEDULED: "pending",
    TaskState.RUNNING: "running",
    TaskState.SUCCEEDED: "succeeded",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "cancelled",
    TaskState.SKIPPED: "skipped",
}


@dataclass(slots=True)
class TreeCounts:
    """Descendants of a root by state, kept up to date one Task event at a time."""

    pending: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    stopped: int = 0  # of those cancelled: by a task of the tree, which needed them no more

    def add(self, state: TaskState, count: int = 1, *, stopped: bool = False) -> None:
        """Count a descendant in (or, with a negative count, out)."""
        if stopped:
            self.stopped += count
        field = _FIELD_OF[state]
        setattr(self, field, getattr(self, field) + count)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, field) for field in FIELDS)

    @property
    def active(self) -> int:
        """Those that have not ended."""
        return self.pending + self.running

    def as_dict(self) -> dict[str, int]:
        """Return ``status.descendants``."""
        return {"total": self.total} | {field: getattr(self, field) for field in FIELDS}


@dataclass(frozen=True, slots=True)
class TreeChange:
    """A write to the root's status.

    Attributes:
        patch: the status patch.
        urgent: it changes whether the tree is complete: write it now. Otherwise it only
            moves counters and may wait for company.
    """

    patch: StatusPatch
    urgent: bool


def decide_tree(root: TaskView, counts: TreeCounts, now: datetime) -> TreeChange | None:
    """Return the write that makes the root's status true, or None if it is.

    Args:
        root: the root Task.
        counts: its descendants that exist.
        now: for transition times.
    """
    shown = _shown(root, counts)
    patch: StatusPatch = {}
    if shown.total or root.status.get("descendants") is not None:
        current = root.status.get("descendants") or {}
        wanted = shown.as_dict()
        if shown.stopped or current.get("stopped"):
            wanted["stopped"] = shown.stopped
        if any(current.get(key) != value for key, value in wanted.items()):
            patch["descendants"] = wanted
    conditions = _conditions(root, shown, now)
    old = [dict(entry) for entry in root.status.get("conditions") or ()]
    if conditions != old:
        patch["conditions"] = conditions
        patch["observedGeneration"] = root.generation
    if is_complete(root) and not _complete(root, shown):
        patch |= run_again(root, now)
    if not patch:
        return None
    return TreeChange(patch, urgent=_complete(root, shown) != is_complete(root))


def decide_graph(
    root: TaskView, counts: TreeCounts, culprits: Sequence[str], now: datetime
) -> TreeChange:
    """Return the write that ends a root with tasks whose tree is quiet.

    Args:
        root: the root Task; it is Running.
        counts: its descendants that exist; none is active.
        culprits: names of its own tasks that did not succeed.
        now: for the times.
    """
    cancelled = counts.cancelled - counts.stopped
    end = decide_graph_end(root, counts.total, counts.failed, cancelled, culprits)
    reason, message = end.ending.reason.value, cap_message(end.ending.message)
    status = {**root.status, "reason": reason, "message": message}
    ended = replace(root, state=end.state, status=status)
    change = decide_tree(ended, counts, now)
    patch: StatusPatch = {} if change is None else dict(change.patch)
    moment = format_micro(now)
    patch |= {
        "state": end.state.value,
        "reason": reason,
        "message": message,
        "times": {"exited": moment, "observed": moment},
        "observedGeneration": root.generation,
    }
    return TreeChange(patch, urgent=True)


def decide_reopened(root: TaskView, now: datetime) -> TreeChange:
    """Return the write that has a root with tasks run again, as some of its tree do.

    ``taskctl retry`` runs tasks again, and the root's state is that of its tree.
    """
    patch: StatusPatch = {
        "state": TaskState.RUNNING.value,
        "reason": Reason.STARTED.value,
        "message": "",
        "times": {"exited": None, "observed": None},
        "observedGeneration": root.generation,
        "conditions": active_conditions(root, Reason.STARTED, now),
    }
    if is_complete(root):
        patch |= run_again(root, now)
    return TreeChange(patch, urgent=True)


def _shown(root: TaskView, counts: TreeCounts) -> TreeCounts:
    """Counters never go back once the tree is complete: ended members may be removed by TTL."""
    current = root.status.get("descendants")
    if not current or counts.active or not root.state.terminal or not is_complete(root):
        return counts
    kept = TreeCounts()
    for field in ("succeeded", "failed", "cancelled", "skipped", "stopped"):
        setattr(kept, field, max(getattr(counts, field), current.get(field) or 0))
    return kept


def _complete(root: TaskView, counts: TreeCounts) -> bool:
    return root.state.terminal and counts.active == 0


def _conditions(root: TaskView, counts: TreeCounts, now: datetime) -> list[dict[str, Any]]:
    existing = root.status.get("conditions") or ()
    if _complete(root, counts):
        succeeded, ending = _succeeded(root, counts), _ending(root, counts)
        return end_conditions(root, succeeded=succeeded, ending=ending, now=now)
    if not root.state.terminal and not is_complete(root):
        return [dict(entry) for entry in existing]  # the claim has said so
    if root.tree_timed_out and not is_complete(root):
        return [dict(entry) for entry in existing]  # the verdict stands there
    active = ConditionUpdate(
        type=ConditionType.COMPLETE,
        status=ConditionStatus.FALSE,
        reason=Reason.TREE_ACTIVE,
        message="Descendants are still active." if root.state.terminal else "",
        observed_generation=root.generation,
    )
    conditions = set_condition(existing, active, now=now)
    return [entry for entry in conditions if entry["type"] != ConditionType.SUCCEEDED]


def _succeeded(root: TaskView, counts: TreeCounts) -> bool:
    well = root.state in FINE and not counts.failed and counts.cancelled == counts.stopped
    return well and not root.tree_timed_out


def _ending(root: TaskView, counts: TreeCounts) -> Ending:
    if root.tree_timed_out and root.status.get("reason") != Reason.TREE_TIMEOUT:
        counted = f"{counts.failed} failed and {counts.cancelled} were stopped"
        what = f"{timed_out_sentence(root)} Of {counts.total} descendants, {counted}."
        return Ending(Reason.TREE_TIMEOUT, what)
    if counts.total == 0 or root.state not in FINE:
        reason = _reason(root.status.get("reason"))
        return Ending(reason, str(root.status.get("message") or ""))
    if _succeeded(root, counts):
        message = f"All {counts.total} descendants succeeded."
        others = [f"{counts.skipped} were skipped"] if counts.skipped else []
        others += [f"{counts.stopped} were stopped by their tree"] if counts.stopped else []
        if others:
            message = f"Of {counts.total} descendants none failed; {' and '.join(others)}."
        return Ending(Reason.TREE_COMPLETE, message)
    return Ending(
        Reason.TREE_COMPLETE,
        f"Of {counts.total} descendants, {counts.failed} failed and "
        f"{counts.cancelled} were cancelled.",
    )


def _reason(text: object) -> Reason:
    try:
        return Reason(str(text))
    except ValueError:
        return Reason.TREE_COMPLETE
