"""The node's client against a small server on the loopback address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from taskctl.clock import SystemClock
from taskctl.embedded.node.api import ApiClient, ObjectFeed, core_path, group_path
from taskctl.embedded.node.options import NodePaths
from taskctl.embedded.server.access.certificates import ensure_certificates
from taskctl.errors import AlreadyExists, Conflict, Gone, Invalid, NotFound, Throttled, Unavailable
from taskctl.kube.resources import PODS

Json = dict[str, Any]


class Script:
    """A server that answers a list and then plays one watch after another."""

    def __init__(self) -> None:
        self.lists: list[list[Json]] = []
        self.watches: list[list[bytes]] = []
        self.asked: list[str] = []
        self.status = 200
        self.body: Json = {}
        self.headers: dict[str, str] = {}
        self.tokens: set[str] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.tokens.add(request.headers.get("Authorization", ""))
        if request.path.endswith("/one"):
            return web.json_response(self.body, status=self.status, headers=self.headers)
        if "watch" not in request.query:
            self.asked.append("list")
            body = {"metadata": {"resourceVersion": "10"}, "items": self.lists.pop(0)}
            return web.json_response(body)
        self.asked.append(f"watch {request.query['resourceVersion']}")
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in self.watches.pop(0) if self.watches else []:
            await response.write(chunk)
            await asyncio.sleep(0)
        if not self.watches:
            await asyncio.sleep(60)
        return response


class Seen:
    """A handler that notes what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []

    def replace(self, items: list[Json]) -> None:
        self.calls.append(("replace", [item["metadata"]["name"] for item in items]))

    def applied(self, item: Json) -> None:
        self.calls.append(("applied", [item["metadata"]["name"]]))

    def deleted(self, item: Json) -> None:
        self.calls.append(("deleted", [item["metadata"]["name"]]))


def item(name: str, version: str) -> Json:
    return {"metadata": {"name": name, "resourceVersion": version}}


def event(kind: str, name: str, version: str) -> bytes:
    return json.dumps({"type": kind, "object": item(name, version)}).encode() + b"\n"


