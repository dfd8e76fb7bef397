"""The page's HTTP server: files, one stream of changes for each browser, single Tasks."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from taskctl.clock import Clock, SystemClock
from taskctl.errors import ApiError, Forbidden, NotFound, TaskctlError
from taskctl.safetext import visible
from taskctl.ui.earlier import Earlier
from taskctl.ui.feed import Boards, Feed, Told
from taskctl.ui.guard import CSRF_HEADER, HEADERS, Guard
from taskctl.ui.logtext import shown_log
from taskctl.ui.model import detail_of
from taskctl.ui.ops import TaskOps, TaskRef

log = logging.getLogger(__name__)

STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_MAX_BODY_BYTES: Final = 16 * 1024
_MAX_STREAMS: Final = 32
_MAX_LOOKUPS: Final = 8
_BACKLOG: Final = 64
# Several changes within it are one event, and no eye sees a picture change more often.
_COALESCE_S: Final = 0.1
_HEARTBEAT_S: Final = 5.0
# A browser that takes nothing for so long is gone, or may come back and begin again.
_WRITE_TIMEOUT_S: Final = 30.0
_LOOKUP_TIMEOUT_S: Final = 30.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class PageServer:
    """Serves the page on a bound socket.

    Attributes:
        guard: who may ask.
        boards: the rows.
        ops: single Tasks.
        title: what the page is of, for people.
        earlier: Tasks that are gone; None: there is no history.
        clock: source of time.
    """

    guard: Guard
    boards: Boards
    ops: TaskOps
    title: str = ""
    earlier: Earlier | None = None
    clock: Clock = SystemClock()  # noqa: RUF009 - has no state
    _streams: set[asyncio.Task[Any]] = field(default_factory=set)
    _lookups: asyncio.Semaphore | None = None
    _runner: web.AppRunner | None = None

    async def start(self, *listeners: socket.socket) -> None:
        """Begin to serve on bound sockets."""
        self._lookups = asyncio.Semaphore(_MAX_LOOKUPS)
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[self._check])
        app.router.add_get("/", self._file)
        app.router.add_get("/static/{name}", self._file)
        app.router.add_post("/api/session", self._session)
        app.router.add_get("/api/events", self._events)
        app.router.add_get("/api/earlier", self._earlier)
        app.router.add_get("/api/task", self._task)
        app.router.add_get("/api/log", self._log)
        app.router.add_post("/api/cancel", self._change)
        app.router.add_post("/api/retry", self._change)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,  # a stream ends with its browser
            shutdown_timeout=1.0,
            max_line_size=8190,
            max_field_size=8190,
        )
        await runner.setup()
        for listener in listeners:
            await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        self._runner = runner

    async def stop(self) -> None:
        """Stop serving."""
        for stream in self._streams:
            stream.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # --- before every answer --------------------------------------------------------------

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._admit(request)
            response = await handler(request)
        except web.HTTPException as error:
            response = _refusal(error.status, error.text or error.reason)
        except (NotFound, Forbidden, ApiError, TaskctlError) as error:
            response = _refusal(_status_of(error), str(error))
        except TimeoutError:
            response = _refusal(504, "the API server did not answer in time; try again")
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    def _admit(self, request: web.Request) -> None:
        if not self.guard.host_allowed(request.headers.get("Host")):
            raise web.HTTPMisdirectedRequest(text="this server is not known by that name")
        changes = request.method not in ("GET", "HEAD")
        api = request.path.startswith("/api/")
        if (api or changes) and not self.guard.origin_allowed(request.headers, required=changes):
            raise web.HTTPForbidden(text="requests from other pages are refused")
        if changes and request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json")
        if not api or request.path == "/api/session":
            return
        if not self.guard.session_right(request.cookies.get(self.guard.cookie_name)):
            raise web.HTTPUnauthorized(text="open the address that taskctl printed, with its token")

    # --- files and the session --------------------------------------------------------------

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name", "index.html")
        path = STATIC / name
        if path.parent != STATIC or path.suffix not in _TYPES or not path.is_file():
            raise web.HTTPNotFound(text="there is no such file")
        body = await asyncio.to_thread(path.read_bytes)
        return web.Response(body=body, content_type=_TYPES[path.suffix], charset="utf-8")

    async def _session(self, request: web.Request) -> web.StreamResponse:
        """Exchange the token, or a session that holds already, for what the page needs to know."""
        body = await _json(request)
        known = self.guard.session_right(request.cookies.get(self.guard.cookie_name))
        if not known and not self.guard.token_right(body.get("token")):
            raise web.HTTPUnauthorized(text="open the address that taskctl printed, with its token")
        response = _answer(
            {
                "title": self.title,
                "write": self.guard.write,
                "csrf": self.guard.csrf,
                "earlier": self.earlier is not None,
            }
        )
        response.set_cookie(
            self.guard.cookie_name,
            self.guard.session,
            httponly=True,
            samesite="Strict",
            secure=self.guard.is_secure(request.headers.get("Host")),
            path="/",
        )
        return response

    # --- the stream -------------------------------------------------------------------------

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._streams) >= _MAX_STREAMS:
            raise web.HTTPServiceUnavailable(text="too many pages are open; close some")
        response = web.StreamResponse(headers={**HEADERS, "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        this = asyncio.current_task()
        assert this is not None
        self._streams.add(this)
        feeds = {"": self.boards.tasks.feed(), "cluster-": self.boards.clusters.feed()}
        try:
            await response.prepare(request)
            await self._stream(response, feeds)
        except (ConnectionError, TimeoutError):
            pass  # the browser went away, or reads so slowly that it had better begin again
        finally:
            self._streams.discard(this)
            for feed in feeds.values():
                feed.close()
        return response

    async def _stream(self, response: web.StreamResponse, feeds: dict[str, Feed]) -> None:
        problem: str | None = None
        while True:
            parts = []
            for prefix, feed in feeds.items():
                parts += [_event(prefix, told) for told in feed.take()]
            if problem != self.boards.problem or not parts:
                problem = self.boards.problem
                now_ms = self.clock.now().timestamp() * 1000
                status = {"now": now_ms, "problem": visible(problem)}
                parts.append(b"event: status\ndata: " + orjson.dumps(status) + b"\n\n")
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await response.write(b"".join(parts))
            if any(feed.pending for feed in feeds.values()):
                continue
            await asyncio.sleep(_COALESCE_S)
            await _any_news(feeds, _HEARTBEAT_S)

    # --- what is gone -----------------------------------------------------------------------

    async def _earlier(self, request: web.Request) -> web.StreamResponse:
        del request
        if self.earlier is None:
            raise web.HTTPNotFound(text="there is no history of Tasks that are gone")
        async with self._lookup():
            found = await self.earlier.rows()
        return _answer(
            {
                "now": self.clock.now().timestamp() * 1000,
                "rows": found.rows,
                "more": found.more,
                "source": visible(found.source),
                "problems": [visible(text) for text in found.problems],
            }
        )

    # --- single Tasks -----------------------------------------------------------------------

    async def _task(self, request: web.Request) -> web.StreamResponse:
        ref = self._ref(request.query)
        async with self._lookup():
            return _answer(detail_of(await self.ops.get(ref)))

    async def _log(self, request: web.Request) -> web.StreamResponse:
        ref = self._ref(request.query)
        text = request.query.get("attempt", "")
        if text and not (text.isdecimal() and 0 < int(text) < 2**31):
            raise web.HTTPBadRequest(text="attempt: must be a number from 1 on")
        async with self._lookup():
            found = await self.ops.log(ref, int(text) if text else None)
        return _answer(shown_log(found))

    async def _change(self, request: web.Request) -> web.StreamResponse:
        if not self.guard.write:
            raise web.HTTPForbidden(text="this page is read-only; start it with --write")
        if not self.guard.csrf_right(request.headers.get(CSRF_HEADER)):
            raise web.HTTPForbidden(text="the request does not come from this page; reload it")
        ref = self._ref(await _json(request))
        change = self.ops.cancel if request.path == "/api/cancel" else self.ops.retry
        async with self._lookup():
            await change(ref)
        log.info("%s %s/%s", request.path.removeprefix("/api/"), ref.namespace, ref.name)
        return _answer({})

    def _ref(self, values: Any) -> TaskRef:
        """Return the Task that a request names, if it is one that the page shows."""
        uid = str(values.get("uid", ""))
        row = self.boards.tasks.get(uid)
        if row is None and self.earlier is not None:
            row = self.earlier.get(uid)
        if row is None:
            raise web.HTTPNotFound(text="uid: there is no such task here (any more)")
        return TaskRef(row.namespace, row.name, row.uid)

    def _lookup(self) -> _Lookup:
        assert self._lookups is not None
        return _Lookup(self._lookups)


class _Lookup:
    """Limits how many requests to the API server run at once, and how long each may take."""

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._semaphore = semaphore
        self._timeout = asyncio.timeout(_LOOKUP_TIMEOUT_S)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        try:
            await self._semaphore.acquire()
        except BaseException as error:
            await self._timeout.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(self, *exc_info: Any) -> None:
        self._semaphore.release()
        await self._timeout.__aexit__(*exc_info)


async def _any_news(feeds: dict[str, Feed], timeout_s: float) -> None:
    waits = [asyncio.create_task(feed.wait(), name="page news") for feed in feeds.values()]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _event(prefix: str, told: Told) -> bytes:
    data = orjson.dumps(told.rows or told.uids)
    return f"event: {prefix}{told.step}\n".encode() + b"data: " + data + b"\n\n"


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        found = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise web.HTTPBadRequest(text=f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(text="the body must be a JSON object")
    return found


def _answer(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


def _refusal(status: int, text: str) -> web.Response:
    body = orjson.dumps({"error": visible(text)})
    return web.Response(status=status, body=body, content_type="application/json")


def _status_of(error: TaskctlError) -> int:
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, Forbidden):
        return 403
    return 502 if isinstance(error, ApiError) else 409
