"""``TaskCluster.spec.taskDefaults``: what its Tasks take where they leave a field out."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import meta
from taskctl.api.limits import Limits
from taskctl.api.meta import INT32_MAX, SpecModel
from taskctl.api.retry import Retry, TtlSecondsAfterFinished
from taskctl.api.taskenv import EnvVar
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
    image: Annotated[
        str | None,
        Field(min_length=1, max_length=1024, description="Container image."),
    ] = None
    command: Annotated[
        list[meta.LongText] | None,
        Field(
            min_length=1,
            max_length=meta.MAX_COMMAND_ITEMS,
            description="Program and its first arguments.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    args: Annotated[
        list[meta.LongText] | None,
        Field(
            max_length=meta.MAX_COMMAND_ITEMS,
            description="Further arguments, for Tasks that have neither `command` nor `args`.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    env: Annotated[
        list[EnvVar] | None,
        Field(
            max_length=meta.MAX_ENV,
            description="Environment variables. Those that the Task sets take precedence.",
            json_schema_extra=meta.map_list("name"),
        ),
    ] = None
    working_dir: Annotated[
        str | None, Field(max_length=meta.MAX_TEXT, description="Directory to start in.")
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
        names = [variable.name for variable in self.env or ()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"env names {name} twice; remove one")
        return self
