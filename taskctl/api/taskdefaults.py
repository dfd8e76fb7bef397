"""``TaskCluster.spec.taskDefaults``: what its Tasks take where they leave a field out."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import containerfields, meta
from taskctl.api.limits import Limits
from taskctl.api.meta import INT32_MAX, SpecModel
from taskctl.api.retry import Retry, TtlSecondsAfterFinished
from taskctl.api.taskresources import TaskResources

ARGS_MESSAGE: Final = "args belong to a command; set taskDefaults.command, or remove args"

_Seconds = Annotated[int, Field(ge=1, le=INT32_MAX)]


class TaskDefaults(SpecModel):
    """Fields of a Task's spec for Tasks that leave them out.

    A field that a Task has itself counts as a whole; only `env` is merged, by name.
    """

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel("!has(self.args) || has(self.command)", ARGS_MESSAGE, field_path=".args")
        )
    )
    image: Annotated[containerfields.Image | None, Field(description="Container image.")] = None
    command: Annotated[
        containerfields.Command | None, Field(description="Program and its first arguments.")
    ] = None
    args: Annotated[
        containerfields.Arguments | None,
        Field(
            description="Further arguments, for Tasks that have neither `command` nor `args`.",
        ),
    ] = None
    env: Annotated[
        containerfields.Env | None,
        Field(description="Environment variables. Those that the Task sets take precedence."),
    ] = None
    working_dir: Annotated[
        containerfields.WorkingDir | None, Field(description="Directory to start in.")
    ] = None
    retry: Annotated[Retry | None, Field(description="What to do after a failed attempt.")] = None
    timeout_seconds: Annotated[
        _Seconds | None, Field(description="Seconds that one attempt may run.")
    ] = None
    start_deadline_seconds: Annotated[
        _Seconds | None,
        Field(description="Seconds that a placed attempt may wait for its container to start."),
    ] = None
    ttl_seconds_after_finished: Annotated[
        TtlSecondsAfterFinished | None,
        Field(
            description="When to delete a finished Task. A Task with "
            "`ttlSecondsAfterFinished: null`, or `{}`, stays."
        ),
    ] = None
    resources: Annotated[TaskResources | None, Field(description="CPU and memory of a task.")] = (
        None
    )
    limits: Annotated[Limits | None, Field(description="Budgets of the tree below a root.")] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.args is not None and self.command is None:
            raise ValueError(ARGS_MESSAGE)
        return self
