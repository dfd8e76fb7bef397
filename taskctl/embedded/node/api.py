"""The node's own client of the API server: requests with deadlines, and list+watch."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import quote, urlsplit

import aiohttp
import orjson

from taskctl.backoff import Backoff
from taskctl.embedded.node.model import Json
from taskctl.embedded.node.options import NodePaths
from taskctl.errors import (
    ERROR_BY_STATUS,
    AlreadyExists,
    ApiError,
    Gone,
    Throttled,
    Unavailable,
)
from taskctl.kube.timing import Pauses

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5.0
# The server ends a watch after this time, so that a dead connection is noticed.
WATCH_TIMEOUT_S: Final = 60
WATCH_SILENCE_S: Final = WATCH_TIMEOUT_S + 15.0
SHORT_WATCH_S: Final = 1.0
MESSAGE_LIMIT: Final = 2048
SPREAD: Final = (0.8, 1.2)
CALL_BACKOFF: Final = Backoff(0.1, 5.0, SPREAD)


class PatchType(StrEnum):
    """Content types of a PATCH."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"


def core_path(plural: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """Return the path of a resource of the core group."""
    return _path("/api/v1", plural, namespace, name, sub)


def group_path(group: str, plural: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """Return the path of a resource of a group and version such as ``coordination.k8s.io/v1``."""
    return _path(f"/apis/{group}", plural, namespace, name, sub)


def _path(root: str, plural: str, namespace: str, name: str, sub: str) -> str:
    parts = [root]
    if namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(plural)
    parts += [quote(part, safe="") for part in (name, sub) if part]
    return "/".join(parts)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    url: str
    token: str
    tls: ssl.SSLContext


class ApiClient:
    """One connection pool to the API server of the data directory.

    The address, the token and the authority that vouches for the server are read anew whenever
    the server cannot be reached or refuses the token: it may have come back as another one.
    """

    def __init__(self, paths: NodePaths) -> None:
        self._paths = paths
        self._endpoint: _Endpoint | None = None
        self._trusted: tuple[str, ssl.SSLContext] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64),
            json_serialize=lambda value: orjson.dumps(value).decode(),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def address(self) -> tuple[str, str, int]:
        """Return scheme, host and port of the API server as last read.

        Raises:
            Unavailable: the server has not said yet where it listens.
        """
        url = urlsplit(self._load().url)
        return url.scheme, url.hostname or "127.0.0.1", url.port or 443

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        """GET an object or a list."""
        return await self.request("GET", path, params=params)

    async def create(self, path: str, body: Json) -> Json:
        """POST an object."""
        return await self.request("POST", path, body=body)

    async def patch(self, path: str, body: Json, kind: PatchType = PatchType.MERGE) -> Json:
        """PATCH an object."""
        return await self.request("PATCH", path, body=body, content_type=kind.value)

    async def delete(self, path: str, uid: str, grace_s: int | None = None) -> Json:
        """DELETE an object, if it still has this UID."""
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        return await self.request("DELETE", path, body=body)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """Send a request and return the decoded answer.

        Raises:
            ApiError: the server refused; :class:`Unavailable` when it could not be reached.
        """
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        headers = {"Content-Type": content_type} if body is not None else {}
        data = orjson.dumps(body) if body is not None else None
        endpoint = self._load()
        try:
            async with self._require_session().request(
                method,
                endpoint.url + path,
                data=data,
                params=params,
                headers={**headers, **_auth(endpoint)},
                timeout=timeout,
                ssl=endpoint.tls,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._endpoint = None
            raise Unavailable(f"{method} {path}: {error or type(error).__name__}") from error
        if response.status >= 400:
            raise self._failure(response.status, content, response.headers)
        return _decode(content)

    async def watch(self, path: str, resource_version: str) -> AsyncIterator[Json]:
        """Yield watch events until the server ends the stream.

        Raises:
            Gone: the resourceVersion is too old; list again.
            ApiError: anything else went wrong.
        """
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_TIMEOUT_S),
        }
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=WATCH_SILENCE_S
        )
        endpoint = self._load()
        try:
            async with self._require_session().get(
                endpoint.url + path,
                params=params,
                headers=_auth(endpoint),
                timeout=timeout,
                ssl=endpoint.tls,
            ) as response:
                if response.status >= 400:
                    content = await response.read()
                    raise self._failure(response.status, content, response.headers)
                async for line in _lines(response):
                    event = _decode(line)
                    if event.get("type") == "ERROR":
                        raise _from_status(event.get("object") or {})
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._endpoint = None
            raise Unavailable(f"watch {path}: {error or type(error).__name__}") from error

    def _require_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("ApiClient is used outside of its async with block")
        return self._session

    def _load(self) -> _Endpoint:
        if self._endpoint is None:
            try:
                url = str(json.loads(self._paths.server_file.read_text())["url"])
                token = self._paths.token_file.read_text().strip()
                tls = self._tls(url)
            except (OSError, ValueError, KeyError) as error:
                raise Unavailable(
                    f"no API server yet: {self._paths.server_file}, {self._paths.token_file} or "
                    f"{self._paths.authority_file} cannot be used: {error}"
                ) from error
            self._endpoint = _Endpoint(url.rstrip("/"), token, tls)
        return self._endpoint

    def _tls(self, url: str) -> ssl.SSLContext:
        """Return what checks the server; the same as before while the authority is the same.

        Raises:
            ValueError: the server is none that proves who it is, and would be shown the token.
        """
        if not url.startswith("https:"):
            raise ValueError(f"{url} is not an https address")
        pem = self._paths.authority_file.read_text()
        if self._trusted is None or self._trusted[0] != pem:
            self._trusted = (pem, ssl.create_default_context(cadata=pem))
        return self._trusted[1]

    def _failure(self, status: int, content: bytes, headers: Mapping[str, str]) -> ApiError:
        if status == 401:
            self._endpoint = None
        try:
            body = orjson.loads(content)
        except ValueError:
            body = {"message": content.decode("utf-8", "replace")}
        body = body if isinstance(body, dict) else {}
        body.setdefault("code", status)
        error = _from_status(body)
        retry_after = headers.get("Retry-After", "")
        error.retry_after_s = float(retry_after) if retry_after.isdigit() else 0.0
        return error


