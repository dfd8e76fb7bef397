"""The gate: who has not authenticated is one of a few, and not for long."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from taskctl.embedded.server.http import connections
from taskctl.embedded.server.http.connections import ConnectionLimits, raise_file_limit
from taskctl.embedded.server.main import EmbeddedServer, ServerOptions

LIMITS = ConnectionLimits(total=40, strangers=10, stranger_life_s=30.0)
SHORT = ConnectionLimits(total=40, strangers=10, stranger_life_s=0.3)


@asynccontextmanager
async def serving(limits: ConnectionLimits = LIMITS) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(ServerOptions(connection_limits=limits)) as server:
        yield server


def address(server: EmbeddedServer) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("https://").rpartition(":")
    return host, int(port)


def counts(server: EmbeddedServer) -> tuple[int, int]:
    assert server._gate is not None
    return server._gate.counts()


def client(server: EmbeddedServer, *, limit: int = 100) -> aiohttp.ClientSession:
    tls = aiohttp.TCPConnector(ssl=server.certificates.client_context(), limit=limit)
    headers = {"Authorization": f"Bearer {server.token}"}
    return aiohttp.ClientSession(server.url, connector=tls, headers=headers)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def get(session: aiohttp.ClientSession, path: str = "/api/v1/namespaces/default") -> int:
    async with session.get(path) as answer:
        await answer.read()
        return answer.status


async def silent(server: EmbeddedServer) -> asyncio.StreamWriter:
    return (await asyncio.open_connection(*address(server)))[1]


async def greeting(server: EmbeddedServer) -> asyncio.StreamWriter:
    """Begin a handshake and leave it at that."""
    writer = await silent(server)
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00")
    return writer


async def slow(server: EmbeddedServer) -> asyncio.StreamWriter:
    """Send headers that never end."""
    tls = server.certificates.client_context()
    writer = (await asyncio.open_connection(*address(server), ssl=tls))[1]
    writer.write(b"GET /api HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    return writer


async def refused(server: EmbeddedServer) -> asyncio.StreamWriter:
    """Ask with a wrong token, and keep the connection."""
    tls = server.certificates.client_context()
    writer = (await asyncio.open_connection(*address(server), ssl=tls))[1]
    writer.write(b"GET /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n")
    return writer


async def public(server: EmbeddedServer) -> asyncio.StreamWriter:
    """Ask what anybody may ask, and keep the connection."""
    tls = server.certificates.client_context()
    writer = (await asyncio.open_connection(*address(server), ssl=tls))[1]
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    return writer


STRANGERS = [silent, greeting, slow, refused, public]


@pytest.mark.parametrize("connect", STRANGERS)
async def test_a_stranger_is_closed_when_its_time_is_up(connect: Callable[..., object]) -> None:
    async with serving(SHORT) as server, client(server) as session:
        assert await get(session) == 200
        writer = await connect(server)  # type: ignore[misc]
        await until(lambda: counts(server) == (1, 1))
        await until(lambda: counts(server) == (0, 1))
        assert await get(session) == 200
        assert counts(server) == (0, 1), "on the same connection"
        writer.close()


@pytest.mark.parametrize("connect", STRANGERS)
async def test_strangers_are_few_and_keep_nobody_out(connect: Callable[..., object]) -> None:
    async with serving() as server, client(server) as session:
        assert await get(session) == 200
        writers = [await connect(server) for _ in range(35)]  # type: ignore[misc]
        await until(lambda: counts(server)[0] == LIMITS.strangers)
        assert await get(session) == 200
        async with client(server) as another:
            assert await get(another) == 200
        assert counts(server)[0] <= LIMITS.strangers
        for writer in writers:
            writer.close()
        await until(lambda: counts(server)[0] == 0)


async def test_silent_ones_make_way_before_those_who_speak() -> None:
    async with serving() as server:
        speaking = await public(server)
        await until(lambda: counts(server) == (1, 0))
        writers = [await silent(server) for _ in range(30)]
        await until(lambda: counts(server)[0] == LIMITS.strangers)
        speaking.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        await speaking.drain()
        assert not speaking.is_closing()
        for writer in (speaking, *writers):
            writer.close()


async def test_watches_of_the_known_live_on() -> None:
    async with serving(SHORT) as server, client(server) as session:
        async with session.get("/api/v1/namespaces?watch=1") as answer:
            await answer.content.readline()
            writers = [await silent(server) for _ in range(30)]
            await asyncio.sleep(3 * SHORT.stranger_life_s)
            body = {"metadata": {"name": "seen"}}
            async with session.post("/api/v1/namespaces", json=body) as made:
                assert made.status == 201
            async with asyncio.timeout(5):
                while b'"seen"' not in await answer.content.readline():
                    pass
        for writer in writers:
            writer.close()


async def test_too_many_of_the_known_are_refused_and_the_others_served() -> None:
    async with serving() as server, client(server, limit=0) as session:
        watches = [
            await session.get("/api/v1/namespaces?watch=1")
            for _ in range(LIMITS.total - LIMITS.strangers)
        ]
        assert {watch.status for watch in watches} == {200}
        async with session.get("/api/v1/namespaces") as answer:
            assert answer.status == 503
            assert "too many connections" in (await answer.json())["message"]
        watches.pop().close()
        await until(lambda: counts(server)[1] < LIMITS.total - LIMITS.strangers)
        assert await get(session) == 200
        for watch in watches:
            watch.close()


async def test_plain_http_is_told_so() -> None:
    async with serving() as server:
        reader, writer = await asyncio.open_connection(*address(server))
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.0 400 ")
        assert answer.endswith(b"Client sent an HTTP request to an HTTPS server.\n")
        writer.close()


async def test_a_handshake_that_fails_is_forgotten() -> None:
    async with serving() as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context()  # trusts others
            context.minimum_version = context.maximum_version = version
            with pytest.raises(ssl.SSLError):
                await asyncio.open_connection(*address(server), ssl=context)
        writer = await silent(server)
        writer.write(b"\x16rubbish")
        await until(lambda: counts(server) == (0, 0))
        writer.close()


async def test_no_file_descriptors_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server pauses, makes room, and accepts again."""
    monkeypatch.setattr(connections, "_PAUSE_S", 0.01)

    class Exhausted:
        def __init__(self, listener: socket.socket) -> None:
            self.listener = listener
            self.failures = 3

        def accept(self) -> tuple[socket.socket, object]:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.listener.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(self.listener, name)

    async with serving() as server:
        assert server._gate is not None
        gate = server._gate
        exhausted = Exhausted(gate._listener)
        monkeypatch.setattr(gate, "_listener", exhausted)
        async with client(server) as session:
            assert await get(session) == 200
        assert exhausted.failures == 0


def test_limits_leave_files_for_others() -> None:
    assert ConnectionLimits.within(8192) == ConnectionLimits()
    small = ConnectionLimits.within(1024)
    assert small.total + 256 <= 1024
    assert 0 < small.strangers < small.total
    assert ConnectionLimits.within(100).total >= 64
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert raise_file_limit() >= min(soft, 8192)
