"""The functions of the CEL language itself: sizes, conversions, pieces of text, optionals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from taskctl.embedded.server.cel import time as cel_time
from taskctl.embedded.server.cel.operators import int_of, uint_of
from taskctl.embedded.server.cel.types import (
    NO_OVERLOAD,
    NONE,
    EvaluationError,
    OptionalValue,
    Uint,
    type_of,
)

_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_FLOAT: Final = re.compile(
    r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?|nan)", re.ASCII | re.IGNORECASE
)
# Digits of the longest integer of 64 bits, with its sign.
_MAX_DIGITS: Final = 20
# strconv.ParseBool.
_BOOLS: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
# strconv.FormatFloat with the verb g and the shortest form.
_SMALLEST_EXPONENT: Final = -4
_EXPONENT_LIMIT: Final = 6


def show_float(value: float) -> str:
    """Return a number as Go's ``%g`` writes it: ``1.5``, ``1e+30``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    place = len(digits) - 1 + int(exponent)
    if value == 0 or _SMALLEST_EXPONENT <= place < _EXPONENT_LIMIT:
        text = format(Decimal(repr(value)), "f")
        return text.removesuffix(".0") if "." in text else text
    text = "".join(map(str, digits))
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{'-' if sign else ''}{text[0]}{fraction}e{'-' if place < 0 else '+'}{abs(place):02d}"


def _size(value: Any) -> int:
    if isinstance(value, str | bytes | list | dict):
        return len(value)
    raise EvaluationError(NO_OVERLOAD)


def _texts(check: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def function(text: Any, piece: Any) -> bool:
        if type(text) is str and type(piece) is str:
            return check(text, piece)
        raise EvaluationError(NO_OVERLOAD)

    return function


def _read_integer(text: str) -> int:
    if not _INTEGER.fullmatch(text) or len(text.lstrip("+-0")) > _MAX_DIGITS:
        raise EvaluationError(f"type conversion error from string to int: {text[:40]!r}")
    return int(text)


def _whole(value: float) -> int:
    if not math.isfinite(value):
        raise EvaluationError("integer overflow")
    return int(value)


def to_int(value: Any) -> int:
    """``int(value)``.

    Raises:
        EvaluationError: it cannot be one; so it is in the other functions.
    """
    match value:
        case bool():
            pass
        case int():
            return int_of(int(value))
        case float():
            return int_of(_whole(value))
        case str():
            return int_of(_read_integer(value))
        case datetime():
            return cel_time.seconds_of(value)
        case timedelta():
            return int_of(cel_time.nanoseconds_of(value))
    raise EvaluationError(NO_OVERLOAD)


def to_uint(value: Any) -> Uint:
    """``uint(value)``."""
    match value:
        case bool():
            pass
        case int():
            return uint_of(int(value))
        case float():
            return uint_of(_whole(value))
        case str():
            return uint_of(_read_integer(value))
    raise EvaluationError(NO_OVERLOAD)


def to_double(value: Any) -> float:
    """``double(value)``."""
    match value:
        case bool():
            pass
        case int() | float():
            return float(value)
        case str():
            if _FLOAT.fullmatch(value):
                return float(value)
            raise EvaluationError(f"type conversion error from string to double: {value[:40]!r}")
    raise EvaluationError(NO_OVERLOAD)


def to_string(value: Any) -> str:
    """``string(value)``."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            return show_float(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from error
        case datetime():
            return cel_time.show_moment(value)
        case timedelta():
            return cel_time.show_span(value)
    raise EvaluationError(NO_OVERLOAD)


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise EvaluationError(NO_OVERLOAD)


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _BOOLS:
        return _BOOLS[value]
    raise EvaluationError("type conversion error from string to bool")


# --- optional values ------------------------------------------------------------------


def _optional(value: Any) -> OptionalValue:
    if type(value) is OptionalValue:
        return value
    raise EvaluationError(NO_OVERLOAD)


def _value(held: Any) -> Any:
    if not _optional(held).known:
        raise EvaluationError("optional.none() dereference")
    return held.value


def _of_non_zero(value: Any) -> OptionalValue:
    zero = value is None or (
        not value if not isinstance(value, OptionalValue) else not value.known
    )  # fmt: skip
    return NONE if zero else OptionalValue(value)


def _unwrap(items: Any) -> list[Any]:
    if not isinstance(items, list):
        raise EvaluationError(NO_OVERLOAD)
    return [one.value for one in map(_optional, items) if one.known]


def _end(place: int) -> Callable[[Any], OptionalValue]:
    def function(items: Any) -> OptionalValue:
        if not isinstance(items, list):
            raise EvaluationError(NO_OVERLOAD)
        return OptionalValue(items[place]) if items else NONE

    return function


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **cel_time.FUNCTIONS,
    "size": _size,
    "contains": _texts(lambda text, piece: piece in text),
    "startsWith": _texts(lambda text, piece: text.startswith(piece)),
    "endsWith": _texts(lambda text, piece: text.endswith(piece)),
    "int": to_int,
    "uint": to_uint,
    "double": to_double,
    "string": to_string,
    "bytes": _to_bytes,
    "bool": _to_bool,
    "dyn": lambda value: value,
    "type": type_of,
    "optional.of": lambda value: OptionalValue(value),
    "optional.none": lambda: NONE,
    "optional.ofNonZeroValue": _of_non_zero,
    "optional.unwrap": _unwrap,
    "unwrapOpt": _unwrap,
    "hasValue": lambda held: _optional(held).known,
    "value": _value,
    "first": _end(0),
    "last": _end(-1),
}
