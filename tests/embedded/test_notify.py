"""Notifications over real HTTP: what a receiver gets, and what it may not do to the controller."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from taskctl.api.resources import TASKS
from taskctl.controllers.poster import HttpPoster
from taskctl.kube.resources import EVENTS, SECRETS
from taskctl.policy.notify import DeliveryAnswer, NotifyReason
from taskctl.testing.stack import Component, LocalStack
from tests.embedded.world import World, eventually

KEY = b"0123456789abcdef0123456789abcdef"
KEY_TEXT = f"whsec_{base64.b64encode(KEY).decode()}"
WAIT_S = 90.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class HttpReceiver:
    """A small receiver on this machine; ``statuses`` are its first answers, then it says 200."""

    statuses: list[int] = field(default_factory=list)
    hang: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=b%20c"

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = request.headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}"
        assert request.raw_path == "/hook?a=b%20c"
        self.got.append((dict(headers), json.loads(body)))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 0:
            await self.hang.wait()
        return web.Response(status=status or 200)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[HttpReceiver]:
        """Listen, at the same port as before if there was one."""
        async with served(self.receive, self.port) as port:
            self.port = port
            yield self
            self.hang.set()


@asynccontextmanager
async def served(handler: Handler, port: int = 0) -> AsyncIterator[int]:
    """Serve on this machine; yields the port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def give_key(world: World) -> None:
    data = {"key": base64.b64encode(KEY_TEXT.encode()).decode()}
    await world.make(SECRETS, "taskctl-notify", data=data)


def noted(task: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (task["status"].get("tree") or {}).get("notifications") or []
    return found


async def settled(world: World, name: str, count: int = 1) -> list[dict[str, Any]]:
    def over(task: dict[str, Any]) -> bool:
        found = noted(task)
        return len(found) == count and all(one["state"] != "Owed" for one in found)

    task = await eventually(
        lambda: world.get(TASKS, name), over, what="nothing owed", timeout_s=WAIT_S
    )
    return noted(task)


async def test_every_end_is_told_and_signed(world: World) -> None:
    """Success, failure, cancellation, timeout; a receiver that fails at first, one that refuses."""
    await world.cluster()
    await give_key(world)
    async with (
        HttpReceiver(statuses=[503]).running() as receiver,
        HttpReceiver(statuses=[404]).running() as other,
    ):
        events = ["Started", "Succeeded", "Failed", "Cancelled"]
        notify = [{"url": receiver.url, "events": events, "queue": "q", "payload": '{"insert": 1}'}]
        await world.task("good", "true", notify=notify)
        await world.task("bad", "false", notify=[*notify, {"url": other.url, "events": ["Failed"]}])
        await world.task("stopped", "sleep", "900", notify=notify)
        await world.task("late", "sleep", "900", notify=notify, treeTimeoutSeconds=2)
        await world.in_state("stopped", "Running", timeout_s=WAIT_S)
        await world.patch(TASKS, "stopped", {"spec": {"cancel": True}})
        names = ("good", "bad", "stopped", "late")
        entries = {name: await settled(world, name, 3 if name == "bad" else 2) for name in names}
    told = {(body["subject"], body["type"]): body for _, body in receiver.got}
    assert set(told) == {
        ("good", "dev.taskctl.tree.started"),
        ("good", "dev.taskctl.tree.succeeded"),
        ("bad", "dev.taskctl.tree.started"),
        ("bad", "dev.taskctl.tree.failed"),
        ("stopped", "dev.taskctl.tree.started"),
        ("stopped", "dev.taskctl.tree.cancelled"),
        ("late", "dev.taskctl.tree.started"),
        ("late", "dev.taskctl.tree.failed"),
    }
    assert told["late", "dev.taskctl.tree.failed"]["data"]["reason"] == "TreeTimeout"
    assert {body["data"]["payload"] for body in told.values()} == {'{"insert": 1}'}
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert len(ids) == len(set(ids)) + 1  # the one that was answered with 503
    assert {headers["Content-Type"] for headers, _ in receiver.got} == {
        "application/cloudevents+json"
    }
    assert sum(one["attempts"] for found in entries.values() for one in found) == 10
    refused = [one for one in entries["bad"] if one["state"] == "GivenUp"]
    assert [(one["notify"], one["reason"]) for one in refused] == [(1, "Refused")]
    assert len(other.got) == 1
    found = await eventually(
        lambda: world.all(EVENTS),
        lambda all_of_them: any(one["reason"] == "NotificationGivenUp" for one in all_of_them),
        what="an Event",
        timeout_s=WAIT_S,
    )
    assert any(one["reason"] == "NotificationSent" for one in found)


@pytest.mark.timeout(180)
async def test_a_controller_that_is_killed_before_it_notes_it(
    world: World, stack: LocalStack
) -> None:
    """It sends again, under the same id; so it does when the receiver was down."""
    await world.cluster()
    await give_key(world)
    receiver = HttpReceiver(statuses=[0])
    async with receiver.running():
        await world.task("root", "true", notify=[{"url": receiver.url, "timeoutSeconds": 30}])

        async def asked() -> int:
            return len(receiver.got)

        await eventually(asked, bool, what="asked", timeout_s=WAIT_S)
        stack.kill(Component.CONTROLLER)
    task = await world.get(TASKS, "root")
    assert [one["state"] for one in noted(task)] == ["Owed"]
    stack.start(Component.CONTROLLER)
    await eventually(
        lambda: world.get(TASKS, "root"),
        lambda task: noted(task)[0].get("reason") == "Unreachable",
        what="tried in vain",
        timeout_s=WAIT_S,
    )
    async with receiver.running():
        (entry,) = await settled(world, "root")
    assert entry["state"] == "Sent"
    assert len(receiver.got) == 2
    assert receiver.got[0][0]["webhook-id"] == receiver.got[1][0]["webhook-id"] == entry["id"]
    assert receiver.got[0][1] == receiver.got[1][1]


# --- the sender alone ---------------------------------------------------------------


async def post(url: str, timeout_s: float = 30.0) -> DeliveryAnswer:
    return await HttpPoster().post(url, {"webhook-id": "x"}, b"{}", timeout_s)


async def test_no_redirect_is_followed() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=302, headers={"Location": "/secret", "Retry-After": "7"})

    async with served(handler) as port:
        assert await post(f"http://127.0.0.1:{port}/a") == DeliveryAnswer(302, retry_after_s=7)
    assert seen == ["/a"]


