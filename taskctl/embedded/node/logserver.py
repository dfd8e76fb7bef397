"""The node's HTTP endpoint: container logs, and streams into containers, for the API server."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from taskctl.clock import Clock
from taskctl.embedded.listening import bind_unix
from taskctl.embedded.node.logs import LogOptionError, LogReader, parse_query
from taskctl.embedded.node.model import containers_of
from taskctl.embedded.node.remote.endpoint import RemoteStreams
from taskctl.embedded.node.slot import ContainerSlot
from taskctl.embedded.node.worker import PodWorker

_POLL_S: Final = 0.05
_POLL_LIMIT_S: Final = 0.5

Finder = Callable[[str, str], PodWorker | None]


def node_token(path: Path) -> str:
    """Return the token that the API server shows to the node, making it if there is none.

    The server does the same; the file appears whole, so it does not matter who is first.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_text().strip()


class LogServer:
    """Serves ``/containerLogs/<namespace>/<pod>/<container>`` on a socket of the data directory.

    A port of the loopback address would be open to every task: to be flooded, to be overheard, and
    to be taken over while the node restarts.

    Args:
        find: returns the worker of a pod.
        token: expected as bearer token.
        clock: for ``sinceSeconds``.
        shim: the shim's binary, which enters containers.
    """

    def __init__(self, find: Finder, token: str, clock: Clock, shim: Path) -> None:
        self._find = find
        self._remote = RemoteStreams(find, shim, self._authenticate)
        self._token = token
        self._clock = clock
        self._runner: web.AppRunner | None = None
        self._socket: socket.socket | None = None

    async def start(self, path: Path) -> None:
        """Listen on a Unix socket, in place of one that an earlier node left."""
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/healthz", self._healthz)
        self._remote.add_to(app.router)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        await self._runner.setup()
        self._socket = await asyncio.to_thread(bind_unix, path)
        await web.SockSite(self._runner, self._socket).start()

    async def stop(self) -> None:
        """Stop listening and end what is being followed."""
        await self._remote.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    def _authenticate(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise web.HTTPUnauthorized(text="Unauthorized")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        self._authenticate(request)
        try:
            query = parse_query(request.query, self._clock.now())
        except LogOptionError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        slot = self._slot(request.match_info)
        directory = slot.log_directory(previous=query.previous)
        if directory is None:
            what = "previous terminated container" if query.previous else "container"
            pod = request.match_info["pod"]
            if query.previous:
                text = f'{what} "{slot.name}" in pod "{pod}" not found'
            else:
                why = slot.waiting.reason or "ContainerCreating"
                text = f'{what} "{slot.name}" in pod "{pod}" is waiting to start: {why}'
            raise web.HTTPBadRequest(text=text)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        reader = LogReader(directory, query)
        try:
            await self._stream(response, reader, slot, follow=query.follow and not query.previous)
        finally:
            # The client may go while this waits, and the file would stay open.
            await asyncio.shield(asyncio.to_thread(reader.close))
        return response

    def _slot(self, names: web.UrlMappingMatchInfo) -> ContainerSlot:
        pod, container = names["pod"], names["container"]
        worker = self._find(names["namespace"], pod)
        if worker is None:
            raise web.HTTPNotFound(text=f'pod "{pod}" does not exist on this node')
        slot = worker.slot(container)
        if slot is not None:
            return slot
        known = worker.pod is not None and any(
            c["name"] == container for _, c in containers_of(worker.pod)
        )
        if known:
            raise web.HTTPBadRequest(
                text=f'container "{container}" in pod "{pod}" is waiting to start: '
                "ContainerCreating"
            )
        raise web.HTTPNotFound(text=f'container "{container}" is not in pod "{pod}"')

    async def _stream(
        self, response: web.StreamResponse, reader: LogReader, slot: ContainerSlot, *, follow: bool
    ) -> None:
        instance = slot.instance
        delay_s = _POLL_S
        while not reader.is_full:
            # Asked before reading: what is written after the end was seen cannot be missed.
            ended = not follow or slot.instance is not instance or not slot.is_live
            data = await asyncio.to_thread(reader.read)
            if data:
                await response.write(data)
                delay_s = _POLL_S
            elif ended:
                break
            else:
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _POLL_LIMIT_S)
        await response.write_eof()
