"""Answers questions about a history over HTTP, for those who know its token.

Any pod of the cluster may connect. A request needs the token, few are answered at once, an answer
is read and sent in pieces and ends at a deadline, and nothing can be changed.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from aiohttp import web

from taskctl.errors import ConfigError
from taskctl.history.asking import (
    PATH,
    TOKEN_HEADER,
    End,
    Question,
    parse_question,
)
from taskctl.history.reading import Line, NewestLines, matching_lines

log = logging.getLogger(__name__)

MAX_AT_ONCE: Final = 4
ANSWER_S: Final = 120.0
_PIECE_BYTES: Final = 256 * 1024
# A reader that takes nothing for so long is gone.
_WRITE_S: Final = 30.0
_BACKLOG: Final = 64


class Served(StrEnum):
    """What became of a request for the history; a metric label."""

    ANSWERED = "answered"
    REFUSED = "refused"  # without the token
    BAD = "bad"
    BUSY = "busy"
    FAILED = "failed"


class HistoryServer:
    """Serves a history.

    Args:
        root: a trusted directory.
        below: the history's directory, relative to it.
        token: of those who may read.
        served: is told of each request.
    """

    def __init__(
        self, root: Path, below: str, token: str, served: Callable[[Served], None]
    ) -> None:
        self._root = root
        self._below = below
        self._token = token.encode()
        self._served = served
        self._at_once = 0
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port served; 0 before :meth:`start`."""
        if self._runner is None or not self._runner.addresses:
            return 0
        return int(self._runner.addresses[0][1])

    async def start(self, host: str, port: int) -> None:
        """Begin to serve.

        Args:
            host: address to listen on.
            port: 0 takes any free one.

        Raises:
            ConfigError: the address cannot be bound.
        """
        app = web.Application(client_max_size=1)
        app.router.add_get(PATH, self._answer, allow_head=False)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=1.0,
            max_line_size=4096,
            max_field_size=4096,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"cannot serve the history on {host}:{port}: {error.strerror}; choose another port"
            ) from error
        self._runner = runner
        log.info("history on http://%s:%d%s", host, self.port, PATH)

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get(TOKEN_HEADER, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._token):
            return self._refuse(Served.REFUSED, 401, f"{TOKEN_HEADER}: not the token")
        try:
            if len(set(request.query)) != len(request.query):
                raise ConfigError("a parameter is given twice")
            question = parse_question(request.query)
        except ConfigError as error:
            return self._refuse(Served.BAD, 400, str(error))
        if self._at_once >= MAX_AT_ONCE:
            return self._refuse(Served.BUSY, 503, "too many are reading; try again")
        self._at_once += 1
        try:
            return await self._send(request, question)
        finally:
            self._at_once -= 1

    def _refuse(self, outcome: Served, status: int, text: str) -> web.Response:
        self._served(outcome)
        return web.Response(status=status, text=f"{text}\n")

    async def _send(self, request: web.Request, question: Question) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Cache-Control": "no-store"})
        response.content_type = "application/x-ndjson"
        await response.prepare(request)
        lines = self._lines(question)
        pieces = _pieces(lines)
        end = End()
        try:
            async with asyncio.timeout(ANSWER_S):
                while piece := await asyncio.to_thread(next, pieces, b""):
                    async with asyncio.timeout(_WRITE_S):
                        await response.write(piece)
            end = End(more=isinstance(lines, NewestLines) and lines.more)
            self._served(Served.ANSWERED)
        except FileNotFoundError:
            self._served(Served.ANSWERED)  # nothing has happened yet
        except OSError as error:
            # TimeoutError is one of them.
            text = str(error) or f"it took longer than {ANSWER_S:.0f} s"
            log.warning("history: an answer ended before its end: %s", text)
            self._served(Served.FAILED)
            end = End(problem=text)
        await response.write(end.encode())
        await response.write_eof()
        return response

    def _lines(self, question: Question) -> Iterable[Line]:
        if question.newest:
            return NewestLines(self._root, self._below, question.wanted, question.newest)
        return matching_lines(self._root, self._below, question.wanted)


def _pieces(lines: Iterable[Line]) -> Iterator[bytes]:
    """Yield lines in pieces of some size."""
    piece = bytearray()
    for line in lines:
        piece += line.data if line.data.endswith(b"\n") else line.data + b"\n"
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
