"""The whole server in this process: files, restarts, slow readers, logs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from taskctl.embedded.listening import bind_unix
from taskctl.embedded.server.controllers import expiry
from taskctl.embedded.server.main import EmbeddedServer, ServerOptions
from taskctl.embedded.server.refusals.errors import Resource
from taskctl.embedded.server.storage import hub
from taskctl.errors import ConfigError
from tests.conformance.target import widget, widget_crd
from tests.unit.clocks import SetClock

WIDGETS = "/apis/conformance.taskctl.test/v1/namespaces/default/widgets"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MAPS = "/api/v1/namespaces/default/configmaps"
EVENTS = Resource("", "events")


class Client:
    """Sends JSON, reads JSON."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def send(self, method: str, path: str, body: Any = None, code: int | None = None) -> Any:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = json.dumps(body) if body is not None else None
        async with self.session.request(
            method, path, data=data, headers={"Content-Type": kind}
        ) as answer:
            found = await answer.json()
            assert answer.status == code or (code is None and answer.status < 300), found
            return found

    async def gone(self, path: str) -> None:
        async with asyncio.timeout(10):
            while True:
                async with self.session.get(path) as answer:
                    if answer.status == 404:
                        return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def client_of(server: EmbeddedServer) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {server.token}"}
    tls = aiohttp.TCPConnector(ssl=server.certificates.client_context())
    async with aiohttp.ClientSession(server.url, connector=tls, headers=headers) as session:
        yield Client(session)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- files ------------------------------------------------------------------------------


async def test_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with EmbeddedServer(ServerOptions(data)) as server:
        assert mode(data) == 0o700
        assert mode(data / "tls") == 0o700
        files = [data / name for name in os.listdir(data) if name != "tls"]
        for path in (*files, *(data / "tls").iterdir()):
            assert mode(path) == 0o600, path
        found = json.loads((data / "server.json").read_text())
        assert found == {"url": server.url, "port": int(server.url.rpartition(":")[2])}
        assert (data / "token").read_text().strip() == server.token
        config = yaml.safe_load((data / "kubeconfig").read_text())
        cluster = config["clusters"][0]["cluster"]
        assert cluster["server"] == server.url
        authority = base64.b64decode(cluster["certificate-authority-data"])
        assert authority == (data / "tls" / "ca.crt").read_bytes()
        assert config["users"][0]["user"] == {"token": server.token}
        assert config["current-context"] == "local"


async def test_port_and_token_outlive_a_restart(tmp_path: Path) -> None:
    async with EmbeddedServer(ServerOptions(tmp_path)) as first:
        pass
    async with EmbeddedServer(ServerOptions(tmp_path)) as second:
        assert (second.url, second.token) == (first.url, first.token)


async def test_a_port_that_was_taken_meanwhile_is_named(tmp_path: Path) -> None:
    async with EmbeddedServer(ServerOptions(tmp_path)) as first:
        port = int(first.url.rpartition(":")[2])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        server = EmbeddedServer(ServerOptions(tmp_path))
        with pytest.raises(ConfigError, match=f"{port}: Address already in use.*first start"):
            await server.start()
        await server.stop()
        server = EmbeddedServer(ServerOptions(tmp_path, port=port))
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            await server.start()
        await server.stop()


async def test_one_server_per_directory(tmp_path: Path) -> None:
    async with EmbeddedServer(ServerOptions(tmp_path)):
        second = EmbeddedServer(ServerOptions(tmp_path))
        with pytest.raises(ConfigError, match="another server is using"):
            await second.start()
        await second.stop()


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = EmbeddedServer(ServerOptions(tmp_path / "file" / "data"))
    with pytest.raises(ConfigError, match="cannot be used"):
        await server.start()
    await server.stop()


# --- restarts ---------------------------------------------------------------------------


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
        await client.send("POST", CRDS, widget_crd())
        made = await client.send("POST", WIDGETS, widget("a"))
        await client.send("POST", WIDGETS, widget("b"))
        await client.send("DELETE", f"{WIDGETS}/b")
        head = (await client.send("GET", WIDGETS))["metadata"]["resourceVersion"]
    async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
        body = await client.send("GET", WIDGETS)
        assert body["items"] == [made]
        assert body["metadata"]["resourceVersion"] == head
        found = await client.send("GET", f"{WIDGETS}?fieldSelector=spec.color%3Dred")
        assert len(found["items"]) == 1


