"""Port-forward: connections to a pod's ports, carried by a WebSocket.

Two ways of carrying them: channels, two for each port, as browsers and most client libraries have
it (kubelet ``pkg/cri/streaming/portforward/websocket.go``); and SPDY frames, as kubectl has it
(``httpstream.go`` beside it). The pods of this node share the host's loopback address.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import WSMsgType, web

from taskctl.embedded.node.heartbeat import ADDRESS
from taskctl.embedded.node.remote import spdy
from taskctl.embedded.node.remote.channels import ChannelSocket
from taskctl.embedded.node.remote.streams import carry

SPDY_PROTOCOL: Final = "SPDY/3.1+portforward.k8s.io"
_CHUNK_BYTES: Final = 32 * 1024
_CONNECT_TIMEOUT_S: Final = 10.0
_STALL_TIMEOUT_S: Final = 60.0
# Connections at a time through one port-forward, and messages waiting for one of them.
_MAX_CONNECTIONS: Final = 256
_MAX_WAITING: Final = 64

Send = Callable[[bytes, bool], Awaitable[None]]


class PortConnection:
    """A connection to a port of the pod.

    Args:
        port: to connect to.
        send: passes on what the port sends; the flag says that nothing will follow.
        complain: passes on why the port cannot be reached.
    """

    def __init__(self, port: int, send: Send, complain: Callable[[str], Awaitable[None]]) -> None:
        self._port = port
        self._send = send
        self._complain = complain
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(_MAX_WAITING)

    async def offer(self, data: bytes) -> None:
        """Queue bytes for the port; waits while it does not read.

        Raises:
            ConnectionError: it does not read for long.
        """
        await self._put(data)

    async def end(self) -> None:
        """Say that no more bytes will come."""
        await self._put(None)

    async def _put(self, data: bytes | None) -> None:
        try:
            async with asyncio.timeout(_STALL_TIMEOUT_S):
                await self._waiting.put(data)
        except TimeoutError:
            raise ConnectionAbortedError(f"port {self._port} does not read") from None

    async def run(self) -> None:
        """Connect, and carry bytes both ways until both sides have finished."""
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(ADDRESS, self._port)
        except (OSError, TimeoutError) as error:
            await self._complain(
                f"error forwarding port {self._port}: failed to connect to {ADDRESS}:{self._port} "
                f"inside the pod: {error or 'no answer'}"
            )
            return
        feeding = asyncio.create_task(self._feed(writer), name=f"to port {self._port}")
        try:
            with contextlib.suppress(ConnectionResetError):
                while data := await reader.read(_CHUNK_BYTES):
                    await self._send(data, False)
            await self._send(b"", True)
        except ConnectionError:
            pass  # the client has gone
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            writer.close()

    async def _feed(self, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # the port takes no more
            while (data := await self._waiting.get()) is not None:
                writer.write(data)
                await writer.drain()
            writer.write_eof()
            return
        while await self._waiting.get() is not None:
            pass  # the client's other connections continue


async def forward_channels(socket: ChannelSocket, ports: Sequence[int]) -> None:
    """Carry one connection per port, until all have ended or the client goes.

    Channel 2i carries the bytes of port i, channel 2i + 1 what went wrong with it. Each begins with
    the port's number, in two bytes, the lower first.
    """
    connections = []
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            await socket.send(channel, struct.pack("<H", port))
        connections.append(_channel_connection(socket, index, port))
    with contextlib.suppress(ConnectionError):  # the client has gone
        await carry(_hear(socket, connections), [one.run() for one in connections])


def _channel_connection(socket: ChannelSocket, index: int, port: int) -> PortConnection:
    async def send(data: bytes, ended: bool) -> None:
        if not ended:
            await socket.send(2 * index, data)

    async def complain(text: str) -> None:
        await socket.send(2 * index + 1, text.encode())

    return PortConnection(port, send, complain)


async def _hear(socket: ChannelSocket, connections: Sequence[PortConnection]) -> None:
    """Pass on what the client sends; returns when it has gone."""
    while (message := await socket.receive()) is not None:
        index, is_error = divmod(message.channel, 2)
        if is_error or index >= len(connections):
            continue
        if message.ended:
            await connections[index].end()
        else:
            await connections[index].offer(message.data)


@dataclass(slots=True)
class _StreamPair:
    """The two streams of one forwarded connection."""

    port: int
    streams: dict[str, int] = field(default_factory=dict)


class SpdyForwarder:
    """Serves the streams of one SPDY session.

    Args:
        socket: a prepared WebSocket, whose binary messages carry SPDY.
        group: owns the connections.
    """

    def __init__(self, socket: web.WebSocketResponse, group: asyncio.TaskGroup) -> None:
        self._socket = socket
        self._group = group
        self._session = spdy.SpdySession()
        self._pairs: dict[str, _StreamPair] = {}
        self._connections: dict[int, PortConnection] = {}  # by the number of the data stream
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until the client goes.

        Raises:
            spdy.SpdyError: it does not speak SPDY.
        """
        try:
            async for message in self._socket:
                if message.type is not WSMsgType.BINARY:
                    break
                for event in self._session.feed(message.data):
                    await self._on_event(event)
        except ConnectionError:
            pass
        finally:
            for task in self._tasks.values():
                task.cancel()

    async def _on_event(self, event: spdy.Event) -> None:
        match event:
            case spdy.Ping(frame):
                await self._write(frame)
            case spdy.Opened(stream, headers, ended):
                await self._open(stream, headers, ended=ended)
            case spdy.Data(stream, data, ended):
                connection = self._connections.get(stream)
                if connection is not None:
                    if data:
                        await connection.offer(data)
                    if ended:
                        await connection.end()
            case spdy.Reset(stream):
                task = self._tasks.get(stream)
                if task is not None:
                    task.cancel()

    async def _open(self, stream: int, headers: Mapping[str, str], *, ended: bool) -> None:
        kind, port = headers.get("streamtype", ""), headers.get("port", "")
        if kind not in ("data", "error") or not port.isdecimal() or not 0 < int(port) < 65536:
            await self._write(spdy.reset_frame(stream))
            return
        # Clients before 1.6 send no number: the data stream follows the error stream.
        request = headers.get("requestid") or str(stream - 2 * (kind == "data"))
        pair = self._pairs.setdefault(request, _StreamPair(int(port)))
        if kind in pair.streams or len(self._pairs) + len(self._tasks) > _MAX_CONNECTIONS:
            await self._write(spdy.reset_frame(stream))
            return
        pair.streams[kind] = stream
        await self._write(self._session.reply(stream))
        if len(pair.streams) == 2:
            del self._pairs[request]
            await self._connect(pair, ended=ended and kind == "data")

    async def _connect(self, pair: _StreamPair, *, ended: bool) -> None:
        data, error = pair.streams["data"], pair.streams["error"]
        wrong = False

        async def send(content: bytes, last: bool) -> None:
            await self._write(spdy.data_frame(data, content, ended=last))

        async def complain(text: str) -> None:
            nonlocal wrong
            wrong = True
            await self._write(spdy.data_frame(error, text.encode(), ended=True))
            await self._write(spdy.reset_frame(data))

        connection = PortConnection(pair.port, send, complain)
        self._connections[data] = connection
        if ended:
            await connection.end()

        async def serve() -> None:
            try:
                await connection.run()
                if not wrong:
                    await self._write(spdy.data_frame(error, b"", ended=True))
            except ConnectionError:
                pass
            finally:
                self._connections.pop(data, None)
                self._tasks.pop(data, None)

        self._tasks[data] = self._group.create_task(serve(), name="port-forward")

    async def _write(self, frame: bytes) -> None:
        try:
            async with asyncio.timeout(_STALL_TIMEOUT_S):
                await self._socket.send_bytes(frame)
        except TimeoutError:
            raise ConnectionAbortedError("the client does not read") from None


async def forward_spdy(socket: web.WebSocketResponse) -> None:
    """Carry as many connections as the client opens, each a pair of SPDY streams.

    Raises:
        spdy.SpdyError: the client does not speak SPDY.
    """
    async with asyncio.TaskGroup() as group:
        await SpdyForwarder(socket, group).run()
