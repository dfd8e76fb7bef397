"""The enumerations of the API: the words that appear in objects, in one place."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """``Task.status.state``. Once terminal, it changes only by ``taskctl retry``."""

    PENDING = "Pending"
    SCHEDULED = "Scheduled"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SKIPPED = "Skipped"  # `when` asked for an outcome that did not come: nothing to run

    @property
    def terminal(self) -> bool:
        """Whether no further attempt follows by itself."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED}
)


class CancelScope(StrEnum):
    """``Task.spec.cancelScope``: what ``spec.cancel`` stops."""

    TREE = "Tree"
    TASK = "Task"


class When(StrEnum):
    """``Task.spec.when``: which outcome of the tasks in ``runAfter`` lets this one run."""

    SUCCESS = "Success"
    FAILURE = "Failure"
    ALWAYS = "Always"


class NotifyEvent(StrEnum):
    """``Task.spec.notify[].events``: what a receiver is told of a tree."""

    STARTED = "Started"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class DeliveryState(StrEnum):
    """``Task.status.tree.notifications[].state``."""

    OWED = "Owed"
    SENT = "Sent"
    GIVEN_UP = "GivenUp"


class Reclaim(StrEnum):
    """``TaskCluster.spec.workspace.reclaim``: what becomes of the claim taskctl made."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Codec(StrEnum):
    """``TaskObject.ref.codec``: how the bytes in the workspace are encoded."""

    JSON = "json"
    MSGPACK = "msgpack"


class ConditionType(StrEnum):
    """The condition types that taskctl writes."""

    COMPLETE = "Complete"
    SUCCEEDED = "Succeeded"
    NOTIFIED = "Notified"
    READY = "Ready"
    WORKSPACE_READY = "WorkspaceReady"


class ConditionStatus(StrEnum):
    """``status`` of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"
