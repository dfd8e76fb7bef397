"""What evaluating a CEL expression costs, found before it is evaluated.

The library that evaluates rules can neither count what it does nor be interrupted. So this
module walks the expression first, with the very values that it will see, and adds up an upper
bound. The unit is about that of k8s.io/apiserver ``pkg/cel/library/cost.go``, some 0.1 µs here.

A loop's body is not walked once per item. With f(x) for the cost of the body at an item x, the
sum of all f(x) is at most f(all items together) + n · f(nothing), since every cost here grows at
least in proportion to the data. So each loop takes two walks, and the bound stays close: a loop
over the members of each group costs what all members cost, not groups times the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from taskctl.embedded.server import cel_net
from taskctl.embedded.server.cel_syntax import LOOPS, Expression, Form

# k8s.io/apiserver pkg/apis/cel/config.go: PerCallLimit; RuntimeCELCostBudget is ten times that
# there, which would be a second here.
PER_RULE_LIMIT: Final = 1_000_000
PER_OBJECT_LIMIT: Final = 3_000_000
_MAX_STEPS: Final = 10_000

_PER_BYTE: Final = 0.1
_PER_ITEM: Final = 1.0
_LIST: Final = 10.0
_MAP: Final = 30.0
# The library copies the list that it collects for every item that it adds.
_COPY: Final = 0.5
# A function that is written in Python: the way there and back, and its arguments.
_CALLBACK: Final = 60.0
_ARGUMENT_BYTE: Final = 0.2
# Digits that a number may have once it is text.
_NUMBER_BYTES: Final = 400

_COLLECTING: Final = frozenset({"map", "filter", "transformList", "transformMap"})
# What the library does itself, by how the result's size follows from the arguments'.
_NATIVE_SMALL: Final = frozenset(
    {
        "size", "contains", "startsWith", "endsWith", "int", "uint", "double", "duration",
        "timestamp", "type", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
        "getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds",
        "hasValue", "has",
    }
)  # fmt: skip
_NATIVE_SAME: Final = frozenset(
    {"string", "bytes", "dyn", "of", "none", "value", "orValue", "or", "optional"}
)
# Lists of up to so many items are walked item by item where that makes a difference.
_SINGLY: Final = 200
_QUADRATIC: Final = frozenset({"contains", "equivalent", "intersects"})


class CostError(Exception):
    """An expression costs more than it may."""


class Bound:
    """What is known of a value, or of all values that a name stands for in turn.

    Attributes:
        items: in the lists and maps, together.
        values: the values themselves, if they are known.
    """

    __slots__ = ("_parts", "_size", "items", "values")

    def __init__(
        self, size: float | None = None, items: float = 0.0, values: tuple[Any, ...] | None = None
    ) -> None:
        self._size = size
        self._parts: dict[str | bool, Bound] = {}
        self.items = items
        self.values = values

    @property
    def size(self) -> float:
        """Of all of it together, in bytes and items; found when it is asked for."""
        if self._size is None:
            self._size = sum(map(measure, self.values or ()))
        return self._size

    def field(self, name: str) -> Bound:
        """Return the values of a field."""
        if self.values is None:
            return Bound(self.size, self.items)
        found = self._parts.get(name)
        if found is None:
            having = (one for one in self.values if isinstance(one, dict) and name in one)
            found = self._parts[name] = bound_of(*(one[name] for one in having))
        return found

    def elements(self, *, keys: bool) -> Bound:
        """Return the items of lists and maps; of maps the keys or the values."""
        if self.values is None:
            return Bound(self.size, self.size)
        found = self._parts.get(keys)
        if found is None:
            items: list[Any] = []
            for one in self.values:
                if isinstance(one, dict):
                    items.extend(one if keys else one.values())
                elif isinstance(one, list):
                    items.extend(one)
            found = self._parts[keys] = bound_of(*items)
        return found


NOTHING: Final = Bound(values=())
SCALAR: Final = Bound(8.0)


def measure(value: Any) -> float:
    """Return the size of a value: a byte per character, a few for what is not text."""
    match value:
        case str() | bytes():
            return 1.0 + len(value)
        case dict():
            return 1.0 + sum(1.0 + len(str(key)) + measure(one) for key, one in value.items())
        case list() | tuple():
            return 1.0 + sum(map(measure, value))
    return 8.0


def bound_of(*values: Any) -> Bound:
    """Return what is known of values."""
    items = sum(len(one) for one in values if isinstance(one, dict | list))
    return Bound(None, float(items), values)


def estimate(expression: Expression, variables: Mapping[str, Bound]) -> float:
    """Return an upper bound of what an expression costs.

    Args:
        expression: to be evaluated.
        variables: what it sees.

    Raises:
        CostError: it is more than a rule may cost, or cannot be told with little effort.
    """
    walk = _Walk()
    walk.value(expression, variables)
    return walk.cost


class _Walk:
    """Adds up costs."""

    def __init__(self) -> None:
        self.cost = 0.0
        self._steps = 0

    def value(self, node: Expression, env: Mapping[str, Bound]) -> Bound:
        """Add what a node costs and return what is known of its value."""
        self._steps += 1
        if self._steps > _MAX_STEPS or self.cost > PER_RULE_LIMIT:
            raise CostError
        match node.form:
            case Form.LITERAL:
                return Bound(float(len(node.text)))
            case Form.NAME:
                self.cost += 1
                return env.get(node.text, SCALAR)
            case Form.FIELD:
                self.cost += 1
                return self.value(node.parts[0], env).field(node.text)
            case Form.INDEX:
                return self._index(node, env)
            case Form.LIST | Form.MAP:
                parts = [self.value(one, env) for one in node.parts]
                self.cost += (_LIST if node.form is Form.LIST else _MAP) + len(parts)
                size = sum(one.size for one in parts) + len(parts)
                return Bound(size, float(len(parts)) + sum(one.items for one in parts))
            case Form.OPERATOR:
                return self._operator(node, env)
        return self._call(node, env)

    def _index(self, node: Expression, env: Mapping[str, Bound]) -> Bound:
        held, index = (self.value(one, env) for one in node.parts)
        self.cost += 1 + _PER_BYTE * index.size
        literal = node.parts[1]
        if literal.form is Form.LITERAL and literal.text[:1] in "\"'":
            return held.field(literal.text[1:-1])
        return held.elements(keys=False)

    def _operator(self, node: Expression, env: Mapping[str, Bound]) -> Bound:
        parts = [self.value(one, env) for one in node.parts]
        self.cost += 1
        match node.text:
            case "&&" | "||" | "not":
                return SCALAR
            case "?:":
                return _either(parts[1], parts[2])
            case "==" | "!=" | "<" | "<=" | ">" | ">=":
                self.cost += _PER_BYTE * min(one.size for one in parts)
                return SCALAR
            case "in":
                self.cost += _PER_BYTE * (parts[1].size + parts[1].items)
                return SCALAR
            case "+":
                both = Bound(sum(one.size for one in parts), sum(one.items for one in parts))
                self.cost += _PER_BYTE * both.size
                return both
        return SCALAR

    def _call(self, node: Expression, env: Mapping[str, Bound]) -> Bound:
        if node.form is Form.METHOD and node.text in LOOPS and len(node.parts) >= 3:
            return self._loop(node, env)
        if node.form is Form.METHOD and node.text == "bind" and len(node.parts) == 4:
            known = self.value(node.parts[2], env)
            return self.value(node.parts[3], {**env, node.parts[1].text: known})
        parts = [self.value(one, env) for one in node.parts]
        size, items = sum(one.size for one in parts), sum(one.items for one in parts)
        if node.text in _NATIVE_SMALL and not _is_set_function(node):
            self.cost += 1 if node.text in ("size", "has") else 1 + _PER_BYTE * size
            return SCALAR
        if node.text in _NATIVE_SAME:
            self.cost += 1 + _PER_BYTE * size
            return Bound(size + _NUMBER_BYTES if node.text == "string" else size, items)
        self.cost += _CALLBACK + _ARGUMENT_BYTE * size + items
        if node.text in _QUADRATIC and len(parts) > 1:
            self.cost += _PER_ITEM * parts[-1].items * parts[-2].items
        made = _RESULTS.get(node.text)
        return Bound(size, items) if made is None else made(node, parts)

    def _loop(self, node: Expression, env: Mapping[str, Bound]) -> Bound:
        held = self.value(node.parts[0], env)
        # One name, or in the two-variable form index and value.
        names = [one.text for one in node.parts[1:-1] if one.form is Form.NAME]
        two = len(names) >= 2 and (len(node.parts) == 4 or node.text.startswith("transform"))
        names = names[: 2 if two else 1]
        size = items = 0.0
        for body in node.parts[1 + len(names) :]:
            made = self._body(body, names, held, env)
            size += made.size
            items += made.items
        self.cost += _PER_ITEM * held.items
        if node.text not in _COLLECTING:
            return SCALAR
        self.cost += _LIST + _COPY * held.items * held.items
        return held if node.text == "filter" else Bound(size + held.items, held.items + items)

    def _body(
        self, body: Expression, names: list[str], held: Bound, env: Mapping[str, Bound]
    ) -> Bound:
        """Add what a loop's body costs for all items; return the sum of its values."""
        if body.loops > 1 and held.values is not None and held.items <= _SINGLY:
            # Loops in loops over parts of one item: their product is that of each item's parts.
            size = items = 0.0
            for one in _singly(held, two=len(names) > 1):
                made = self.value(body, {**env, **dict(zip(names, one, strict=False))})
                size += made.size
                items += made.items
            return Bound(size, items)
        together = {name: held.elements(keys=place == 0) for place, name in enumerate(names)}
        made = self.value(body, {**env, **together})
        before = self.cost
        each = self.value(body, {**env, **dict.fromkeys(names, NOTHING)})
        self.cost += (self.cost - before) * held.items
        return Bound(made.size + each.size * held.items, made.items + each.items * held.items)


