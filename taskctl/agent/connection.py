"""One connection on the socket: frames in, frames out, and limits on both.

A process that connects may send anything at any speed, or not read what it is sent. None of that
may cost another task its share: the first frame is small and must come soon, what is received
counts as it arrives and only on the account of its sender, what a frame would cost is known before
it is decoded, and a peer that does not read is cut off rather than waited for.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

import msgpack

from taskctl.agent.framescan import Limits, TooMuchError, scan
from taskctl.agent.ration import Ration
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.errors import WireError
from taskctl.wire import MAX_FRAME_BYTES, Message, decode_body, encode

logger = logging.getLogger(__name__)

HEADER: Final = struct.Struct(">I")
FIRST_FRAME_BYTES: Final = 64 * 1024  # before the peer has said who it is
FIRST_FRAME_S: Final = 10.0
BODY_S: Final = 30.0
SEND_S: Final = 30.0  # for a peer to read one answer
SMALL_FRAME_BYTES: Final = 64 * 1024
QUICK_FRAME_BYTES: Final = 4 * 1024  # walked and decoded in well under a millisecond
READ_BYTES: Final = 256 * 1024
# Pushes are small and few; answers are sent one at a time.
MAX_UNREAD_BYTES: Final = 2 * MAX_FRAME_BYTES
# msgpack itself gives up at 1,024 levels; a larger value belongs in a file of the workspace.
FRAME_LIMITS: Final = Limits(items=300_000, depth=1024, memory_bytes=96 * 1024 * 1024)
FIRST_FRAME_LIMITS: Final = Limits(items=256, depth=8, memory_bytes=1024 * 1024)


@dataclass(eq=False, slots=True)
class Frame:
    """A message that was received.

    Attributes:
        message: what it says; where it was refused, ``id`` only.
        refusal: the frame would cost too much to decode.
        held_bytes: on the account of the peer until :meth:`Connection.release`.
    """

    message: Message
    refusal: Refusal | None = None
    held_bytes: int = 0


class Connection:
    """Reads and writes frames.

    Args:
        reader: of the socket.
        writer: of the socket.
        decoding: a thread for large frames, which would hold up the others here.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoding: Executor
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoding = decoding
        self._sending = asyncio.Lock()
        self._identified = asyncio.Event()
        self._ration: Ration | None = None
        self._held: set[Frame] = set()

    def identify(self, ration: Ration) -> None:
        """Note who the peer is, and whose account pays for what it sends from now on."""
        self._ration = ration
        self._identified.set()

    @property
    def is_identified(self) -> bool:
        """Whether the peer has said who it is."""
        return self._identified.is_set()

    # --- in ---------------------------------------------------------------------------
    async def receive_first(self) -> Message | None:
        """Return the first message, which must be small and come soon; None at the end.

        Raises:
            WireError: it is malformed, too large or late.
        """
        try:
            async with asyncio.timeout(FIRST_FRAME_S):
                length = await self._length(FIRST_FRAME_BYTES)
                body = await self._reader.readexactly(length)
            scan(body, FIRST_FRAME_LIMITS)
            return decode_body(body)
        except TimeoutError:
            raise WireError(f"no request came within {FIRST_FRAME_S:.0f} s") from None
        except TooMuchError as error:
            raise WireError(f"the first request: {error}") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def receive(self) -> Frame | None:
        """Return the next message, however long it takes to begin; None at the end.

        What it holds of the peer's account must be released.

        Raises:
            WireError: it is malformed, too large, or arrives too slowly.
        """
        try:
            length = await self._length(MAX_FRAME_BYTES)
            await self._identified.wait()  # no memory for strangers
            ration = self._ration
            assert ration is not None
            if length <= SMALL_FRAME_BYTES:
                async with asyncio.timeout(BODY_S):
                    body = await self._reader.readexactly(length)
                return await self._decoded(body, ration)
            async with ration.receiving:
                return await self._large(length, ration)
        except TimeoutError:
            raise WireError(f"a frame did not arrive in full within {BODY_S:.0f} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def _length(self, max_bytes: int) -> int:
        (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        if length > max_bytes:
            raise WireError(f"a frame of {length} bytes; at most {max_bytes} are allowed here")
        return int(length)

    async def _large(self, length: int, ration: Ration) -> Frame:
        """Receive a large frame, counting what has arrived rather than what was announced."""
        body = bytearray()
        left_s = BODY_S
        loop = asyncio.get_running_loop()
        taken = 0
        try:
            while len(body) < length:
                part = min(READ_BYTES, length - len(body))
                began_s = loop.time()
                async with asyncio.timeout(left_s):
                    data = await self._reader.read(part)
                left_s -= loop.time() - began_s  # waiting for room is not the peer's fault
                if not data:
                    raise asyncio.IncompleteReadError(bytes(body), length)
                await ration.take(len(data))
                taken += len(data)
                body += data
            return await self._decoded(bytes(body), ration)
        finally:
            ration.give(taken)

    async def _decoded(self, body: bytes, ration: Ration) -> Frame:
        """Return the message in a body, on the account of its sender."""
        quick = len(body) <= QUICK_FRAME_BYTES
        loop = asyncio.get_running_loop()
        try:
            if quick:
                cost = scan(body, FRAME_LIMITS)
            else:
                cost = await loop.run_in_executor(self._decoding, scan, body, FRAME_LIMITS)
        except TooMuchError as error:
            return await self._refused(body, error)
        await ration.take(cost.memory_bytes)
        try:
            if quick:
                message = decode_body(body)
            else:
                message = await loop.run_in_executor(self._decoding, decode_body, body)
        except BaseException:
            ration.give(cost.memory_bytes)
            raise
        frame = Frame(message, held_bytes=cost.memory_bytes)
        self._held.add(frame)
        return frame

    def release(self, frame: Frame) -> None:
        """Forget a message and give its memory back; again is harmless."""
        self._held.discard(frame)
        frame.message = {}
        if self._ration is not None:
            self._ration.give(frame.held_bytes)
        frame.held_bytes = 0

    async def _refused(self, body: bytes, error: TooMuchError) -> Frame:
        """Return a frame that carries only the number of a request that is too costly."""
        number = await asyncio.get_running_loop().run_in_executor(self._decoding, _number, body)
        message = f"the request cannot be taken: {error}; write it to a file in the workspace"
        return Frame({"id": number}, Refusal(ErrorCode.TOO_LARGE, message))

    # --- out --------------------------------------------------------------------------
    async def send(self, message: Message, then: Callable[[], None] | None = None) -> None:
        """Send an answer, once the peer has read the one before; cut it off if it does not.

        Args:
            message: the answer.
            then: called as soon as it is in the buffer: what is pushed there follows it.
        """
        data = self._encoded(message)
        del message
        ration = self._ration
        async with self._sending:
            if ration is not None:
                await ration.take(len(data))
            try:
                if self._writer.is_closing():
                    return
                self._writer.write(data)
                if then is not None:
                    then()
                async with asyncio.timeout(SEND_S):
                    await self._writer.drain()
            except TimeoutError:
                self._cut_off()
            except ConnectionError:
                logger.debug("the peer is gone")
            finally:
                if ration is not None:
                    ration.give(len(data))

    def push(self, message: Message) -> None:
        """Send an unasked message without waiting; a peer that does not read is cut off."""
        if self._writer.is_closing():
            return
        self._writer.write(self._encoded(message))
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._cut_off()

    def _cut_off(self) -> None:
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
        for frame in tuple(self._held):
            self.release(frame)
        self._writer.close()
        try:
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            self.abort()


def _number(body: bytes) -> int:
    """Return the ``id`` of a request without decoding the rest.

    Raises:
        WireError: it has none.
    """
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=MAX_FRAME_BYTES)
    try:
        unpacker.feed(body)
        for _ in range(min(unpacker.read_map_header(), 64)):
            if unpacker.unpack() == "id":
                number = unpacker.unpack()
                if isinstance(number, int):
                    return number
                break
            unpacker.skip()
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"the body is not one msgpack value: {error}") from error
    raise WireError("the request has no id")
