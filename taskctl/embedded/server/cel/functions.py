"""The functions that rules may call, and what each call costs.

Beside those of the language (:mod:`.natives`): the string extensions (version 2), the list
library, the regular-expression library, ``sets`` and ``quantity``, with :mod:`.net` addresses,
URLs and formats, with :mod:`.semver` versions; see kubernetes.io "Common Expression Language
in Kubernetes". A rule that uses another function is refused when the CRD is created.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial, reduce
from typing import Any, Final

from cel import stdlib

from taskctl.embedded.server.cel import natives, net, patterns, semver
from taskctl.embedded.server.cel.natives import show_float
from taskctl.embedded.server.cel.operators import add, measure
from taskctl.embedded.server.cel.patterns import compile_cost
from taskctl.embedded.server.cel.time import show_moment, show_span
from taskctl.embedded.server.cel.types import Budget, OptionalValue, TypeValue, from_key
from taskctl.embedded.server.values import quantity


def _parsed(text: Any) -> Decimal:
    """Parse a quantity, with the sentence of k8s.io/apimachinery ``resource.ErrFormatWrong``.

    Raises:
        TypeError: it is not text.
        ValueError: it is not a quantity.
    """
    if not isinstance(text, str):
        raise TypeError("a quantity is a text")
    try:
        return quantity.parse(text)
    except ValueError as error:
        raise ValueError(
            "quantities must match the regular expression "
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ) from error


def _quantity(text: str) -> str:
    # CEL values cross the language border, so a quantity is carried as its plain decimal
    # text: equal quantities are then equal strings.
    return _plain(_parsed(text))


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _is_quantity(text: Any) -> bool:
    try:
        _parsed(text)
    except (TypeError, ValueError):
        return False
    return True


def _operand(value: Any) -> Decimal:
    return Decimal(value) if isinstance(value, int) else _parsed(value)


def _as_integer(text: str) -> int:
    value = _parsed(text)
    if value != value.to_integral_value() or not -(2**63) <= value < 2**63:
        raise ValueError("cannot convert value to integer")
    return int(value)


def _is_integer(text: str) -> bool:
    value = _parsed(text)
    return value == value.to_integral_value() and -(2**63) <= value < 2**63


def _compare(left: Any, right: Any) -> int:
    if isinstance(left, semver.Semver):
        return semver.compare(left, right)
    a, b = _parsed(left), _parsed(right)
    return (a > b) - (a < b)


def _sign(text: str) -> int:
    value = _parsed(text)
    return (value > 0) - (value < 0)


def _is_sorted(items: list[Any]) -> bool:
    return all(items[i] <= items[i + 1] for i in range(len(items) - 1))


def _sum(items: list[Any]) -> Any:
    budget = Budget(math.inf)  # what it costs is charged before
    return reduce(partial(add, budget), items) if items else 0


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
            pairs = sorted((_show(from_key(k)), _show(v)) for k, v in value.items())
            return "{" + ", ".join(f"{k}: {v}" for k, v in pairs) + "}"
        case float():
            return show_float(value)
        case datetime():
            return show_moment(value)
        case timedelta():
            return show_span(value)
        case OptionalValue():
            return f"optional({_show(value.value)})" if value.known else "optional.none()"
        case TypeValue():
            return value.name
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


_EXTENSIONS: Final[dict[str, Callable[..., Any]]] = {
    **net.FUNCTIONS,
    **semver.FUNCTIONS,
    "charAt": stdlib.char_at,
    "find": patterns.find,
    "findAll": patterns.find_all,
    "matches": patterns.matches,
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
    "add": lambda a, b: _plain(_parsed(a) + _operand(b)),
    "asApproximateFloat": lambda text: float(_parsed(text)),
    "asInteger": _as_integer,
    "compareTo": _compare,
    "isGreaterThan": lambda a, b: _compare(a, b) > 0,
    "isInteger": _is_integer,
    "isLessThan": lambda a, b: _compare(a, b) < 0,
    "isQuantity": _is_quantity,
    "quantity": _quantity,
    "sign": _sign,
    "sub": lambda a, b: _plain(_parsed(a) - _operand(b)),
}


# --- what calls cost ------------------------------------------------------------------

Charge = Callable[[Budget, list[Any]], float]

_CHARACTER: Final = 0.1
# A function of the language, and one of the libraries, which look at more.
_NATIVE_WEIGHT: Final = 3.0
_WEIGHT: Final = 10.0
# k8s.io/apiserver pkg/cel/library/cost.go: regexes cost text times pattern.
_PATTERN_CHARACTER: Final = 0.25
_KEPT_PATTERNS: Final = 16
# Tens of characters that a number may take as text.
_NUMBER: Final = 40.0


def _of_texts(budget: Budget, arguments: list[Any]) -> float:
    """Charge the texts among the arguments; what is in a list is not looked at."""
    return sum(_CHARACTER * len(one) for one in arguments if isinstance(one, str | bytes))


def _of_everything(budget: Budget, arguments: list[Any]) -> float:
    """Charge all that is in the arguments; this is taken at once, so that it ends soon."""
    for one in arguments:
        measure(budget, one)
    return 0.0


def _of_pairs(budget: Budget, arguments: list[Any]) -> float:
    """Charge each item of one list against each of the other, in both directions."""
    sizes = [measure(budget, one) for one in arguments]
    counts = [len(one) if isinstance(one, list) else 1 for one in arguments]
    return 2 * max(sizes, default=0.0) * max(counts, default=0)


def _of_pattern(budget: Budget, arguments: list[Any]) -> float:
    if len(arguments) < 2 or not all(isinstance(one, str) for one in arguments[:2]):
        return 0.0
    text, pattern = arguments[:2]
    cost = (1 + _CHARACTER * len(text)) * (1 + _PATTERN_CHARACTER * len(pattern))
    # As many as surely are kept; whichever comes after them is compiled again each time.
    if pattern not in budget.patterns:
        cost += compile_cost(pattern)
        if len(budget.patterns) < _KEPT_PATTERNS:
            budget.patterns.add(pattern)
    return cost


def _of_pieces(budget: Budget, arguments: list[Any]) -> float:
    """Charge a result that may have an item per character."""
    return float(sum(len(one) for one in arguments if isinstance(one, str)))


def _of_pattern_pieces(budget: Budget, arguments: list[Any]) -> float:
    return _of_pattern(budget, arguments) + _of_pieces(budget, arguments[:1])


def _of_replaced(budget: Budget, arguments: list[Any]) -> float:
    size = _of_texts(budget, arguments)
    if len(arguments) < 3 or not all(isinstance(one, str) for one in arguments[:3]):
        return size
    text, old, new = arguments[:3]
    added: int = text.count(old) * len(new)
    return size + _CHARACTER * added


def _of_joined(budget: Budget, arguments: list[Any]) -> float:
    measure(budget, arguments[0])
    if len(arguments) < 2 or not isinstance(arguments[1], str):
        return 0.0
    return _CHARACTER * len(arguments[0]) * len(arguments[1])


def _of_formatted(budget: Budget, arguments: list[Any]) -> float:
    _of_everything(budget, arguments)
    return _NUMBER * arguments[0].count("%") if isinstance(arguments[0], str) else 0.0


@dataclass(frozen=True, slots=True)
class Function:
    """A function of CEL.

    Attributes:
        call: calculates it; may raise what functions of Python do.
        weight: what every call costs.
        charge: returns what a call costs beside that, with these arguments.
    """

    call: Callable[..., Any]
    weight: float
    charge: Charge


_CHARGES: Final[dict[str, Charge]] = {
    "findAll": _of_pattern_pieces,
    "find": _of_pattern,
    "matches": _of_pattern,
    "format": _of_formatted,
    "getQuery": _of_pieces,
    "join": _of_joined,
    "replace": _of_replaced,
    "split": _of_pieces,
    **dict.fromkeys(("sets.contains", "sets.equivalent", "sets.intersects"), _of_pairs),
}
# Those of the language that look at every item of a list.
_LISTS: Final = frozenset({"unwrapOpt", "optional.unwrap"})

FUNCTIONS: Final[dict[str, Function]] = {
    **{
        name: Function(call, _NATIVE_WEIGHT, _of_everything if name in _LISTS else _of_texts)
        for name, call in natives.FUNCTIONS.items()
    },
    **{
        name: Function(call, _WEIGHT, _CHARGES.get(name, _of_everything))
        for name, call in _EXTENSIONS.items()
    },
}
NAMESPACES: Final = frozenset({"sets", "strings", "optional"}) | net.NAMESPACES
