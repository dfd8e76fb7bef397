"""The way to the API server of the data directory, which may come back as another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol, Self
from urllib.parse import quote, urlsplit

import orjson

from taskctl.backoff import Backoff
from taskctl.embedded.node.model import Json
from taskctl.embedded.node.options import NodePaths
from taskctl.errors import ApiError, ConfigError, Unauthorized, Unavailable
from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings, Connection
from taskctl.kube.credentials import StaticHeader
from taskctl.kube.informer import Informer, InformerOptions
from taskctl.kube.interface import (
    KubeObject,
    ListOptions,
    ListPage,
    PatchType,
    WatchEvent,
    WatchOptions,
)
from taskctl.kube.requests import JSON
from taskctl.kube.resources import Resource
from taskctl.kube.responses import decode_object
from taskctl.kube.retry import RetryPolicy
from taskctl.kube.tls import TlsSettings

SPREAD: Final = (0.8, 1.2)
CALL_BACKOFF: Final = Backoff(0.1, 5.0, SPREAD)
# Each caller repeats its own requests. The server is on this machine and limits no client.
_SETTINGS: Final = ClientSettings(
    qps=0, timeout_s=10.0, user_agent="taskctl-node", retry=RetryPolicy(attempts=1)
)
# What is in flight has ended by then.
_CLOSE_AFTER_S: Final = 2 * _SETTINGS.timeout_s
_LIST: Final = ListOptions()
_WATCH: Final = WatchOptions()


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
    authority: bytes


class ApiClient:
    """A client of the API server of the data directory.

    The address, the token and the authority that vouches for the server are read again whenever
    the server cannot be reached or refuses the token: it may have come back as another one.
    """

    def __init__(self, paths: NodePaths) -> None:
        self._paths = paths
        self._endpoint: _Endpoint | None = None
        self._client: KubeClient | None = None
        self._is_doubtful = False
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def address(self) -> tuple[str, str, int]:
        """Return scheme, host and port of the API server as last read.

        Raises:
            Unavailable: the server has not said yet where it listens.
        """
        url = urlsplit((self._endpoint or self._read()).url)
        return url.scheme, url.hostname or "127.0.0.1", url.port or 443

    async def get(self, path: str) -> Json:
        """GET an object."""
        return await self.request("GET", path)

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
        self, method: str, path: str, *, body: Json | None = None, content_type: str = JSON
    ) -> Json:
        """Send a request and return the decoded answer.

        Raises:
            ApiError: the server refused; :class:`Unavailable` when it could not be reached.
        """
        data = orjson.dumps(body) if body is not None else None
        client = self._connect()
        try:
            content = await client.request(method, path, body=data, content_type=content_type)
        except ApiError as error:
            self._doubt(error)
            raise
        return decode_object(content, f"{method} {path}")

    async def list_all(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        """Return all objects of a kind; see :meth:`KubeClient.list_all`."""
        client = self._connect()
        try:
            return await client.list_all(res, namespace, options=options)
        except ApiError as error:
            self._doubt(error)
            raise

    async def watch(
        self, res: Resource, namespace: str | None = None, *, options: WatchOptions = _WATCH
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield events until the server ends the stream; see :meth:`KubeClient.watch`."""
        client = self._connect()
        try:
            async with aclosing(client.watch(res, namespace, options=options)) as events:
                async for event in events:
                    yield event
        except ApiError as error:
            self._doubt(error)
            raise

    def _doubt(self, error: ApiError) -> None:
        unreachable = isinstance(error, Unavailable) and error.status == 0
        if unreachable or isinstance(error, Unauthorized):
            self._is_doubtful = True

    def _connect(self) -> KubeClient:
        """Return a client of the server as it is announced now.

        Raises:
            Unavailable: the server has not said yet where it listens.
        """
        if self._client is not None and not self._is_doubtful:
            return self._client
        endpoint = self._read()
        if self._client is None or endpoint != self._endpoint:
            try:
                made = KubeClient(self._connection(endpoint), _SETTINGS)
            except ConfigError as error:
                raise Unavailable(f"no API server yet: {error}") from error
            if self._client is not None:
                self._close_later(self._client)
            self._client, self._endpoint = made, endpoint
        self._is_doubtful = False
        return self._client

    def _connection(self, endpoint: _Endpoint) -> Connection:
        return Connection(
            server=endpoint.url,
            source=str(self._paths.server_file),
            credentials=StaticHeader.bearer(endpoint.token),
            tls=TlsSettings(ca_data=endpoint.authority),
        )

    def _close_later(self, client: KubeClient) -> None:
        async def close() -> None:
            try:
                await asyncio.sleep(_CLOSE_AFTER_S)
            finally:
                await client.close()

        task = asyncio.create_task(close(), name="close-old-connections")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _read(self) -> _Endpoint:
        """Read where the server listens and what proves that it is the one.

        Raises:
            Unavailable: it has not said so yet.
        """
        try:
            url = str(json.loads(self._paths.server_file.read_text())["url"])
            token = self._paths.token_file.read_text().strip()
            authority = self._paths.authority_file.read_bytes()
            if not url.startswith("https:"):  # it would be shown the token all the same
                raise ValueError(f"{url} is not an https address")
        except (OSError, ValueError, KeyError) as error:
            raise Unavailable(
                f"no API server yet: {self._paths.server_file}, {self._paths.token_file} or "
                f"{self._paths.authority_file} cannot be used: {error}"
            ) from error
        return _Endpoint(url.rstrip("/"), token, authority)


class WatchHandler(Protocol):
    """Gets what a :class:`ObjectFeed` sees. The methods must not block."""

    def replace(self, items: list[Json]) -> None:
        """All objects there are, once; what is not among them is gone."""
        ...

    def applied(self, item: Json) -> None:
        """An object is new or has changed."""
        ...

    def deleted(self, item: Json) -> None:
        """An object is gone; this was its last state."""
        ...


class ObjectFeed:
    """Tells a handler what there is of a kind, and then what changes, whatever the server does.

    Args:
        api: the client.
        res: the kind.
        handler: gets the objects.
    """

    def __init__(self, api: ApiClient, res: Resource, handler: WatchHandler) -> None:
        self._informer = Informer(api, res, options=InformerOptions(backoff=CALL_BACKOFF))
        self._informer.add_handler(self._changed)
        self._handler = handler
        self._is_synced = False

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run(), name=f"informer-{self._informer.name}")
            await self._informer.synced.wait()
            self._is_synced = True
            self._handler.replace(self._informer.store.objects())

    def _changed(self, old: KubeObject | None, new: KubeObject | None) -> None:
        if not self._is_synced:
            return  # comes with all the others
        if new is not None:
            self._handler.applied(new)
        elif old is not None:
            self._handler.deleted(old)
