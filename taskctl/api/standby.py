"""``TaskCluster.spec.standby``: containers that are started before there is a task for them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import meta
from taskctl.api.meta import SpecModel

FLOOR_MESSAGE = (
    "minPerWorker is more than maxPerWorker; raise that one, or set it to 0 to park nothing"
)


class Standby(SpecModel):
    """Containers that are started before there is a task for them, and wait ("parked").

    A task whose image, read-only mount of the workspace and `valueFrom` environment they have is
    handed to one within milliseconds. They take no slot.
    """

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(
                "!has(self.maxPerWorker) || self.maxPerWorker == 0"
                " || self.minPerWorker <= self.maxPerWorker",
                FLOOR_MESSAGE,
                field_path=".minPerWorker",
            )
        )
    )
    max_per_worker: Annotated[
        int | None,
        Field(
            ge=0,
            le=100,
            description=(
                "Largest number of parked containers on a worker. 0: no containers are parked. "
                "Parked containers count towards `rotation.maxTasks`. Default: an eighth of "
                "`rotation.maxTasks`, 16 at most, and none if that is below 20; those that have "
                "ended on the worker without a task count towards it."
            ),
        ),
    ] = None
    min_per_worker: Annotated[
        int,
        Field(
            ge=0,
            le=100,
            description=(
                "Smallest number of parked containers on each worker for each kind of task that "
                "was started within `idleSeconds`. Between the two limits the number follows how "
                "many tasks are started per second. Default 0: the TaskCluster has at least one "
                "for each kind of which tasks are started more often than every `idleSeconds`."
            ),
        ),
    ] = 0
    max: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Largest number of parked containers on all workers together. Default 200.",
        ),
    ] = 200
    idle_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=86_400,
            description=(
                "Seconds without a started task of their kind after which parked containers end. "
                "Default 60."
            ),
        ),
    ] = 60

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_per_worker and self.min_per_worker > self.max_per_worker:
            raise ValueError(FLOOR_MESSAGE)
        return self
