"""What becomes of a Task after an attempt: another one, and in the end its removal."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import meta
from taskctl.api.meta import INT32_MAX, SpecModel


class Retry(SpecModel):
    """How often, and after which exits, a failed attempt is repeated.

    Infrastructure failures (a lost worker, a vanished container) are repeated in any case
    and do not count here.
    """

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(
                "!(has(self.onExitCodes) && has(self.exceptExitCodes))",
                "set either onExitCodes or exceptExitCodes, not both",
            )
        )
    )
    limit: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description=(
                "Number of attempts after the first one. 0 (the default): the Task is not repeated."
            ),
        ),
    ] = 0
    backoff_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=86400,
            description=(
                "Seconds to wait before the first repetition. The wait doubles with each "
                "repetition. Default 1."
            ),
        ),
    ] = 1
    max_backoff_seconds: Annotated[
        float,
        Field(gt=0, le=86400, description="Longest wait in seconds. Default 300."),
    ] = 300
    jitter: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description=(
                "Random part of the wait, so that many tasks that fail together are not repeated "
                "together. 0.2 (the default) means up to 20 % more or less."
            ),
        ),
    ] = 0.2
    on_exit_codes: Annotated[
        list[Annotated[int, Field(ge=1, le=255)]] | None,
        Field(
            min_length=1,
            max_length=255,
            description=(
                "Repeat only after these exit codes (1 to 255; the end by signal n counts as "
                "128+n). If set, an attempt that timed out is not repeated."
            ),
            json_schema_extra=meta.SET_LIST,
        ),
    ] = None
    except_exit_codes: Annotated[
        list[Annotated[int, Field(ge=1, le=255)]] | None,
        Field(
            min_length=1,
            max_length=255,
            description="Never repeat after these exit codes (1 to 255; the end by signal n counts "
            "as 128+n).",
            json_schema_extra=meta.SET_LIST,
        ),
    ] = None

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.on_exit_codes is not None and self.except_exit_codes is not None:
            raise ValueError("set either onExitCodes or exceptExitCodes, not both")
        return self


class TtlSecondsAfterFinished(SpecModel):
    """When to delete the finished Task; a root takes its whole tree along."""

    success: Annotated[
        int | None,
        Field(
            ge=0,
            le=INT32_MAX,
            description=(
                "Seconds after the Task succeeded or was skipped. Not set, or null: the Task "
                "stays. For a root the time counts from the end of its whole tree."
            ),
            json_schema_extra={"nullable": True},
        ),
    ] = None
    failure: Annotated[
        int | None,
        Field(
            ge=0,
            le=INT32_MAX,
            description="Seconds after failure or cancellation. Not set, or null: the Task stays.",
            json_schema_extra={"nullable": True},
        ),
    ] = None
