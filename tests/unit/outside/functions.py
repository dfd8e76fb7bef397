"""Functions to be submitted."""

from __future__ import annotations

from taskctl.sdk import task


@task(retry=2, slots=3)
async def count(number: int, limit: int = 9) -> int:
    return number + limit


def plain(number: int) -> int:
    return number


def everything(*numbers: int, **names: str) -> list[str]:
    return [*map(str, numbers), *names]
