"""Fields of a container that several objects have: one type for each, with its bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from taskctl.api import meta
from taskctl.api.taskenv import EnvVar


def _unique(env: list[EnvVar]) -> list[EnvVar]:
    names = [variable.name for variable in env]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"env names {name} twice; remove one")
    return env


Image = Annotated[str, Field(min_length=1, max_length=1024)]
_List = Annotated[list[meta.LongText], Field(max_length=meta.MAX_COMMAND_ITEMS)]
Command = Annotated[_List, Field(min_length=1, json_schema_extra=meta.ATOMIC_LIST)]
Arguments = Annotated[_List, Field(json_schema_extra=meta.ATOMIC_LIST)]
Env = Annotated[
    list[EnvVar],
    Field(max_length=meta.MAX_ENV, json_schema_extra=meta.map_list("name")),
    AfterValidator(_unique),
]
WorkingDir = Annotated[str, Field(max_length=meta.MAX_TEXT)]
