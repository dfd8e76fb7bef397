"""The sub-protocols ``*.channel.k8s.io``: several byte streams over one WebSocket.

Each message begins with the number of its channel. Source: k8s.io/apimachinery
``pkg/util/httpstream/wsstream/conn.go`` and ``pkg/util/remotecommand/constants.go``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import orjson
from aiohttp import WSMsgType, web

_CLOSE: Final = 255  # a message on this channel names the one whose sender has finished (v5)
# A client that takes no message within this time is cut off.
_STALL_TIMEOUT_S: Final = 60.0
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024


class Protocol(StrEnum):
    """What both sides can speak, the best first."""

    V5 = "v5.channel.k8s.io"
    V4 = "v4.channel.k8s.io"
    V4_BASE64 = "v4.base64.channel.k8s.io"


class Channel(IntEnum):
    """What the channels of exec and attach carry."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STATUS = 3
    RESIZE = 4


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """Bytes from the client; ``ended`` says that no more will come on this channel."""

    channel: int
    data: bytes = b""
    ended: bool = False


def choose(offered: Sequence[str]) -> Protocol | None:
    """Return the best sub-protocol of those that a client offers."""
    return next((known for known in Protocol if known.value in offered), None)


def encode(protocol: Protocol, channel: int, data: bytes) -> bytes | str:
    """Return the WebSocket message for some bytes: binary, or text where it is base64."""
    if protocol is Protocol.V4_BASE64:
        return f"{channel}{base64.b64encode(data).decode()}"
    return bytes([channel]) + data


def decode(protocol: Protocol, message: bytes | str) -> ChannelMessage | None:
    """Return what a client's message says; None for one that is malformed."""
    if isinstance(message, str):
        message = message.encode()
    if not message:
        return None
    if protocol is Protocol.V4_BASE64:
        try:
            return ChannelMessage(int(message[:1]), base64.b64decode(message[1:], validate=True))
        except (ValueError, binascii.Error):
            return None
    if protocol is Protocol.V5 and message[0] == _CLOSE:
        return ChannelMessage(message[1], ended=True) if len(message) > 1 else None
    return ChannelMessage(message[0], message[1:])


class ChannelSocket:
    """A WebSocket that carries channels.

    Args:
        socket: prepared, with the protocol agreed upon.
        protocol: of the socket.
    """

    def __init__(self, socket: web.WebSocketResponse, protocol: Protocol) -> None:
        self._socket = socket
        self._protocol = protocol

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes on a channel; waits while the client does not read.

        Raises:
            ConnectionError: the client has gone, or does not read.
        """
        message = encode(self._protocol, channel, data)
        try:
            async with asyncio.timeout(_STALL_TIMEOUT_S):
                if isinstance(message, str):
                    await self._socket.send_str(message)
                else:
                    await self._socket.send_bytes(message)
        except TimeoutError:
            raise ConnectionAbortedError("the client does not read") from None

    async def receive(self) -> ChannelMessage | None:
        """Return the client's next message; None when it has gone."""
        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return None
            found = decode(self._protocol, message.data)
            if found is not None:
                return found

    async def succeed(self) -> None:
        """Tell the client that all went well."""
        await self._status({"metadata": {}, "status": "Success"})

    async def fail(self, message: str) -> None:
        """Tell the client what went wrong."""
        status = {"status": "Failure", "message": message, "reason": "InternalError", "code": 500}
        await self._status({"metadata": {}, **status})

    async def exited(self, code: int) -> None:
        """Tell the client how a command ended (kubelet, pkg/cri/streaming/remotecommand)."""
        if code == 0:
            await self.succeed()
            return
        cause = {"reason": "ExitCode", "message": str(code)}
        text = f"command terminated with non-zero exit code: exit code {code}"
        status = {"status": "Failure", "reason": "NonZeroExitCode", "message": text}
        await self._status({"metadata": {}, **status, "details": {"causes": [cause]}})

    async def _status(self, body: dict[str, object]) -> None:
        await self.send(Channel.STATUS, orjson.dumps(body))
