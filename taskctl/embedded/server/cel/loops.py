"""Evaluating the macros that bind names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from taskctl.embedded.server.cel.macros import Macro
from taskctl.embedded.server.cel.types import (
    NO_OVERLOAD,
    NONE,
    Budget,
    EvaluationError,
    OptionalValue,
    from_key,
)

# To make and to catch an exception.
_FAILURE: Final = 10.0


class Evaluation:
    """What one evaluation works on.

    Attributes:
        values: of the variables, by their places.
        budget: what it may still cost.
    """

    __slots__ = ("budget", "values")

    def __init__(self, values: list[Any], budget: Budget) -> None:
        self.values = values
        self.budget = budget


Step = Callable[[Evaluation], Any]


class Items:
    """A loop's parts, ready to run.

    Attributes:
        test: tells whether an item is taken; None if all are.
        body: evaluated for each item.
    """

    __slots__ = ("_held", "_places", "_weight", "body", "test")

    def __init__(
        self, held: Step, places: tuple[int, ...], test: Step | None, body: Step, weight: float
    ) -> None:
        """Hold the parts.

        Args:
            held: returns the list or map.
            places: of the names that are bound.
            test: see above.
            body: see above.
            weight: what one item costs at least.
        """
        self._held = held
        self._places = places
        self._weight = weight
        self.test = test
        self.body = body

    def held(self, frame: Evaluation) -> Any:
        """Return what the macro is called on."""
        return self._held(frame)

    def each(self, frame: Evaluation, held: Any) -> Iterator[Any]:
        """Bind the names to one item after the other; yield its key or index, or its value."""
        values, spend, weight = frame.values, frame.budget.spend, self._weight
        first = self._places[0]
        second = self._places[1] if len(self._places) > 1 else None
        if isinstance(held, list):
            for index, one in enumerate(held):
                spend(weight)
                if second is None:
                    values[first] = one
                else:
                    values[first], values[second] = index, one
                yield index
        elif isinstance(held, dict):
            for key, one in held.items():
                spend(weight)
                values[first] = from_key(key)
                if second is not None:
                    values[second] = one
                yield key
        else:
            raise EvaluationError(NO_OVERLOAD)

    def taken(self, frame: Evaluation, held: Any) -> Iterator[Any]:
        """Like :meth:`each`, of the items that pass the test."""
        test = self.test
        for key in self.each(frame, held):
            if test is None or truth(test(frame)):
                yield key

    def bind(self, frame: Evaluation, value: Any) -> None:
        """Bind the only name to a value."""
        frame.values[self._places[0]] = value


def truth(value: Any) -> bool:
    """Return a bool as it is.

    Raises:
        EvaluationError: it is none.
    """
    if isinstance(value, bool):
        return value
    raise EvaluationError(NO_OVERLOAD)


def decide(frame: Evaluation, outcomes: Iterator[Step], deciding: bool) -> bool:
    """Return ``deciding`` if any step does, whatever the others do; else its opposite.

    Raises:
        EvaluationError: none decides, and one fails; it is the first one's.
    """
    failure: EvaluationError | None = None
    for step in outcomes:
        try:
            found = step(frame)
        except EvaluationError as error:
            frame.budget.spend(_FAILURE)
            failure = failure or error
            continue
        if type(found) is not bool:
            failure = failure or EvaluationError(NO_OVERLOAD)
        elif found is deciding:
            return deciding
    if failure is not None:
        raise failure
    return not deciding


def _all(frame: Evaluation, items: Items) -> bool:
    held = items.held(frame)
    return decide(frame, (items.body for _ in items.each(frame, held)), deciding=False)


def _exists(frame: Evaluation, items: Items) -> bool:
    held = items.held(frame)
    return decide(frame, (items.body for _ in items.each(frame, held)), deciding=True)


def _exists_one(frame: Evaluation, items: Items) -> bool:
    held = items.held(frame)
    return sum(truth(items.body(frame)) for _ in items.each(frame, held)) == 1


def _filter(frame: Evaluation, items: Items) -> list[Any]:
    held = items.held(frame)
    return [
        held[key] if isinstance(held, list) else from_key(key)
        for key in items.each(frame, held)
        if truth(items.body(frame))
    ]


def _map(frame: Evaluation, items: Items) -> list[Any]:
    held = items.held(frame)
    return [items.body(frame) for _ in items.taken(frame, held)]


def _transform_map(frame: Evaluation, items: Items) -> dict[Any, Any]:
    held = items.held(frame)
    return {key: items.body(frame) for key in items.taken(frame, held)}


def _transform_map_entry(frame: Evaluation, items: Items) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    held = items.held(frame)
    for _ in items.taken(frame, held):
        entry = items.body(frame)
        if not isinstance(entry, dict):
            raise EvaluationError(NO_OVERLOAD)
        for key, value in entry.items():
            frame.budget.spend(1)
            if key in made:
                raise EvaluationError(f"insert failed: key {from_key(key)} already exists")
            made[key] = value
    return made


def _opt_map(frame: Evaluation, items: Items) -> OptionalValue:
    held = items.held(frame)
    if type(held) is not OptionalValue:
        raise EvaluationError(NO_OVERLOAD)
    if not held.known:
        return NONE
    items.bind(frame, held.value)
    return OptionalValue(items.body(frame))


def _opt_flat_map(frame: Evaluation, items: Items) -> OptionalValue:
    found = _opt_map(frame, items)
    if found.known and type(found.value) is not OptionalValue:
        raise EvaluationError(NO_OVERLOAD)
    return found.value if found.known else NONE


LOOPS: Final[dict[Macro, Callable[[Evaluation, Items], Any]]] = {
    Macro.ALL: _all,
    Macro.EXISTS: _exists,
    Macro.EXISTS_ONE: _exists_one,
    Macro.FILTER: _filter,
    Macro.MAP: _map,
    Macro.TRANSFORM_MAP: _transform_map,
    Macro.TRANSFORM_MAP_ENTRY: _transform_map_entry,
    Macro.OPT_MAP: _opt_map,
    Macro.OPT_FLAT_MAP: _opt_flat_map,
}
