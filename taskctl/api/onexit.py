"""``Task.spec.onExit``: the task that runs once a tree is quiet, whatever its end."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from taskctl.api import meta, rootfields
from taskctl.api.meta import SpecModel
from taskctl.api.retry import Retry
from taskctl.api.rootfields import FROM_ROOT
from taskctl.api.taskenv import EnvVar

CHILD_ON_EXIT_MESSAGE: Final = (
    "onExit is a task for the end of a whole tree; set it on the root, or let a task of the tree "
    "run after the others with when: Always"
)


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
        Field(min_length=1, max_length=1024, description=f"Container image. {FROM_ROOT}"),
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
        Field(max_length=meta.MAX_TEXT, description=f"Directory to start in. {FROM_ROOT}"),
    ] = None
    retry: Annotated[
        Retry | None,
        Field(
            description="What to do after a failed attempt. Default: that of the TaskCluster's "
            "`taskDefaults`, or nothing."
        ),
    ] = None
    timeout_seconds: rootfields.TimeoutSeconds = None
    start_deadline_seconds: rootfields.StartDeadlineSeconds = None
    priority: rootfields.Priority = None
    slots: rootfields.Slots = None
    read_only_workspace: rootfields.ReadOnlyWorkspace = None