def _auth(endpoint: _Endpoint) -> dict[str, str]:
    return {"Authorization": f"Bearer {endpoint.token}"}


def _decode(content: bytes) -> Json:
    try:
        value = orjson.loads(content)
    except ValueError as error:
        raise Unavailable("the API server's answer is not JSON") from error
    if not isinstance(value, dict):
        raise Unavailable("the API server's answer is not an object")
    return value


def _from_status(body: Mapping[str, Any]) -> ApiError:
    code = int(body.get("code") or 500)
    reason = str(body.get("reason") or "")
    message = str(body.get("message") or f"HTTP status {code}")[:MESSAGE_LIMIT]
    if code == 409 and reason == "AlreadyExists":
        return AlreadyExists(message, status=code, reason=reason)
    return ERROR_BY_STATUS.get(code, Unavailable)(message, status=code, reason=reason)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Split the stream at newlines; aiohttp's own readline has a limit that pods can pass."""
    parts: list[bytes] = []
    async for chunk in response.content.iter_any():
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            parts.append(line)
            if joined := b"".join(parts):
                yield joined
            parts.clear()
        if rest:
            parts.append(rest)


class WatchHandler(Protocol):
    """Gets what a :class:`Reflector` sees. The methods must not block."""

    def replace(self, items: list[Json]) -> None:
        """All objects there are; what is not among them is gone."""
        ...

    def applied(self, item: Json) -> None:
        """An object is new or has changed."""
        ...

    def deleted(self, item: Json) -> None:
        """An object is gone; this was its last state."""
        ...


class Reflector:
    """Lists and watches one collection for as long as it runs, whatever the server does.

    Args:
        api: the client.
        path: of the collection.
        handler: gets the objects.
    """

    def __init__(self, api: ApiClient, path: str, handler: WatchHandler) -> None:
        self._api = api
        self._path = path
        self._handler = handler
        self._version = ""
        self._down = False

    async def run(self) -> None:
        """Go on until cancelled."""
        pauses = Pauses(CALL_BACKOFF)
        while True:
            try:
                if not self._version:
                    await self._list()
                began = asyncio.get_running_loop().time()
                await self._watch()
                if asyncio.get_running_loop().time() - began >= SHORT_WATCH_S:
                    pauses.reset()
                else:  # a server that ends each watch at once must not be hammered
                    await asyncio.sleep(pauses.next_s())
            except Gone:
                self._version = ""
            except ApiError as error:
                if not isinstance(error, Unavailable | Throttled):
                    self._version = ""  # an unforeseen refusal: start over with a list
                if not self._down:
                    log.warning("watch of %s interrupted: %s", self._path, error)
                self._down = True
                await asyncio.sleep(max(pauses.next_s(), error.retry_after_s))

    async def _list(self) -> None:
        # In one piece: the collections of one machine are small.
        page = await self._api.get(self._path)
        items = list(page.get("items") or ())
        self._version = str((page.get("metadata") or {}).get("resourceVersion") or "")
        self._up()
        self._handler.replace(items)

    async def _watch(self) -> None:
        async for event in self._api.watch(self._path, self._version):
            self._up()
            item = event.get("object") or {}
            version = (item.get("metadata") or {}).get("resourceVersion")
            match event.get("type"):
                case "ADDED" | "MODIFIED":
                    self._handler.applied(item)
                case "DELETED":
                    self._handler.deleted(item)
            if version:
                self._version = str(version)

    def _up(self) -> None:
        if self._down:
            log.info("watch of %s works again", self._path)
            self._down = False
