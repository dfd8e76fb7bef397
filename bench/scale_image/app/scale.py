"""The tasks of bench/scale.py: many children of one task, gathered by it and by a continuation."""

from __future__ import annotations

import time
from collections.abc import Iterable

from taskctl.sdk import Group, child, gather, spawn_many, task


@task
def total(results: Iterable[int]) -> dict[str, float]:
    """Add up the results of a group, one by one."""
    start_s = time.monotonic()
    added = sum(results)
    return {"sum": added, "seconds": time.monotonic() - start_s}


@task
async def main(count: int) -> dict[str, float]:
    """Spawn ``count`` children with one call, and gather them."""
    start_s = time.monotonic()
    children = await spawn_many(
        child(["taskctl-init", "output", str(number)], key=str(number), group="parts")
        for number in range(count)
    )
    spawned_s = time.monotonic()
    await gather(Group("parts", count=count), then=total)
    results = await gather(children)
    assert results == list(range(count)), "in the order of spawning"
    return {
        "sum": sum(results),
        "spawn_seconds": spawned_s - start_s,
        "gather_seconds": time.monotonic() - spawned_s,
    }
