"""Connections before and after they have said who they are.

Anybody on the machine may connect, task code too. Until a request on a connection has been
authenticated, the connection is one of a few, and lives for seconds: silent ones make way for
newer ones first. So a flood costs the server neither its file descriptors, which the database
needs as well, nor the connections of those who have a token.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from taskctl.embedded.server.refusals import errors

log = logging.getLogger(__name__)

BACKLOG: Final = 1024
_FILES_WANTED: Final = 8192
_FILES_RESERVED: Final = 256
_ACCEPTS_PER_TURN: Final = 16
_PAUSE_S: Final = 0.2
_SWEEP_S: Final = 0.5
_COMPLAINT_INTERVAL_S: Final = 10.0
_TLS_RECORD_HANDSHAKE: Final = 0x16
# As Go's net/http says it, which is what the API server of Kubernetes answers with.
_SPEAKS_HTTP: Final = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be, and for how long.

    Attributes:
        total: connections at once.
        strangers: of these, how many may not have authenticated.
        stranger_life_s: seconds within which a connection must have authenticated; handshake
            and headers of the first request included.
        idle_s: seconds without a request after which a connection is closed.
    """

    total: int = 2560
    strangers: int = 256
    stranger_life_s: float = 10.0
    idle_s: float = 90.0

    @classmethod
    def within(cls, files: int) -> ConnectionLimits:
        """Return limits that leave some of a process's file descriptors for other uses."""
        usual = cls()
        total = max(64, min(usual.total, files - _FILES_RESERVED))
        return cls(total=total, strangers=min(usual.strangers, total // 4))


def raise_file_limit() -> int:
    """Raise the limit of file descriptors as far as is useful and allowed; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(_FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return _FILES_WANTED if soft == resource.RLIM_INFINITY else soft


class _Stage(Enum):
    SILENT = auto()  # nothing has been received
    GREETING = auto()  # the TLS handshake is under way
    STRANGER = auto()  # it may send requests
    KNOWN = auto()  # one of them was authenticated


@dataclass(slots=True, eq=False)
class _Connection:
    sock: socket.socket
    accepted_s: float
    stage: _Stage = _Stage.SILENT
    handshake: asyncio.Task[None] | None = None
    protocol: RequestHandler | None = None
    transport: asyncio.WriteTransport | None = None
    gone: bool = False


class GatedServer(web.Server):
    """aiohttp's server of one connection after the other; tells when one is lost."""

    on_lost: Callable[[RequestHandler], None] | None = None

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        super().connection_lost(handler, exc)
        if self.on_lost is not None:
            self.on_lost(handler)


class Gate:
    """Accepts TLS connections on a socket and hands them to a server.

    Args:
        listener: bound; it is closed with the gate.
        server: gets the connections.
        context: of TLS.
        limits: how many, how long.
    """

    def __init__(
        self,
        listener: socket.socket,
        server: GatedServer,
        context: ssl.SSLContext,
        limits: ConnectionLimits,
    ) -> None:
        self._listener = listener
        self._server = server
        self._context = context
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        # The oldest first, in each stage.
        self._stages: dict[_Stage, dict[_Connection, None]] = {stage: {} for stage in _Stage}
        self._by_protocol: dict[RequestHandler, _Connection] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._complained_s = float("-inf")
        self._dropped = 0
        server.on_lost = self._lost

    def open(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener.fileno(), self._accept)
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    def shut(self) -> None:
        """Accept no more, and close all connections that have not authenticated."""
        for timer in (self._sweeper, self._resume):
            if timer is not None:
                timer.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for stage in (_Stage.SILENT, _Stage.GREETING):
            for connection in list(self._stages[stage]):
                self._close(connection)

    def admit(self, protocol: RequestHandler) -> None:
        """Note that a request of this connection was authenticated.

        Raises:
            errors.StatusError: 503, there are too many connections already.
        """
        connection = self._by_protocol.get(protocol)
        if connection is None or connection.stage is _Stage.KNOWN:
            return
        if len(self._stages[_Stage.KNOWN]) >= self._limits.total - self._limits.strangers:
            raise errors.unavailable("too many connections; close some")
        self._move(connection, _Stage.KNOWN)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of connections that have not and that have authenticated."""
        return self._strangers(), len(self._stages[_Stage.KNOWN])

    def _strangers(self) -> int:
        return sum(len(self._stages[s]) for s in _Stage if s is not _Stage.KNOWN)

    # --- accepting ----------------------------------------------------------------------

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    self._pause(error)
                    return
                continue  # the connection broke before it was accepted
            self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        while self._strangers() >= self._limits.strangers:
            self._make_room()
        connection = _Connection(sock, self._loop.time())
        self._stages[_Stage.SILENT][connection] = None
        self._loop.add_reader(sock.fileno(), self._first_bytes, connection)

    def _make_room(self) -> None:
        """Close the oldest silent connection, or else the oldest that is not known."""
        for stage in (_Stage.SILENT, _Stage.STRANGER, _Stage.GREETING):
            oldest = next(iter(self._stages[stage]), None)
            if oldest is not None:
                self._close(oldest)
                self._complain("there are too many connections that have not authenticated")
                return

    def _pause(self, error: OSError) -> None:
        """Accepting would fail again at once: there are no file descriptors left."""
        self._complain(f"no connection can be accepted: {error.strerror}")
        self._make_room()
        self._loop.remove_reader(self._listener.fileno())
        self._resume = self._loop.call_later(_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _complain(self, what: str) -> None:
        self._dropped += 1
        now_s = self._loop.time()
        if now_s - self._complained_s >= _COMPLAINT_INTERVAL_S:
            log.warning("%s; closed %d of them", what, self._dropped)
            self._complained_s, self._dropped = now_s, 0

    # --- from stage to stage ------------------------------------------------------------

    def _first_bytes(self, connection: _Connection) -> None:
        sock = connection.sock
        try:
            first = sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        if not first or first[0] != _TLS_RECORD_HANDSHAKE:
            if first:
                with suppress(OSError):
                    sock.recv(65536)  # unread bytes would turn the answer into a reset
                    sock.send(_SPEAKS_HTTP)
            self._close(connection)
            return
        self._loop.remove_reader(sock.fileno())
        self._move(connection, _Stage.GREETING)
        connection.handshake = self._loop.create_task(self._greet(connection))

    async def _greet(self, connection: _Connection) -> None:
        def protocol() -> RequestHandler:
            connection.protocol = made = self._server()
            self._by_protocol[made] = connection
            return made

        try:
            transport, _ = await self._loop.connect_accepted_socket(
                protocol,
                connection.sock,
                ssl=self._context,
                ssl_handshake_timeout=self._limits.stranger_life_s,
                ssl_shutdown_timeout=1.0,
            )
        except (OSError, asyncio.CancelledError) as error:  # an SSLError is an OSError
            self._forget(connection)
            log.debug("a TLS handshake failed: %s", error)
            return
        connection.transport = transport
        connection.handshake = None
        # A fast client's first request may have been answered meanwhile.
        if connection.stage is _Stage.GREETING and not connection.gone:
            self._move(connection, _Stage.STRANGER)

    def _move(self, connection: _Connection, stage: _Stage) -> None:
        self._stages[connection.stage].pop(connection, None)
        connection.stage = stage
        self._stages[stage][connection] = None

    # --- ends ---------------------------------------------------------------------------

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        limit_s = self._loop.time() - self._limits.stranger_life_s
        for stage in (_Stage.SILENT, _Stage.GREETING, _Stage.STRANGER):
            for connection in list(self._stages[stage]):
                if connection.accepted_s <= limit_s:
                    self._close(connection)

    def _close(self, connection: _Connection) -> None:
        if connection.stage is _Stage.SILENT:
            self._loop.remove_reader(connection.sock.fileno())
            connection.sock.close()
        elif connection.handshake is not None:
            connection.handshake.cancel()
        elif connection.transport is not None:
            connection.transport.abort()
        self._forget(connection)

    def _lost(self, protocol: RequestHandler) -> None:
        connection = self._by_protocol.get(protocol)
        if connection is not None:
            self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        connection.gone = True
        self._stages[connection.stage].pop(connection, None)
        if connection.protocol is not None:
            self._by_protocol.pop(connection.protocol, None)
