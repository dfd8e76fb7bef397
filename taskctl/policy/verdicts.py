"""The three answers to the question whether a Task may be placed."""

from __future__ import annotations

from dataclasses import dataclass

from taskctl.api.states import TaskState
from taskctl.constants import Reason
from taskctl.policy.status import Ending


@dataclass(frozen=True, slots=True)
class Ready:
    """Place it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now.

    Attributes:
        reason: machine-readable.
        message: for people.
        left_s: look again after so many seconds; None: an event will tell.
    """

    reason: Reason
    message: str
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """It cannot run any more: end it like this."""

    state: TaskState
    ending: Ending


def never(message: str) -> Never:
    """Return the end of a Task whose predecessors did not do what it needs."""
    return Never(TaskState.FAILED, Ending(Reason.DEPENDENCY_FAILED, message))


def skipped(message: str) -> Never:
    """Return the end of a Task that has nothing to do."""
    return Never(TaskState.SKIPPED, Ending(Reason.SKIPPED, message))
