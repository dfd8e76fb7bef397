"""What requests for WebSockets have in common, and a watch as the messages of one."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Final

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

_BEARER: Final = "base64url.bearer.authorization.k8s.io."
_HEARTBEAT_S: Final = 30.0
# A client of a watch has nothing to say.
_MAX_MESSAGE_BYTES: Final = 4096


def is_asked_for(request: web.BaseRequest) -> bool:
    """Return whether the client wants the connection to become a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def offered(request: web.BaseRequest) -> list[str]:
    """Return the sub-protocols that a client offers, without a token among them."""
    return [name for name in _named(request) if not name.startswith(_BEARER)]


def authorization(request: web.BaseRequest) -> str | None:
    """Return the Authorization header, or the token that a page hides among the sub-protocols.

    A page in a browser cannot set headers of a WebSocket. The token is base64url without padding
    (k8s.io/apiserver ``pkg/authentication/request/websocket/protocol.go``).
    """
    header = request.headers.get("Authorization")
    if header is not None or not is_asked_for(request):
        return header
    for name in _named(request):
        if name.startswith(_BEARER):
            text = name.removeprefix(_BEARER)
            try:
                token = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            except (binascii.Error, UnicodeDecodeError):
                return None
            return f"Bearer {token}"
    return None


def _named(request: web.BaseRequest) -> list[str]:
    values = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


class LineSocket(web.WebSocketResponse):
    """A WebSocket that sends each line which is written to it as a text message.

    Args:
        on_gone: called once the client has gone.
    """

    def __init__(self, on_gone: Callable[[], None]) -> None:
        super().__init__(heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_MESSAGE_BYTES, compress=False)
        self._on_gone = on_gone
        self._rest = b""
        self._hearing: asyncio.Task[None] | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Shake hands."""
        writer = await super().prepare(request)
        if self._hearing is None:
            self._hearing = asyncio.create_task(self._hear(), name="watch over a WebSocket")
        return writer

    async def write(self, data: bytes | bytearray | memoryview[int] | memoryview[bytes]) -> None:
        """Send the lines that are complete.

        Raises:
            ConnectionError: the client has gone.
        """
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            await self.send_str(line.decode())

    async def write_eof(self) -> None:  # type: ignore[override]  # as its own base class
        """Close the connection in good order."""
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)
        await super().write_eof()

    async def _hear(self) -> None:
        """Read what must be read for pings and the end to be noticed."""
        while (await self.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            pass
        self._on_gone()
