"""CEL's operators on values: arithmetic, comparison, fields and indexes.

Semantics of cel-go ``common/types``: integers of 64 bits that overflow with an error, numbers of
different types that compare by value, no other implicit conversion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from taskctl.embedded.server.cel.types import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    NO_OVERLOAD,
    NONE,
    Budget,
    EvaluationError,
    OptionalValue,
    Uint,
    to_key,
)

Operator = Callable[[Budget, Any, Any], Any]

_PER_CHARACTER: Final = 0.1
_PER_ITEM: Final = 0.2
# To look at a list or map, and to compare an item of it.
_CONTAINER: Final = 4.0
_COMPARED: Final = 2.0
_NUMBERS: Final = frozenset({int, Uint, float})
_ORDERED: Final = frozenset({str, bytes, bool, datetime, timedelta})


def int_of(value: int) -> int:
    """Return a signed integer.

    Raises:
        EvaluationError: it does not fit into 64 bits; so it is in the other functions.
    """
    if MIN_INT <= value <= MAX_INT:
        return value
    raise EvaluationError("integer overflow")


def uint_of(value: int) -> Uint:
    """Return an unsigned integer."""
    if 0 <= value <= MAX_UINT:
        return Uint(value)
    raise EvaluationError("unsigned integer overflow")


def _moment(calculate: Callable[[], Any]) -> Any:
    try:
        return calculate()
    except OverflowError as error:
        raise EvaluationError("timestamp overflow") from error


def add(budget: Budget, left: Any, right: Any) -> Any:
    """``+``."""
    kind, other = type(left), type(right)
    if kind is int and other is int:
        return int_of(left + right)
    if kind is other and kind in (str, bytes, list):
        budget.spend(
            (_PER_ITEM if kind is list else _PER_CHARACTER) * (len(left) + len(right))
        )  # fmt: skip
        return left + right
    if kind is Uint and other is Uint:
        return uint_of(int(left) + int(right))
    if kind is float and other is float:
        return left + right
    if (kind is timedelta and other in (timedelta, datetime)) or (
        kind is datetime and other is timedelta
    ):
        return _moment(lambda: left + right)
    raise EvaluationError(NO_OVERLOAD)


def subtract(budget: Budget, left: Any, right: Any) -> Any:
    """``-`` with two operands."""
    kind, other = type(left), type(right)
    if kind is int and other is int:
        return int_of(left - right)
    if kind is Uint and other is Uint:
        return uint_of(int(left) - int(right))
    if kind is float and other is float:
        return left - right
    if other is timedelta and kind in (timedelta, datetime):
        return _moment(lambda: left - right)
    if kind is datetime and other is datetime:
        return left - right
    raise EvaluationError(NO_OVERLOAD)


def multiply(budget: Budget, left: Any, right: Any) -> Any:
    """``*``."""
    kind, other = type(left), type(right)
    if kind is int and other is int:
        return int_of(left * right)
    if kind is Uint and other is Uint:
        return uint_of(int(left) * int(right))
    if kind is float and other is float:
        return left * right
    raise EvaluationError(NO_OVERLOAD)


def _truncated(left: int, right: int) -> int:
    found = abs(left) // abs(right)
    return found if (left < 0) == (right < 0) else -found


def divide(budget: Budget, left: Any, right: Any) -> Any:
    """``/``: towards zero; floats as IEEE 754 says."""
    kind, other = type(left), type(right)
    if kind is float and other is float:
        if right != 0:
            return left / right
        if left == 0 or math.isnan(left):
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1.0, right)
    if kind is not other or kind not in (int, Uint):
        raise EvaluationError(NO_OVERLOAD)
    if right == 0:
        raise EvaluationError("division by zero")
    if kind is Uint:
        return Uint(int(left) // int(right))
    return int_of(_truncated(left, right))


def modulo(budget: Budget, left: Any, right: Any) -> Any:
    """``%``: with the sign of what is divided."""
    kind = type(left)
    if kind is not type(right) or kind not in (int, Uint):
        raise EvaluationError(NO_OVERLOAD)
    if right == 0:
        raise EvaluationError("modulus by zero")
    if kind is Uint:
        return Uint(int(left) % int(right))
    return left - right * _truncated(left, right)


def negate(value: Any) -> Any:
    """``-`` with one operand."""
    kind = type(value)
    if kind is int:
        return int_of(-value)
    if kind in (float, timedelta):
        return -value
    raise EvaluationError(NO_OVERLOAD)


def invert(value: Any) -> bool:
    """``!``."""
    if value is True:
        return False
    if value is False:
        return True
    raise EvaluationError(NO_OVERLOAD)


def equals(budget: Budget, left: Any, right: Any) -> bool:
    """``==``: false between values of different types, except numbers."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind is str or kind is bytes:
            budget.left -= _PER_CHARACTER * min(len(left), len(right))
            return bool(left == right)
        if kind is list:
            budget.spend(_CONTAINER + _COMPARED * min(len(left), len(right)))
            return len(left) == len(right) and all(
                equals(budget, one, two) for one, two in zip(left, right, strict=True)
            )
        if kind is dict:
            budget.spend(_CONTAINER + 2 * _COMPARED * min(len(left), len(right)))
            return left.keys() == right.keys() and all(
                equals(budget, one, right[key]) for key, one in left.items()
            )
        if kind is OptionalValue:
            if not (left.known and right.known):
                return bool(left.known == right.known)
            return equals(budget, left.value, right.value)
        budget.spend(1)
        return bool(left == right)
    return kind in _NUMBERS and other in _NUMBERS and bool(left == right)