async def test_who_never_answers_is_left() -> None:
    never = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with served(handler) as port:
        answer = await post(f"http://127.0.0.1:{port}/", 0.5)
        never.set()
    assert answer.reason is NotifyReason.NO_ANSWER
    assert "0.5 s" in answer.message


async def test_of_an_answer_without_end_the_status_is_read() -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Encoding": "gzip"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)
            sent += 65536

    async with served(handler) as port:
        assert await post(f"http://127.0.0.1:{port}/") == DeliveryAnswer(200)
    assert sent < 64 * 1024 * 1024


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"what?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
    ],
)
async def test_who_does_not_speak_http(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        found = await post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert found.reason is NotifyReason.UNREACHABLE
    assert "aaaa" not in found.message


async def test_who_speaks_no_tls_and_who_is_not_there() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    async with served(handler) as port:
        answer = await post(f"https://127.0.0.1:{port}/")
        assert answer.reason is NotifyReason.UNREACHABLE
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = await post(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert answer.reason is NotifyReason.UNREACHABLE


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1"])
async def test_a_name_that_leads_where_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """The receiver is there, but whoever owns the name must not choose this address."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response()

    async def resolve(self: object, host: str, port: int, family: int) -> list[ResolveResult]:
        found = {"hostname": host, "host": address, "port": port, "family": socket.AF_INET}
        return [ResolveResult(**found, proto=0, flags=0)]  # type: ignore[typeddict-item]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    async with served(handler) as port:
        answer = await post(f"http://hooks.example.com:{port}/")
        assert answer.reason is NotifyReason.ADDRESS_NOT_ALLOWED
        assert address in answer.message
    assert seen == []