EXPIRED = (
    json.dumps(
        {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
    ).encode()
    + b"\n"
)


@pytest.fixture
def script() -> Script:
    return Script()


@asynccontextmanager
async def served(script: Script, data_dir: Path, token: str) -> AsyncIterator[int]:
    """Serve a script on a free port, which the data directory names, and yield the port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    certificates = ensure_certificates(data_dir, (), SystemClock().now())
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.server_context()).start()
    port = runner.addresses[0][1]
    (data_dir / "server.json").write_text(json.dumps({"url": f"https://127.0.0.1:{port}"}))
    (data_dir / "token").write_text(f"{token}\n")
    yield port
    await runner.cleanup()


@pytest.fixture
async def api(script: Script, tmp_path: Path) -> AsyncIterator[ApiClient]:
    async with served(script, tmp_path, "t"), ApiClient(NodePaths(tmp_path)) as api:
        yield api


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(50):
        while not done():
            await asyncio.sleep(0.01)


async def play(api: ApiClient, seen: Seen, done: Callable[[], bool]) -> None:
    task = asyncio.create_task(ObjectFeed(api, PODS, seen).run())
    try:
        await until(done)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_list_then_watch_from_its_version(api: ApiClient, script: Script) -> None:
    script.lists = [[item("a", "5")]]
    whole = event("ADDED", "b", "11") + event("BOOKMARK", "x", "12") + event("DELETED", "a", "13")
    script.watches = [[whole[:30], whole[30:100], whole[100:]], []]  # split anywhere
    seen = Seen()
    await play(api, seen, lambda: len(script.asked) == 3)
    assert seen.calls == [("replace", ["a"]), ("applied", ["b"]), ("deleted", ["a"])]
    assert script.asked == ["list", "watch 10", "watch 13"]


async def test_expired_version_means_a_new_list(api: ApiClient, script: Script) -> None:
    script.lists = [[item("a", "5")], [item("b", "6")]]
    script.watches = [[EXPIRED], []]
    seen = Seen()
    await play(api, seen, lambda: len(script.asked) == 4)
    assert script.asked == ["list", "watch 10", "list", "watch 10"]
    assert seen.calls == [("replace", ["a"]), ("applied", ["b"]), ("deleted", ["a"])]


async def test_lines_longer_than_any_buffer(api: ApiClient, script: Script) -> None:
    script.lists = [[]]
    long = json.dumps({"type": "ADDED", "object": {**item("a", "11"), "data": "x" * 600_000}})
    script.watches = [[long.encode() + b"\n"], []]
    seen = Seen()
    await play(api, seen, lambda: len(seen.calls) == 2)
    assert seen.calls[1] == ("applied", ["a"])


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (404, "NotFound", NotFound),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (500, "InternalError", Unavailable),
        (503, "", Unavailable),
    ],
)
async def test_refusals(
    api: ApiClient, script: Script, status: int, reason: str, kind: type[Exception]
) -> None:
    script.status = status
    script.body = {"kind": "Status", "code": status, "reason": reason, "message": "why"}
    with pytest.raises(kind, match="why"):
        await api.get("/one")


async def test_retry_after(api: ApiClient, script: Script) -> None:
    script.status, script.headers = 429, {"Retry-After": "7"}
    with pytest.raises(Throttled) as caught:
        await api.get("/one")
    assert caught.value.retry_after_s == 7


async def test_no_server_is_unavailable_and_its_return_is_noticed(
    api: ApiClient, script: Script, tmp_path: Path
) -> None:
    found = (tmp_path / "server.json").read_text()
    (tmp_path / "server.json").write_text('{"url": "https://127.0.0.1:9"}')
    with pytest.raises(Unavailable):
        await api.get("/one")
    (tmp_path / "server.json").unlink()
    with pytest.raises(Unavailable, match="no API server yet"):
        await api.get("/one")
    (tmp_path / "server.json").write_text(found)
    script.body = {"kind": "Pod"}
    assert await api.get("/one") == {"kind": "Pod"}
    assert api.address()[:2] == ("https", "127.0.0.1")


async def test_the_token_is_shown_to_nobody_else(
    api: ApiClient, script: Script, tmp_path: Path
) -> None:
    """Whoever took the server's port, with TLS of its own or without, learns nothing."""
    heard: list[str] = []

    async def listen(request: web.BaseRequest) -> web.Response:
        heard.append(request.headers.get("Authorization", ""))
        return web.json_response({})

    (tmp_path / "other").mkdir()
    impostor = ensure_certificates(tmp_path / "other", (), SystemClock().now())
    runner = web.ServerRunner(web.Server(listen))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=impostor.server_context()).start()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    secure, plain = (address[1] for address in runner.addresses)
    for url in (f"https://127.0.0.1:{secure}", f"http://127.0.0.1:{plain}"):
        (tmp_path / "server.json").write_text(json.dumps({"url": url}))
        client = ApiClient(NodePaths(tmp_path))
        async with client:
            with pytest.raises(Unavailable):
                await client.get("/one")
            with pytest.raises(Unavailable):
                async for _ in client.watch(PODS):
                    pass
    assert heard == []
    await runner.cleanup()


async def test_a_server_that_came_back_elsewhere_is_followed(tmp_path: Path) -> None:
    """With another address and another token, in the middle of a watch."""
    first, second, seen = Script(), Script(), Seen()
    first.lists, first.watches = [[item("a", "5")]], [[]]
    second.lists = [[item("a", "5"), item("c", "12")]]
    second.watches = [[event("ADDED", "c", "12")]]
    async with ApiClient(NodePaths(tmp_path)) as api:
        feed = asyncio.create_task(ObjectFeed(api, PODS, seen).run())
        async with served(first, tmp_path, "t") as port:
            await until(lambda: first.asked == ["list", "watch 10"])
            assert api.address()[2] == port
        async with served(second, tmp_path, "u") as port:
            await until(lambda: ("applied", ["c"]) in seen.calls)
            assert api.address()[2] == port
        feed.cancel()
        await asyncio.wait([feed])
    assert seen.calls == [("replace", ["a"]), ("applied", ["c"])]
    assert (first.tokens, second.tokens) == ({"Bearer t"}, {"Bearer u"})


def test_paths() -> None:
    assert core_path("pods", "ns", "p", "status") == "/api/v1/namespaces/ns/pods/p/status"
    assert core_path("nodes", name="n") == "/api/v1/nodes/n"
    assert core_path("pods", "ns", "a/b") == "/api/v1/namespaces/ns/pods/a%2Fb"
    expected = "/apis/coordination.k8s.io/v1/namespaces/ns/leases"
    assert group_path("coordination.k8s.io/v1", "leases", "ns") == expected