async def test_a_watch_goes_on_over_a_restart(tmp_path: Path) -> None:
    async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
        await client.send("POST", CRDS, widget_crd())
        await client.send("POST", WIDGETS, widget("a"))
        seen = (await client.send("GET", WIDGETS))["metadata"]["resourceVersion"]
        await client.send("POST", MAPS, {"metadata": {"name": "later"}})
    async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
        # No widget has changed since, so nothing is lost although the events are.
        query = f"?watch=1&resourceVersion={seen}"
        async with client.session.get(WIDGETS + query) as answer:
            made = await client.send("POST", WIDGETS, widget("b"))
            event = json.loads(await answer.content.readline())
        assert (event["type"], event["object"]) == ("ADDED", made)
        old = int(seen) - 1
        async with client.session.get(f"{WIDGETS}?watch=1&resourceVersion={old}") as answer:
            event = json.loads(await answer.content.readline())
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_work_left_undone_is_taken_up(tmp_path: Path) -> None:
    async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
        await client.send("POST", CRDS, widget_crd())
        owner = await client.send("POST", WIDGETS, widget("owner"))
        child = widget("child")
        child["metadata"]["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": "Widget",
                "name": "owner",
                "uid": owner["metadata"]["uid"],
            }
        ]
        await client.send("POST", WIDGETS, child)
        await client.send("POST", "/api/v1/namespaces", {"metadata": {"name": "doomed"}})
        doomed = WIDGETS.replace("/default/", "/doomed/")
        await client.send("POST", doomed, widget("inside"))
        # As if killed before its controllers could act on these.
        for task in server.engine._tasks:
            task.cancel()
        await client.send("DELETE", f"{WIDGETS}/owner")
        await client.send("DELETE", "/api/v1/namespaces/doomed")
        await client.send("GET", f"{WIDGETS}/child")
        await client.send("GET", f"{doomed}/inside")
    async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
        await client.gone(f"{WIDGETS}/child")
        await client.gone("/api/v1/namespaces/doomed")


async def test_a_definition_half_deleted_is_deleted(tmp_path: Path) -> None:
    async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
        await client.send("POST", CRDS, widget_crd())
        await client.send("POST", WIDGETS, widget("a"))
        for task in server.engine._tasks:
            task.cancel()
        await client.send("DELETE", f"{CRDS}/widgets.conformance.taskctl.test")
    async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
        await client.gone(f"{CRDS}/widgets.conformance.taskctl.test")
        await client.gone(WIDGETS)


_PROGRAM = """
import asyncio, sys
from pathlib import Path
from taskctl.embedded.server.main import ServerOptions, run_server

asyncio.run(run_server(ServerOptions(Path(sys.argv[1]))))
"""


def trusting(data: Path) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=data / "tls" / "ca.crt"))


async def _start(data: Path) -> tuple[subprocess.Popen[bytes], str, str]:
    (data / "server.json").unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(data)])
    async with asyncio.timeout(30):
        while not (data / "kubeconfig").exists() or not (data / "server.json").exists():
            assert process.poll() is None
            await asyncio.sleep(0.02)
    url = json.loads((data / "server.json").read_text())["url"]
    return process, url, (data / "token").read_text().strip()


async def test_kill_nine_loses_no_answer(tmp_path: Path) -> None:
    process, url, token = await _start(tmp_path)
    headers = {"Authorization": f"Bearer {token}"}
    answered: set[str] = set()

    async def write(client: Client, worker: int) -> None:
        for number in range(10_000):
            name = f"w{worker}-{number}"
            await client.send("POST", MAPS, {"metadata": {"name": name}, "data": {"a": name}})
            answered.add(name)

    tls = trusting(tmp_path)
    async with aiohttp.ClientSession(url, connector=tls, headers=headers) as session:
        client = Client(session)
        writers = [asyncio.create_task(write(client, worker)) for worker in range(4)]
        async with asyncio.timeout(30):
            while len(answered) < 200:
                await asyncio.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        await asyncio.gather(*writers, return_exceptions=True)
    assert process.wait() == -signal.SIGKILL
    async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
        items = (await client.send("GET", MAPS))["items"]
        found = {item["metadata"]["name"]: item for item in items}
        assert answered <= set(found)
        versions = [int(item["metadata"]["resourceVersion"]) for item in items]
        assert len(set(versions)) == len(versions)
        made = await client.send("POST", MAPS, {"metadata": {"name": "after"}})
        assert int(made["metadata"]["resourceVersion"]) > max(versions)


