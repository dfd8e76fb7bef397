"""Who may ask the page's server, and what the browser may do with the answer. Pure.

The server listens on the loopback address, where any web page in the same browser, and any
program on the machine, can reach it. So a request needs the token (as a cookie that no script can
read), must name the server as its host (DNS rebinding), and must not come from another page.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules for one server.

    Attributes:
        token: whoever knows it may look.
        port: that it listens on.
        hosts: names that it is reached by, without port.
        write: whether anything may be changed at all.
    """

    token: str = field(repr=False)
    port: int
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    write: bool = False

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
        return host is not None and host.lower() in allowed

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
        return origin.lower() == f"http://{headers.get('Host', '')}".lower()

    def token_right(self, token: object) -> bool:
        """Whether somebody knows the token."""
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
