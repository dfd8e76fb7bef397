"""What ``taskctl retry`` writes, to one Task or to all of a tree that did not succeed. Pure.

The attempt number stays, so that the next attempt has the next number: its container gets a
name of its own, and a late report of the old one is recognised as superseded (the claim in
docs/architecture.md). The failures are forgotten: the user's retry limit counts from zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctl.api.states import TaskState
from taskctl.constants import (
    ANNOTATION_RETRYING,
    ANNOTATION_STOP_REASON,
    ANNOTATION_STOPPED_BY,
    Reason,
)
from taskctl.policy.runs import run_again
from taskctl.policy.status import (
    Ending,
    active_conditions,
    is_complete,
    pending_patch,
    status_body,
    with_past_attempt,
)
from taskctl.policy.view import TaskView, parse_task

_RERUNNABLE: Final = frozenset({TaskState.FAILED, TaskState.CANCELLED})
_NOT_DONE: Final = _RERUNNABLE | {TaskState.SKIPPED}


@dataclass(frozen=True, slots=True)
class TreeRetry:
    """What running again the failures of a tree takes.

    Attributes:
        refused: why it cannot be done, or empty.
        uncancel: raw Tasks whose ``spec.cancel`` is taken back first.
        clear_timeout: the root says that its tree has run out of time, and does not run again
            itself: that is taken back first.
        again: raw Tasks to queue again, parents before children.
        hold: the root is suspended until all of them are queued: a task that is looked at
            before the one it runs after is queued would fail for that one's old end.
    """

    refused: str = ""
    uncancel: tuple[Mapping[str, Any], ...] = ()
    clear_timeout: bool = False
    again: tuple[Mapping[str, Any], ...] = ()
    hold: bool = False


def refusal(task: Mapping[str, Any]) -> str | None:
    """Return why a Task cannot be run again by itself, or None if it can."""
    view = parse_task(task)
    if view.deleting:
        return "it is being deleted"
    if view.state not in _RERUNNABLE:
        return f"it is {view.state}; only Failed tasks can be run again"
    return None


def decide_tree_retry(
    root: Mapping[str, Any],
    top: Mapping[str, Any],
    members: Iterable[Mapping[str, Any]],
    *,
    alone: bool = False,
) -> TreeRetry:
    """Decide which Tasks of a tree run again: those that failed, were cancelled or skipped.

    What a task of the tree has stopped itself (StoppedByTask) is not needed, and stays as it is.

    Args:
        root: the tree's raw root Task.
        top: the Task whose failures are meant, with those below it; the root, most of the time.
        members: raw Tasks below the root.
        alone: run ``top`` again and nothing below it.
    """
    views = {task["metadata"]["uid"]: parse_task(task) for task in (*members, top, root)}
    raws = {task["metadata"]["uid"]: task for task in (*members, top, root)}
    top_uid = top["metadata"]["uid"]
    chosen = [views[top_uid]] if alone else _below(views, top_uid)
    busy = _under_cancel(views)
    if parse_task(root).deleting:
        return TreeRetry(f"the tree's root {root['metadata']['name']} is being deleted")
    if busy is not None:
        return TreeRetry(
            f"{busy[0]} is cancelled, and {busy[1]} has not ended yet; wait for that "
            f"(taskctl wait {parse_task(root).name})"
        )
    above = _cancelled_above(views, top_uid)
    if above:
        return TreeRetry(f"{above}, above it, is cancelled: taskctl retry {above} --failed")
    late = tree_refusal(views[root["metadata"]["uid"]], views[top_uid])
    if late:
        return TreeRetry(late)
    ended = [view for view in chosen if view.state in _NOT_DONE and not _not_needed(view)]
    if not any(view.state in _RERUNNABLE for view in ended):
        return TreeRetry()
    ended.sort(key=lambda view: view.depth)
    again = tuple(raws[view.uid] for view in ended)
    # Also of what has succeeded: its descendants would be cancelled with it again.
    cancelled = [view for view in chosen if view.cancel and not _not_needed(view)]
    return TreeRetry(
        uncancel=tuple(raws[view.uid] for view in cancelled),
        clear_timeout=parse_task(root).tree_timed_out
        and root["metadata"]["uid"] not in {view.uid for view in ended},
        again=again,
        hold=len(again) > 1,
    )


def tree_refusal(root: TaskView, view: TaskView) -> str:
    """Return why a Task cannot be run again because of its tree, or an empty text."""
    if root.tree_timed_out and not is_complete(root):
        return f"the tree of {root.name} has run out of time and is still being stopped; wait"
    if view.is_root or not (root.tree_timed_out or root.cancels_tree):
        return ""
    what = "has run out of time" if root.tree_timed_out else "was cancelled"
    return f"the tree of {root.name} {what}: taskctl retry {root.name} --failed"


def _below(views: Mapping[str, TaskView], top_uid: str) -> list[TaskView]:
    """Return the Task with that UID and all its descendants."""
    children: dict[str, list[TaskView]] = {}
    for view in views.values():
        children.setdefault(view.parent_uid, []).append(view)
    found, stack = [], [views[top_uid]]
    seen = {top_uid}
    while stack:
        view = stack.pop()
        found.append(view)
        for child in children.get(view.uid, ()):
            if child.uid not in seen:
                seen.add(child.uid)
                stack.append(child)
    return found


def _under_cancel(views: Mapping[str, TaskView]) -> tuple[str, str] | None:
    """Return a cancelled Task and one under it (or itself) that has still to end, or None."""
    for view in views.values():
        if view.state.terminal:
            continue
        if view.cancel:
            return view.name, view.name
        above = _cancelled_above(views, view.uid)
        if above:
            return above, view.name
    return None


def _cancelled_above(views: Mapping[str, TaskView], uid: str) -> str:
    """Return the name of a Task above one that is cancelled with its descendants, or empty."""
    view, seen = views.get(views[uid].parent_uid), {uid}
    while view is not None and view.uid not in seen:
        if view.cancels_tree:
            return view.name
        seen.add(view.uid)
        view = views.get(view.parent_uid)
    return ""


def _not_needed(view: TaskView) -> bool:
    return view.state is TaskState.CANCELLED and view.status.get("reason") == Reason.STOPPED


def uncancel_body(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that takes back the cancellation of a Task that has ended.

    Guarded by the Task's resourceVersion, as is :func:`rerun_body`.
    """
    metadata = task["metadata"]
    guard = {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}
    return {
        "metadata": {
            **guard,
            "annotations": {ANNOTATION_STOPPED_BY: None, ANNOTATION_STOP_REASON: None},
        },
        "spec": {"cancel": None, "cancelScope": None},
    }


