"""The node's paths for streams into containers; the API server asks for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from taskctl.embedded.node.model import RunState
from taskctl.embedded.node.remote import attaching, channels, commands, forwarding
from taskctl.embedded.node.remote.channels import Channel, ChannelSocket, Protocol
from taskctl.embedded.node.remote.commands import Streams
from taskctl.embedded.node.remote.spdy import SpdyError
from taskctl.embedded.node.slot import ContainerSlot
from taskctl.embedded.node.worker import PodWorker

log = logging.getLogger(__name__)

# As the kubelet's streamingConnectionIdleTimeout; a peer that is gone is noticed by the heartbeat.
_HEARTBEAT_S: Final = 30.0
_SESSION_LIMIT: Final = 64
_WHY: Final = "X-Reason"

Finder = Callable[[str, str], PodWorker | None]


class RemoteStreams:
    """Answers ``/exec``, ``/attach`` and ``/portForward``.

    Args:
        find: returns the worker of a pod.
        shim: the shim's binary.
        authenticate: raises unless the request comes from the API server.
    """

    def __init__(
        self, find: Finder, shim: Path, authenticate: Callable[[web.Request], None]
    ) -> None:
        self._find = find
        self._shim = shim
        self._authenticate = authenticate
        self._sessions: set[asyncio.Task[None]] = set()

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the paths."""
        router.add_get("/exec/{namespace}/{pod}/{container}", self._exec)
        router.add_get("/attach/{namespace}/{pod}/{container}", self._attach)
        router.add_get("/portForward/{namespace}/{pod}", self._forward)

    async def stop(self) -> None:
        """End all sessions."""
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        slot, instance_directory = self._running(request)
        command = request.query.getall("command", [])
        if not command:
            raise _refusal(400, "you must specify at least 1 command for the container")
        wanted = _streams(request)

        async def serve(socket: ChannelSocket) -> None:
            log.info("exec in container %s: %s", slot.name, command[0])
            await commands.run_command(socket, self._shim, instance_directory, command, wanted)

        return await self._channels(request, serve, _greeted(wanted))

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        slot, _ = self._running(request)
        wanted = _streams(request)
        if wanted.tty:
            raise _refusal(400, f"container {slot.name} has no terminal to attach to")
        return await self._channels(
            request, lambda socket: attaching.follow_output(socket, slot, wanted), _greeted(wanted)
        )

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self._authenticate(request)
        pod = request.match_info["pod"]
        if self._find(request.match_info["namespace"], pod) is None:
            raise _refusal(404, f'pod "{pod}" does not run on this node')
        offered = _offered(request)
        if forwarding.SPDY_PROTOCOL in offered:
            socket = await self._open(request, forwarding.SPDY_PROTOCOL)
            await self._session(socket, self._forward_spdy(socket))
            return socket
        ports = _ports(request.query.getall("ports", []))
        return await self._channels(
            request, lambda socket: forwarding.forward_channels(socket, ports), ()
        )

    async def _forward_spdy(self, socket: web.WebSocketResponse) -> None:
        try:
            await forwarding.forward_spdy(socket)
        except* SpdyError as error:
            log.warning("a port-forward ends: %s", error.exceptions[0])

    def _running(self, request: web.Request) -> tuple[ContainerSlot, Path]:
        """Return the container that is asked for, and the directory of its run."""
        self._authenticate(request)
        names = request.match_info
        worker = self._find(names["namespace"], names["pod"])
        slot = None if worker is None else worker.slot(names["container"])
        instance = None if slot is None else slot.instance
        if slot is None or instance is None or instance.state is not RunState.RUNNING:
            raise _refusal(404, f'container not found ("{names["container"]}"): it does not run')
        return slot, instance.directory

    async def _channels(
        self,
        request: web.Request,
        serve: Callable[[ChannelSocket], Awaitable[None]],
        greeted: Sequence[Channel],
    ) -> web.StreamResponse:
        protocol = channels.choose(_offered(request))
        if protocol is None:
            known = ", ".join(Protocol)
            raise _refusal(403, f"no sub-protocol that this node knows is offered; write {known}")
        socket = await self._open(request, protocol)
        carried = ChannelSocket(socket, protocol)

        async def session() -> None:
            for channel in greeted:  # tells the client that the connection stands
                await carried.send(channel, b"")
            await serve(carried)

        await self._session(socket, session())
        return socket

    async def _open(self, request: web.Request, protocol: str) -> web.WebSocketResponse:
        if len(self._sessions) >= _SESSION_LIMIT:
            raise _refusal(429, f"{_SESSION_LIMIT} streams into containers are open, no more may")
        socket = web.WebSocketResponse(
            protocols=(protocol,),
            heartbeat=_HEARTBEAT_S,
            max_msg_size=channels.MAX_MESSAGE_BYTES,
            compress=False,
        )
        await socket.prepare(request)
        return socket

    async def _session(self, socket: web.WebSocketResponse, serving: Awaitable[None]) -> None:
        async def serve() -> None:
            try:
                await serving
            except ConnectionError:
                pass  # the client has gone
            finally:
                with contextlib.suppress(ConnectionError):
                    await socket.close()

        task = asyncio.create_task(serve(), name="stream into a container")
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        await task


def _refusal(status: int, text: str) -> web.HTTPException:
    """Return an answer whose words also survive a refused WebSocket handshake, in a header."""
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
        429: web.HTTPTooManyRequests,
    }
    return kinds[status](text=text, headers={_WHY: text.encode("ascii", "replace").decode()})


def _offered(request: web.Request) -> list[str]:
    values = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [name.strip() for value in values for name in value.split(",")]


def _streams(request: web.Request) -> Streams:
    query = request.query
    asked = {name: query.get(name, "") in ("true", "1") for name in ("stdin", "stdout", "stderr")}
    if not any(asked.values()):
        raise _refusal(400, "you must specify at least 1 of stdin, stdout, stderr")
    tty = query.get("tty", "") in ("true", "1")
    return Streams(asked["stdin"], asked["stdout"], asked["stderr"] and not tty, tty)


def _greeted(wanted: Streams) -> Sequence[Channel]:
    """The lowest channel that the node writes to (kubelet, createWebSocketStreams)."""
    if wanted.stdout:
        return (Channel.STDOUT,)
    return (Channel.STDERR,) if wanted.stderr else (Channel.STATUS,)


def _ports(texts: Sequence[str]) -> list[int]:
    """Read the ports; both ``ports=1,2`` and a repeated ``ports=`` are understood."""
    ports = []
    for text in ",".join(texts).split(","):
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise _refusal(400, f'query parameter "ports": {text!r} is not a port from 1 to 65535')
        ports.append(int(text))
    return ports
