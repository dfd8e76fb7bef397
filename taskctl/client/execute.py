"""Runs a command in a container, over the WebSocket that ``kubectl exec`` uses.

The sub-protocol ``v4.channel.k8s.io`` (Kubernetes, staging/src/k8s.io/client-go/tools/
remotecommand): binary messages, whose first byte names the channel. Channel 1 is standard
output, 2 standard error, 3 a Status object that says how the command ended.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, Protocol

import aiohttp
import orjson

from taskctl.errors import ApiError, Unavailable

PROTOCOL: Final = "v4.channel.k8s.io"
STDOUT: Final = 1
STDERR: Final = 2
STATUS: Final = 3
_STDERR_LIMIT_BYTES: Final = 4096
_ENDS: Final = frozenset(
    {
        aiohttp.WSMsgType.CLOSE,
        aiohttp.WSMsgType.CLOSING,
        aiohttp.WSMsgType.CLOSED,
        aiohttp.WSMsgType.ERROR,
    }
)


class Message(Protocol):
    """A message of a WebSocket, as aiohttp has it."""

    @property
    def type(self) -> Any:
        """Kind of message."""
        ...

    @property
    def data(self) -> Any:
        """Its content."""
        ...


async def read_output(
    receive: Callable[[], Awaitable[Message]], what: str
) -> AsyncGenerator[bytes, None]:
    """Yield what the command writes to its standard output.

    Args:
        receive: returns the WebSocket's next message; TimeoutError when none comes in time.
        what: the request, in words for errors.

    Raises:
        ApiError: the command could not be run, or did not exit with 0; with the server's
            words and what it wrote to its standard error.
        Unavailable: the connection fell silent, or ended before the command did.
    """
    complaint = bytearray()
    while True:
        try:
            message = await receive()
        except TimeoutError as error:
            raise Unavailable(f"{what}: the connection has fallen silent") from error
        if message.type in _ENDS:
            raise Unavailable(f"{what}: the connection ended before the command did")
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, content = message.data[0], message.data[1:]
        if channel == STDOUT and content:
            yield content
        elif channel == STDERR:
            complaint += content[: max(0, _STDERR_LIMIT_BYTES - len(complaint))]
        elif channel == STATUS:
            _raise_unless_success(content, bytes(complaint), what)
            return


def _raise_unless_success(content: bytes, complaint: bytes, what: str) -> None:
    try:
        status = orjson.loads(content)
    except ValueError:
        status = {"message": content.decode(errors="replace")}
    if status.get("status") == "Success":
        return
    words = [what, status.get("message") or "failed", complaint.decode(errors="replace").strip()]
    raise ApiError(": ".join(word for word in words if word))
