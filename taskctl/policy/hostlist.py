"""To which hosts the controller may send notifications, and at which addresses.

The author of a Task names a URL, and the controller can reach hosts that its author cannot: it is
in the cluster's network, beside metadata services that hand out credentials. So an administrator
lists the hosts, and the controller sends to no other.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from taskctl.errors import ConfigError

ALLOW_OPTION: Final = "--notify-allow"
ALLOW_VARIABLE: Final = "TASKCTL_NOTIFY_ALLOW"
_ENTRY: Final = re.compile(
    r"(?:(https?)://)?(\*\.)?(\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?)(?::([0-9]{1,5}|\*))?"
)
_PORTS: Final = {"https": 443, "http": 80}
# Metadata services that are not at link-local addresses: AWS over IPv6, Alibaba Cloud, Oracle
# Cloud, Azure's wire server.
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """An entry of the list.

    Attributes:
        scheme: ``https`` or ``http``.
        host: in lower case; an IPv6 address in its shortest form, without brackets.
        port: None: any.
        below: all names below ``host`` are meant, not ``host`` itself.
    """

    scheme: str
    host: str
    port: int | None
    below: bool = False

    def covers(self, target: RequestTarget) -> bool:
        """Whether a request may go there."""
        if self.scheme != target.scheme or self.port not in (None, target.port):
            return False
        return target.host.endswith(f".{self.host}") if self.below else target.host == self.host


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """Where a request would go.

    Attributes:
        scheme: ``https`` or ``http``.
        host: as in :class:`AllowedHost`.
        port: of the host.
    """

    scheme: str
    host: str
    port: int

    @property
    def entry(self) -> str:
        """The entry of the list that allows it, and no more."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{'' if self.scheme == 'https' else 'http://'}{host}{port}"

    @property
    def is_literal(self) -> bool:
        """Whether it names an address itself, or this very machine."""
        return self.host == "localhost" or _address(self.host) is not None


def parse_allowed(texts: Iterable[str]) -> tuple[AllowedHost, ...]:
    """Read entries of the form ``[http://][*.]HOST[:PORT]``.

    Without ``http://`` an entry allows https. The port is that of the scheme, unless one is given;
    ``*`` is any.

    Raises:
        ConfigError: an entry is malformed.
    """
    return tuple(_parse(text) for text in texts)


def _parse(text: str) -> AllowedHost:
    found = _ENTRY.fullmatch(text.strip().lower())
    if found is None:
        raise ConfigError(
            f"{ALLOW_OPTION}: {text!r} names no host; write [http://][*.]HOST[:PORT], for example "
            "hooks.example.com, *.example.com, http://receiver.team.svc:8080"
        )
    scheme, below, host, port = found.groups()
    scheme = scheme or "https"
    if below and (_address(host) is not None or "[" in host):
        raise ConfigError(f"{ALLOW_OPTION}: {text!r}: nothing is below an address; remove the *.")
    if port not in (None, "*") and not 0 < int(port) < 65536:
        raise ConfigError(f"{ALLOW_OPTION}: {text!r}: the port must be from 1 to 65535")
    if "[" in host and _address(host.strip("[]")) is None:
        raise ConfigError(f"{ALLOW_OPTION}: {text!r} has no IPv6 address between the brackets")
    number = None if port == "*" else int(port) if port else _PORTS[scheme]
    return AllowedHost(scheme, _plain(host), number, below=bool(below))


def target_of(url: str) -> RequestTarget:
    """Return where a request to a URL would go.

    Raises:
        ValueError: no request could go to this URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise ValueError(f"{url!r} is not an http or https URL with a host and without a user")
    port = parts.port  # raises ValueError above 65535
    return RequestTarget(parts.scheme, _plain(parts.hostname), port or _PORTS[parts.scheme])


def host_refusal(url: str, allowed: Iterable[AllowedHost]) -> str | None:
    """Return why the controller may not send to a URL, and what would change that; else None."""
    try:
        target = target_of(url)
    except ValueError as error:
        return str(error)
    if any(entry.covers(target) for entry in allowed):
        return None
    return (
        f"the controller may not send to {target.entry}; an administrator can allow it: "
        f"taskctl controller {ALLOW_OPTION} {target.entry} (or the variable {ALLOW_VARIABLE}; with "
        "Helm notify.allowedHosts)"
    )


def address_refusal(text: str) -> str | None:
    """Return why a name that is allowed must not lead to an address; None: it may.

    Who is asked for the name's address decides on it, and that need not be whom the list trusts.
    A private address is fine: services of the cluster have such.
    """
    address = _address(text.partition("%")[0])
    if address is None:
        return "it is not an address"
    address = _within(address)
    for what, is_it in (
        ("link-local", address.is_link_local),
        ("of a metadata service", address in _METADATA),
        ("of this machine", address.is_loopback),
        ("unspecified", address.is_unspecified),
        ("multicast", address.is_multicast),
        ("reserved", address.is_reserved),
    ):
        if is_it:
            return f"{address} is {what}"
    return None


def _within(address: _Address) -> _Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _plain(host: str) -> str:
    host = host.strip("[]").lower().rstrip(".")
    address = _address(host)
    return host if address is None else str(address)


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
