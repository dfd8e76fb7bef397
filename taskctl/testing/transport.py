"""Carries a client's requests to a server in this process, and lets a test make them fail."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp

from taskctl.errors import ApiError, Unavailable
from taskctl.kube.config import ClientSettings, Connection
from taskctl.kube.requests import Request
from taskctl.kube.responses import error_from_response
from taskctl.kube.transport import Failure
from taskctl.testing.exchange import AnswerStream, BrokenError, exchange, open_stream

if TYPE_CHECKING:
    from taskctl.embedded.server.api.router import Api

_REMEMBERED: Final = 10_000


@dataclass
class Fault:
    """What goes wrong with matching requests.

    Attributes:
        verb: of the request; empty for any.
        resource: plural, with ``/`` and a subresource where there is one (``tasks/status``); empty
            for any.
        error: what the client gets instead of an answer; None for a delay alone.
        times: how often; each matching request counts it down.
        after: the request takes effect, and its answer is lost. Otherwise the server never sees it.
        delay_s: seconds that the request takes longer, on the event loop's clock.
    """

    verb: str = ""
    resource: str = ""
    error: ApiError | None = None
    times: int = 1
    after: bool = False
    delay_s: float = 0.0

    def matches(self, request: Request) -> bool:
        """Return whether the request is to fail."""
        return (
            self.times > 0
            and self.verb in ("", request.verb.value)
            and self.resource in ("", request.resource)
        )


@dataclass
class Network:
    """What lies between all clients of a cluster and its server.

    Attributes:
        down: every request fails as if no server were there.
        faults: what goes wrong; the first that matches counts.
        requests: those that were sent, oldest first; the last 10,000.
    """

    down: bool = False
    faults: list[Fault] = field(default_factory=list)
    requests: deque[Request] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _open: dict[AnswerStream, str] = field(default_factory=dict)

    async def enter(self, request: Request) -> Fault | None:
        """Take note of a request; return the fault that is to follow it, if any.

        Raises:
            _LostError: it fails before the server sees it.
        """
        await asyncio.sleep(0)  # so that no client keeps the others from running
        self.requests.append(request)
        if self.down:
            raise _LostError(Unavailable(f"{request}: the server cannot be reached"), sent=False)
        fault = next((one for one in self.faults if one.matches(request)), None)
        if fault is None:
            return None
        fault.times -= 1
        if not fault.times:
            self.faults.remove(fault)
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.error is not None and not fault.after:
            raise _LostError(fault.error, sent=True)
        return fault

    def cut(self, resource: str) -> int:
        """Break the open streams of a resource, or of all; return how many there were."""
        meant = [one for one, name in self._open.items() if resource in ("", name)]
        for stream in meant:
            stream.cut()
        return len(meant)

    def opened(self, stream: AnswerStream, resource: str) -> None:
        """Take note of an open stream."""
        self._open[stream] = resource
        if self.down:  # since it was asked for
            stream.cut()

    def closed(self, stream: AnswerStream) -> None:
        """Take note that a stream is open no longer."""
        self._open.pop(stream, None)


class _LostError(Exception):
    """A request got no answer from the server."""

    def __init__(self, error: ApiError, *, sent: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.sent = sent


class InProcessTransport:
    """Sends requests to a server in this process; see :class:`taskctl.kube.transport.Carrier`.

    Args:
        api: the server's.
        network: what can go wrong on the way.
        connection: as whom.
        settings: user agent, clock, observer.
    """

    def __init__(
        self, api: Api, network: Network, connection: Connection, settings: ClientSettings
    ) -> None:
        self._api = api
        self._network = network
        self._connection = connection
        self._settings = settings

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    async def send(
        self, request: Request, timeout_s: float, *, urgent: bool = False
    ) -> bytes | Failure:
        """Make one attempt; return the body of a 2xx answer, or what went wrong."""
        headers = await self._headers(request)
        authorization = headers.get("Authorization")
        started_s = self._settings.timing.clock.monotonic_s()
        status = 0
        try:
            async with asyncio.timeout(timeout_s):
                fault = await self._network.enter(request)
                answer = await exchange(
                    self._api, request.method, request.target, headers, request.body
                )
            if fault is not None and fault.error is not None:
                return Failure(fault.error, True, authorization)
            status = answer.status
            if 200 <= status < 300:
                return answer.body
            refusal = error_from_response(status, answer.headers, answer.body, str(request))
            return Failure(refusal, True, authorization)
        except _LostError as lost:
            return Failure(lost.error, lost.sent, authorization)
        except TimeoutError:
            late = Unavailable(f"{request}: no answer within {timeout_s:.0f} s")
            return Failure(late, True, authorization)
        except ConnectionError as error:
            return Failure(Unavailable(f"{request}: {error}"), True, authorization)
        finally:
            self._observe(request, status, started_s)

    @asynccontextmanager
    async def stream(
        self, request: Request, *, total_s: float | None, silence_s: float | None
    ) -> AsyncGenerator[Failure | AsyncIterator[bytes], None]:
        """Open a stream and hand out its chunks, or say what went wrong."""
        headers = await self._headers(request)
        authorization = headers.get("Authorization")
        started_s = self._settings.timing.clock.monotonic_s()
        try:
            await self._network.enter(request)
        except _LostError as lost:
            self._observe(request, 0, started_s)
            yield Failure(lost.error, lost.sent, authorization)
            return
        opening = open_stream(self._api, request.method, request.target, headers)
        async with opening as opened:
            self._observe(request, opened.status, started_s)
            if not 200 <= opened.status < 300:
                body = await _rest(opened)
                error = error_from_response(opened.status, opened.headers, body, str(request))
                yield Failure(error, True, authorization)
                return
            self._network.opened(opened, request.resource)
            try:
                yield _chunks(request, opened, total_s, silence_s)
            finally:
                self._network.closed(opened)

    @asynccontextmanager
    async def websocket(
        self,
        request: Request,
        protocol: str,
        timeout_s: float,
        *,
        heartbeat_s: float | None = None,
    ) -> AsyncGenerator[aiohttp.ClientWebSocketResponse, None]:
        """Refuse: no container runs in this cluster.

        Raises:
            ApiError: always.
        """
        await self._network.enter(request)
        raise Unavailable(
            f"{request}: a FakeCluster runs no containers; use the local stack (the fixture "
            "taskctl_stack) for tests that run commands in them",
            status=501,
        )
        yield  # type: ignore[unreachable]  # it makes this function a generator

    async def _headers(self, request: Request) -> dict[str, str]:
        headers = {"User-Agent": self._settings.user_agent, **request.headers}
        authorization = await self._connection.credentials.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        return headers

    def _observe(self, request: Request, status: int, started_s: float) -> None:
        observer = self._settings.observer
        if observer is not None:
            observer(
                verb=request.verb.value,
                resource=request.resource,
                code=status,
                duration_s=self._settings.timing.clock.monotonic_s() - started_s,
            )


async def _rest(opened: AnswerStream) -> bytes:
    parts = []
    while chunk := await opened.read():
        parts.append(chunk)
    return b"".join(parts)


async def _chunks(
    request: Request, opened: AnswerStream, total_s: float | None, silence_s: float | None
) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + total_s if total_s is not None else None
    try:
        while True:
            limits = [loop.time() + silence_s] if silence_s is not None else []
            limits += [end_s] if end_s is not None else []
            async with asyncio.timeout_at(min(limits, default=None)):
                chunk = await opened.read()
            if not chunk:
                return
            yield chunk
    except TimeoutError as error:
        raise Unavailable(f"{request}: the stream has fallen silent") from error
    except BrokenError as error:
        raise Unavailable(f"{request}: the stream broke: {error}") from error
