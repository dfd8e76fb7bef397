"""String formats that Kubernetes checks in custom resources.

Names and rules from k8s.io/apiextensions-apiserver ``validation/formats.go`` and
k8s.io/kube-openapi ``validation/strfmt``. Other formats are ignored, as there.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date
from typing import Final
from urllib.parse import urlsplit

from taskctl.clock import parse_time

_UUID_TAIL: Final = r"-?[0-9a-f]{12}$"
_PATTERNS: Final = {
    "bsonobjectid": r"^[0-9a-fA-F]{24}$",
    "hexcolor": r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$",
    "hostname": (
        r"^(?=.{1,255}$)[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
        r"(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*\.?$"
    ),
    "mac": r"^([0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5,19}|([0-9a-fA-F]{4}\.){2,9}[0-9a-fA-F]{4})$",
    "ssn": r"^\d{3}[- ]?\d{2}[- ]?\d{4}$",
    "uuid": r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}" + _UUID_TAIL,
    "uuid3": r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}" + _UUID_TAIL,
    "uuid4": r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}" + _UUID_TAIL,
    "uuid5": r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}" + _UUID_TAIL,
    "k8s-short-name": r"^(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    "k8s-long-name": (
        r"^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
    ),
}
_GO_DURATION: Final = re.compile(r"^[-+]?(0|((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)$")
_SCALA_DURATION: Final = re.compile(r"(\d+)\s*([A-Za-zµ]+)")
_SCALA_UNITS: Final = re.compile(
    r"^(ns|nano\w*|us|µs|micro\w*|ms|milli\w*|s|sec\w*|m|min\w*|h|hr|hour\w*|d|day\w*|w|wk|week\w*)$",
    re.IGNORECASE,
)
_RFC3339: Final = re.compile(
    r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[-+]\d{2}:?\d{2})$"
)

_MICRO: Final = re.compile(r"\.\d{6}([Zz]|[-+]\d{2}:\d{2})$")
_QUANTITY: Final = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?$"
# No names that a definition's author would choose: definitions may have unknown formats.
MICRO_TIME: Final = "x-micro-time"
QUANTITY_CHECK: Final = "x-quantity"


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_date(text: str) -> bool:
    try:
        return len(text) == 10 and date.fromisoformat(text) is not None
    except ValueError:
        return False


def is_date_time(text: str) -> bool:
    """RFC 3339 with a time zone."""
    if not _RFC3339.match(text):
        return False
    try:
        parse_time(re.sub(r"(\.\d{6})\d+", r"\1", text.upper()))
    except ValueError:
        return False
    return True


def is_micro_time(text: str) -> bool:
    """RFC 3339 with exactly six decimals, as Go's ``RFC3339Micro`` is parsed."""
    return _MICRO.search(text) is not None and is_date_time(text)


def is_duration(text: str) -> bool:
    """Go's ParseDuration, or the longer units of Scala (``2 days``)."""
    if _GO_DURATION.match(text):
        return True
    return any(_SCALA_UNITS.match(unit) for _, unit in _SCALA_DURATION.findall(text))


def _is_ip(version: int) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            return ipaddress.ip_address(text).version == version
        except ValueError:
            return False

    return check


def _is_cidr(text: str) -> bool:
    try:
        return "/" in text and ipaddress.ip_network(text, strict=False) is not None
    except ValueError:
        return False


def _is_uri(text: str) -> bool:
    # net/url.ParseRequestURI: an absolute URI or an absolute path.
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


def _is_email(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    return bool(at and local and domain) and not re.search(r"\s", text)


def _is_isbn10(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    if not re.fullmatch(r"\d{9}[\dXx]", digits):
        return False
    values = [10 if one in "Xx" else int(one) for one in digits]
    return sum((10 - i) * one for i, one in enumerate(values)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    digits = text.replace("-", "").replace(" ", "")
    if not re.fullmatch(r"\d{13}", digits):
        return False
    return sum(int(one) * (3 if i % 2 else 1) for i, one in enumerate(digits)) % 10 == 0


def _is_credit_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if not 12 <= len(digits) <= 19:
        return False
    total = 0
    for place, one in enumerate(reversed(digits)):
        value = int(one) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_rgb(text: str) -> bool:
    found = re.fullmatch(r"rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)", text)
    return found is not None and all(int(one) <= 255 for one in found.groups())


def _matcher(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.match(text) is not None and not text.endswith("\n")


CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    **{name: _matcher(pattern) for name, pattern in _PATTERNS.items()},
    "byte": _is_base64,
    "cidr": _is_cidr,
    "creditcard": _is_credit_card,
    "date": _is_date,
    "date-time": is_date_time,
    "datetime": is_date_time,
    "duration": is_duration,
    "email": _is_email,
    "ipv4": _is_ip(4),
    "ipv6": _is_ip(6),
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "password": lambda text: True,
    MICRO_TIME: is_micro_time,
    QUANTITY_CHECK: _matcher(_QUANTITY),
    "rgbcolor": _is_rgb,
    "uri": _is_uri,
}
