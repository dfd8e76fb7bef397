"""Building blocks of Task status patches, shared by the policies that end or return a Task.

A *status patch* is the value of ``status`` in an RFC 7386 merge patch: None removes a
field, a list replaces the old one. :func:`status_body` wraps it for the wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from taskctl.api.conditions import (
    ConditionUpdate,
    cap_message,
    condition_is,
    find_condition,
    set_condition,
)
from taskctl.api.states import ConditionStatus, ConditionType, TaskState
from taskctl.clock import format_micro
from taskctl.constants import Reason
from taskctl.policy.retry import GiveUp, RetryLater
from taskctl.policy.view import TaskView, time_or_none

StatusPatch = dict[str, Any]

PAST_ATTEMPTS_KEPT: Final = 10
# Ends that fail neither the Task nor its tree.
FINE: Final = frozenset({TaskState.SUCCEEDED, TaskState.SKIPPED})
# A Task that waits again belongs to no worker: agents select theirs by status.podName.
NO_WORKER: Final[Mapping[str, None]] = {"podName": None, "podUID": None, "containerName": None}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a Task or an attempt ended.

    Attributes:
        reason: machine-readable.
        message: for people; capped when written.
    """

    reason: Reason
    message: str


def status_body(task: Mapping[str, Any], patch: StatusPatch) -> dict[str, Any]:
    """Return the merge-patch body for ``tasks/<name>/status``, guarded by resourceVersion.

    The uid is part of the guard: a Task made again under the same name is another one.
    """
    metadata = task["metadata"]
    guard = {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}
    return {"metadata": guard, "status": patch}


def status_operations(task: Mapping[str, Any], patch: StatusPatch) -> list[dict[str, Any]]:
    """Return the same as JSON Patch (RFC 6902), for a status with an output in it.

    A merge patch cannot carry it: there, a null in a value removes a member.
    """
    metadata = task["metadata"]
    version, uid = metadata["resourceVersion"], metadata["uid"]
    output = patch.get("output")
    status = _merged(task.get("status"), {**patch, "output": None})
    return [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "replace", "path": "/metadata/uid", "value": uid},
        {"op": "replace", "path": "/status", "value": {**status, "output": output}},
    ]


