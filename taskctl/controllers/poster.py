"""Sends one notification over HTTP: no redirects, no proxies, no address that is off limits."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Final, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from taskctl import __version__
from taskctl.policy.hostlist import address_refusal, target_of
from taskctl.policy.notify import DeliveryAnswer, NotifyReason

_USER_AGENT: Final = f"taskctl-controller/{__version__}"
# Of the answer only status and one header count, whatever it holds; the body is not read.
_READ_BYTES: Final = 4096
_HEADER_BYTES: Final = 8190


class Poster(Protocol):
    """Sends a request and tells what came of it."""

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> DeliveryAnswer:
        """Send a POST; failures of the network are answers, too."""
        ...


class GuardedResolver(AbstractResolver):
    """Finds the addresses of a name, but for those that :func:`address_refusal` rules out.

    The connection is made to what this returns, so that there is no second look-up, which might
    say something else.

    Args:
        literal: the host was listed as an address or as localhost: then it is meant.
    """

    def __init__(self, *, literal: bool) -> None:
        self._literal = literal
        self._resolver = ThreadedResolver()
        self.refused: list[str] = []

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,
    ) -> list[ResolveResult]:
        """Return the addresses that may be connected to.

        Raises:
            OSError: there is none.
        """
        found = await self._resolver.resolve(host, port, family)
        if self._literal:
            return found
        allowed = []
        for result in found:
            refusal = address_refusal(result["host"])
            if refusal is None:
                allowed.append(result)
            else:
                self.refused.append(refusal)
        if not allowed:
            raise OSError(f"no address of {host} is allowed")
        return allowed

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


class HttpPoster:
    """Sends by aiohttp, over a connection of its own for each request.

    Args:
        tls: for https; None: the system's certificate authorities.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> DeliveryAnswer:
        """Send a POST; failures of the network are answers, too."""
        target = target_of(url)
        resolver = GuardedResolver(literal=target.is_literal)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._post(url, headers, body, resolver)
        except TimeoutError:
            what = f"There was no answer from {target.entry} within {timeout_s:g} s."
            return DeliveryAnswer(reason=NotifyReason.NO_ANSWER, message=what)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if resolver.refused:
                what = f"{target.host} leads to where nothing is sent: {resolver.refused[0]}."
                return DeliveryAnswer(reason=NotifyReason.ADDRESS_NOT_ALLOWED, message=what)
            # Not the text: it may quote what the other side said.
            what = f"{target.entry} cannot be reached: {_words(error)}."
            return DeliveryAnswer(reason=NotifyReason.UNREACHABLE, message=what)

    async def _post(
        self, url: str, headers: Mapping[str, str], body: bytes, resolver: GuardedResolver
    ) -> DeliveryAnswer:
        connector = aiohttp.TCPConnector(
            resolver=resolver,
            use_dns_cache=False,
            force_close=True,
            ssl=True if self._tls is None else self._tls,
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_READ_BYTES,
                # Ours counts.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            ) as session,
            session.post(
                URL(url, encoded=True),
                data=body,
                headers={**headers, "User-Agent": _USER_AGENT},
                allow_redirects=False,
                max_line_size=_HEADER_BYTES,
                max_field_size=_HEADER_BYTES,
            ) as response,
        ):
            asked = response.headers.get("Retry-After", "")
            # As a date it would be compared with two clocks; then our own pause counts.
            asked_s = float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 8 else 0
            response.close()
            return DeliveryAnswer(response.status, retry_after_s=asked_s)


def _words(error: BaseException) -> str:
    """Return what a failure was, in our words or those of the operating system."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate is not accepted, or it speaks no TLS"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name has no address"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    return f"it does not speak HTTP as it should ({type(error).__name__})"
