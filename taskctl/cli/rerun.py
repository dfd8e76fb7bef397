"""What ``taskctl retry`` writes. Pure.

The attempt number stays, so that the next attempt has the next number: its container gets a
name of its own, and a late report of the old one is recognised as superseded (the claim in
docs/architecture.md). The failures are forgotten: the user's retry limit counts anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from taskctl.api.states import TaskState
from taskctl.constants import Reason
from taskctl.policy.status import (
    Ending,
    active_conditions,
    pending_patch,
    status_body,
    with_past_attempt,
)
from taskctl.policy.view import parse_task

_RERUNNABLE = (TaskState.FAILED, TaskState.CANCELLED)


def refusal(task: Mapping[str, Any]) -> str | None:
    """Return why a Task cannot be run again, or None if it can."""
    view = parse_task(task)
    if view.deleting:
        return "it is being deleted"
    if view.is_graph:
        return "it runs nothing itself; retry those of its tasks that failed, and it follows them"
    if view.state not in _RERUNNABLE:
        return f"it is {view.state}; only Failed tasks can be run again"
    if view.cancel:
        return "spec.cancel cannot be taken back; create it anew under another name"
    return None


def rerun_body(task: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the merge patch of ``tasks/<name>/status`` that queues a finished Task again.

    Guarded by the Task's resourceVersion: Conflict means that somebody else was faster.
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
        "outputObject": None,
        # Creation stays; the rest belongs to the attempt that is over.
        "times": {name: None for name in times if name != "created"} or None,
        "conditions": active_conditions(view, Reason.QUEUED, now),
    }
    if view.attempt:
        record = {
            "attempt": view.attempt,
            "podName": status.get("podName"),
            "reason": status.get("reason"),
            "exitCode": status.get("exitCode"),
            "started": times.get("started"),
            "exited": times.get("exited"),
        }
        patch["attempts"] = with_past_attempt(view, record)
    return status_body(task, patch)
