"""The barest client: one session, JSON in and out, a watch. It is the yardstick, so it does
nothing that a controller would: no cache, no retry, no limit."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

Object = dict[str, Any]

JSON = "application/json"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
REQUEST_S = 30.0
PODS = "/api/v1/namespaces/{ns}/pods"
JOBS = "/apis/batch/v1/namespaces/{ns}/jobs"
TASKS = "/apis/taskctl.dev/v1alpha1/namespaces/{ns}/tasks"
OBJECTS = "/apis/taskctl.dev/v1alpha1/namespaces/{ns}/taskobjects"
CLUSTERS = "/apis/taskctl.dev/v1alpha1/namespaces/{ns}/taskclusters"
CLAIMS = "/api/v1/namespaces/{ns}/persistentvolumeclaims"


class RequestFailed(Exception):
    """The API server answered with an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"HTTP {code}: {text[:500]}")
        self.code = code


class Kube:
    """A session with the API server of a kubeconfig that holds a token.

    Args:
        kubeconfig: its path.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self.server: str = cluster["server"]
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._token: str = config["users"][0]["user"]["token"]
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Kube:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"},
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=64),
            timeout=aiohttp.ClientTimeout(total=REQUEST_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.close()

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use it with 'async with'")
        return self._session

    async def call(self, method: str, path: str, body: Any = None, kind: str = JSON) -> Any:
        """Send one request; returns the parsed answer.

        Raises:
            RequestFailed: the server says no.
        """
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": kind} if data is not None else {}
        async with self._open.request(
            method, self.server + path, data=data, headers=headers
        ) as answer:
            raw = await answer.read()
            if answer.status >= 400:
                raise RequestFailed(answer.status, raw.decode(errors="replace"))
            return orjson.loads(raw) if raw and raw[:1] == b"{" else raw.decode()

    async def create(self, collection: str, body: Any) -> Object:
        """POST an object."""
        return dict(await self.call("POST", collection, body))

    async def get(self, collection: str, name: str) -> Object:
        """GET an object."""
        return dict(await self.call("GET", f"{collection}/{name}"))

    async def items(self, collection: str, query: str = "") -> list[Object]:
        """GET a collection."""
        found = await self.call("GET", f"{collection}?{query}")
        return list(found.get("items") or ())

    async def delete(self, path: str, *, grace_s: int | None = None) -> None:
        """DELETE; being gone already is success."""
        query = "" if grace_s is None else f"?gracePeriodSeconds={grace_s}"
        with contextlib.suppress(RequestFailed):
            await self.call("DELETE", path + query)

    async def watch(self, collection: str, query: str = "") -> AsyncIterator[tuple[str, Object]]:
        """Yield (event, object), what exists first; until cancelled."""
        url = f"{self.server}{collection}?watch=1&{query}"
        unlimited = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_S)
        async with self._open.get(url, timeout=unlimited, read_bufsize=2**22) as answer:
            if answer.status >= 400:
                raise RequestFailed(answer.status, await answer.text())
            async for line in answer.content:
                event = orjson.loads(line)
                yield event["type"], event["object"]


async def until(read: Callable[[], Any], what: str, limit_s: float, every_s: float = 0.1) -> Any:
    """Call an async reader until it returns something true.

    Raises:
        TimeoutError: it did not in time; says what was waited for.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while True:
        found = await read()
        if found:
            return found
        if loop.time() > deadline:
            raise TimeoutError(f"not {what} after {limit_s:.0f} s")
        await asyncio.sleep(every_s)
