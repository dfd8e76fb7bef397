"""What CEL values are in Python, and how an evaluation fails.

Most CEL values are Python's own: int, float, bool, str, bytes, None, list, dict, datetime and
timedelta. The rest is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1
MAX_UINT: Final = 2**64 - 1

NO_OVERLOAD: Final = "no such overload"


class EvaluationError(ValueError):
    """An expression has no value. ``&&``, ``||``, all() and exists() may do without it."""


class BudgetError(Exception):
    """An evaluation costs more than it may; nothing absorbs that."""


class Budget:
    """What an evaluation may still cost.

    Attributes:
        limit: of the whole evaluation.
        left: of that, in units of some 0.3 µs.
        patterns: regular expressions that were paid for.
    """

    __slots__ = ("left", "limit", "patterns")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.left = limit
        self.patterns: set[str] = set()

    @property
    def spent(self) -> float:
        """What was taken so far, at most all of it."""
        return min(self.limit, self.limit - self.left)

    def spend(self, units: float) -> None:
        """Take units.

        Raises:
            BudgetError: there are not so many left.
        """
        self.left -= units
        if self.left < 0:
            raise BudgetError


class Uint(int):
    """An unsigned integer of 64 bits, which is another type than int."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BoolKey:
    """A key of a map that is a bool: in Python ``True`` and ``1`` are the same key."""

    value: bool


@dataclass(frozen=True, slots=True)
class OptionalValue:
    """A value or none.

    Attributes:
        value: what it holds; None without meaning if ``known`` is false.
        known: it holds something.
    """

    value: Any = None
    known: bool = True


NONE: Final = OptionalValue(known=False)


@dataclass(frozen=True, slots=True)
class TypeValue:
    """A type as a value: ``type(self.port) == int``."""

    name: str


TYPE_NAMES: Final = frozenset(
    {"int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type"}
)
WELL_KNOWN_TYPES: Final = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration"})
_NAMES: Final[dict[type, str]] = {
    bool: "bool", int: "int", Uint: "uint", float: "double", str: "string", bytes: "bytes",
    list: "list", dict: "map", type(None): "null_type", TypeValue: "type",
    OptionalValue: "optional_type", datetime: "google.protobuf.Timestamp",
    timedelta: "google.protobuf.Duration",
}  # fmt: skip


def type_of(value: Any) -> TypeValue:
    """Return a value's type, CEL's ``type()``."""
    return TypeValue(_NAMES.get(type(value), type(value).__name__))


def to_key(value: Any) -> Any:
    """Return what stands for a value among the keys of a dict.

    Raises:
        EvaluationError: it can be no key.
    """
    match value:
        case bool():
            return BoolKey(value)
        case int() | str():
            return value
        case float():
            return int(value) if value.is_integer() else None  # equal to no key
    raise EvaluationError(f"unsupported key type: {type_of(value).name}")


def from_key(key: Any) -> Any:
    """Return the value that a key of a dict stands for."""
    return key.value if type(key) is BoolKey else key
