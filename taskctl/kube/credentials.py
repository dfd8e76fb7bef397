"""Who we are to the API server: what goes into the Authorization header, and its renewal."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from taskctl.clock import Clock
from taskctl.errors import ConfigError

# As in client-go (transport/token_source.go): the kubelet renews the file at 80 % of a
# token's life, so a minute's delay is never too late.
TOKEN_FILE_PERIOD_S: Final = 60.0
# After a 401 the file is read at once, but not for each of many requests in flight.
_MIN_REFRESH_PERIOD_S: Final = 1.0


class Credentials(Protocol):
    """Source of the Authorization header."""

    async def authorization(self) -> str | None:
        """Return the header's value; None to send none.

        Raises:
            ConfigError: the credentials cannot be had; says what to check.
        """
        ...

    async def refresh(self, refused: str | None) -> bool:
        """Fetch the credentials again, since the server refused ``refused``.

        Returns:
            Whether there is now another header to try.
        """
        ...


@runtime_checkable
class CertificateSource(Protocol):
    """Credentials that renew a client certificate as well."""

    def bind(self, context: ssl.SSLContext) -> None:
        """Show renewed client certificates through ``context``."""
        ...


class NoCredentials:
    """An anonymous client, or the user that the client certificate names."""

    async def authorization(self) -> str | None:
        """Return None."""
        return None

    async def refresh(self, refused: str | None) -> bool:
        """Return False: there is nothing to renew."""
        return False


class StaticHeader:
    """A fixed header: a token written in the kubeconfig, or user name and password."""

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def bearer(cls, token: str) -> StaticHeader:
        """Make one from a bearer token."""
        return cls(f"Bearer {token}")

    @classmethod
    def basic(cls, username: str, password: str) -> StaticHeader:
        """Make one from a user name and password."""
        raw = f"{username}:{password}".encode()
        return cls("Basic " + base64.b64encode(raw).decode("ascii"))

    def __repr__(self) -> str:
        return "StaticHeader(***)"

    async def authorization(self) -> str | None:
        """Return the header."""
        return self._value

    async def refresh(self, refused: str | None) -> bool:
        """Return False: there is nothing to renew."""
        return False


class TokenFile:
    """A token in a file that another process renews, as the kubelet does for service accounts.

    Args:
        path: the file.
        clock: for the age of what was read.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._header = ""
        self._read_at_s: float | None = None
        self._reading = asyncio.Lock()

    def __repr__(self) -> str:
        return f"TokenFile({self._path})"

    async def authorization(self) -> str | None:
        """Return the header, re-reading the file when the last reading is a minute old."""
        if self._age_s() >= TOKEN_FILE_PERIOD_S:
            async with self._reading:
                if self._age_s() >= TOKEN_FILE_PERIOD_S:
                    await self._read()
        return self._header

    async def refresh(self, refused: str | None) -> bool:
        """Re-read the file, unless another request has just done so."""
        async with self._reading:
            if self._header == refused and self._age_s() >= _MIN_REFRESH_PERIOD_S:
                await self._read()
        return self._header != refused

    def _age_s(self) -> float:
        if self._read_at_s is None:
            return float("inf")
        return self._clock.monotonic_s() - self._read_at_s

    async def _read(self) -> None:
        try:
            token = (await asyncio.to_thread(self._path.read_text)).strip()
        except (OSError, UnicodeDecodeError) as error:
            if not self._header:
                raise ConfigError(f"the token file {self._path} is unreadable: {error}") from error
            token = ""  # being replaced right now; the old one serves for a while
        if not token and not self._header:
            raise ConfigError(f"the token file {self._path} is empty")
        if token:
            self._header = f"Bearer {token}"
        self._read_at_s = self._clock.monotonic_s()
