"""``Task.spec.onExit``: the task that runs once a tree is quiet, whatever its end."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from taskctl.api import containerfields, rootfields
from taskctl.api.meta import SpecModel
from taskctl.api.retry import Retry

CHILD_ON_EXIT_MESSAGE: Final = (
    "onExit is a task for the end of a whole tree; set it on the root, or let a task of the tree "
    "run after the others with when: Always"
)


class ExitTask(SpecModel):
    """A task for the end of a tree. What it leaves out, but for `retry`, is that of the root."""

    command: Annotated[
        containerfields.Command,
        Field(
            description="Program and its first arguments.",
        ),
    ]
    args: rootfields.Arguments = None
    image: rootfields.Image = None
    env: Annotated[
        containerfields.Env | None,
        Field(
            description="Environment variables, added to those of the root. taskctl adds "
            "TREE_ROOT, TREE_RUN, TREE_STATE, TREE_REASON and TREE_MESSAGE.",
        ),
    ] = None
    working_dir: rootfields.WorkingDir = None
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
