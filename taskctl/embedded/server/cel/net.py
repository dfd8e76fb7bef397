"""CEL functions on addresses, networks, URLs and named formats.

After k8s.io/apiserver ``pkg/cel/library`` (ip.go, cidr.go, urls.go, format.go). CEL values cross
the border of the language as JSON does, so an address is carried as its canonical text, a network
and a URL as text, and a format as its name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from taskctl.embedded.server.cel.types import NONE, OptionalValue
from taskctl.embedded.server.schema import formats as schema_formats
from taskctl.embedded.server.values.meta import qualified_problems, subdomain_problems

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_LABEL_LIMIT: Final = 63
_LABEL_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", re.ASCII)
_DNS1123: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_DNS1035: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_URL_SPACE: Final = re.compile(r"[\x00-\x20\x7f]")


def _address(text: str) -> _Address:
    if "%" in text:
        raise ValueError(f"IP address {text!r} with zone value is not allowed")
    found = ipaddress.ip_address(text)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        raise ValueError(f"IPv4-mapped IPv6 address {text!r} is not allowed")
    return found


def _network(text: str) -> _Network:
    address, slash, bits = text.partition("/")
    if not slash or not re.fullmatch(r"0|[1-9][0-9]{0,2}", bits, re.ASCII):
        raise ValueError(f"network address parse error: {text!r} is not a CIDR")
    return ipaddress.ip_interface(f"{_address(address)}/{bits}")


def _url(text: str) -> str:
    """Check an absolute URI or an absolute path (Go's url.ParseRequestURI)."""
    parts = urlsplit(text)
    if _URL_SPACE.search(text) or not (parts.scheme or text.startswith("/")):
        raise ValueError(f"URL parse error: {text!r}")
    _ = parts.port  # raises if it is not a number
    return text


def _is(parse: Callable[[str], object]) -> Callable[[Any], bool]:
    def check(text: Any) -> bool:
        try:
            return isinstance(text, str) and parse(text) is not None
        except ValueError:
            return False

    return check


def _ip(text: str) -> str:
    """``ip('…')``, and ``.ip()`` of a network."""
    return str(_network(text).ip if "/" in text else _address(text))


def _contains_ip(network: str, address: str) -> bool:
    inner, outer = _address(address), _network(network).network
    return inner.version == outer.version and inner in outer


def _contains_cidr(network: str, other: str) -> bool:
    outer, inner = _network(network).network, _network(other).network
    if outer.version != inner.version or inner.prefixlen < outer.prefixlen:
        return False
    return inner.network_address in outer


def _query(text: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(text).query, keep_blank_values=True)


def _host(text: str) -> str:
    return urlsplit(text).netloc.rpartition("@")[2]


def _hostname(text: str) -> str:
    host = _host(text)
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _port(text: str) -> str:
    port = urlsplit(text).port
    return "" if port is None else str(port)


# --- named formats ------------------------------------------------------------------


def _label(pattern: re.Pattern[str], what: str, text: str) -> list[str]:
    found = []
    if len(text) > _LABEL_LIMIT:
        found.append(f"must be no more than {_LABEL_LIMIT} characters")
    if not pattern.fullmatch(text):
        found.append(f"a {what} label must match {pattern.pattern}")
    return found


def _checked(name: str) -> Callable[[str], list[str]]:
    check = schema_formats.CHECKS[name]
    return lambda text: [] if check(text) else [f"must be of type {name}"]


def _masked(check: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """A name's prefix may end with a dash (``NameIsDNSLabel(…, prefix=true)``)."""
    return lambda text: check(text[:-2] + "a" if len(text) > 1 and text.endswith("-") else text)


def _label_value(text: str) -> list[str]:
    found = []
    if len(text) > _LABEL_LIMIT:
        found.append(f"must be no more than {_LABEL_LIMIT} characters")
    if not _LABEL_VALUE.fullmatch(text):
        found.append("a valid label must be empty or begin and end with an alphanumeric character")
    return found


def _dns1123(text: str) -> list[str]:
    return _label(_DNS1123, "lowercase RFC 1123", text)


def _dns1035(text: str) -> list[str]:
    return _label(_DNS1035, "DNS-1035", text)


_FORMATS: Final[dict[str, Callable[[str], list[str]]]] = {
    "dns1123Label": _dns1123,
    "dns1123Subdomain": subdomain_problems,
    "dns1035Label": _dns1035,
    "qualifiedName": qualified_problems,
    "dns1123LabelPrefix": _masked(_dns1123),
    "dns1123SubdomainPrefix": _masked(subdomain_problems),
    "dns1035LabelPrefix": _masked(_dns1035),
    "labelValue": _label_value,
    "uri": lambda text: [] if _is(_url)(text) else ["must be an absolute URI or path"],
    "uuid": _checked("uuid"),
    "byte": _checked("byte"),
    "date": _checked("date"),
    "datetime": _checked("datetime"),
}


def _named(name: str) -> OptionalValue:
    return OptionalValue(name) if name in _FORMATS else NONE


def _validate(name: str, text: str) -> OptionalValue:
    check = _FORMATS.get(name)
    if check is None:
        raise ValueError(f"{name!r} is not a format")
    found = check(text)
    return OptionalValue(found) if found else NONE


def _constant(name: str) -> Callable[[], str]:
    return lambda: name


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "ip": _ip,
    "isIP": _is(_address),
    "ip.isCanonical": lambda text: str(_address(text)) == text,
    "family": lambda text: _address(text).version,
    "isUnspecified": lambda text: _address(text).is_unspecified,
    "isLoopback": lambda text: _address(text).is_loopback,
    "isLinkLocalMulticast": lambda text: _is_link_local_multicast(_address(text)),
    "isLinkLocalUnicast": lambda text: _address(text).is_link_local,
    "isGlobalUnicast": lambda text: _is_global_unicast(_address(text)),
    "cidr": lambda text: str(_network(text)),
    "isCIDR": _is(_network),
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "masked": lambda text: str(_network(text).network),
    "prefixLength": lambda text: _network(text).network.prefixlen,
    "url": _url,
    "isURL": _is(_url),
    "getScheme": lambda text: urlsplit(text).scheme,
    "getHost": _host,
    "getHostname": _hostname,
    "getPort": _port,
    "getEscapedPath": lambda text: urlsplit(text).path,
    "getQuery": _query,
    "format.named": _named,
    "validate": _validate,
    **{f"format.{name}": _constant(name) for name in _FORMATS},
}
NAMESPACES: Final = frozenset({"ip", "format"})


def _is_link_local_multicast(address: _Address) -> bool:
    if address.version == 4:
        return address in ipaddress.ip_network("224.0.0.0/24")
    return address in ipaddress.ip_network("ff02::/16")


def _is_global_unicast(address: _Address) -> bool:
    """Go's IsGlobalUnicast: private addresses are, too."""
    broadcast = address == ipaddress.ip_address("255.255.255.255")
    return not (
        broadcast
        or address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
    )