def hold_body(root: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the merge patch that holds up a tree while its Tasks are queued again.

    None: the root is suspended already, by its user or by an earlier call that did not end.
    """
    if parse_task(root).suspend:
        return None
    metadata = root["metadata"]
    return {
        "metadata": {"uid": metadata["uid"], "annotations": {ANNOTATION_RETRYING: "true"}},
        "spec": {"suspend": True},
    }


def release_body(root: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the merge patch that lets a tree go that :func:`hold_body` held up, or None."""
    metadata = root["metadata"]
    if ANNOTATION_RETRYING not in (metadata.get("annotations") or {}):
        return None
    return {
        "metadata": {"uid": metadata["uid"], "annotations": {ANNOTATION_RETRYING: None}},
        "spec": {"suspend": None},
    }


def clear_timeout_body(root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch of the status that takes back that a tree has run out of time.

    The tree is complete, and its next run begins when the first of its tasks is queued.
    """
    return status_body(root, {"tree": {"timedOut": None}})


def reopen_body(root: Mapping[str, Any], before: TaskView, now: datetime) -> dict[str, Any] | None:
    """Return the merge patch of the status with which a root says that its tree runs again.

    A client that waits for the tree from now on then does not see its old end. None: the root says
    so already, as the controller was faster, or it runs itself.

    Args:
        root: the raw root as it is now, after some of its tree were queued.
        before: the root before that.
        now: for transition times.
    """
    view = parse_task(root)
    newer = (view.status.get("tree") or {}) != (before.status.get("tree") or {})
    if not is_complete(view) or not view.state.terminal or newer:
        return None
    patch = {"conditions": active_conditions(view, Reason.TREE_ACTIVE, now)}
    return status_body(root, patch | run_again(view, now))


def rerun_body(task: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the merge patch of ``tasks/<name>/status`` that queues a finished Task again.

    Guarded by the Task's resourceVersion: Conflict means that another client was faster.
    """
    view = parse_task(task)
    status = view.status
    times = status.get("times") or {}
    patch = pending_patch(view, view.attempt, Ending(Reason.QUEUED, ""))
    patch |= {
        "failures": None,
        "infraFailures": None,
        "exitCode": None,
        "signal": None,
        "usage": None,
        "progress": None,
        "output": None,
        "outputObject": None,
        # Creation stays; the rest belongs to the attempt that is over.
        "times": {name: None for name in times if name != "created"} or None,
        "conditions": active_conditions(view, Reason.QUEUED, now),
    }
    if view.is_root and is_complete(view):
        patch |= run_again(view, now)
    if view.attempt and not view.is_graph:
        record = {
            "attempt": view.attempt,
            "podName": status.get("podName"),
            "containerName": view.parked_container or None,
            "reason": status.get("reason"),
            "exitCode": status.get("exitCode"),
            "started": times.get("started"),
            "exited": times.get("exited"),
        }
        patch["attempts"] = with_past_attempt(view, record)
    return status_body(task, patch)
