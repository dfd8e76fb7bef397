"""The attacked server, and what its other clients notice."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import resource
import ssl
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

MIB: Final = 1024 * 1024
MAPS: Final = "/api/v1/namespaces/default/configmaps"
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# What another client waits at most. It is some 0.1 s on a quiet machine; that which runs the
# tests may be busy with other things.
PAUSE_S: Final = 3.0
_PROBE_INTERVAL_S: Final = 0.02


class Victim:
    """A server process under attack.

    Attributes:
        session: a well-behaved client's.
        url: base URL.
        headers: that let a client in.
    """

    def __init__(
        self, session: aiohttp.ClientSession, where: dict[str, str], tls: ssl.SSLContext, pid: int
    ) -> None:
        self.session = session
        self.url = where["url"]
        self.headers = {"Authorization": f"Bearer {where['token']}"}
        self._tls = tls
        self._pid = pid
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the server."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    async def send(
        self, method: str, path: str, body: Any = None, media: str = "application/json"
    ) -> tuple[int, Any]:
        """Send a request. Returns status and parsed answer."""
        text = body if isinstance(body, str) else json.dumps(body)
        data = None if body is None else io.BytesIO(text.encode())
        async with self.session.request(
            method, path, data=data, headers={"Content-Type": media}
        ) as answer:
            return answer.status, await answer.json()

    async def made(self, path: str, body: Any) -> Any:
        """Create an object, which must succeed."""
        status, found = await self.send("POST", path, body)
        assert status == 201, found
        return found

    async def connect(
        self, request: str, headers: Sequence[str] = ()
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request by hand, and read nothing of the answer.

        Args:
            request: its first line, without the version.
            headers: more of them.
        """
        host, port = self.url.removeprefix("https://").split(":")
        # A small limit: what the client does not read is to wait at the server.
        reader, writer = await asyncio.open_connection(host, int(port), limit=4096, ssl=self._tls)
        self._writers.append(writer)
        lines = [f"{request} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        writer.write("\r\n".join([*lines, *headers, "", ""]).encode())
        await writer.drain()
        return reader, writer

    async def hang_up(self) -> None:
        """Close what :meth:`connect` has opened."""
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._writers.clear()

    @asynccontextmanager
    async def unhindered(self, *, growth_bytes: int = 120 * MIB) -> AsyncIterator[None]:
        """Assert that others are served meanwhile, and that memory stays within bounds."""
        before = self.rss_bytes
        pauses: list[float] = []
        sizes: list[int] = []
        done = asyncio.Event()

        async def probe() -> None:
            while not done.is_set():
                start = time.monotonic()
                status, _ = await self.send("GET", "/api/v1/namespaces/default")
                assert status == 200
                pauses.append(time.monotonic() - start)
                sizes.append(self.rss_bytes - before)
                await asyncio.sleep(_PROBE_INTERVAL_S)

        task = asyncio.create_task(probe())
        try:
            yield
            await asyncio.sleep(2 * _PROBE_INTERVAL_S)
        finally:
            done.set()
            await task
        assert max(pauses) < PAUSE_S, f"another client waited {max(pauses):.1f} s"
        assert max(sizes) < growth_bytes, f"the server grew by {max(sizes) // MIB} MiB"


@asynccontextmanager
async def running() -> AsyncIterator[Victim]:
    """Run a server for one test."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.attacks.serve",
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        where = json.loads(await process.stdout.readline())
        headers = {"Authorization": f"Bearer {where['token']}"}
        timeout = aiohttp.ClientTimeout(total=30)
        tls = ssl.create_default_context(cadata=where["authority"])
        connector = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(
            where["url"], headers=headers, timeout=timeout, connector=connector
        ) as session:
            victim = Victim(session, where, tls, process.pid)
            try:
                yield victim
            finally:
                await victim.hang_up()
        assert process.returncode is None, "the server has died"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