async def test_sigterm_ends_it_in_order(tmp_path: Path) -> None:
    process, url, token = await _start(tmp_path)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(url, connector=trusting(tmp_path), headers=headers) as session,
        session.get(f"{MAPS}?watch=1") as answer,
    ):
        await answer.content.readline()
        process.send_signal(signal.SIGTERM)
        assert await answer.content.read() == b"", "the watch ends without an error"
    assert await asyncio.to_thread(process.wait, 10) == 0


# --- watches ----------------------------------------------------------------------------


async def test_bookmarks_come_by_themselves() -> None:
    options = ServerOptions(bookmark_interval_s=0.05)
    async with EmbeddedServer(options) as server, client_of(server) as client:
        query = "?watch=1&resourceVersion=0&allowWatchBookmarks=true&fieldSelector=metadata.name=x"
        async with client.session.get(MAPS + query) as answer:
            first = json.loads(await answer.content.readline())
            await client.send("POST", MAPS, {"metadata": {"name": "other"}})
            while True:
                later = json.loads(await answer.content.readline())
                assert later["type"] == "BOOKMARK"
                before = int(first["object"]["metadata"]["resourceVersion"])
                if int(later["object"]["metadata"]["resourceVersion"]) == before + 1:
                    break


async def test_a_client_that_stops_reading_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "QUEUE_LIMIT_BYTES", 1024 * 1024)
    async with EmbeddedServer(ServerOptions()) as server, client_of(server) as client:
        host, port = server.url.removeprefix("https://").split(":")
        tls = server.certificates.client_context()
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024, ssl=tls)
        writer.write(
            f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {server.token}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(10):
            while not server.core.hub.count():
                await asyncio.sleep(0.01)
        # More than the queue, the server's buffer and both sockets' can hold.
        for number in range(60):
            body = {"metadata": {"name": f"m{number}"}, "data": {"text": "x" * 200_000}}
            await client.send("POST", MAPS, body)
            if not server.core.hub.count():
                break
        async with asyncio.timeout(10):
            while server.core.hub.count():
                await asyncio.sleep(0.01)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(60 * 200_000)
        writer.close()


async def test_a_client_that_goes_is_forgotten() -> None:
    async with EmbeddedServer(ServerOptions()) as server, client_of(server) as client:
        async with client.session.get(f"{MAPS}?watch=1") as answer:
            await answer.content.readline()
            assert server.core.hub.count() == 1
            answer.close()
        async with asyncio.timeout(10):
            while server.core.hub.count():
                await asyncio.sleep(0.01)


async def test_watches_of_a_deleted_kind_end() -> None:
    async with EmbeddedServer(ServerOptions()) as server, client_of(server) as client:
        await client.send("POST", CRDS, widget_crd())
        async with client.session.get(f"{WIDGETS}?watch=1") as answer:
            await client.send("DELETE", f"{CRDS}/widgets.conformance.taskctl.test")
            async with asyncio.timeout(10):
                assert await answer.content.read() == b""


# --- events -----------------------------------------------------------------------------


async def test_events_expire() -> None:
    clock = SetClock()
    async with EmbeddedServer(ServerOptions(), clock=clock) as server, client_of(server) as client:
        path = "/api/v1/namespaces/default/events"
        for name in ("old", "renewed"):
            body = {"metadata": {"name": name}, "involvedObject": {"name": "x"}}
            await client.send("POST", path, body)
        clock.pass_s(1800)
        await client.send("PATCH", f"{path}/renewed", {"count": 2})
        sweeper = expiry.EventExpiry(server.core)
        sweeper.scan()
        clock.pass_s(expiry.EVENT_LIFE_S - 1)
        assert sweeper.sweep() == 0
        clock.pass_s(1)
        assert sweeper.sweep() == 2
        assert server.core.store.count(EVENTS) == 0


async def test_a_renewed_event_lives_on() -> None:
    clock = SetClock()
    async with EmbeddedServer(ServerOptions(), clock=clock) as server, client_of(server) as client:
        sweeper = expiry.EventExpiry(server.core)
        server.core.store.listen(sweeper.notice)
        path = "/api/v1/namespaces/default/events"
        for name in ("old", "renewed"):
            body = {"metadata": {"name": name}, "involvedObject": {"name": "x"}}
            await client.send("POST", path, body)
        clock.pass_s(1800)
        await client.send("PATCH", f"{path}/renewed", {"count": 2})
        clock.pass_s(1800)
        sweeper.sweep()
        left = [record.name for record in server.core.store.records(EVENTS)]
        assert left == ["renewed"]


# --- logs -------------------------------------------------------------------------------


@asynccontextmanager
async def node(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedServer, Client, list[str]]]:
    """A server with a node that answers log requests, and a pod on it."""
    (tmp_path / "node-token").write_text("node secret\n")
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer node secret":
            return web.Response(status=401, text="who are you?")
        asked.append(request.path_qs)
        if request.match_info["container"] == "waiting":
            return web.Response(status=400, text="container waiting has not started")
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first line\n")
        if request.query.get("follow"):
            await asyncio.sleep(0.05)
        await response.write(b"last line\n")
        return response

    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    with bind_unix(tmp_path / "node.sock") as listener:
        await web.SockSite(runner, listener).start()
        async with EmbeddedServer(ServerOptions(tmp_path)) as server, client_of(server) as client:
            await client.send("POST", "/api/v1/nodes", {"metadata": {"name": "local"}})
            containers = [{"name": name, "image": "i"} for name in ("main", "waiting")]
            pod = {"metadata": {"name": "p"}, "spec": {"containers": containers}}
            pods = "/api/v1/namespaces/default/pods"
            await client.send("POST", pods, pod)
            target = {"target": {"kind": "Node", "name": "local"}}
            await client.send("POST", f"{pods}/p/binding", target)
            yield server, client, asked
        await runner.cleanup()


