"""Budgets of a tree: ``spec.limits``."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from taskctl.api.meta import SpecModel

MAX_DESCENDANTS: Final = 10_000_000
MAX_LIVE_TASKS: Final = 1_000_000
MAX_SPAWN_RATE: Final = 100_000
MAX_SPAWN_SECONDS: Final = 86_400


class SpawnRate(SpecModel):
    """How fast a tree may grow: so many tasks in so many seconds, on average."""

    tasks: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_SPAWN_RATE,
            description="Tasks that may be spawned in `perSeconds`.",
        ),
    ]
    per_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_SPAWN_SECONDS,
            description="Length of the time window in seconds; 60 for a rate per minute.",
        ),
    ] = 1
    burst: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_SPAWN_RATE,
            description=(
                "Number of tasks that may be spawned at once after a pause. A call that spawns "
                "more is refused. Default: `tasks`."
            ),
        ),
    ] = None


class Limits(SpecModel):
    """Budgets of the tree that grows below a root."""

    depth: Annotated[
        int | None,
        Field(
            ge=0,
            le=100000,
            description="Deepest level of children allowed; the root is at depth 0, so 0 "
            "forbids children. Not set: no limit.",
        ),
    ] = None
    descendants: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_DESCENDANTS,
            description=(
                "Number of descendants that the root may ever have, including those that have "
                "ended and been deleted. A spawn that would exceed it is refused as a whole. When "
                "a parent runs again, the children that it finds do not count again. Not set: no "
                "limit."
            ),
        ),
    ] = None
    live_tasks: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_LIVE_TASKS,
            description=(
                "Number of tasks of the tree, including the root, that may be on workers at a "
                "time; further tasks wait in the queue. A task does not count while it waits for "
                "its children. Not set: no limit."
            ),
        ),
    ] = None
    spawn_rate: Annotated[
        SpawnRate | None,
        Field(
            description=(
                "How fast all tasks of the tree together may spawn children. A spawn that exceeds "
                "the rate is refused, with the time after which it may be repeated; the Python SDK "
                "waits that long and tries again. When a parent runs again, the children that it "
                "finds do not count. Not set: no limit."
            )
        ),
    ] = None
