"""CEL expressions as programs: functions of Python, made of the syntax tree once.

Semantics of cel-go: ``&&``, ``||``, all() and exists() have a value if any operand decides it, even
where others fail. What an evaluation costs is counted as it runs: a unit per node and one for each
ten characters that are looked at. A program ends when its budget is spent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cel

from taskctl.embedded.server.cel import operators
from taskctl.embedded.server.cel.functions import FUNCTIONS, Function
from taskctl.embedded.server.cel.loops import LOOPS, Evaluation, Items, Step, decide, truth
from taskctl.embedded.server.cel.macros import Binding, Macro, binding_of
from taskctl.embedded.server.cel.names import dotted, qualified_name
from taskctl.embedded.server.cel.operators import int_of, uint_of
from taskctl.embedded.server.cel.syntax import Expression, NodeForm
from taskctl.embedded.server.cel.types import (
    NO_OVERLOAD,
    WELL_KNOWN_TYPES,
    Budget,
    EvaluationError,
    OptionalValue,
    TypeValue,
    to_key,
)

# What a program costs at least: some 3 µs.
_BASE: Final = 30.0
_LIST: Final = 2.0
_MAP: Final = 4.0
_LOOP: Final = 10.0
# Of any number that may stand in an expression.
_MAX_DIGITS: Final = 100
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
# What a Python function may raise on values that it does not expect.
_FAILURES: Final = (
    ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AttributeError
)  # fmt: skip


class Program:
    """An expression, ready to run."""

    __slots__ = ("_places", "_size", "_step", "_weight")

    def __init__(self, tree: Expression, variables: tuple[str, ...]) -> None:
        """Prepare a checked tree.

        Args:
            tree: the expression, which :func:`.names.scan` found no fault in.
            variables: that it may use.
        """
        builder = _Builder(variables)
        self._step = builder.step(tree)
        self._weight = _BASE + builder.weight
        self._size = builder.size
        self._places = variables

    def run(self, variables: Mapping[str, Any], budget: Budget) -> Any:
        """Evaluate the expression.

        Args:
            variables: their values; what is absent must not be reached.
            budget: that it takes its cost from.

        Raises:
            EvaluationError: it has no value.
            BudgetError: it costs too much.
        """
        budget.spend(self._weight)
        values: list[Any] = [None] * self._size
        for place, name in enumerate(self._places):
            values[place] = variables.get(name)
        return self._step(Evaluation(values, budget))


class _Builder:
    """Makes steps of nodes.

    Attributes:
        weight: of what was made so far, without loops' bodies.
        size: how many places the variables take.
    """

    def __init__(self, variables: tuple[str, ...]) -> None:
        self._scope = {name: place for place, name in enumerate(variables)}
        self.size = len(variables)
        self.weight = 0.0

    def step(self, node: Expression) -> Step:
        self.weight += 1
        match node.form:
            case NodeForm.LITERAL:
                return _constant(_literal(node.text))
            case NodeForm.NAME:
                return self._name(node)
            case NodeForm.FIELD:
                return self._field(node)
            case NodeForm.INDEX:
                return self._index(node)
            case NodeForm.LIST:
                return self._list(node)
            case NodeForm.MAP:
                return self._map(node)
            case NodeForm.OPERATOR:
                return self._operator(node)
            case NodeForm.METHOD:
                binding = binding_of(node)
                if binding is not None:
                    return self._binding(binding)
                if node.text in ("or", "orValue"):
                    return self._alternative(node)
            case NodeForm.CALL if node.text == "has":
                return self._has(node.parts[0])
        return self._call(node)

    def _name(self, node: Expression) -> Step:
        place = self._scope.get(node.text)
        if place is not None:
            return lambda frame: frame.values[place]
        if node.text in _CONSTANTS:
            return _constant(_CONSTANTS[node.text])
        return _constant(TypeValue(node.text))

    def _field(self, node: Expression) -> Step:
        name = node.text
        if dotted(node) in WELL_KNOWN_TYPES and "google" not in self._scope:
            return _constant(TypeValue(dotted(node)))
        held = self.step(node.parts[0])
        if node.optional:
            return lambda frame: operators.optional_select(held(frame), name)
        select = operators.select
        return lambda frame: select(held(frame), name)

    def _has(self, node: Expression) -> Step:
        held, name = self.step(node.parts[0]), node.text
        return lambda frame: operators.has(held(frame), name)

    def _index(self, node: Expression) -> Step:
        held, wanted = map(self.step, node.parts)
        index = operators.optional_index if node.optional else operators.index
        return lambda frame: index(held(frame), wanted(frame))

    def _list(self, node: Expression) -> Step:
        self.weight += _LIST
        steps = [self.step(one) for one in node.parts]
        if not node.optional_parts:
            return lambda frame: [step(frame) for step in steps]
        marked = [(step, place in node.optional_parts) for place, step in enumerate(steps)]

        def make(frame: Evaluation) -> list[Any]:
            made = []
            for step, optional in marked:
                one = step(frame)
                if not optional:
                    made.append(one)
                elif _optional(one).known:
                    made.append(one.value)
            return made

        return make

    def _map(self, node: Expression) -> Step:
        self.weight += _MAP
        steps = [self.step(one) for one in node.parts]
        entries = [
            (steps[place], steps[place + 1], place in node.optional_parts)
            for place in range(0, len(steps), 2)
        ]

        def make(frame: Evaluation) -> dict[Any, Any]:
            made = {}
            for key_step, step, optional in entries:
                key, one = to_key(key_step(frame)), step(frame)
                if not optional:
                    made[key] = one
                elif _optional(one).known:
                    made[key] = one.value
            return made

        return make

    def _operator(self, node: Expression) -> Step:
        steps = [self.step(one) for one in node.parts]
        match node.text:
            case "&&" | "||":
                deciding = node.text == "||"
                return lambda frame: decide(frame, iter(steps), deciding)
            case "?:":
                test, yes, no = steps
                return lambda frame: yes(frame) if truth(test(frame)) else no(frame)
        if len(steps) == 1:
            change, value = operators.UNARY[node.text], steps[0]
            return lambda frame: change(value(frame))
        combine = operators.BINARY[node.text]
        left, right = steps
        return lambda frame: combine(frame.budget, left(frame), right(frame))

    def _binding(self, binding: Binding) -> Step:
        held = self.step(binding.held)
        self.weight += _LOOP
        outside, weight = self._scope, self.weight
        places = tuple(range(self.size, self.size + len(binding.names)))
        self.size += len(places)
        self._scope = {**outside, **dict(zip(binding.names, places, strict=True))}
        self.weight = 1.0 + len(places)
        test = None if binding.test is None else self.step(binding.test)
        items = Items(held, places, test, self.step(binding.body), self.weight)
        loops = binding.macro not in (Macro.OPT_MAP, Macro.OPT_FLAT_MAP)
        self._scope, self.weight = outside, weight if loops else weight + self.weight
        run = LOOPS[binding.macro]
        return lambda frame: run(frame, items)

    def _alternative(self, node: Expression) -> Step:
        """``or`` and ``orValue``, which evaluate their argument if it is needed."""
        held, other = map(self.step, node.parts)
        whole = node.text == "or"

        def choose(frame: Evaluation) -> Any:
            first = _optional(held(frame))
            if first.known:
                return first if whole else first.value
            return _optional(other(frame)) if whole else other(frame)

        return choose

    def _call(self, node: Expression) -> Step:
        name = qualified_name(node, self._scope)
        parts = node.parts if name is None else node.parts[1:]
        function = FUNCTIONS[name or node.text]
        self.weight += function.weight
        steps = [self.step(one) for one in parts]
        return _called(function, steps)


def _called(function: Function, steps: list[Step]) -> Step:
    charge, call = function.charge, function.call

    def run(frame: Evaluation) -> Any:
        arguments = [step(frame) for step in steps]
        try:
            frame.budget.spend(charge(frame.budget, arguments))
            return call(*arguments)
        except EvaluationError:
            raise
        except _FAILURES as error:
            raise EvaluationError(_describe(error)) from error

    return run


def _describe(error: Exception) -> str:
    match error:
        case KeyError():
            return f"no such key: {error.args[0] if error.args else ''}"
        case IndexError():
            return str(error)
        case ZeroDivisionError():
            return "division by zero"
        case OverflowError():
            return "integer overflow"
        case TypeError() | AttributeError():
            return NO_OVERLOAD
    return str(error).partition("\n")[0]


def _optional(value: Any) -> OptionalValue:
    if type(value) is OptionalValue:
        return value
    raise EvaluationError(NO_OVERLOAD)


def _constant(value: Any) -> Step:
    return lambda frame: value


def _literal(text: str) -> Any:
    """Read a literal.

    Raises:
        EvaluationError: a number does not fit into 64 bits, or a text has a malformed escape.
    """
    negative, digits = text.startswith("-"), text.removeprefix("-")
    if not digits[:1].isdigit() and digits[:1] != ".":
        try:
            return cel.evaluate(text)
        except ValueError as error:
            raise EvaluationError(f"invalid string literal: {text[:40]}") from error
    sign = -1 if negative else 1
    hexadecimal = digits[:2].lower() == "0x"
    if digits[-1] in "uU":
        return uint_of(sign * int(digits[:-1], 16 if hexadecimal else 10))
    if hexadecimal:
        return int_of(sign * int(digits, 16))
    if any(mark in digits for mark in ".eE"):
        return sign * float(digits)
    if len(digits) > _MAX_DIGITS:
        raise EvaluationError("integer overflow")
    return int_of(sign * int(digits))
