"""``Task.spec.onExit``: the task that runs once a tree is quiet, whatever its end."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from taskctl.api import meta
from taskctl.api.meta import INT32_MAX, SpecModel
from taskctl.api.retry import Retry
from taskctl.api.taskenv import EnvVar

CHILD_ON_EXIT_MESSAGE: Final = (
    "onExit is a task for the end of a whole tree; set it on the root, or let a task of the tree "
    "run after the others with when: Always"
)

_ROOTS: Final = "Default: that of the root."
_Seconds = Annotated[int, Field(ge=1, le=INT32_MAX)]


class ExitTask(SpecModel):
    """A task for the end of a tree. What it leaves out, but for `retry`, is that of the root."""

    command: Annotated[
        list[meta.LongText],
        Field(
            min_length=1,
            max_length=meta.MAX_COMMAND_ITEMS,
            description="Program and its first arguments.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ]
    args: Annotated[
        list[meta.LongText] | None,
        Field(
            max_length=meta.MAX_COMMAND_ITEMS,
            description="Further arguments, added to `command`.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    image: Annotated[
        str | None,
        Field(min_length=1, max_length=1024, description=f"Container image. {_ROOTS}"),
    ] = None
    env: Annotated[
        list[EnvVar] | None,
        Field(
            max_length=meta.MAX_ENV,
            description="Environment variables, added to those of the root. taskctl adds "
            "TREE_ROOT, TREE_RUN, TREE_STATE, TREE_REASON and TREE_MESSAGE.",
            json_schema_extra=meta.map_list("name"),
        ),
    ] = None
    working_dir: Annotated[
        str | None,
        Field(max_length=meta.MAX_TEXT, description=f"Directory to start in. {_ROOTS}"),
    ] = None
    retry: Annotated[
        Retry | None,
        Field(
            description="What to do after a failed attempt. Default: that of the TaskCluster's "
            "`taskDefaults`, or nothing."
        ),
    ] = None
    timeout_seconds: Annotated[
        _Seconds | None, Field(description=f"Seconds that one attempt may run. {_ROOTS}")
    ] = None
    start_deadline_seconds: Annotated[
        _Seconds | None,
        Field(description=f"Seconds that a placed attempt may wait for its start. {_ROOTS}"),
    ] = None
    priority: Annotated[
        int | None,
        Field(ge=-INT32_MAX - 1, le=INT32_MAX, description=f"Higher runs first. {_ROOTS}"),
    ] = None
    slots: Annotated[
        int | None, Field(ge=1, le=100, description=f"Slots of the worker it takes. {_ROOTS}")
    ] = None
    read_only_workspace: Annotated[
        bool | None, Field(description=f"Mount the shared workspace read-only. {_ROOTS}")
    ] = None
