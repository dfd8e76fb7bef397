"""Who may ask the page's server, and what the browser may do with the answer. Pure.

The server listens on the loopback address, where any web page in the same browser, and any
program on the machine, can reach it, or in a cluster, where any pod can. So a request needs the
token (as a cookie that no script can read), must name the server as its host (DNS rebinding), and
must not come from another page.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from taskctl.errors import ConfigError

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
CSRF_HEADER: Final = "X-Taskctl-Csrf"
_COMMON: Final = (
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    f"connect-src 'self'; {_COMMON}"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def new_token() -> str:
    """Return a token that cannot be guessed."""
    return secrets.token_urlsafe(32)


def parse_origin(text: str) -> str:
    """Return an address of the page as browsers write it in ``Origin``.

    Raises:
        ConfigError: it is not one.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not plain:
        raise ConfigError(
            f"the origin is {text!r}; give the address that browsers reach the page by, without a "
            "path, like https://tasks.example"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    named = "" if port is None or port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{host}{named}"


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules for one server.

    Attributes:
        token: a browser that sends it may look.
        port: that it listens on.
        hosts: names that it is reached by, without port.
        write: whether anything may be changed at all.
        origins: other addresses that it is reached by, through a proxy; see :func:`parse_origin`.
    """

    token: str = field(repr=False)
    port: int
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    write: bool = False
    origins: tuple[str, ...] = ()

    @property
    def cookie_name(self) -> str:
        """Browsers send cookies to all ports of a host, so the name tells the servers apart."""
        return f"taskctl-page-{self.port}"

    @property
    def session(self) -> str:
        """The cookie's value: not the token itself, which opens further sessions."""
        return self._derived(b"session")

    @property
    def csrf(self) -> str:
        """What a request that changes something has to bring in a header."""
        return self._derived(b"csrf")

    def host_allowed(self, host: str | None) -> bool:
        """Whether a request's Host header names this server."""
        allowed = {f"{name}:{self.port}" for name in self.hosts}
        allowed |= {origin.partition("://")[2] for origin in self.origins}
        return host is not None and host.lower() in allowed

    def is_secure(self, host: str | None) -> bool:
        """Whether a browser reaches the server by TLS under that name, at a proxy."""
        return self._origins_of(host or "") == {f"https://{(host or '').lower()}"}

    def _origins_of(self, host: str) -> set[str]:
        """Return what a page of this server under that name has as its origin."""
        host = host.lower()
        found = {origin for origin in self.origins if origin.partition("://")[2] == host}
        return found or {f"http://{host}"}

    def origin_allowed(self, headers: Mapping[str, str], *, required: bool = False) -> bool:
        """Whether a request comes from this server's own page, or from no page at all.

        Args:
            headers: of the request.
            required: it must say where it comes from.
        """
        site = headers.get("Sec-Fetch-Site")
        if site is not None and site not in ("same-origin", "none"):
            return False
        origin = headers.get("Origin")
        if origin is None:
            return not required
        return origin.lower() in self._origins_of(headers.get("Host", ""))

    def token_right(self, token: object) -> bool:
        """Whether a text is the token."""
        return isinstance(token, str) and _same(token, self.token)

    def session_right(self, cookie: str | None) -> bool:
        """Whether a request brings the cookie that the token was exchanged for."""
        return cookie is not None and _same(cookie, self.session)

    def csrf_right(self, value: str | None) -> bool:
        """Whether a request brings what only our own page has been told."""
        return value is not None and _same(value, self.csrf)

    def _derived(self, purpose: bytes) -> str:
        return hmac.new(self.token.encode(), purpose, hashlib.sha256).hexdigest()


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())
