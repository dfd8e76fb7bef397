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
        ├── Refused            the agent said no; `code` says which no
        │   ├── SpawnRefused   ... to a child: bad field, or the API server rejected it
        │   ├── LimitExceeded  ... since a budget of the tree is used up
        │   └── KeyConflict    ... the key or name belongs to something else
        └── ChildError         a child has not succeeded, so it has no result
            ├── ChildFailed    ... it failed; reason, exit_code and last_line say how
            ├── ChildCancelled ... it was cancelled
            ├── ChildSkipped   ... its `when` ruled it out
            └── ChildGone      ... it, or its result, was deleted

    BaseException
    └── TaskCancelled          the task is to stop (SIGTERM)
"""

from __future__ import annotations

from taskctl.errors import TaskctlError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SdkError(TaskctlError):
    """Root of the errors that the SDK raises."""


class NotInTask(SdkError):
    """The process was not started by taskctl as a task."""


class AgentAway(SdkError):
    """The agent did not answer within the deadline. The outcome of the request is unknown."""


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


class ChildError(SdkError):
    """A child has not succeeded, so it has no result.

    Attributes:
        child: the child.
        state: of its Task: Failed, Cancelled, Skipped or Deleted.
        reason: CamelCase word of ``status.reason``, for example NonZeroExit or Timeout.
        message: ``status.message``: what happened, and the end of its log.
        exit_code: of the command in the last attempt; None where there was none.
        attempt: number of the last attempt.
    """

    def __init__(
        self,
        child: Any,
        *,
        state: str,
        reason: str,
        message: str,
        exit_code: int | None = None,
        attempt: int = 0,
    ) -> None:
        super().__init__(child, state, reason, message)
        self.child = child
        self.state = state
        self.reason = reason
        self.message = message
        self.exit_code = exit_code
        self.attempt = attempt

    @property
    def last_line(self) -> str:
        """The last line of its log: of an uncaught exception, what was raised; or empty."""
        lines = self.message.splitlines()
        return lines[-1].strip() if len(lines) > 1 else ""

    def __str__(self) -> str:
        sentence = self.message.partition("\n")[0]
        return f"child {self.child.name} is {self.state} ({self.reason}): {sentence}"


class ChildFailed(ChildError):
    """A child has failed, after all its retries."""


class ChildCancelled(ChildError):
    """A child was cancelled."""


class ChildSkipped(ChildError):
    """A child was skipped: its ``when`` asked for an outcome that did not come."""


class ChildGone(ChildError):
    """A child was deleted before it ended, or its result before it was read."""


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