def _singly(held: Bound, *, two: bool) -> Iterator[tuple[Bound, ...]]:
    for one in held.values or ():
        if isinstance(one, dict):
            for key, value in one.items():
                yield (bound_of(key), bound_of(value))
        elif isinstance(one, list):
            for value in one:
                yield (SCALAR, bound_of(value)) if two else (bound_of(value),)


def _is_set_function(node: Expression) -> bool:
    return bool(node.parts) and node.parts[0].form is Form.NAME and node.parts[0].text == "sets"


def _either(left: Bound, right: Bound) -> Bound:
    values = None
    if left.values is not None and right.values is not None:
        values = (*left.values, *right.values)
    return Bound(left.size + right.size, left.items + right.items, values)


def _replaced(node: Expression, parts: list[Bound]) -> Bound:
    text, new = parts[0].size, parts[2].size if len(parts) > 2 else 0.0
    old = node.parts[1] if len(node.parts) > 1 else None
    known = len(old.text) - 2 if old is not None and old.form is Form.LITERAL else 0
    return Bound(text + (text / max(1, known) + 1) * new)


def _formatted(node: Expression, parts: list[Bound]) -> Bound:
    # Each verb takes at least two characters of the template.
    verbs = parts[0].size / 2
    return Bound(sum(one.size for one in parts) * 2 + verbs * _NUMBER_BYTES)


def _joined(node: Expression, parts: list[Bound]) -> Bound:
    separator = parts[1].size if len(parts) > 1 else 0.0
    return Bound(parts[0].size + parts[0].items * separator)


def _split(node: Expression, parts: list[Bound]) -> Bound:
    return Bound(parts[0].size * 2, parts[0].size)


def _small(node: Expression, parts: list[Bound]) -> Bound:
    return SCALAR


_RESULTS: Final[dict[str, Callable[[Expression, list[Bound]], Bound]]] = {
    "replace": _replaced,
    "format": _formatted,
    "join": _joined,
    "split": _split,
    "findAll": _split,
    **dict.fromkeys(
        (
            "isSorted", "indexOf", "lastIndexOf", "contains", "equivalent", "intersects",
            "compareTo", "isGreaterThan", "isLessThan", "isInteger", "isQuantity", "sign",
            "asInteger", "asApproximateFloat", "matches", *cel_net.SMALL,
        ),
        _small,
    ),
}  # fmt: skip
