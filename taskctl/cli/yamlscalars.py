"""What a plain scalar means to the YAML reader of Kubernetes. Pure.

kubectl and the API server read YAML with sigs.k8s.io/yaml, which rests on go-yaml v2: YAML 1.1
with some differences of its own. The rules here are those of its ``resolve.go``, and those by
which sigs.k8s.io/yaml turns keys into the strings that JSON wants.
"""

from __future__ import annotations

import re
import struct
from datetime import datetime
from enum import Enum
from typing import Final

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
UINT64_MAX: Final = 2**64 - 1
# encoding/json of Go writes larger floats with an exponent, and what has one stays a float.
_FLOAT_AS_INT_BELOW: Final = 1e21


class SpecialScalar(Enum):
    """What a plain scalar may be besides a JSON value."""

    MERGE = "<<"
    TIMESTAMP = "timestamp"


Resolved = str | int | float | bool | None | SpecialScalar

_TRUE: Final = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE: Final = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_WORDS: Final[dict[str, Resolved]] = {
    **dict.fromkeys(_TRUE, True),
    **dict.fromkeys(_FALSE, False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], float("nan")),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], float("inf")),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], float("-inf")),
    "<<": SpecialScalar.MERGE,
}
_INTEGER: Final = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|0[bB](?P<bin>[01]+)|0[oO]?(?P<oct>[0-7]+)"
    r"|(?P<dec>0|[1-9][0-9]*))"
)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# strconv.ParseFloat: an underscore may stand between two digits.
_POINT_FLOAT: Final = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?")
_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_TIME: Final = re.compile(
    r"(?:[Tt ])([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})?"
)


def resolve(text: str) -> Resolved:
    """Return what a plain scalar without a tag stands for; a text stands for itself.

    Floats keep their type here, so that ``1.0`` can be told from ``1``.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] == ".":
        return _float(text.replace("_", ""), text) if _POINT_FLOAT.fullmatch(text) else text
    if text[0] not in "+-0123456789":
        return text
    if is_timestamp(text):
        return SpecialScalar.TIMESTAMP
    plain = text.replace("_", "")
    integer = _integer(plain)
    if integer is not None and _fits(integer, signed=plain[0] in "+-"):
        return integer
    return _float(plain, text) if _FLOAT.fullmatch(plain) else text


def _integer(plain: str) -> int | None:
    match = _INTEGER.fullmatch(plain)
    if match is None:
        return None
    bases = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}
    # More digits than that never fit, and the conversion would take quadratic time.
    digits, base = next((d, b) for group, b in bases.items() if (d := match[group]) is not None)
    if len(digits.lstrip("0")) > 64:
        return UINT64_MAX + 1
    return int(digits, base) * (-1 if match["sign"] == "-" else 1)


def _fits(integer: int, *, signed: bool) -> bool:
    # strconv.ParseUint takes no sign.
    return INT64_MIN <= integer <= (INT64_MAX if signed else UINT64_MAX)


def _float(plain: str, text: str) -> float | str:
    value = float(plain)
    return text if value in (float("inf"), float("-inf")) else value  # out of range: a text


def is_timestamp(text: str) -> bool:
    """Whether go-yaml's ``parseTimestamp`` takes it; it stays a text all the same."""
    date = _DATE.match(text)
    if date is None:
        return False
    rest = text[date.end() :]
    clock = _TIME.fullmatch(rest)
    if rest and clock is None:
        return False
    # A time after T needs a zone; one after a space must have none.
    if clock is not None and (rest[0] == " ") == bool(clock[4]):
        return False
    try:
        year, month, day = (int(part) for part in date.groups())
        hour, minute, second = (int(part) for part in clock.groups()[:3]) if clock else (0, 0, 0)
        # Looked at, not kept.
        datetime(max(year, 1), month, day, hour, minute, second)
    except ValueError:
        return False
    return True


def as_json_number(value: float) -> int | float:
    """Return a number as it is after Go has written it as JSON and read it again.

    A float without a fraction becomes an integer, an integer over 64 bits a float.
    """
    if isinstance(value, int):
        return value if INT64_MIN <= value <= INT64_MAX else float(value)
    if not value.is_integer() or abs(value) >= _FLOAT_AS_INT_BELOW:
        return value
    integer = int(value)
    return integer if INT64_MIN <= integer <= INT64_MAX else value


def key_text(value: Resolved) -> str:
    """Return the JSON key that sigs.k8s.io/yaml makes of a key that is not a text.

    Raises:
        ValueError: it makes none; says of what.
    """
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() if INT64_MIN <= value <= INT64_MAX:
            return str(value)
        case float():
            return _float_key(value)
    raise ValueError("null" if value is None else f"the number {value}")


def _float_key(value: float) -> str:
    """Write a float as Go's ``strconv.FormatFloat(value, 'g', -1, 32)``."""
    if value != value:
        return ".nan"
    try:
        single = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        single = float("inf") if value > 0 else float("-inf")
    if single in (float("inf"), float("-inf")):
        return ".inf" if single > 0 else "-.inf"
    for digits in range(9):
        shortest = f"{single:.{digits}e}"
        if struct.unpack("f", struct.pack("f", float(shortest)))[0] == single:
            break
    mantissa, _, exponent_text = shortest.partition("e")
    exponent = int(exponent_text)
    count = len(mantissa.lstrip("-").replace(".", ""))
    if exponent < -4 or exponent >= 6:
        return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    return f"{single:.{max(0, count - 1 - exponent)}f}"
