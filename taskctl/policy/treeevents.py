"""Which Events a change of a root deserves: its tree began, ran out of time, or has ended.

A root that is all of its tree has none: its status says the same, and ten thousand single tasks
would drown the news. The decision rests on the change as observed, whichever process wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from taskctl.api.conditions import find_condition
from taskctl.api.states import ConditionStatus, ConditionType, DeliveryState, TaskState
from taskctl.policy.status import is_complete
from taskctl.policy.treetimeout import timed_out_sentence
from taskctl.policy.view import TaskView

_WELL: Final = TaskState.SUCCEEDED.value


class TreeEvent(StrEnum):
    """Reasons of Events about trees."""

    STARTED = "TreeStarted"
    TIMED_OUT = "TreeTimeout"
    SUCCEEDED = "TreeSucceeded"
    FAILED = "TreeFailed"
    EXIT_FAILED = "ExitTaskFailed"
    NOTIFIED = "NotificationSent"
    NOT_NOTIFIED = "NotificationGivenUp"


@dataclass(frozen=True, slots=True)
class TreeNews:
    """An Event to publish on a root.

    Attributes:
        reason: machine-readable.
        message: for people.
        warning: it is bad news.
    """

    reason: TreeEvent
    message: str
    warning: bool = False


def decide_tree_events(old: TaskView, new: TaskView) -> Iterator[TreeNews]:
    """Yield the Events that a change of a Task deserves, in order.

    Args:
        old: the Task before.
        new: the Task after.
    """
    if not new.is_root:
        return
    if _under_way(new) and not _under_way(old):
        yield TreeNews(TreeEvent.STARTED, _began(new))
    if new.tree_timed_out and not old.tree_timed_out:
        yield TreeNews(TreeEvent.TIMED_OUT, timed_out_sentence(new), warning=True)
    if is_complete(new) and not is_complete(old) and _has_grown(new):
        yield _ended(new)
    exit_before, exit_now = _exit(old), _exit(new)
    if exit_now.get("finished") and exit_before != exit_now and exit_now["state"] != _WELL:
        why = str(exit_now.get("message") or exit_now.get("reason") or "").strip()
        told = f"The exit task {exit_now['task']} is {exit_now['state']}: {why}".rstrip(": ")
        yield TreeNews(TreeEvent.EXIT_FAILED, told, warning=True)
    if new.own_spec.get("notify"):
        yield from _notifications(old, new)


def _notifications(old: TaskView, new: TaskView) -> Iterator[TreeNews]:
    """Yield what has been sent or given up; what is still owed gets no Event."""
    before = {entry["id"]: entry["state"] for entry in _noted(old)}
    for entry in _noted(new):
        state, where = entry["state"], f"spec.notify[{entry['notify']}]"
        if state == before.get(entry["id"]):
            continue
        what = f"{entry['event']} (run {entry['run']})"
        if state == DeliveryState.SENT:
            yield TreeNews(TreeEvent.NOTIFIED, f"{what} was sent to {where}.")
        elif state == DeliveryState.GIVEN_UP:
            told = f"{what} was not sent to {where}: {entry.get('message', '')}"
            yield TreeNews(TreeEvent.NOT_NOTIFIED, told, warning=True)


def _noted(root: TaskView) -> Sequence[Mapping[str, Any]]:
    return (root.status.get("tree") or {}).get("notifications") or ()


def _exit(root: TaskView) -> Mapping[str, Any]:
    return (root.status.get("tree") or {}).get("exit") or {}


def _has_grown(root: TaskView) -> bool:
    return root.is_graph or bool((root.status.get("descendants") or {}).get("total"))


def _under_way(root: TaskView) -> bool:
    """Whether a tree of more than its root is known to have begun, and not to have ended."""
    if root.is_graph:
        return root.state is TaskState.RUNNING
    return _has_grown(root) and not is_complete(root)


def _began(root: TaskView) -> str:
    run = int((root.status.get("tree") or {}).get("run") or 1)
    return "The tree has begun." if run == 1 else f"The tree has begun again; this is run {run}."


def _ended(root: TaskView) -> TreeNews:
    outcome = find_condition(root.status.get("conditions"), ConditionType.SUCCEEDED) or {}
    message = str(outcome.get("message") or "").strip()
    if outcome.get("status") == ConditionStatus.TRUE:
        return TreeNews(TreeEvent.SUCCEEDED, message or "All of the tree has succeeded.")
    return TreeNews(TreeEvent.FAILED, message or "The tree has not succeeded.", warning=True)
