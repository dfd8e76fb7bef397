"""What a Task waits for: ``spec.runAfter``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import meta
from taskctl.api.meta import INT32_MAX, GroupName, Name, SpecModel

MAX_RUN_AFTER = 10_000
COUNT_MESSAGE = "count says how many members of group are expected; set group too, or remove count"
MIN_SUCCESS_MESSAGE = (
    "minSuccess is larger than the number of tasks, so it can never be reached; lower it"
)


class RunAfter(SpecModel):
    """Which tasks must have finished before this one starts."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel("!has(self.count) || has(self.group)", COUNT_MESSAGE, field_path=".count"),
            meta.cel(
                "!has(self.minSuccess) || has(self.group)"
                " || (has(self.tasks) && self.minSuccess <= size(self.tasks))",
                MIN_SUCCESS_MESSAGE,
                field_path=".minSuccess",
            ),
        )
    )
    tasks: Annotated[
        list[Name],
        Field(
            max_length=MAX_RUN_AFTER,
            description="Names of Tasks in the same namespace. A name that does not exist (yet) "
            f"is waited for. At most {MAX_RUN_AFTER}, as far as they fit into an object (1.5 MiB); "
            "for more, give them a `group` and wait for that.",
            default_factory=list,
            json_schema_extra=meta.SET_LIST,
        ),
    ]
    group: Annotated[
        GroupName | None,
        Field(
            description=(
                "Wait for all Tasks of the same tree whose `spec.group` has this value, in "
                "addition to those in `tasks`. The Task itself does not count as a member. Members "
                "count if they are created before it starts."
            ),
        ),
    ] = None
    count: Annotated[
        int | None,
        Field(
            ge=0,
            le=INT32_MAX,
            description=(
                "Number of members of `group` that are expected; while fewer exist, the Task "
                "waits. Default 1, or as many as `minSuccess` needs. 0: the Task does not wait for "
                "a group that has no members."
            ),
        ),
    ] = None
    min_success: Annotated[
        int | None,
        Field(
            ge=0,
            le=INT32_MAX,
            description=(
                "Number of the tasks waited for that have to succeed. The Task waits for all of "
                "them to finish, but fails at once when so many can no longer succeed. Not set: "
                "all. With `when: Failure` the Task runs if fewer have succeeded."
            ),
        ),
    ] = None
    subtree: Annotated[
        bool | None,
        Field(
            description=(
                "Whether to wait for the descendants of each task as well. false (the default): "
                "the Task waits for the end of each task itself. true: it waits for the end of "
                "each task and all its descendants, and counts that as failed if one of them "
                "failed or was cancelled."
            )
        ),
    ] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks names a task twice; remove the repetition")
        if self.group is None:
            if self.count is not None:
                raise ValueError(COUNT_MESSAGE)
            if self.min_success is not None and self.min_success > len(self.tasks):
                raise ValueError(MIN_SUCCESS_MESSAGE)
        return self
