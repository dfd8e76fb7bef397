"""Functions that tests spawn."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from taskctl.sdk import spawn, task
from taskctl.sdk.sync import spawn as spawn_sync


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass
class Shape:
    name: str
    points: list[Point]
    color: Color | None = None
    made: datetime | None = None
    where: Path | None = None
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)


@task
async def count(n: int, limit: int) -> int:
    if n < limit:
        await spawn(count, n + 1, limit)
    return n


@task(timeout_s=60, retry=3)
def area(shape: Shape, *factors: float, scale: int = 1, **labels: str) -> dict[str, object]:
    return {"name": shape.name, "factors": list(factors), "scale": scale, "labels": labels}


@task
def echo(shape: Shape) -> Shape:
    spawn_sync(echo, shape)
    return shape


@task
def nothing() -> None:
    print("nothing")


@task
def fail() -> None:
    raise ValueError("on purpose")


@task
async def wait_long() -> str:
    try:
        print("up", flush=True)
        await asyncio.sleep(60)
    finally:
        print("cleaned up", flush=True)
    return "not reached"


@task
def wait_long_sync() -> str:
    import time

    try:
        print("up", flush=True)
        for _ in range(999):
            time.sleep(0.05)
    finally:
        print("cleaned up", flush=True)
    return "not reached"


@task
def unannotated(value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    return value


@task
def unsendable() -> object:
    return object()


def plain(n: int) -> int:
    return n


class Box:
    @staticmethod
    @task
    def inside(n: int) -> int:
        return n


@task
async def forgetful() -> None:
    spawn(count, 1, 2)  # type: ignore[unused-coroutine]
