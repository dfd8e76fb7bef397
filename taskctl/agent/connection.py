"""One connection on the socket: frames in, frames out, and limits on both.

Whoever connects may send anything at any speed, or not read what it is sent. None of that may
cost another connection more than its share: a frame must arrive within a time, the first one
is small, the memory for large ones is rationed over all connections, and a peer that does not
read is cut off rather than waited for.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from taskctl.agent.refusals import ErrorCode
from taskctl.errors import WireError
from taskctl.wire import MAX_FRAME_BYTES, Message, decode_body, encode

logger = logging.getLogger(__name__)

HEADER: Final = struct.Struct(">I")
FIRST_FRAME_BYTES: Final = 64 * 1024  # before anybody has said who it is
FIRST_FRAME_S: Final = 10.0
BODY_S: Final = 30.0
SMALL_FRAME_BYTES: Final = 64 * 1024
LARGE_FRAMES_BYTES: Final = 128 * 1024 * 1024  # being received at once, over all connections
# One large answer may wait in the buffer while the next is made; then the peer is cut off.
MAX_UNREAD_BYTES: Final = 2 * MAX_FRAME_BYTES


class FrameBudget:
    """Rations the memory for large frames over all connections.

    Args:
        total_bytes: at most so much at once; a frame that is larger alone never fits.
    """

    def __init__(self, total_bytes: int = LARGE_FRAMES_BYTES) -> None:
        self._free = total_bytes
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Wait for room, and hold it."""
        if size <= SMALL_FRAME_BYTES:
            yield
            return
        async with self._changed:
            await self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            async with self._changed:
                self._changed.notify_all()


class Connection:
    """Reads and writes frames.

    Args:
        reader: of the socket.
        writer: of the socket.
        budget: shared by all connections.

    Attributes:
        identified: the peer has said who it is; large frames wait for that.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: FrameBudget
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._budget = budget
        self.identified = asyncio.Event()

    async def receive_first(self) -> Message | None:
        """Return the first message, which must be small and come soon; None at the end.

        Raises:
            WireError: it is malformed, too large or late.
        """
        try:
            async with asyncio.timeout(FIRST_FRAME_S):
                return await self._receive(FIRST_FRAME_BYTES)
        except TimeoutError:
            raise WireError(f"no request came within {FIRST_FRAME_S:.0f} s") from None

    async def receive(self) -> Message | None:
        """Return the next message, however long it takes to begin; None at the end.

        Raises:
            WireError: it is malformed, too large, or arrives too slowly.
        """
        return await self._receive(MAX_FRAME_BYTES)

    async def _receive(self, max_bytes: int) -> Message | None:
        try:
            (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
            if length > max_bytes:
                raise WireError(f"a frame of {length} bytes; at most {max_bytes} are allowed here")
            if length > FIRST_FRAME_BYTES:
                await self.identified.wait()  # no memory for strangers
            async with self._budget.taken(length):
                async with asyncio.timeout(BODY_S):
                    body = await self._reader.readexactly(length)
                return decode_body(body)
        except TimeoutError:
            raise WireError(f"a frame did not arrive in full within {BODY_S:.0f} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def drain(self) -> None:
        """Wait while the peer is behind with reading."""
        try:
            await self._writer.drain()
        except ConnectionError:
            logger.debug("the peer is gone")

    def push(self, message: Message) -> None:
        """Send a message without waiting; a peer that does not read is cut off."""
        if self._writer.is_closing():
            return
        self._writer.write(self._encoded(message))
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            logger.warning("a connection is cut off: its peer does not read")
            self.abort()

    @staticmethod
    def _encoded(message: Message) -> bytes:
        try:
            return encode(message)
        except WireError as error:
            return encode(
                {
                    "id": message["id"],
                    "ok": False,
                    "error": ErrorCode.TOO_LARGE.value,
                    "message": f"the answer {error}",
                }
            )

    def abort(self) -> None:
        """Close at once; what was not sent yet is lost."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Send what is waiting, but not for long, and close."""
        self._writer.close()
        try:
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            self.abort()
