"""Frames of the agent's socket (docs/protocol.md): encode and decode, no I/O.

Loaded in every task, so the standard library and msgpack only.
"""

from __future__ import annotations

import struct

from taskctl.errors import WireError

try:
    import msgpack
except ModuleNotFoundError:
    # The image has none: take the copy that the agent put here. Last on the path, so that it
    # never hides anything that the task brings along.
    import sys

    sys.path.append(f"{__file__.rpartition('/')[0]}/_vendor")
    import msgpack

TYPE_CHECKING = False  # `typing` costs milliseconds; type checkers know this name
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    Message = dict[str, Any]
else:
    Message = dict

VERSION: Final = 1
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
_HEADER: Final = struct.Struct(">I")


def encode(message: Message) -> bytes:
    """Return one frame.

    Raises:
        WireError: a value has no msgpack form, or the body is over 16 MiB.
    """
    body = pack_value(message)
    if len(body) > MAX_FRAME_BYTES:
        raise WireError(f"the message has {len(body)} bytes; at most {MAX_FRAME_BYTES} fit a frame")
    return _HEADER.pack(len(body)) + body


def pack_value(value: Any) -> bytes:
    """Return any value as msgpack, without a frame.

    Raises:
        WireError: it has no msgpack form.
    """
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"cannot be sent: {error}") from error
    return packed


def unpack_value(packed: bytes) -> Any:
    """Return the value of :func:`pack_value`.

    Raises:
        WireError: it is not one msgpack value.
    """
    try:
        return msgpack.unpackb(packed, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"is not one msgpack value: {error}") from error


def decode_body(body: bytes) -> Message:
    """Return the map in a frame's body.

    Raises:
        WireError: not msgpack, not a map with text keys, or trailing bytes.
    """
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"the body is not one msgpack value: {error}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise WireError("the body is not a map with text keys")
    return message


class Decoder:
    """Cuts a byte stream into messages.

    Feed it what arrives; it yields each whole message. After a :class:`WireError` the
    stream is out of step and must be closed.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_frame_bytes = max_frame_bytes

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that ``data`` completes.

        Raises:
            WireError: a frame is over the limit or its body is malformed.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > self._max_frame_bytes:
                raise WireError(f"a frame of {length} bytes; at most {self._max_frame_bytes}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield decode_body(body)
