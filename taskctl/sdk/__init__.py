"""The helper library for Python code inside a task.

The standard library and the wire codec only: this is imported in every task. So what costs
time to import (asyncio, json, sockets, the codec itself) is imported where it is used.

::

    from taskctl.sdk import current, spawn, task

    @task
    async def count(n: int, limit: int) -> int:
        if n < limit:
            await spawn(count, n + 1, limit)
        return n

The functions here are for ``async`` code; :mod:`taskctl.sdk.sync` has the same ones for code
without. See docs/sdk.md.
"""

from __future__ import annotations

from taskctl.sdk._api import (
    Child,
    as_completed,
    gather,
    info,
    output,
    progress,
    spawn,
    spawn_many,
    wait,
)
from taskctl.sdk._context import Context, current
from taskctl.sdk._functions import Call, TaskFunction, task
from taskctl.sdk._sources import Group
from taskctl.sdk._specs import ChildSpec, Info, child
from taskctl.sdk.errors import (
    AgentAway,
    ChildCancelled,
    ChildError,
    ChildFailed,
    ChildGone,
    ChildSkipped,
    InputCorrupt,
    InputInvalid,
    InputMissing,
    KeyConflict,
    LimitExceeded,
    NotInTask,
    NoWorkspace,
    Refused,
    SdkError,
    SpawnRefused,
    TaskCancelled,
    Unsendable,
)

__all__ = [
    "AgentAway",
    "Call",
    "Child",
    "ChildCancelled",
    "ChildError",
    "ChildFailed",
    "ChildGone",
    "ChildSkipped",
    "ChildSpec",
    "Context",
    "Group",
    "Info",
    "InputCorrupt",
    "InputInvalid",
    "InputMissing",
    "KeyConflict",
    "LimitExceeded",
    "NoWorkspace",
    "NotInTask",
    "Refused",
    "SdkError",
    "SpawnRefused",
    "TaskCancelled",
    "TaskFunction",
    "Unsendable",
    "as_completed",
    "child",
    "current",
    "gather",
    "info",
    "output",
    "progress",
    "spawn",
    "spawn_many",
    "task",
    "wait",
]
