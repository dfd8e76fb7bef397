"""Answers in pieces, no faster than the client reads them.

What is sent is made piece by piece, so a client that does not read costs one piece and the
transport's buffer, however long the answer is. It loses its connection after a while: a real
server closes the watch of a client that cannot keep up, and ends other requests after a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from aiohttp import web

PIECE_BYTES: Final = 64 * 1024
# A client that takes no piece within this time is cut off.
STALL_TIMEOUT_S: Final = 30.0


def pieces(parts: Iterable[bytes], size_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """Join parts to pieces of at least ``size_bytes``, but for the last one."""
    held: list[bytes] = []
    held_bytes = 0
    for part in parts:
        held.append(part)
        held_bytes += len(part)
        if held_bytes >= size_bytes:
            yield b"".join(held)
            held, held_bytes = [], 0
    if held:
        yield b"".join(held)


async def write(request: web.BaseRequest, response: web.StreamResponse, piece: bytes) -> None:
    """Send one piece, and let other requests have their turn.

    Raises:
        ConnectionError: the client has gone, or does not read.
    """
    try:
        async with asyncio.timeout(STALL_TIMEOUT_S):
            await response.write(piece)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError("the client does not read") from None
    await asyncio.sleep(0)
