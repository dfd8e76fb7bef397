"""One attempt at one request: sockets, deadlines, and transport errors made ours."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from taskctl.errors import ApiError, Unavailable
from taskctl.kube.config import ClientSettings, Connection
from taskctl.kube.credentials import CertificateSource
from taskctl.kube.requests import Request
from taskctl.kube.responses import ERROR_BODY_LIMIT_BYTES, error_from_response
from taskctl.kube.tls import Trust

_SOCK_CONNECT_S: Final = 5.0
# Shorter than any server's idle limit (aiohttp 75 s, Go 90 s and more): a connection that the
# server is about to close is the one on which a write's outcome gets lost.
_KEEPALIVE_S: Final = 30.0
_CRUD_CONNECTIONS: Final = 64
_URGENT_CONNECTIONS: Final = 4
# Bounds how much of a stream is decoded at one go, and thereby how long the loop stands still.
_STREAM_BUFFER_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """What came of an attempt that brought no answer, or an error for answer.

    Attributes:
        error: for the caller; the transport error is its ``__cause__``.
        sent: whether any of the request may have reached the server.
        authorization: the header that was sent.
    """

    error: ApiError
    sent: bool
    authorization: str | None


class Carrier(Protocol):
    """How requests get to the server: over sockets (:class:`Transport`), or without, in a test."""

    async def close(self) -> None:
        """Close all connections."""
        ...

    async def send(
        self, request: Request, timeout_s: float, *, urgent: bool = False
    ) -> bytes | Failure:
        """Make one attempt; return the body of a 2xx answer, or what went wrong."""
        ...

    def stream(
        self, request: Request, *, total_s: float | None, silence_s: float | None
    ) -> AbstractAsyncContextManager[Failure | AsyncIterator[bytes]]:
        """Open a stream and hand out its chunks, or say what went wrong."""
        ...

    def websocket(
        self,
        request: Request,
        protocol: str,
        timeout_s: float,
        *,
        heartbeat_s: float | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket of one sub-protocol."""
        ...


