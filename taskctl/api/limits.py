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
        Field(ge=1, le=MAX_SPAWN_RATE, description="How many tasks may be spawned in that time."),
    ]
    per_seconds: Annotated[
        int,
        Field(ge=1, le=MAX_SPAWN_SECONDS, description="That time; 60 for a rate per minute."),
    ] = 1
    burst: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_SPAWN_RATE,
            description="How many may be spawned at once after a pause; more in one call are "
            "refused. Default: `tasks`.",
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
            description="How many descendants the root may ever have, those that have ended and "
            "been deleted included. A spawn of more is refused as a whole. Children that a parent "
            "which runs again finds do not count again. Not set: no limit.",
        ),
    ] = None
    live_tasks: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_LIVE_TASKS,
            description="How many tasks of the tree, the root included, may be on workers at a "
            "time; further ones wait in the queue. A task that waits for its children does not "
            "count meanwhile. Not set: no limit.",
        ),
    ] = None
    spawn_rate: Annotated[
        SpawnRate | None,
        Field(
            description="How fast tasks of the tree may spawn others, all together. What is too "
            "much is refused with the time after which it is not; the Python SDK waits for that. "
            "Children that a parent which runs again finds do not count. Not set: no limit."
        ),
    ] = None
