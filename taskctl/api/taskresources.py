"""``spec.resources`` of a Task: CPU and memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator

from taskctl.api import meta
from taskctl.api.meta import SpecModel
from taskctl.quantity import parse_quantity

_MAX_CHARS: Final = 32
_NUMBER: Final = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_LARGE: Final = r"[kMGTPE]|[KMGTPE]i|[eE]\+?[0-9]{1,2}"
CPU_PATTERN: Final = f"^{_NUMBER}([num]|{_LARGE})?$"
# A memory of 100m would be a tenth of a byte: what is meant is 100M or 100Mi.
MEMORY_PATTERN: Final = f"^{_NUMBER}({_LARGE})?$"
EXCESS_MESSAGE: Final = "requests must not exceed limits; lower the request or raise the limit"


def _checker(pattern: str, examples: str) -> Callable[[int | str], int | str]:
    known = re.compile(pattern)

    def check(value: int | str) -> int | str:
        text = str(value)
        if len(text) > _MAX_CHARS or not known.match(text):
            raise ValueError(
                f"{text[:_MAX_CHARS]!r} is not such an amount; write for example {examples}"
            )
        return value

    return check


def _schema(pattern: str) -> dict[str, Any]:
    return {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": pattern,
        "minimum": 0,
        "maxLength": _MAX_CHARS,
        "x-kubernetes-int-or-string": True,
    }


Cpu = Annotated[
    int | str,
    AfterValidator(_checker(CPU_PATTERN, "500m or 2")),
    WithJsonSchema(_schema(CPU_PATTERN)),
]
Memory = Annotated[
    int | str,
    AfterValidator(_checker(MEMORY_PATTERN, "512Mi or 2Gi")),
    WithJsonSchema(_schema(MEMORY_PATTERN)),
]


class ResourceRequests(SpecModel):
    """What is kept free for the task on its worker."""

    cpu: Annotated[Cpu | None, Field(description="CPUs, for example 500m or 2.")] = None
    memory: Annotated[Memory | None, Field(description="Bytes, for example 512Mi or 2Gi.")] = None


class ResourceLimits(SpecModel):
    """What the task may use at most."""

    cpu: Annotated[
        Cpu | None,
        Field(
            description=(
                "Used as the request if `requests.cpu` is not set. It does not keep the task from "
                "using more: that would need a cgroup, which Kubernetes does not give to ephemeral "
                "containers."
            )
        ),
    ] = None
    memory: Annotated[
        Memory | None,
        Field(
            description=(
                "Bytes that all processes of the task may hold together. If they hold more, the "
                "attempt fails with MemoryLimitExceeded. Used as the request if `requests.memory` "
                "is not set."
            )
        ),
    ] = None


def _exceeds(name: str) -> str:
    request, limit = f"self.requests.{name}", f"self.limits.{name}"
    return (
        f"!has({request}) || !has({limit}) || "
        f"quantity(string({request})).compareTo(quantity(string({limit}))) <= 0"
    )


class TaskResources(SpecModel):
    """CPU and memory of a task."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            *(
                meta.cel(
                    f"!has(self.requests) || !has(self.limits) || {_exceeds(name)}",
                    EXCESS_MESSAGE,
                    field_path=f".requests.{name}",
                )
                for name in ("cpu", "memory")
            )
        )
    )
    requests: Annotated[
        ResourceRequests | None,
        Field(
            description=(
                "CPU and memory that must be free on a worker for the task to be placed there, in "
                "addition to `slots`. A worker has what the TaskCluster's `template.resources` "
                "gives it."
            )
        ),
    ] = None
    limits: Annotated[
        ResourceLimits | None, Field(description="What the task may use at most.")
    ] = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("cpu", "memory"):
            request, limit = getattr(self.requests, name, None), getattr(self.limits, name, None)
            if None not in (request, limit) and parse_quantity(str(request)) > parse_quantity(
                str(limit)
            ):
                raise ValueError(
                    f"requests.{name} is {request} and limits.{name} {limit}: {EXCESS_MESSAGE}"
                )
        return self
