"""Requests to an embedded server in this process: no socket, no HTTP on the wire.

The server's handler gets a request object and writes to memory. Everything above the socket is the
server's own code: paths, media types, checks, conflicts, watches, errors.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

if TYPE_CHECKING:
    from taskctl.embedded.server.api.router import Api


# As a socket's buffers would hold: who writes more waits for the reader.
_PIPE_BYTES: Final = 256 * 1024
# A body is handed over whole, so nothing ever has to wait for its reader.
_BODY_LIMIT_BYTES: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end.

    Attributes:
        status: HTTP status.
        headers: by name in any case; a name may occur several times.
        body: all of it.
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class BrokenError(ConnectionError):
    """The connection broke before the answer was whole."""


class _FakeConnection:
    """A connection as the server sees it: what it uses of aiohttp's protocol and transport."""

    ssl_context = peername = sockname = None
    max_line_length = max_field_size = max_headers = 1 << 20
    _reading_paused = False

    def __init__(self) -> None:
        self.transport = self
        self.broken = asyncio.Event()

    def pause_reading(self) -> None:
        """Do nothing: bodies are in memory already."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Do nothing, for the same reason."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the pipe has a limit of its own."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``default``: there is no socket to tell of."""
        return default

    def abort(self) -> None:
        """Break the connection."""
        self.broken.set()

    close = abort


class _AnswerWriter(AbstractStreamWriter):
    """Keeps what the server writes until it is read."""

    def __init__(self, line: _FakeConnection, *, bounded: bool) -> None:
        self._line = line
        self._bounded = bounded
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.ended = False
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        self.status = int(status_line.split(" ", 2)[1])
        self.headers = CIMultiDict(headers)
        self._news.set()

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        if self._line.broken.is_set():
            raise ConnectionResetError("the client has gone")
        if not chunk:
            return
        self._chunks.append(bytes(chunk))
        self._held_bytes += len(chunk)
        self.output_size += len(chunk)
        self._news.set()
        while self._bounded and self._held_bytes > _PIPE_BYTES:
            self._room.clear()
            await self._room.wait()

    async def write_eof(self, chunk: bytes = b"") -> None:
        await self.write(chunk)
        self.end()

    def end(self) -> None:
        """Take note that nothing more will come."""
        self.ended = True
        self._news.set()

    async def drain(self) -> None:
        """Do nothing: :meth:`write` waits."""

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Do nothing: the chunks stay as they are."""

    def enable_chunking(self) -> None:
        """Do nothing: the chunks stay as they are."""

    def take(self) -> bytes:
        """Return all that is here."""
        found = b"".join(self._chunks)
        self._chunks.clear()
        self._held_bytes = 0
        self._room.set()
        return found

    async def next(self) -> bytes:
        """Wait for more of the body and return it; empty at its end.

        Raises:
            BrokenError: the connection broke.
        """
        while not self._chunks:
            if self._line.broken.is_set():
                raise BrokenError("the connection broke")
            if self.ended:
                return b""
            self._news.clear()
            await self._news.wait()
        return self.take()

    async def wait_status(self) -> None:
        """Wait until the status is known, or nothing will come."""
        while not (self.status or self.ended or self._line.broken.is_set()):
            self._news.clear()
            await self._news.wait()


class AnswerStream:
    """An answer that is read while the server writes it.

    Attributes:
        status: HTTP status.
        headers: by name in any case.
    """

    def __init__(self, writer: _AnswerWriter, line: _FakeConnection) -> None:
        self._writer = writer
        self._line = line
        self.status = writer.status
        self.headers = CIMultiDictProxy(writer.headers)

    async def read(self) -> bytes:
        """Wait for the next chunk; empty at the end.

        Raises:
            BrokenError: the connection broke.
        """
        return await self._writer.next()

    def cut(self) -> None:
        """Break the connection, as a network would."""
        self._line.abort()
        self._writer.end()


async def exchange(
    api: Api, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
) -> Answer:
    """Send a request and return the whole answer.

    Args:
        api: the server's.
        method: HTTP method.
        target: escaped path and query.
        headers: of the request.
        body: None for none.

    Raises:
        BrokenError: the server broke the connection.
    """
    line = _FakeConnection()
    writer = _AnswerWriter(line, bounded=False)
    await _answer(api, _request(method, target, headers, body, line, writer), writer)
    if line.broken.is_set() or not writer.status:
        raise BrokenError("the server broke the connection")
    return Answer(writer.status, CIMultiDictProxy(writer.headers), writer.take())


@asynccontextmanager
async def open_stream(
    api: Api, method: str, target: str, headers: Mapping[str, str]
) -> AsyncGenerator[AnswerStream, None]:
    """Send a request and read the answer while the server writes it.

    Raises:
        BrokenError: the server broke the connection before it said anything.
    """
    line = _FakeConnection()
    writer = _AnswerWriter(line, bounded=True)
    request = _request(method, target, headers, None, line, writer)
    answering = asyncio.create_task(_answer(api, request, writer), name="in-process-request")
    try:
        await writer.wait_status()
        if not writer.status:
            raise BrokenError("the server broke the connection")
        yield AnswerStream(writer, line)
    finally:
        line.abort()
        answering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answering


async def _answer(api: Api, request: web.BaseRequest, writer: _AnswerWriter) -> None:
    try:
        response = await api.handle(request)
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        request.protocol.transport.abort()  # type: ignore[union-attr]  # it is a _FakeConnection
    finally:
        writer.end()


def _request(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | None,
    line: _FakeConnection,
    writer: _AnswerWriter,
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    sent = CIMultiDict(headers)
    payload = EMPTY_PAYLOAD
    if body is not None:
        sent["Content-Length"] = str(len(body))
        payload = StreamReader(cast(Any, line), _BODY_LIMIT_BYTES, loop=loop)
        payload.feed_data(body)
        payload.feed_eof()
    message = RawRequestMessage(
        method, target, HttpVersion11, CIMultiDictProxy(sent), (), False, None, False, False,
        URL(target, encoded=True),
    )  # fmt: skip
    task = cast("asyncio.Task[None]", asyncio.current_task())
    return web.BaseRequest(message, payload, cast(Any, line), writer, task, loop)
