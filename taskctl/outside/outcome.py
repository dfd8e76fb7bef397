"""How a raw Task stands or ended, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskctl.api.conditions import condition_is
from taskctl.api.states import ConditionStatus, ConditionType, TaskState
from taskctl.policy.status import FINE
from taskctl.safetext import one_line

_SAME_CHARS: Final = 100


def cause_of(status: Mapping[str, Any]) -> str:
    """Return in one line why a Task is in its state.

    The message of a failed command is a sentence and the end of its log; of a traceback, as of
    most logs, the last line says what went wrong.
    """
    lines = [line for line in str(status.get("message") or "").splitlines() if line.strip()]
    if len(lines) < 2 or lines[-1].strip()[:_SAME_CHARS] in lines[0]:  # it says so already
        return one_line("".join(lines[:1]))
    return one_line(f"{lines[0].rstrip().removesuffix('.')}: {lines[-1]}")


def state_of(task: Mapping[str, Any]) -> str:
    """Return the state of a raw Task; Pending before the controller has written one."""
    return str((task.get("status") or {}).get("state") or TaskState.PENDING.value)


def is_complete(task: Mapping[str, Any]) -> bool:
    """Whether a Task, and of a root its whole tree, has ended."""
    return _condition(task, ConditionType.COMPLETE)


def has_succeeded(task: Mapping[str, Any]) -> bool:
    """Whether a complete Task, and of a root its whole tree, succeeded."""
    return state_of(task) in FINE and _condition(task, ConditionType.SUCCEEDED)


def _condition(task: Mapping[str, Any], condition: ConditionType) -> bool:
    conditions = (task.get("status") or {}).get("conditions")
    return condition_is(conditions, condition, ConditionStatus.TRUE)
