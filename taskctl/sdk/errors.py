"""What can go wrong in a task.

::

    TaskctlError
    └── SdkError
        ├── NotInTask          this process was not started by taskctl
        ├── AgentAway          the agent, or the API server behind it, did not answer in time
        ├── InputMissing       the input's file in the workspace is gone
        ├── InputCorrupt       it is there, but does not have the recorded hash
        ├── InputInvalid       the input does not fit the function's parameters
        ├── Unsendable         a value has no JSON form, or a function no importable name
        ├── NoWorkspace        something needs the workspace, and this TaskCluster has none
        └── Refused            the agent said no; `code` says which no
            ├── SpawnRefused   ... to a child: bad field, or the API server rejected it
            ├── LimitExceeded  ... since a budget of the tree is used up
            └── KeyConflict    ... the key or name belongs to something else

    BaseException
    └── TaskCancelled          the task is to stop (SIGTERM)
"""

from __future__ import annotations

from taskctl.errors import TaskctlError


class SdkError(TaskctlError):
    """Root of the errors that the SDK raises."""


class NotInTask(SdkError):
    """The process was not started by taskctl as a task."""


class AgentAway(SdkError):
    """Nobody answered within the deadline. The outcome of the request is unknown."""


class InputMissing(SdkError):
    """The file in the workspace that holds the input is gone."""


class InputCorrupt(SdkError):
    """The file in the workspace that holds the input is not what was written."""


class InputInvalid(SdkError):
    """The input does not fit the parameters of the task's function."""


class Unsendable(SdkError):
    """A value or function cannot be passed to another process; the message says why."""


class NoWorkspace(SdkError):
    """The TaskCluster has no workspace, and this needs one."""


class Refused(SdkError):
    """The agent refused a request.

    Attributes:
        code: error code of docs/protocol.md, for example ``limit``.
        message: the agent's sentence.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class SpawnRefused(Refused):
    """The agent refused to create children; none of the request were created."""


class LimitExceeded(Refused):
    """A budget of the tree is used up, for example ``limits.depth``."""


class KeyConflict(Refused):
    """A child's key or name belongs to something else already."""


class TaskCancelled(BaseException):
    """The task is to stop: it was cancelled or timed out, or its worker goes away.

    Not an ``Exception``, so that ``except Exception`` in a retry loop does not swallow it.
    Clean up and let it pass; after a grace period the process is killed.
    """


def refused(op: str, code: str, message: str) -> SdkError:
    """Return the error for a refusal by the agent."""
    if code == "no_workspace":
        return NoWorkspace(message)
    if code == "limit":
        return LimitExceeded(code, message)
    if code == "conflict":
        return KeyConflict(code, message)
    return SpawnRefused(code, message) if op == "spawn" else Refused(code, message)
