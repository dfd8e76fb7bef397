"""``pods/exec``, ``pods/attach`` and ``pods/portforward``: WebSockets, relayed to the node."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import aiohttp
from aiohttp import web

from taskctl.embedded.server.http import websockets
from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.relay.nodelink import BASE_URL, NodeLink, choose_container
from taskctl.embedded.server.storage.records import Record

SUBRESOURCES: Final = ("exec", "attach", "portforward")
_OPTIONS: Final = ("command", "stdin", "stdout", "stderr", "tty", "ports")
_CONNECT_TIMEOUT_S: Final = 10.0
_HEARTBEAT_S: Final = 30.0
_STALL_TIMEOUT_S: Final = 90.0  # longer than the node's, which can say why
_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_WHY: Final = "X-Reason"


class _Socket(Protocol):
    """What both ends of a relay can do."""

    async def receive(self) -> aiohttp.WSMessage: ...

    async def send_bytes(self, data: bytes) -> None: ...

    async def send_str(self, data: str) -> None: ...


class RemoteRelay:
    """Answers requests for streams into containers."""

    def __init__(self, link: NodeLink) -> None:
        self._link = link

    async def serve(
        self, request: web.BaseRequest, pod: Record, subresource: str
    ) -> web.StreamResponse:
        """Answer one request.

        Raises:
            errors.StatusError: 400, not a WebSocket, or options are wrong; 403, no sub-protocol
                is offered that the node knows; 404, the container does not run; 502, the node
                cannot be reached.
        """
        obj = pod.load()
        path = f"{pod.namespace}/{pod.name}"
        if subresource == "portforward":
            path = f"portForward/{path}"
        else:
            container = choose_container(obj, request.query.get("container", ""))
            path = f"{subresource}/{path}/{container}"
        node = obj["spec"].get("nodeName")
        if not node:
            raise errors.bad_request(f"pod {pod.name} does not have a host assigned")
        if not websockets.is_asked_for(request):
            raise errors.bad_request(
                "Upgrade request required: this server has streams over WebSockets alone, not over "
                "SPDY; use kubectl 1.31 or newer, or any client with WebSockets"
            )
        offered = websockets.offered(request)
        query = [(name, text) for name in _OPTIONS for text in request.query.getall(name, [])]
        async with self._link.session(node) as session:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    upstream = await session.ws_connect(
                        f"{BASE_URL}/{path}",
                        params=query,
                        protocols=offered,
                        heartbeat=_HEARTBEAT_S,
                        max_msg_size=_MAX_MESSAGE_BYTES,
                    )
            except aiohttp.WSServerHandshakeError as error:
                raise _refused(error) from error
            async with upstream:
                return await _relay(request, upstream)


def _refused(error: aiohttp.WSServerHandshakeError) -> errors.StatusError:
    why = None if error.headers is None else error.headers.get(_WHY)
    text = why or f"the node answers {error.status}"
    reasons = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 429: "TooManyRequests"}
    return errors.StatusError(error.status, reasons.get(error.status, "InternalError"), text)


async def _relay(
    request: web.BaseRequest, upstream: aiohttp.ClientWebSocketResponse
) -> web.StreamResponse:
    agreed = (upstream.protocol,) if upstream.protocol else ()
    client = web.WebSocketResponse(
        protocols=agreed, heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_MESSAGE_BYTES, compress=False
    )
    await client.prepare(request)
    pumps = [
        asyncio.create_task(_pump(client, upstream), name="relay to the node"),
        asyncio.create_task(_pump(upstream, client), name="relay to the client"),
    ]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        await client.close(code=upstream.close_code or aiohttp.WSCloseCode.OK)
    return client


async def _pump(source: _Socket, target: _Socket) -> None:
    """Pass on messages until the source ends, or the target does not read."""
    try:
        while True:
            message = await source.receive()
            async with asyncio.timeout(_STALL_TIMEOUT_S):
                if message.type is aiohttp.WSMsgType.BINARY:
                    await target.send_bytes(message.data)
                elif message.type is aiohttp.WSMsgType.TEXT:
                    await target.send_str(message.data)
                else:
                    return
    except (ConnectionError, TimeoutError):
        return
