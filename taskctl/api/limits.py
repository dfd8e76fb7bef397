"""Budgets of a tree: ``spec.limits``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import meta
from taskctl.api.meta import SpecModel


def _not_yet(field: str) -> str:
    return f"{field} is not supported yet; remove it"


class Limits(SpecModel):
    """Budgets of the tree that grows below a root."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(
                "!has(self.descendants)", _not_yet("limits.descendants"), field_path=".descendants"
            ),
            meta.cel("!has(self.liveTasks)", _not_yet("limits.liveTasks"), field_path=".liveTasks"),
        )
    )
    depth: Annotated[
        int | None,
        Field(
            ge=0,
            le=100000,
            description="Deepest level of children allowed; the root is at depth 0, so 0 "
            "forbids children. Not set: no limit.",
        ),
    ] = None
    descendants: Annotated[int | None, Field(ge=0, description="Not supported yet: refused.")] = (
        None
    )
    live_tasks: Annotated[int | None, Field(ge=1, description="Not supported yet: refused.")] = None

    @model_validator(mode="after")
    def _supported(self) -> Self:
        if self.descendants is not None:
            raise ValueError(_not_yet("limits.descendants"))
        if self.live_tasks is not None:
            raise ValueError(_not_yet("limits.liveTasks"))
        return self
