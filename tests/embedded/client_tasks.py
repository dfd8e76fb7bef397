"""Functions that test_client.py submits; the tasks import this file."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from taskctl.sdk import spawn, task


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Order:
    number: int
    price: float
    due: datetime
    colour: Colour
    path: Path | None = None
    parts: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    every: timedelta = timedelta(seconds=1.5)


@task
async def same(order: Order) -> Order:
    return order


@task
def fail(text: str) -> int:
    print("about to fail")
    raise ValueError(text)


def square(number: int) -> int:
    return number * number


@task
def nap(seconds: float) -> str:
    print("awake", flush=True)
    time.sleep(seconds)
    print("rested", flush=True)
    return "done"


@task
async def grow(levels: int) -> int:
    if levels:
        await spawn(grow, levels - 1)
    return levels


@task
def large(count: int) -> list[int]:
    return list(range(count))


@task(retry={"limit": 1, "backoffSeconds": 0.1})
def flaky(marker: Path) -> str:
    print(f"try {marker.exists()}", flush=True)
    if not marker.exists():
        marker.touch()
        raise RuntimeError("the first time")
    return "second"


@task
def need(marker: Path) -> int:
    if not marker.exists():
        raise RuntimeError("not ready")
    return 1


@task
async def needing(marker: Path, joined: bool) -> int:
    child = await spawn(need, marker)
    return 1 + await child.result() if joined else 0
