"""Serves the agent's metrics to all that reach the pod: Prometheus, and the tasks of this worker.

Containers of a pod share its network, so hostile tasks may connect as they like. What they can get
is counts, and what they can do is ask: there is one request, ``GET /metrics``, which changes
nothing; its answer is made once a second at most; and connections are few, short and taken at a
limited rate, so that a flood costs the agent next to nothing and its socket nothing at all.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable
from typing import Final

from taskctl.agent.background import Background
from taskctl.kube.timing import Timing

logger = logging.getLogger(__name__)

MAX_AT_ONCE: Final = 4
BACKLOG: Final = 16
MAX_HEAD_BYTES: Final = 8192
CONNECTION_S: Final = 5.0
# Between two connections that are taken: fifty a second at most.
ACCEPT_PAUSE_S: Final = 0.02
# Another process has the port: a task that took it while the agent was being started again.
BIND_PAUSE_S: Final = 30.0
_REQUEST: Final = re.compile(rb"(GET|HEAD) /metrics(?:\?[^ ]*)? HTTP/1\.[01]\r\n")
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class MetricsServer:
    """A server of one page.

    Args:
        host: address to listen on.
        port: port to listen on; 0: any.
        render: returns the page.
        timing: sleeps.

    Attributes:
        port: the port that is served; 0: none at present.
    """

    def __init__(self, host: str, port: int, render: Callable[[], bytes], timing: Timing) -> None:
        self._host = host
        self._wanted_port = port
        self._render = render
        self._timing = timing
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._background = Background()
        self._listener: socket.socket | None = None
        self.port = 0

    async def start(self) -> None:
        """Begin to serve; where the port is taken, try again now and then."""
        bound = self._bind()
        self._background.spawn("metrics", self._serve(bound))

    async def stop(self) -> None:
        """Stop serving."""
        await self._background.close()
        if self._listener is not None:
            self._listener.close()

    def _bind(self) -> bool:
        """Listen. Without SO_REUSEPORT: a task must not take connections beside us."""
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            self._listener = socket.create_server(
                (self._host, self._wanted_port), family=family, backlog=BACKLOG
            )
        except OSError as error:
            logger.warning(
                "metrics cannot be served on %s:%d: %s; tasks run on without",
                self._host,
                self._wanted_port,
                error.strerror or error,
            )
            return False
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        logger.info("metrics on http://%s:%d/metrics", self._host, self.port)
        return True

    async def _serve(self, bound: bool) -> None:
        while not bound:
            await self._timing.sleep(BIND_PAUSE_S)
            bound = self._bind()
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # no descriptors are left, or the peer has gone again
                logger.warning("a connection for metrics was not taken: %s", error)
                self._slots.release()
                await self._timing.sleep(1.0)
                continue
            except BaseException:
                self._slots.release()
                raise
            answering = self._background.spawn("metrics answer", self._answer(connection))
            answering.add_done_callback(lambda _: self._slots.release())
            await self._timing.sleep(ACCEPT_PAUSE_S)

    async def _answer(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            connection.setblocking(False)
            try:
                async with asyncio.timeout(CONNECTION_S):
                    head = await _read_head(loop, connection)
                    await loop.sock_sendall(connection, self._response(head))
            except (OSError, TimeoutError):
                return  # the client has gone, or takes too long

    def _response(self, head: bytes) -> bytes:
        request = _REQUEST.match(head)
        if request is None:
            return _reply("404 Not Found", b"GET /metrics is all there is.\n", "text/plain")
        body = self._render()
        return _reply("200 OK", body, _CONTENT_TYPE, with_body=request[1] == b"GET")


async def _read_head(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    """Return a request up to the empty line, or what there is if it is too long."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_HEAD_BYTES:
        part = await loop.sock_recv(connection, MAX_HEAD_BYTES - len(head))
        if not part:
            break
        head += part
    return head


def _reply(status: str, body: bytes, content_type: str, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nX-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if with_body else b"")