class Transport:
    """Sends requests over three pools: short requests must not wait behind open streams, nor
    the few that keep us in office (:meth:`KubeClient.urgent`) behind all the others.

    Must be made and used in one event loop. Tokens are never logged.

    Args:
        connection: where to and as whom.
        settings: user agent, clock, observer.
    """

    def __init__(self, connection: Connection, settings: ClientSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._clock = settings.timing.clock
        context: ssl.SSLContext | bool = True
        self._trust: Trust | None = None
        if connection.server.startswith("https:"):
            self._trust = Trust(connection.tls)
            context = self._trust.context
            if isinstance(connection.credentials, CertificateSource):
                connection.credentials.bind(context)
        self._crud = self._make_session(context, limit=_CRUD_CONNECTIONS, buffer_bytes=2**20)
        self._urgent = self._make_session(
            context, limit=_URGENT_CONNECTIONS, buffer_bytes=_STREAM_BUFFER_BYTES
        )
        self._streams = self._make_session(context, limit=0, buffer_bytes=_STREAM_BUFFER_BYTES)

    async def close(self) -> None:
        """Close all connections."""
        await self._crud.close()
        await self._urgent.close()
        await self._streams.close()

    async def send(
        self, request: Request, timeout_s: float, *, urgent: bool = False
    ) -> bytes | Failure:
        """Make one attempt; return the body of a 2xx answer, or what went wrong.

        Args:
            request: what to send.
            timeout_s: deadline of the attempt.
            urgent: over connections that ordinary requests cannot occupy.

        Raises:
            ConfigError: there are no credentials to send it with.
        """
        authorization = await self._connection.credentials.authorization()
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_SOCK_CONNECT_S)
        started_s = self._clock.monotonic_s()
        status = 0
        try:
            session = self._urgent if urgent else self._crud
            async with self._open(session, request, authorization, timeout) as response:
                status = response.status
                if 200 <= status < 300:
                    return await response.read()
                return Failure(await _error(request, response), True, authorization)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return await self._failure(request, error, authorization, timeout_s)
        finally:
            self._observe(request, status, started_s)

    @asynccontextmanager
    async def stream(
        self, request: Request, *, total_s: float | None, silence_s: float | None
    ) -> AsyncGenerator[Failure | AsyncIterator[bytes], None]:
        """Open a stream and hand out its chunks, or say what went wrong.

        Args:
            request: a watch or a log.
            total_s: seconds after which the stream is cut; None for never.
            silence_s: seconds without a byte after which it is cut; None for never.

        Raises:
            ConfigError: there are no credentials to send it with.
        """
        authorization = await self._connection.credentials.authorization()
        timeout = aiohttp.ClientTimeout(
            total=total_s, sock_connect=_SOCK_CONNECT_S, sock_read=silence_s
        )
        started_s = self._clock.monotonic_s()
        opened = False
        status = 0
        try:
            async with self._open(self._streams, request, authorization, timeout) as response:
                status = response.status
                self._observe(request, status, started_s)
                opened = True
                if 200 <= status < 300:
                    yield _chunks(request, response)
                else:
                    yield Failure(await _error(request, response), True, authorization)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if opened:
                raise
            self._observe(request, status, started_s)
            yield await self._failure(request, error, authorization, silence_s or 0.0)

    @asynccontextmanager
    async def websocket(
        self,
        request: Request,
        protocol: str,
        timeout_s: float,
        *,
        heartbeat_s: float | None = None,
    ) -> AsyncGenerator[aiohttp.ClientWebSocketResponse, None]:
        """Open a WebSocket of one sub-protocol.

        Args:
            request: the request.
            protocol: the sub-protocol.
            timeout_s: to connect.
            heartbeat_s: ask the server for a sign of life that often; None: never.

        Raises:
            ApiError: the server refused, or was not reached within ``timeout_s``.
        """
        authorization = await self._connection.credentials.authorization()
        headers = dict(request.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        started_s = self._clock.monotonic_s()
        status = 0
        try:
            async with asyncio.timeout(timeout_s):
                socket = await self._streams.ws_connect(
                    URL(self._connection.server + request.target, encoded=True),
                    protocols=(protocol,),
                    headers=headers,
                    proxy=self._connection.proxy,
                    max_msg_size=0,
                    heartbeat=heartbeat_s,
                )
            status = 101
        except aiohttp.WSServerHandshakeError as error:
            status = error.status
            raise error_from_response(
                error.status, error.headers or {}, b"", str(request)
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await self._follow(error)
            raise Unavailable(self._explain(request, error, timeout_s)) from error
        finally:
            self._observe(request, status, started_s)
        try:
            yield socket
        finally:
            await socket.close()

    def _make_session(
        self, context: ssl.SSLContext | bool, *, limit: int, buffer_bytes: int
    ) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=limit, ssl=context, keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=30
        )
        headers = CIMultiDict(
            [
                ("User-Agent", self._settings.user_agent),
                # Compressing costs both sides more time than it saves in a data centre.
                ("Accept-Encoding", "identity"),
                *self._connection.headers,
            ]
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=buffer_bytes,
            trust_env=False,  # the proxy is chosen in config.py; .netrc must not add credentials
        )

    def _open(
        self,
        session: aiohttp.ClientSession,
        request: Request,
        authorization: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.client._RequestContextManager:
        headers = dict(request.headers)
        if authorization is not None:
            headers["Authorization"] = authorization
        return session.request(
            request.method,
            URL(self._connection.server + request.target, encoded=True),
            data=request.body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,  # would take the token along to wherever
            proxy=self._connection.proxy,
            server_hostname=self._connection.tls.server_name,
        )

    def _observe(self, request: Request, status: int, started_s: float) -> None:
        observer = self._settings.observer
        if observer is not None:
            observer(
                verb=request.verb.value,
                resource=request.resource,
                code=status,
                duration_s=self._clock.monotonic_s() - started_s,
            )

    async def _failure(
        self,
        request: Request,
        error: Exception,
        authorization: str | None,
        timeout_s: float,
    ) -> Failure:
        await self._follow(error)
        sent = not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        translated = Unavailable(self._explain(request, error, timeout_s))
        translated.__cause__ = error
        return Failure(translated, sent, authorization)

    async def _follow(self, error: Exception) -> None:
        if self._trust is not None:
            await self._trust.follow(error)

    def _explain(self, request: Request, error: Exception, timeout_s: float) -> str:
        server, source = self._connection.server, self._connection.source
        command = self._settings.local_command
        hint = f" (the local one: `{command}`)" if command else ""
        if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
            return (
                f"the TLS connection to {server} failed: {error.__cause__ or error}; "
                f"check the cluster's certificate-authority and server in {source}"
            )
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return (
                f"cannot reach the API server at {server} ({_cause(error)}); check that it runs"
                f"{hint} and that {source} names the right one"
            )
        if isinstance(error, TimeoutError):
            return f"{request}: no answer from {server} within {timeout_s:.0f} s"
        return f"{request}: the connection to {server} broke: {type(error).__name__}: {error}"


def _cause(error: Exception) -> str:
    if not isinstance(error, aiohttp.ClientConnectorError):
        return "no answer in time"
    number = error.os_error.errno
    # Names that do not resolve have negative numbers of their own, with a text of their own.
    return os.strerror(number) if number and number > 0 else str(error.strerror or error)


async def _chunks(
    request: Request, response: aiohttp.ClientResponse
) -> AsyncGenerator[bytes, None]:
    try:
        while True:
            chunk = await response.content.readany()
            if not chunk:
                return
            yield chunk
    except TimeoutError as error:
        raise Unavailable(f"{request}: the stream has fallen silent") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"{request}: the stream broke: {type(error).__name__}") from error


async def _error(request: Request, response: aiohttp.ClientResponse) -> ApiError:
    body = bytearray()
    while len(body) < ERROR_BODY_LIMIT_BYTES:
        chunk = await response.content.read(ERROR_BODY_LIMIT_BYTES - len(body))
        if not chunk:
            break
        body += chunk
    else:
        response.close()  # the rest is not worth reading to save the connection
    return error_from_response(response.status, response.headers, bytes(body), str(request))
