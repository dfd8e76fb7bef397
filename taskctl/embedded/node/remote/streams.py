"""Carrying streams until they have ended or the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any


async def carry(
    hearing: Coroutine[Any, Any, None], streams: Collection[Coroutine[Any, Any, None]]
) -> bool:
    """Run streams beside what hears the client; at the end, all of it is stopped.

    Args:
        hearing: returns when the client has gone.
        streams: what is carried.

    Returns:
        Whether the streams have ended; otherwise the client has gone before.

    Raises:
        ConnectionError: a stream found that the client has gone; so it is with what else it raises.
    """
    tasks = [asyncio.create_task(one, name="stream") for one in streams]
    ear = asyncio.create_task(hearing, name="client")
    ending = asyncio.create_task(_all(tasks), name="streams")
    try:
        await asyncio.wait({ear, ending}, return_when=asyncio.FIRST_COMPLETED)
        if ear.done():
            return False
        await ending
        return True
    finally:
        for task in (ear, ending, *tasks):
            task.cancel()
        await asyncio.gather(ear, ending, *tasks, return_exceptions=True)


async def _all(tasks: Collection[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)