LOG = "/api/v1/namespaces/default/pods/p/log"


async def test_logs_are_passed_through(tmp_path: Path) -> None:
    async with node(tmp_path) as (_, client, asked):
        query = "?container=main&follow=true&tailLines=5&timestamps=true&nonsense=1"
        async with client.session.get(LOG + query) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/plain"
            assert await answer.text() == "first line\nlast line\n"
        (path,) = asked
        assert path.startswith("/containerLogs/default/p/main?")
        for part in ("follow=true", "tailLines=5", "timestamps=true"):
            assert part in path
        assert "nonsense" not in path


async def test_refusals_of_the_node_are_passed_on(tmp_path: Path) -> None:
    async with node(tmp_path) as (_, client, _):
        body = await client.send("GET", f"{LOG}?container=waiting", code=400)
        assert body["message"] == "container waiting has not started"
        body = await client.send("GET", LOG, code=400)
        assert body["message"] == (
            "a container name must be specified for pod p, choose one of: [main waiting]"
        )
        await client.send("GET", f"{LOG}?container=none", code=400)


async def test_a_node_that_cannot_be_reached(tmp_path: Path) -> None:
    async with node(tmp_path) as (_, client, _):
        (tmp_path / "node.sock").unlink()
        body = await client.send("GET", f"{LOG}?container=main", code=502)
        assert "the node local cannot be reached" in body["message"]
        await client.send("DELETE", "/api/v1/nodes/local")
        await client.send("GET", f"{LOG}?container=main", code=404)


async def test_what_this_server_cannot_do_is_said() -> None:
    async with EmbeddedServer(ServerOptions()) as server, client_of(server) as client:
        path = "/api/v1/namespaces/default/pods/p/proxy"
        body = await client.send("POST", path, {}, code=501)
        assert body["reason"] == "NotImplemented"
        assert "pods/proxy" in body["message"]


async def test_a_fault_of_the_server_is_a_status_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedServer(ServerOptions()) as server, client_of(server) as client:

        def fail(*_: object) -> None:
            raise ZeroDivisionError("on purpose")

        monkeypatch.setattr(server.core.store, "_make", fail)
        body = await client.send("POST", MAPS, {"metadata": {"name": "m"}}, code=500)
        assert body["reason"] == "InternalError"
        assert "ZeroDivisionError" in body["message"]


# --- what is logged ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nAuthorization : Bearer TOKEN\r\n\r\n",
        "GET /TOKEN\x01 HTTP/1.1\r\n\r\n",
        "GET /?a=TOKEN HTTP/9.9\r\n\r\n",
        "GET https://local:TOKEN@x:y/ HTTP/1.1\r\n\r\n",
        "\x00TOKEN\r\n\r\n",
    ],
)
async def test_no_token_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, request_: str
) -> None:
    caplog.set_level("DEBUG")
    async with EmbeddedServer(ServerOptions(data_dir=tmp_path / "data")) as server:
        host, _, port = server.url.removeprefix("https://").rpartition(":")
        tls = server.certificates.client_context()
        reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
        writer.write(request_.replace("TOKEN", server.token).encode())
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
        assert "a malformed request" in caplog.text
        assert server.token not in caplog.text
        assert "Traceback" not in caplog.text
