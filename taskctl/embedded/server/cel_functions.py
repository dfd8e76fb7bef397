"""CEL functions that Kubernetes offers beyond the language itself.

Covered: the string extensions (version 2), the list library, the regular-expression
library, ``sets`` and ``quantity``, and with :mod:`.cel_net` addresses, URLs and formats; see
kubernetes.io "Common Expression Language in Kubernetes". A rule that uses another function
(semantic versions, two-variable comprehensions) is refused when the CRD is created.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from cel import stdlib

from taskctl.embedded.server import cel_net, cel_patterns

# Operators, macros and functions that the CEL library itself provides.
NATIVE: Final = frozenset(
    {
        "@in", "@not_strictly_false", "!_", "-_", "_!=_", "_%_", "_&&_", "_*_", "_+_", "_-_",
        "_/_", "_<=_", "_<_", "_==_", "_>=_", "_>_", "_?_:_", "_[_]", "_||_",
        "size", "contains", "startsWith", "endsWith", "matches",
        "int", "uint", "double", "string", "bytes", "dyn", "type", "duration", "timestamp",
        "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours",
        "getMilliseconds", "getMinutes", "getMonth", "getSeconds",
        "of", "none", "hasValue", "value", "orValue", "or",
    }
)  # fmt: skip

_SUFFIXES: Final = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
# No resource needs more, and a number is written out in full.
_EXPONENT_LIMIT: Final = 1000
_QUANTITY: Final = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]i?))?$")


def parse_quantity(text: str) -> Decimal:
    """Parse a Kubernetes quantity such as ``1.5Gi``, ``100m`` or ``1e3``.

    Raises:
        ValueError: the text is no quantity.
    """
    found = _QUANTITY.match(text)
    suffix = (found.group(3) or "") if found else ""
    if found is None or suffix not in _SUFFIXES:
        raise ValueError(
            "quantities must match the regular expression "
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    if found.group(2) and abs(int(found.group(2)[1:])) > _EXPONENT_LIMIT:
        raise ValueError(f"unable to parse quantity {text!r}: its exponent is too large")
    try:
        return Decimal(found.group(1) + (found.group(2) or "")) * _SUFFIXES[suffix]
    except InvalidOperation as error:
        raise ValueError(f"unable to parse quantity {text!r}") from error


def _quantity(text: str) -> str:
    # CEL values cross the language border, so a quantity is carried as its plain decimal
    # text: equal quantities are then equal strings.
    return _plain(parse_quantity(text))


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _is_quantity(text: Any) -> bool:
    try:
        parse_quantity(text)
    except (TypeError, ValueError):
        return False
    return True


def _operand(value: Any) -> Decimal:
    return Decimal(value) if isinstance(value, int) else parse_quantity(value)


def _as_integer(text: str) -> int:
    value = parse_quantity(text)
    if value != value.to_integral_value() or not -(2**63) <= value < 2**63:
        raise ValueError("cannot convert value to integer")
    return int(value)


def _is_integer(text: str) -> bool:
    value = parse_quantity(text)
    return value == value.to_integral_value() and -(2**63) <= value < 2**63


def _compare(left: str, right: str) -> int:
    a, b = parse_quantity(left), parse_quantity(right)
    return (a > b) - (a < b)


def _sign(text: str) -> int:
    value = parse_quantity(text)
    return (value > 0) - (value < 0)


def _is_sorted(items: list[Any]) -> bool:
    return all(items[i] <= items[i + 1] for i in range(len(items) - 1))


def _sum(items: list[Any]) -> Any:
    return sum(items[1:], items[0]) if items else 0


def _extreme(name: str, pick: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    def function(items: list[Any]) -> Any:
        if not items:
            raise ValueError(f"{name} called on empty list")
        return pick(items)

    return function


def _index_of(value: Any, wanted: Any, start: int = 0) -> int:
    if isinstance(value, list):
        return value.index(wanted) if wanted in value else -1
    return stdlib.index_of(value, wanted, start)


def _last_index_of(value: Any, wanted: Any, end: int | None = None) -> int:
    if isinstance(value, list):
        places = [i for i, one in enumerate(value) if one == wanted]
        return places[-1] if places else -1
    return stdlib.last_index_of(value, wanted, end)


_VERB: Final = re.compile(r"%(?:\.(\d+))?([sdfeboxX%])")


_PRECISION_DIGITS: Final = 9
_MAX_PRECISION: Final = 100


def _show(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return "[" + ", ".join(_show(one) for one in value) + "]"
        case dict():
            pairs = sorted((_show(k), _show(v)) for k, v in value.items())
            return "{" + ", ".join(f"{k}: {v}" for k, v in pairs) + "}"
        case float():
            return f"{value:g}"
        case bytes():
            return value.decode("utf-8", "replace")
    return str(value)


def _format(template: str, values: list[Any]) -> str:
    """``'%s has %d'.format([name, count])``, the verbs of cel-go's ext.Strings."""
    given = iter(values)

    def fill(found: re.Match[str]) -> str:
        precision, verb = found.groups()
        if verb == "%":
            return "%"
        try:
            value = next(given)
        except StopIteration as error:
            raise ValueError("format string has more verbs than arguments") from error
        match verb:
            case "s":
                return _show(value)
            case "d":
                return str(int(value))
            case "f" | "e":
                digits = int(precision[:_PRECISION_DIGITS] if precision else 6)
                if digits > _MAX_PRECISION:
                    raise ValueError(f"precision must be at most {_MAX_PRECISION}, not {digits}")
                return format(float(value), f".{digits}{verb}")
            case "x" | "X" if isinstance(value, str | bytes):
                data = value.encode() if isinstance(value, str) else value
                return data.hex() if verb == "x" else data.hex().upper()
        return format(int(value), verb)

    return _VERB.sub(fill, template)


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    **cel_net.FUNCTIONS,
    "charAt": stdlib.char_at,
    "find": cel_patterns.find,
    "findAll": cel_patterns.find_all,
    cel_patterns.MATCHES: cel_patterns.matches,
    "format": _format,
    "indexOf": _index_of,
    "isSorted": _is_sorted,
    "join": stdlib.join,
    "lastIndexOf": _last_index_of,
    "lowerAscii": stdlib.lower_ascii,
    "max": _extreme("max", max),
    "min": _extreme("min", min),
    "replace": stdlib.replace,
    "sets.contains": stdlib.sets_contains,
    "sets.equivalent": stdlib.sets_equivalent,
    "sets.intersects": stdlib.sets_intersects,
    "split": stdlib.split,
    "strings.quote": lambda text: json.dumps(text, ensure_ascii=False),
    "substring": stdlib.substring,
    "sum": _sum,
    "trim": stdlib.trim,
    "upperAscii": stdlib.upper_ascii,
    # quantities
    "add": lambda a, b: _plain(parse_quantity(a) + _operand(b)),
    "asApproximateFloat": lambda text: float(parse_quantity(text)),
    "asInteger": _as_integer,
    "compareTo": _compare,
    "isGreaterThan": lambda a, b: _compare(a, b) > 0,
    "isInteger": _is_integer,
    "isLessThan": lambda a, b: _compare(a, b) < 0,
    "isQuantity": _is_quantity,
    "quantity": _quantity,
    "sign": _sign,
    "sub": lambda a, b: _plain(parse_quantity(a) - _operand(b)),
}

NAMESPACES: Final = frozenset({"sets", "strings", "optional"}) | cel_net.NAMESPACES
TYPE_NAMES: Final = frozenset(
    {"int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type"}
)
