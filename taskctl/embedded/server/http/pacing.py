"""Answers in pieces, no faster than the client reads them.

What is sent is made piece by piece, so a client that does not read costs one piece and the
transport's buffer, however long the answer is. It loses its connection after a while: a real
server closes the watch of a client that cannot keep up, and ends other requests after a minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from taskctl.embedded.server.refusals import errors

log = logging.getLogger(__name__)

Bytes = bytes | memoryview

PIECE_BYTES: Final = 64 * 1024
# Answers up to this size are handed to the transport as a whole.
SMALL_BYTES: Final = 128 * 1024
# Of answers that were made for one client alone.
UNSENT_LIMIT_BYTES: Final = 32 * 1024 * 1024
_RETRY_S: Final = 2
# kube-apiserver --request-timeout; watches are not meant.
ANSWER_TIMEOUT_S: Final = 60.0
# An answer is made for so long before other requests get their turn.
TURN_S: Final = 0.005
# A client that takes no piece within this time is cut off.
STALL_TIMEOUT_S: Final = 30.0


def pieces(parts: Iterable[Bytes], size_bytes: int = PIECE_BYTES) -> Iterator[Bytes]:
    """Join small parts to pieces; large ones, which clients share, stay what they are.

    A piece that has taken long to make is handed over as it is, even if it is empty, so that
    other requests get their turn.
    """
    held: list[Bytes] = []
    held_bytes = 0
    until_s = time.monotonic() + TURN_S
    for part in parts:
        large = len(part) >= size_bytes
        if not large:
            held.append(part)
            held_bytes += len(part)
        if large or held_bytes >= size_bytes or time.monotonic() >= until_s:
            yield b"".join(held)
            held, held_bytes = [], 0
            if large:
                yield part
            until_s = time.monotonic() + TURN_S
    if held:
        yield b"".join(held)


async def write(request: web.BaseRequest, response: web.StreamResponse, piece: Bytes) -> None:
    """Send one piece, and let other requests have their turn.

    Raises:
        ConnectionError: the client has gone, or does not read.
    """
    view = memoryview(piece)
    try:
        # In slices, since the transport keeps a copy of what it cannot send at once.
        for at in range(0, len(view), PIECE_BYTES):
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await response.write(view[at : at + PIECE_BYTES])
    except TimeoutError:
        raise _cut_off(request, "the client does not read") from None
    await asyncio.sleep(0)


@contextmanager
def begun(request: web.BaseRequest) -> Iterator[None]:
    """Cut the connection if something fails after an answer has begun: it cannot be taken back.

    Raises:
        ConnectionError: instead of whatever else fails.
    """
    if request.transport is not None:
        # With TLS, asyncio would keep eight times as much.
        request.transport.set_write_buffer_limits(PIECE_BYTES)
    try:
        yield
    except ConnectionError:
        raise
    except Exception:
        log.exception("%s %s failed halfway", request.method, request.path)
        raise _cut_off(request, "the answer could not be made") from None


def _cut_off(request: web.BaseRequest, why: str) -> ConnectionError:
    if request.transport is not None:
        request.transport.abort()
    return ConnectionAbortedError(why)


class PacedResponse(web.StreamResponse):
    """An answer whose parts are made while they are sent (:meth:`Pacer.send`).

    Attributes:
        parts: of the body.
        in_thread: a part may take long to make, so others must not wait for it.
        held_bytes: memory that the answer takes for itself until it is sent.
    """

    parts: Iterator[Bytes]
    in_thread: bool = False
    held_bytes: int = 0


class Pacer:
    """Sends answers so that no client takes time or memory from the others for long."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._unsent_bytes = 0

    async def send(
        self, request: web.BaseRequest, response: web.StreamResponse
    ) -> web.StreamResponse:
        """Send an answer piece by piece, unless it is small or under way already.

        Raises:
            ConnectionError: the client has gone, or does not read.
            errors.StatusError: 429, too many large answers wait to be read.
        """
        if request.method == "HEAD":
            plain = not isinstance(response, PacedResponse)
            return response if plain else web.Response(headers=response.headers)
        if isinstance(response, web.Response):
            body = response.body
            if not isinstance(body, bytes) or len(body) <= SMALL_BYTES:
                return response
            paced = PacedResponse(status=response.status, headers=response.headers)
            paced.content_length = paced.held_bytes = len(body)
            paced.parts = iter((body,))
        elif isinstance(response, PacedResponse):
            paced = response
        else:
            return response
        with self._hold(paced.held_bytes), begun(request):
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    await paced.prepare(request)
                    await self.send_parts(request, paced, paced.parts, in_thread=paced.in_thread)
                    await paced.write_eof()
            except TimeoutError:
                raise _cut_off(request, "the client does not read") from None
        return paced

    async def send_parts(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        parts: Iterable[Bytes],
        *,
        in_thread: bool = False,
    ) -> None:
        """Make parts of a body and send them.

        Raises:
            ConnectionError: the client has gone, or does not read.
        """
        made = pieces(parts)
        while True:
            # However many such answers there are, one piece is made at a time and then it is
            # another request's turn.
            async with self._turn:
                if in_thread:
                    piece = await asyncio.to_thread(next, made, None)
                else:
                    piece = next(made, None)
            if piece is None:
                return
            await write(request, response, piece)
            del piece  # before the next one is made

    @contextmanager
    def _hold(self, size_bytes: int) -> Iterator[None]:
        """Count an answer that is not shared between clients while it is sent."""
        if self._unsent_bytes and self._unsent_bytes + size_bytes > UNSENT_LIMIT_BYTES:
            raise errors.too_many_requests(
                "too many large answers are waiting to be read by other clients; try again later",
                _RETRY_S,
            )
        self._unsent_bytes += size_bytes
        try:
            yield
        finally:
            self._unsent_bytes -= size_bytes
