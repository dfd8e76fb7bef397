"""Results of other Tasks as parts of a Task's input: ``spec.inputFrom``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import meta
from taskctl.api.meta import GroupName, Name, SpecModel

MAX_SOURCES = 1000
MAX_SOURCE_TASKS = 10_000
ONE_MESSAGE = "set either task (one result), or tasks or group (an array of results)"
GROUP_MESSAGE = "results of a group are there when it has ended; set runAfter.group to the same"
# A JSON pointer (RFC 6901); the whole input is the empty one.
POINTER = r"^(/([^~/]|~[01])*)*$"


ONE_SOURCE = meta.cel(
    " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in ("task", "tasks", "group")) + " == 1",
    ONE_MESSAGE,
)
InputPlace = Annotated[
    str,
    Field(
        max_length=1024,
        pattern=POINTER,
        description=(
            "JSON pointer (RFC 6901) to the place in the input, for example /results. Missing maps "
            "on the way there are created. Empty (the default): the value is the whole input."
        ),
    ),
]


class InputSource(SpecModel):
    """The result of a Task, or those of several, and where in the input they go."""

    model_config = ConfigDict(json_schema_extra=meta.validations(ONE_SOURCE))
    path: InputPlace = ""
    task: Annotated[
        Name | None,
        Field(
            description=(
                "Name of the Task whose output goes there; null if that Task did not succeed or "
                "has no output."
            )
        ),
    ] = None
    tasks: Annotated[
        list[Name] | None,
        Field(
            max_length=MAX_SOURCE_TASKS,
            description=(
                "Names of Tasks whose outputs go there as an array, in this order; null for a Task "
                "that did not succeed or has no output."
            ),
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None

    group: Annotated[
        GroupName | None,
        Field(
            description=(
                "Name of a group (`spec.group`) of the same tree. The outputs of all its members "
                "go there as an array, in the order in which the members were created; null for a "
                "member that did not succeed or has no output. `runAfter` must name the group too."
            )
        ),
    ] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        check_one_source(self.task, self.tasks, self.group)
        return self


def check_one_source(*given: object) -> None:
    """Make sure that exactly one of ``task``, ``tasks`` and ``group`` is given.

    Raises:
        ValueError: it is not so.
    """
    if sum(item is not None for item in given) != 1:
        raise ValueError(ONE_MESSAGE)


def check_groups(sources: Iterable[InputSource], group: str | None) -> None:
    """Make sure that a Task waits for the group whose results it takes.

    Raises:
        ValueError: it does not; ``group`` is that of ``runAfter``.
    """
    if any(source.group not in (None, group) for source in sources):
        raise ValueError(f"inputFrom: {GROUP_MESSAGE}")
