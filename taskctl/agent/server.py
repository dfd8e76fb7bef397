"""Listening on the socket.

Its mode lets every user connect: tasks run as whatever user their image names. Who can reach it
at all is decided by the volume it lies in, which only this pod's containers mount; who is
listened to, by nonce and token.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from taskctl.agent.background import Background
from taskctl.agent.connection import Connection
from taskctl.agent.ration import Rations
from taskctl.agent.service import Service
from taskctl.agent.sessions import Session

logger = logging.getLogger(__name__)

SOCKET_NAME: Final = "agent.sock"
SOCKET_MODE: Final = 0o666
BACKLOG: Final = 512
MAX_CONNECTIONS: Final = 1024
HANDING_OVER_TURNS: Final = 4


class SocketServer:
    """Accepts connections and holds a session on each.

    Args:
        service: does what is asked.
        path: of the socket; what is there is replaced.
    """

    def __init__(self, service: Service, path: Path) -> None:
        self._service = service
        self._path = path
        self._sessions = Background()
        self._rations = Rations()
        # One thread: large frames are decoded one after another, beside the loop.
        self._decoding = ThreadPoolExecutor(1, "decode")
        self._numbers = itertools.count(1)
        self._open: dict[Session, None] = {}  # the oldest first
        self._stopping = False
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the socket cannot be made.
        """
        listener = listen(self._path)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener)

    async def stop(self) -> None:
        """Listen no more and hang up on everybody."""
        self._stopping = True
        if self._server is not None:
            await _hand_over(self._server)
            self._server.close()
        await self._sessions.close()
        if self._server is not None:
            await self._server.wait_closed()
        self._decoding.shutdown(wait=False, cancel_futures=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopping:
            writer.transport.abort()
            return
        if len(self._open) >= MAX_CONNECTIONS and not self._make_room():
            logger.warning("a connection is refused: %d are open", len(self._open))
            writer.transport.abort()
            return
        name = f"connection {next(self._numbers)}"
        connection = Connection(reader, writer, self._decoding)
        session = Session(self._service, connection, self._rations, name)
        self._open[session] = None
        self._service.meters.connections = len(self._open)
        task = self._sessions.spawn(name, session.run())
        task.add_done_callback(lambda _: self._ended(session))

    def _ended(self, session: Session) -> None:
        self._open.pop(session, None)
        self._service.meters.connections = len(self._open)
        session.abort()  # one that is cancelled before it has begun closes nothing itself

    def _make_room(self) -> bool:
        """Hang up on the oldest stranger, so that silent connections do not lock others out.

        Those who have said who they are and wait for the answer go last: a nonce may be spent.
        """
        strangers = [session for session in self._open if not session.is_identified]
        if not strangers:
            return False
        oldest = next((session for session in strangers if session.is_silent), strangers[0])
        oldest.abort()
        del self._open[oldest]
        return True


async def _hand_over(server: asyncio.Server) -> None:
    """Accept nothing more, and wait for connections that are accepted and not handed to us yet.

    Python 3.11 drops such a connection when its server is closed, but leaves its socket open until
    the next garbage collection. The peer would wait for an answer that long. Handing over
    takes asyncio two turns of the event loop.
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(HANDING_OVER_TURNS):
        await asyncio.sleep(0)


def listen(path: Path) -> socket.socket:
    """Return a listening unix socket at ``path``.

    It is made beside and renamed into place, so there is no moment without a socket when one
    left by an agent that was killed is replaced.

    Raises:
        OSError: the directory cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.setblocking(False)
        # An address holds 107 bytes; by way of the open directory it is always short enough.
        listener.bind(f"/proc/self/fd/{directory}/{temporary.name}")
        temporary.chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
        temporary.replace(path)
    except BaseException:
        listener.close()
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    finally:
        os.close(directory)
    return listener
