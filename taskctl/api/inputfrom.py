"""Results of other Tasks as parts of a Task's input: ``spec.inputFrom``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import meta
from taskctl.api.meta import Name, SpecModel

MAX_SOURCES = 1000
MAX_SOURCE_TASKS = 10_000
ONE_MESSAGE = "set either task (one result) or tasks (an array of results)"
# A JSON pointer (RFC 6901); the whole input is the empty one.
POINTER = r"^(/([^~/]|~[01])*)*$"


class InputSource(SpecModel):
    """The result of a Task, or those of several, and where in the input they go."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel("has(self.task) != has(self.tasks)", ONE_MESSAGE)
        )
    )
    path: Annotated[
        str,
        Field(
            max_length=1024,
            pattern=POINTER,
            description="JSON pointer (RFC 6901) of the place in the input, for example /results; "
            "maps on the way are made. Empty (the default): it is the whole input.",
        ),
    ] = ""
    task: Annotated[
        Name | None,
        Field(
            description="Name of the Task whose output goes there; null if it has not succeeded, "
            "or has none."
        ),
    ] = None
    tasks: Annotated[
        list[Name] | None,
        Field(
            max_length=MAX_SOURCE_TASKS,
            description="Names of Tasks whose outputs go there as an array, in this order; null "
            "for one that has not succeeded, or has none.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.task is None) == (self.tasks is None):
            raise ValueError(ONE_MESSAGE)
        return self