def _merged(target: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a merge patch (RFC 7386)."""
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value) if isinstance(value, Mapping) else value
    return result


def terminal_patch(
    view: TaskView, state: TaskState, ending: Ending, now: datetime, *, leaf: bool = False
) -> StatusPatch:
    """Return the patch that ends a Task.

    Args:
        view: the Task.
        state: Succeeded, Failed, Cancelled or Skipped.
        ending: reason and message.
        now: for the conditions' transition times and ``times.observed``.
        leaf: a root that certainly has no descendants: its tree is then complete too. Of
            any other root the tree controller writes the conditions.
    """
    patch: StatusPatch = {
        "state": state.value,
        "reason": ending.reason.value,
        "message": cap_message(ending.message),
        "nextAttemptTime": None,
        "observedGeneration": view.generation,
        "times": {"observed": format_micro(now)},
        **_waits_no_more(view),
    }
    if leaf or not view.is_root:
        succeeded = state in FINE
        patch["conditions"] = end_conditions(view, succeeded=succeeded, ending=ending, now=now)
    return patch


def end_conditions(
    view: TaskView, *, succeeded: bool, ending: Ending, now: datetime
) -> list[dict[str, Any]]:
    """Return the conditions of a Task (or tree) that has ended: Complete, and Succeeded or not."""
    complete = ConditionUpdate(
        type=ConditionType.COMPLETE,
        status=ConditionStatus.TRUE,
        reason=ending.reason,
        observed_generation=view.generation,
    )
    outcome = ConditionUpdate(
        type=ConditionType.SUCCEEDED,
        status=ConditionStatus.TRUE if succeeded else ConditionStatus.FALSE,
        reason=ending.reason,
        message=ending.message,
        observed_generation=view.generation,
    )
    conditions = set_condition(view.status.get("conditions"), complete, now=now)
    return set_condition(conditions, outcome, now=now)


def active_conditions(view: TaskView, reason: Reason, now: datetime) -> list[dict[str, Any]]:
    """Return the conditions of a Task that is (again) on its way: Complete=False, no Succeeded."""
    return conditions_on_the_way(view.status.get("conditions"), view.generation, reason, now)


def conditions_on_the_way(
    before: Sequence[Mapping[str, Any]] | None, generation: int, reason: Reason, now: datetime
) -> list[dict[str, Any]]:
    """Return what :func:`active_conditions` does, of the parts that it needs.

    Args:
        before: the Task's conditions.
        generation: of the Task.
        reason: of Complete=False.
        now: becomes the time of its transition.
    """
    update = ConditionUpdate(
        type=ConditionType.COMPLETE,
        status=ConditionStatus.FALSE,
        reason=reason,
        observed_generation=generation,
    )
    conditions = set_condition(before, update, now=now)
    return [entry for entry in conditions if entry["type"] != ConditionType.SUCCEEDED]


def is_complete(view: TaskView) -> bool:
    """Whether the Task's Complete condition is True."""
    return condition_is(view.status.get("conditions"), ConditionType.COMPLETE, ConditionStatus.TRUE)


def completion_time(status: Mapping[str, Any]) -> datetime | None:
    """Return when the Complete condition became True; None if it is not."""
    condition = find_condition(status.get("conditions"), ConditionType.COMPLETE)
    if condition is None or condition.get("status") != ConditionStatus.TRUE:
        return None
    return time_or_none(condition.get("lastTransitionTime"))


def with_generation(view: TaskView, patch: StatusPatch | None) -> StatusPatch | None:
    """Return a patch, if need be a new one, after which the status is up to date with the spec.

    ``observedGeneration`` of the status and of every condition must not stay behind a change of
    the spec, or tools that wait for it (kstatus, Argo CD) wait forever. A Task that nothing has
    been written to is up to date as long as its spec is its first.
    """
    conditions = (patch or {}).get("conditions", view.status.get("conditions")) or ()
    seen = {entry.get("observedGeneration", 0) for entry in conditions}
    seen.add((patch or {}).get("observedGeneration", view.status.get("observedGeneration") or 1))
    if view.deleting or all(number >= view.generation for number in seen):
        return patch
    now_seen = {"observedGeneration": view.generation}
    return {
        **(patch or {}),
        **now_seen,
        **({"conditions": [{**entry, **now_seen} for entry in conditions]} if conditions else {}),
    }


def pending_patch(view: TaskView, attempt: int, ending: Ending) -> StatusPatch:
    """Return the patch that puts a Task back in the queue, ``attempt`` being spent.

    The caller adds the counter it charges and ``nextAttemptTime``.
    """
    return {
        "state": TaskState.PENDING.value,
        "reason": ending.reason.value,
        "message": cap_message(ending.message),
        "attempt": attempt,
        "nextAttemptTime": None,
        "observedGeneration": view.generation,
        **_waits_no_more(view),
        **NO_WORKER,
    }


def _waits_no_more(view: TaskView) -> StatusPatch:
    """Return what takes back that an attempt waits for its children, now that it is over."""
    return {"waitingSince": None} if view.status.get("waitingSince") else {}


def with_past_attempt(view: TaskView, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return ``status.attempts`` with ``record`` appended, the oldest beyond the cap dropped."""
    past = [dict(entry) for entry in view.status.get("attempts") or ()]
    past.append({key: value for key, value in record.items() if value is not None})
    return past[-PAST_ATTEMPTS_KEPT:]


def next_attempt_time(decision: RetryLater, now: datetime) -> str | None:
    """Return ``status.nextAttemptTime`` for a retry; None when it may start at once."""
    return format_micro(now + timedelta(seconds=decision.delay_s)) if decision.delay_s > 0 else None


def with_sentence(message: str, decision: GiveUp) -> str:
    """Append the reason for giving up, where there is one."""
    if not decision.message:
        return message
    return f"{message}{'' if message.endswith('.') else '.'} {decision.message}"