def differs(budget: Budget, left: Any, right: Any) -> bool:
    """``!=``."""
    return not equals(budget, left, right)


def _comparable(budget: Budget, left: Any, right: Any) -> None:
    kind, other = type(left), type(right)
    if kind is other and kind in _ORDERED:
        if kind is str or kind is bytes:
            budget.spend(_PER_CHARACTER * min(len(left), len(right)))
    elif kind not in _NUMBERS or other not in _NUMBERS:
        raise EvaluationError(NO_OVERLOAD)


def less(budget: Budget, left: Any, right: Any) -> bool:
    """``<``."""
    _comparable(budget, left, right)
    return bool(left < right)


def less_or_equal(budget: Budget, left: Any, right: Any) -> bool:
    """``<=``."""
    _comparable(budget, left, right)
    return bool(left <= right)


def greater(budget: Budget, left: Any, right: Any) -> bool:
    """``>``."""
    return less(budget, right, left)


def greater_or_equal(budget: Budget, left: Any, right: Any) -> bool:
    """``>=``."""
    return less_or_equal(budget, right, left)


def contained(budget: Budget, wanted: Any, held: Any) -> bool:
    """``in``: an item of a list, a key of a map."""
    match held:
        case list():
            for one in held:
                budget.spend(1)
                if equals(budget, wanted, one):
                    return True
            return False
        case dict():
            return to_key(wanted) in held
    raise EvaluationError(NO_OVERLOAD)


BINARY: Final[dict[str, Operator]] = {
    "+": add, "-": subtract, "*": multiply, "/": divide, "%": modulo,
    "==": equals, "!=": differs, "<": less, "<=": less_or_equal, ">": greater,
    ">=": greater_or_equal, "in": contained,
}  # fmt: skip
UNARY: Final[dict[str, Callable[[Any], Any]]] = {"!_": invert, "-_": negate}

_ABSENT: Final = object()


def _find(held: Any, index: Any) -> Any:
    """Return an item, or a mark that it is absent."""
    match held:
        case dict():
            return held.get(to_key(index), _ABSENT)
        case list():
            place = int(index) if type(index) is float and index.is_integer() else index
            if not isinstance(place, int) or isinstance(place, bool):
                raise EvaluationError(f"unsupported index type '{type(index).__name__}' in list")
            return held[place] if 0 <= place < len(held) else _ABSENT
    raise EvaluationError(NO_OVERLOAD)


def index(held: Any, wanted: Any) -> Any:
    """``held[wanted]``; of an optional the optional item."""
    if type(held) is OptionalValue:
        return optional_index(held, wanted)
    found = _find(held, wanted)
    if found is _ABSENT:
        what = "no such key" if isinstance(held, dict) else "index out of bounds"
        raise EvaluationError(f"{what}: {wanted}")
    return found


def optional_index(held: Any, wanted: Any) -> OptionalValue:
    """``held[?wanted]``."""
    if type(held) is OptionalValue:
        if not held.known:
            return NONE
        held = held.value
    found = _find(held, wanted)
    return NONE if found is _ABSENT else OptionalValue(found)


def select(held: Any, name: str) -> Any:
    """``held.name``; of an optional the optional field."""
    if type(held) is dict:
        found = held.get(name, _ABSENT)
        if found is _ABSENT:
            raise EvaluationError(f"no such key: {name}")
        return found
    if type(held) is OptionalValue:
        return optional_select(held, name)
    raise EvaluationError(NO_OVERLOAD)


def optional_select(held: Any, name: str) -> OptionalValue:
    """``held.?name``."""
    if type(held) is OptionalValue:
        if not held.known:
            return NONE
        held = held.value
    if type(held) is not dict:
        raise EvaluationError(NO_OVERLOAD)
    return OptionalValue(held[name]) if name in held else NONE


def has(held: Any, name: str) -> bool:
    """``has(held.name)``."""
    return optional_select(held, name).known


_SCALARS: Final = frozenset({int, float, bool, type(None), Uint, datetime, timedelta})


def measure(budget: Budget, value: Any) -> float:
    """Return how much a value is, in items and tenths of characters, and take as much.

    Raises:
        BudgetError: it is more than may be.
    """
    kind = type(value)
    if kind in _SCALARS:
        budget.spend(1)
        return 1
    if kind is str or kind is bytes:
        size = 1 + _PER_CHARACTER * len(value)
        budget.spend(size)
        return size
    if kind is OptionalValue:
        budget.spend(1)
        return 1 + measure(budget, value.value)
    if kind is dict:
        budget.spend(_CONTAINER)
        return 1 + sum(measure(budget, one) for half in (value, value.values()) for one in half)
    if kind is not list:
        budget.spend(1)
        return 1
    budget.spend(_CONTAINER + len(value))
    size = 1.0 + len(value)
    for one in value:
        if type(one) not in _SCALARS:
            size += measure(budget, one)
    return size
