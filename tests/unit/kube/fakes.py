"""Time under the test's control, and an API server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from aiohttp import web

from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.kube.client import KubeClient
from taskctl.kube.config import Connection
from taskctl.kube.credentials import Credentials, StaticHeader
from taskctl.kube.timing import Timing


class FakeHandle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeTime:
    """A clock that moves when told. ``auto``: sleeping moves it, and takes no time."""

    def __init__(self, *, auto: bool = False, chance: float = 0.0) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []
        self._auto = auto
        self._chance = chance
        self._timers: list[tuple[float, int, Callable[[], None], FakeHandle]] = []
        self._order = itertools.count()

    @property
    def timing(self) -> Timing:
        return Timing(
            clock=self,
            sleep=self.sleep,
            call_later=self.call_later,
            random=lambda: self._chance,
        )

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now_s - 1000.0)

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> FakeHandle:
        handle = FakeHandle()
        entry = (self.now_s + delay_s, next(self._order), callback, handle)
        heapq.heappush(self._timers, entry)
        return handle

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        if self._auto:
            self.now_s += delay_s
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call_later(delay_s, lambda: _resolve(waiter))
        await waiter

    def advance(self, seconds: float) -> None:
        """Move the clock, ringing timers at their times; does not run the loop."""
        end_s = self.now_s + seconds
        while self._timers and self._timers[0][0] <= end_s:
            at_s, _, callback, handle = heapq.heappop(self._timers)
            self.now_s = max(self.now_s, at_s)
            if not handle.cancelled:
                callback()
        self.now_s = end_s


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def settle(turns: int = 50) -> None:
    """Let everything that is ready run."""
    for _ in range(turns):
        await asyncio.sleep(0)


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeServer:
    """Answers requests by a script: one entry a request, the last one for ever."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await answer(request)


@asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client_of(
    url: str, *, credentials: Credentials | None = None, **settings: Any
) -> AsyncIterator[KubeClient]:
    settings.setdefault("timing", FakeTime(auto=True, chance=0.5).timing)
    connection = Connection(
        server=url, source="the test", credentials=credentials or StaticHeader.bearer("secret-1")
    )
    async with KubeClient(connection, replace(CLIENT_SETTINGS, **settings)) as client:
        yield client


def respond(status: int, body: Any, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(
            status=status, body=raw, headers={"Content-Type": "application/json", **named}
        )

    return answer


def status_object(code: int, reason: str, message: str = "no", **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


def refuse(code: int, reason: str, message: str = "no", **details: Any) -> Answer:
    return respond(code, status_object(code, reason, message, **details))


def drop() -> Answer:
    """Close the connection without an answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return answer


def stream(*chunks: bytes, hang: bool = False, cut: bool = False) -> Answer:
    """Send chunks; then end, hang, or cut the connection in the middle."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if hang:
            await asyncio.sleep(60)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


def event(kind: str, obj: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"


def task(name: str, version: int, uid: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "taskctl.dev/v1alpha1",
        "kind": "Task",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            **more.pop("metadata", {}),
        },
        **more,
    }


def bookmark(version: int, **annotations: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if annotations:
        metadata["annotations"] = annotations
    return {"kind": "Task", "metadata": metadata}


def task_list(version: int, *items: dict[str, Any], token: str = "") -> dict[str, Any]:
    return {
        "kind": "TaskList",
        "apiVersion": "taskctl.dev/v1alpha1",
        "metadata": {"resourceVersion": str(version), "continue": token},
        "items": list(items),
    }
