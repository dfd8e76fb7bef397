"""The client: requests on plain dicts, over a rate limit, with deadlines and repetitions."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from taskctl.errors import ApiError, ConfigError, Gone, Throttled, Unauthorized, Unavailable
from taskctl.kube import execute, requests
from taskctl.kube.config import (
    ClientSettings,
    Connection,
    InClusterPlace,
    Surroundings,
    find_place,
    in_cluster_connection,
)
from taskctl.kube.interface import (
    DeleteOptions,
    KubeObject,
    ListOptions,
    ListPage,
    LogOptions,
    PatchOptions,
    WatchEvent,
    WatchOptions,
)
from taskctl.kube.paging import PAGE_LIMIT, next_limit, with_page
from taskctl.kube.ratelimit import TokenBucket
from taskctl.kube.requests import Request, Verb
from taskctl.kube.resources import Resource
from taskctl.kube.responses import decode_object
from taskctl.kube.transport import Carrier, Failure, Transport
from taskctl.kube.watch import INACTIVITY_LIMIT_S, LineBuffer, decode_event, pick_timeout_s

log = logging.getLogger(__name__)

_LIST: Final = ListOptions()
_WATCH: Final = WatchOptions()
_PATCH: Final = PatchOptions()
_DELETE: Final = DeleteOptions()
_LOG: Final = LogOptions()
_STATUS: Final = PatchOptions(subresource="status")

# What a few requests that keep us alive may use, whatever the others do: a lease is renewed
# every two seconds, and a handful of watches is opened again every few minutes.
_RESERVED_QPS: Final = 5.0
_RESERVED_BURST: Final = 20
# A 429 without a Retry-After, which the API server always sends.
_PAUSE_S: Final = 1.0

# A shell is silent while its user does not type; its connection is not dead.
_EXEC_HEARTBEAT_S: Final = 30.0

# Beyond the server's own end of a watch, before we take the connection for hung.
_WATCH_GRACE_S: Final = 30.0


async def find_connection(settings: ClientSettings, around: Surroundings) -> Connection:
    """Find the API server and how to log on to it.

    Raises:
        ConfigError: it cannot be found, or what describes it is wrong.
    """
    place = await asyncio.to_thread(find_place, settings, around)
    if isinstance(place, InClusterPlace):
        return await asyncio.to_thread(in_cluster_connection, place, around, settings.timing)
    # Programs that are told where their server is need no YAML.
    from taskctl.kube.kubeconfig import plain_connection, read_kubeconfig

    config = await asyncio.to_thread(read_kubeconfig, place.paths, settings.context)
    if config.needs_library:
        from taskctl.kube.plugins import library_connection

        return await library_connection(config, settings.timing, around.environ)
    return await asyncio.to_thread(plain_connection, config, settings.timing, around.environ)


class KubeClient:
    """A client of one API server; made by :meth:`connect`, closed by :meth:`close`.

    All methods raise errors of :mod:`taskctl.errors` only. Every request has a deadline of
    ``settings.timeout_s`` seconds, in which it may be repeated (:mod:`taskctl.kube.retry`).
    All requests share one rate limit, and all slow down when the server says that it is
    overloaded; only streams, which are few and must not miss their hour, have one of their own.
    Objects that a list or watch returns are the caller's own and may be changed.

    Args:
        connection: where to and as whom.
        settings: limits and deadlines.
        carrier: how requests get there; None for sockets.
    """

    def __init__(
        self, connection: Connection, settings: ClientSettings, carrier: Carrier | None = None
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._timing = settings.timing
        self._transport: Carrier = carrier or Transport(connection, settings)
        self._bucket = TokenBucket(settings.qps, settings.burst, settings.timing)
        self._stream_bucket = _reserved_bucket(settings)
        self._is_urgent = False

    def urgent(self) -> KubeClient:
        """Return a client for the few requests that must not wait behind others: a lease.

        It has a small rate limit and connections of its own, and this one's credentials; it is
        closed with this one.
        """
        sibling = copy.copy(self)
        sibling._bucket = _reserved_bucket(self._settings)
        sibling._is_urgent = True
        return sibling

    @classmethod
    async def connect(cls, settings: ClientSettings | None = None) -> KubeClient:
        """Find the API server and make a client of it; no request is sent yet.

        Raises:
            ConfigError: it cannot be found, or what describes it is wrong.
        """
        settings = settings or ClientSettings()
        connection = await find_connection(settings, Surroundings.of_process())
        log.debug("API server %s, from %s", connection.server, connection.source)
        return cls(connection, settings)

    async def close(self) -> None:
        """Close all connections; streams still open end with an error."""
        await self._transport.close()

    async def __aenter__(self) -> KubeClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    @property
    def server(self) -> str:
        """The server's address."""
        return self._connection.server

    @property
    def source(self) -> str:
        """Where the address and credentials came from, in words."""
        return self._connection.source

    @property
    def namespace(self) -> str:
        """The default namespace: of the kubeconfig's context, or the pod's own."""
        return self._connection.namespace

    # --- reading ------------------------------------------------------------------------

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> KubeObject:
        """Return one object.

        Raises:
            NotFound: there is none of that name.
            ApiError: any other refusal, or no answer.
        """
        request = requests.get_request(res, name, namespace)
        return decode_object(await self._run(request), str(request))

    async def list(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        """Return one page of objects.

        Args:
            res: the kind.
            namespace: None for all namespaces.
            options: selectors and paging.

        Raises:
            Gone: the continue token has expired; list again from the start.
            ApiError: any other refusal, or no answer.
        """
        request = requests.list_request(res, namespace, options)
        body = await self._run(request)
        decoded = decode_object(body, str(request))
        items = decoded.get("items")
        if items is not None and not isinstance(items, list):
            raise Unavailable(f"{request}: the answer is not a list of objects")
        items = items or []
        for item in items:
            # Lists of built-in kinds leave these out.
            item.setdefault("apiVersion", res.api_version)
            item.setdefault("kind", res.kind)
        metadata = decoded.get("metadata") or {}
        return ListPage(
            items=items,
            resource_version=str(metadata.get("resourceVersion") or ""),
            continue_token=str(metadata.get("continue") or ""),
            size_bytes=len(body),
        )

    async def list_all(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        """Return all pages as one; all show the state at one moment.

        ``options.limit`` is the size of the first page (500 when 0). When the server
        forgets that moment half-way, everything is asked for again in one piece, as
        client-go's pager does.

        Raises:
            ApiError: a refusal, or no answer.
        """
        items: list[KubeObject] = []
        size_bytes = 0
        limit, token = options.limit or PAGE_LIMIT, ""
        while True:
            page_options = with_page(options, limit, token)
            started_s = self._timing.clock.monotonic_s()
            try:
                page = await self.list(res, namespace, options=page_options)
            except Gone:
                if not token:
                    raise
                log.info("%s: the list changed too much between pages; asking again", res.plural)
                return await self.list(res, namespace, options=with_page(options, 0, ""))
            items += page.items
            size_bytes += page.size_bytes
            token = page.continue_token
            if not token:
                return ListPage(items, page.resource_version, "", size_bytes)
            took_s = self._timing.clock.monotonic_s() - started_s
            limit = next_limit(page, limit, self._settings.pages, took_s)

    async def watch(
        self, res: Resource, namespace: str | None = None, *, options: WatchOptions = _WATCH
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield events until the server ends the stream, which is normal.

        Use ``contextlib.aclosing`` where the loop may be left early, so that the
        connection is closed at once.

        Raises:
            Gone: the resource version is too old; list again.
            ApiError: any other refusal; ERROR events included.
            Unavailable: no connection, a broken stream, or with bookmarks 70 s of silence.
        """
        timeout_s = options.timeout_s or pick_timeout_s(self._timing)
        silence_s = timeout_s + _WATCH_GRACE_S
        if options.bookmarks or options.send_initial_events:
            silence_s = min(silence_s, INACTIVITY_LIMIT_S)
        request = requests.watch_request(res, namespace, options, timeout_s)
        buffer = LineBuffer()
        chunks = self._stream(request, total_s=timeout_s + _WATCH_GRACE_S, silence_s=silence_s)
        async with aclosing(chunks):
            async for chunk in chunks:
                for line in buffer.feed(chunk):
                    yield decode_event(line)
        if buffer.pending:
            raise Unavailable(f"{request}: the stream ended in the middle of an event")

    async def stream_log(
        self, pod: str, namespace: str, container: str, *, options: LogOptions = _LOG
    ) -> AsyncGenerator[bytes, None]:
        """Yield a container's log in chunks, which are not lines.

        Raises:
            BadRequest: the container has not started, or the pod has none of that name.
            ApiError: any other refusal, or a broken stream.
        """
        request = requests.log_request(pod, namespace, container, options)
        # A followed container may be silent for hours; TCP keep-alive finds dead peers.
        limit_s = None if options.follow else self._settings.timeout_s
        chunks = self._stream(request, total_s=None, silence_s=limit_s)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def stream_output(
        self, pod: str, namespace: str, container: str, command: Sequence[str]
    ) -> AsyncGenerator[bytes, None]:
        """Run a command in a container and yield what it writes to its standard output.

        Raises:
            Forbidden: pods/exec is not allowed to us.
            ApiError: any other refusal, or the command did not exit with 0.
            Unavailable: no answer, or silence for the client's ``timeout_s``.
        """
        request = requests.exec_request(pod, namespace, container, command)
        await self._bucket.acquire()
        limit_s = self._settings.timeout_s
        async with self._transport.websocket(request, execute.PROTOCOL, limit_s) as socket:
            receive = partial(socket.receive, timeout=limit_s)
            async with aclosing(execute.read_output(receive, str(request))) as output:
                async for chunk in output:
                    yield chunk

    @asynccontextmanager
    async def open_exec(
        self,
        pod: str,
        namespace: str,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        tty: bool = False,
    ) -> AsyncIterator[execute.ExecSession]:
        """Run a command in a container, and talk to it while it runs.

        Raises:
            Forbidden: pods/exec is not allowed to us.
            ApiError: any other refusal.
            Unavailable: no answer.
        """
        request = requests.exec_request(pod, namespace, container, command, stdin=stdin, tty=tty)
        await self._bucket.acquire()
        async with self._transport.websocket(
            request,
            execute.PROTOCOL_WITH_END,
            self._settings.timeout_s,
            heartbeat_s=_EXEC_HEARTBEAT_S,
        ) as socket:
            yield execute.ExecSession(socket, str(request))

    # --- writing ------------------------------------------------------------------------

    async def create(
        self,
        res: Resource,
        obj: KubeObject,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        strict: bool = False,
    ) -> KubeObject:
        """Create an object and return it as stored.

        Args:
            res: the kind.
            obj: with ``metadata.name`` or ``generateName``.
            namespace: None takes ``metadata.namespace``.
            dry_run: check only.
            strict: refuse fields that the server does not know, instead of dropping them.

        Raises:
            AlreadyExists: the name is taken.
            Invalid: it breaks a rule; ``causes`` name the fields.
            Unavailable: no answer; it may or may not have been created.
        """
        request = requests.create_request(res, obj, namespace, dry_run=dry_run, strict=strict)
        return decode_object(await self._run(request), str(request))

    async def replace(
        self, res: Resource, obj: KubeObject, *, subresource: str | None = None
    ) -> KubeObject:
        """Replace an object, addressed by its own metadata, and return it as stored.

        Raises:
            Conflict: ``metadata.resourceVersion`` is given and the object has changed.
            ApiError: any other refusal, or no answer.
        """
        request = requests.replace_request(res, obj, subresource)
        return decode_object(await self._run(request), str(request))

    async def patch(
        self,
        res: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        options: PatchOptions = _PATCH,
    ) -> KubeObject:
        """Patch an object and return it as stored.

        Raises:
            Conflict: the body has a ``metadata.resourceVersion`` and the object has changed.
            Invalid: the result breaks a rule.
            ApiError: any other refusal, or no answer.
        """
        request = requests.patch_request(res, name, namespace, body, options)
        return decode_object(await self._run(request), str(request))

    async def patch_status(
        self, res: Resource, name: str, namespace: str | None, body: KubeObject
    ) -> KubeObject:
        """Merge-patch the status subresource; see :meth:`patch`."""
        return await self.patch(res, name, namespace, body, options=_STATUS)

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions = _DELETE,
    ) -> KubeObject:
        """Delete an object; return its last state, or the server's Status.

        Raises:
            NotFound: there is none of that name.
            Conflict: a precondition does not hold.
            ApiError: any other refusal, or no answer.
        """
        request = requests.delete_request(res, name, namespace, options)
        return decode_object(await self._run(request), str(request))

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = requests.JSON,
        timeout_s: float | None = None,
    ) -> bytes:
        """Send a request of the caller's own making and return the answer's body.

        Args:
            method: HTTP method. A GET may be repeated, anything else may not.
            path: escaped, from the slash after the server's address.
            query: unescaped.
            body: None for none.
            content_type: of the body.
            timeout_s: None takes the settings' own.

        Raises:
            ApiError: a refusal, or no answer.
        """
        if not path.startswith("/"):
            raise ConfigError(f"the path {path!r} must begin with a slash")
        headers = {"Accept": requests.JSON}
        if body is not None:
            headers["Content-Type"] = content_type
        request = Request(
            Verb.RAW,
            method.upper(),
            path,
            "raw",
            query=urlencode(query or {}),
            headers=headers,
            body=body,
            idempotent=method.upper() == "GET",
        )
        return await self._run(request, timeout_s)

    async def stream(
        self, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes, None]:
        """Send a GET of the caller's own making and yield the answer's body in chunks.

        Args:
            path: escaped, from the slash after the server's address.
            query: unescaped.
            headers: beside ours.

        Raises:
            ApiError: a refusal, or a broken stream.
            Unavailable: no answer, or silence for the client's ``timeout_s``.
        """
        request = Request(
            Verb.RAW, "GET", path, "raw", query=urlencode(query), headers=headers, idempotent=True
        )
        chunks = self._stream(request, total_s=None, silence_s=self._settings.timeout_s)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    # --- below --------------------------------------------------------------------------

    async def _run(self, request: Request, timeout_s: float | None = None) -> bytes:
        limit_s = self._settings.timeout_s if timeout_s is None else timeout_s
        clock = self._timing.clock
        deadline_s = clock.monotonic_s() + limit_s
        attempt, renewed = 0, False
        while True:
            attempt += 1
            if not await self._bucket.acquire(deadline_s - clock.monotonic_s()):
                raise Throttled(
                    f"{request}: our own limit of {self._settings.qps:g} requests a second "
                    f"keeps it back past its deadline of {limit_s:g} s",
                    retry_after_s=1.0,
                )
            outcome = await self._transport.send(
                request, max(0.1, deadline_s - clock.monotonic_s()), urgent=self._is_urgent
            )
            if isinstance(outcome, bytes):
                return outcome
            error = outcome.error
            self._heed(error)
            if isinstance(error, Unauthorized) and not renewed:
                renewed = True
                if await self._connection.credentials.refresh(outcome.authorization):
                    continue
            delay_s = self._settings.retry.delay_s(
                request, error, attempt=attempt, sent=outcome.sent, chance=self._timing.random()
            )
            if delay_s is None or clock.monotonic_s() + delay_s >= deadline_s:
                raise error
            log.debug("%s: %s; again in %.2f s", request, error, delay_s)
            if self._settings.retry_observer is not None:
                self._settings.retry_observer(verb=request.verb.value, resource=request.resource)
            await self._timing.sleep(delay_s)

    def _heed(self, error: ApiError) -> None:
        if isinstance(error, Throttled):
            self._bucket.pause(error.retry_after_s or _PAUSE_S)

    async def _stream(
        self, request: Request, *, total_s: float | None, silence_s: float | None
    ) -> AsyncGenerator[bytes, None]:
        renewed = False
        while True:
            await self._stream_bucket.acquire()
            opening = self._transport.stream(request, total_s=total_s, silence_s=silence_s)
            async with opening as opened:
                if not isinstance(opened, Failure):
                    async for chunk in opened:
                        yield chunk
                    return
            self._heed(opened.error)
            if not isinstance(opened.error, Unauthorized) or renewed:
                raise opened.error
            renewed = True
            if not await self._connection.credentials.refresh(opened.authorization):
                raise opened.error


def _reserved_bucket(settings: ClientSettings) -> TokenBucket:
    # Where there is no limit at all, there is none here either.
    qps = _RESERVED_QPS if settings.qps else 0.0
    return TokenBucket(qps, _RESERVED_BURST, settings.timing)
