"""Which Events a change of a Task deserves: what went wrong, and nothing that goes well.

The decision rests on the change as observed, so outcomes that the agent records and those that
the controller records are told alike. The good news is in the status; an Event for each step of
ten thousand tasks would only drown the bad news.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from taskctl.api.states import TaskState
from taskctl.constants import Reason

# Failures that are not the command's: the reason says more than "Failed".
_OWN_NAME: Final = frozenset(
    {
        Reason.DEPENDENCY_FAILED,
        Reason.START_DEADLINE,
        Reason.INFRASTRUCTURE,
        Reason.START_ERROR,
    }
)
# Of roots, whose Events tell it (:mod:`taskctl.policy.treeevents`).
_OF_TREES: Final = frozenset({Reason.TREE_FAILED, Reason.TREE_TIMEOUT})
_LOSSES: Final = frozenset({Reason.WORKER_LOST, Reason.CONTAINER_LOST})


class TaskEvent(StrEnum):
    """Reasons of Events that are not reasons of a status."""

    FAILED = "Failed"
    RETRYING = "Retrying"


@dataclass(frozen=True, slots=True)
class TaskWarning:
    """A warning Event to publish.

    Attributes:
        reason: machine-readable.
        message: for people.
    """

    reason: str
    message: str


def decide_event(old: Mapping[str, Any], new: Mapping[str, Any]) -> TaskWarning | None:
    """Return the Event that a change from one status to another deserves, or None."""
    before, after = old.get("state"), new.get("state")
    reason, message = str(new.get("reason") or ""), str(new.get("message") or "")
    if reason in _OF_TREES:
        return None
    if after == TaskState.FAILED and before != TaskState.FAILED:
        return TaskWarning(reason if reason in _OWN_NAME else TaskEvent.FAILED, message)
    if reason == Reason.PLACEMENT_FORBIDDEN and reason != old.get("reason"):
        return TaskWarning(reason, message)
    attempt_spent = before == TaskState.RUNNING or new.get("attempt") != old.get("attempt")
    if after != TaskState.PENDING or not attempt_spent:
        return None
    if reason == Reason.BACK_OFF:
        return TaskWarning(TaskEvent.RETRYING, message)
    return TaskWarning(reason, message) if reason in _LOSSES else None
