"""Runs a command in a container, over the WebSocket that ``kubectl exec`` uses.

The sub-protocol ``v4.channel.k8s.io`` (Kubernetes, staging/src/k8s.io/client-go/tools/
remotecommand): binary messages, whose first byte names the channel. Channel 1 is standard
output, 2 standard error, 3 a Status object that says how the command ended. With a terminal,
channel 4 takes its size; in version 5 a message on channel 255 closes the channel that it names.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, Protocol

import aiohttp
import orjson

from taskctl.errors import ApiError, Unavailable

PROTOCOL: Final = "v4.channel.k8s.io"
# Kubernetes serves it from 1.30 on; without it, a client cannot say that standard input has ended.
PROTOCOL_WITH_END: Final = "v5.channel.k8s.io"
STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
STATUS: Final = 3
RESIZE: Final = 4
_CLOSE: Final = 255
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


class ExecSession:
    """A command that runs in a container, with its input, output and terminal.

    Args:
        socket: the WebSocket, of :data:`PROTOCOL_WITH_END`.
        what: the request, in words for errors.

    Attributes:
        exit_code: of the command; None as long as it has not ended.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, what: str) -> None:
        self._socket = socket
        self._what = what
        self.exit_code: int | None = None

    async def write(self, data: bytes) -> None:
        """Send bytes to the standard input of the command.

        Raises:
            ConnectionError: the connection has ended.
        """
        await self._socket.send_bytes(bytes([STDIN]) + data)

    async def end_input(self) -> None:
        """Say that no more input will come."""
        await self._socket.send_bytes(bytes([_CLOSE, STDIN]))

    async def resize(self, columns: int, lines: int) -> None:
        """Tell the size of the terminal."""
        size = orjson.dumps({"Width": columns, "Height": lines})
        await self._socket.send_bytes(bytes([RESIZE]) + size)

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield what the command writes, with :data:`STDOUT` or :data:`STDERR`, until it ends.

        Raises:
            ApiError: the command could not be run; with the server's words.
            Unavailable: the connection ended before the command did.
        """
        while True:
            message = await self._socket.receive()
            if message.type in _ENDS:
                raise Unavailable(f"{self._what}: the connection ended before the command did")
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, content = message.data[0], message.data[1:]
            if channel == STATUS:
                self.exit_code = exit_code_of(content, self._what)
                return
            if content:
                yield channel, content


def exit_code_of(content: bytes, what: str) -> int:
    """Return the exit code that a Status object tells.

    Source: kubelet, pkg/cri/streaming/remotecommand ``writeStatus``.

    Raises:
        ApiError: the command could not be run.
    """
    try:
        status = orjson.loads(content)
    except ValueError:
        status = {"message": content.decode(errors="replace")}
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode" and str(cause.get("message")).isdecimal():
            return int(cause["message"])
    raise ApiError(f"{what}: {status.get('message') or 'failed'}")
