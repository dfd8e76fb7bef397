"""CEL's macros, operators and optional values against what Python makes of the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server.cel.program import Program
from taskctl.embedded.server.cel.syntax import parse
from taskctl.embedded.server.cel.types import (
    MAX_INT,
    MIN_INT,
    NONE,
    Budget,
    EvaluationError,
    OptionalValue,
)


class _Failure:
    """Stands for a value that there is none of."""

    def __repr__(self) -> str:
        return "FAILS"


FAILS = _Failure()
NUMBERS = st.lists(st.integers(-3, 3), max_size=5)
FIRST = "the first one"
TABLES = st.dictionaries(st.sampled_from("abcde"), st.integers(-3, 3), max_size=4)


def evaluate(source: str, **variables: Any) -> Any:
    names = tuple(variables)
    try:
        return Program(parse(source), names).run(variables, Budget(math.inf))
    except EvaluationError:
        return FAILS


def attempt(calculate: Callable[[], Any]) -> Any:
    try:
        return calculate()
    except (ArithmeticError, LookupError, TypeError):
        return FAILS


def decided(outcomes: Iterable[Any], deciding: bool) -> Any:
    """The three-valued logic of cel-spec, of outcomes that are true, false or fail."""
    found = list(outcomes)
    if deciding in [one for one in found if one is not FAILS]:
        return deciding
    return FAILS if FAILS in found else not deciding


def strict(outcomes: list[Any]) -> Any:
    return FAILS if FAILS in outcomes else outcomes


def truncated(value: float) -> int:
    return math.trunc(value)


# What may be said of an item, in CEL and in Python; some fail for some items.
TESTS: dict[str, Callable[[Any, Any], Any]] = {
    "v > 0": lambda k, v: v > 0,
    "6 / v > 1": lambda k, v: truncated(6 / v) > 1,
    FIRST: lambda k, v: k in (0, "a"),
    "false": lambda k, v: False,
    "true": lambda k, v: True,
    "[true, false][v]": lambda k, v: [True, False][v] if v >= 0 else [][0],
    "v": lambda k, v: [][0],  # no bool
}
VALUES: dict[str, Callable[[Any, Any], Any]] = {
    "v * 2": lambda k, v: v * 2,
    "6 / v": lambda k, v: truncated(6 / v),
    "[k, v]": lambda k, v: [k, v],
}
HELD = st.one_of(NUMBERS, TABLES)


def pairs(held: Any) -> list[tuple[Any, Any]]:
    return list(held.items() if isinstance(held, dict) else enumerate(held))


def spelled(text: str, held: Any) -> str:
    if text == FIRST:
        return "k == 'a'" if isinstance(held, dict) else "k == 0"
    return text


def outcome(text: str, key: Any, value: Any) -> Any:
    return attempt(lambda: TESTS[text](key, value))


@given(held=HELD, text=st.sampled_from(sorted(TESTS)))
def test_two_names_all_and_exists(held: Any, text: str) -> None:
    found = [outcome(text, *pair) for pair in pairs(held)]
    cel = spelled(text, held)
    assert evaluate(f"x.all(k, v, {cel})", x=held) is decided(found, False)
    assert evaluate(f"x.exists(k, v, {cel})", x=held) is decided(found, True)
    one = FAILS if FAILS in found else found.count(True) == 1
    assert evaluate(f"x.existsOne(k, v, {cel})", x=held) is one
    assert evaluate(f"x.exists_one(k, v, {cel})", x=held) is one


@given(held=HELD, text=st.sampled_from(sorted(set(TESTS) - {FIRST})))
def test_one_name(held: Any, text: str) -> None:
    items = list(held)
    values = held if isinstance(held, list) else [held[key] for key in items]
    found = [outcome(text, None, value) for value in values]
    cel = text if isinstance(held, list) else text.replace("v", "x[v]")
    assert evaluate(f"x.all(v, {cel})", x=held) is decided(found, False)
    assert evaluate(f"x.exists(v, {cel})", x=held) is decided(found, True)
    taken = FAILS if FAILS in found else [i for i, yes in zip(items, found, strict=True) if yes]
    assert evaluate(f"x.filter(v, {cel})", x=held) == taken


@given(held=HELD, test=st.sampled_from(sorted(TESTS)), text=st.sampled_from(sorted(VALUES)))
def test_transformed_lists_and_maps(held: Any, test: str, text: str) -> None:
    cel = spelled(test, held)
    tests = [outcome(test, *pair) for pair in pairs(held)]
    plain = strict([attempt(lambda p=pair: VALUES[text](*p)) for pair in pairs(held)])  # type: ignore[misc]
    assert evaluate(f"x.transformList(k, v, {text})", x=held) == plain
    keys = list(held) if isinstance(held, dict) else list(range(len(held)))
    as_map = plain if plain is FAILS else dict(zip(keys, plain, strict=True))
    assert evaluate(f"x.transformMap(k, v, {text})", x=held) == as_map
    assert evaluate(f"x.transformMapEntry(k, v, {{k: {text}}})", x=held) == as_map
    taken: Any = FAILS
    if FAILS not in tests:
        chosen = [pair for pair, yes in zip(pairs(held), tests, strict=True) if yes]
        made = strict([attempt(lambda p=pair: VALUES[text](*p)) for pair in chosen])  # type: ignore[misc]
        taken = made if made is FAILS else dict(zip([k for k, _ in chosen], made, strict=True))
    assert evaluate(f"x.transformMap(k, v, {cel}, {text})", x=held) == taken
    entries = f"x.transformMapEntry(k, v, {cel}, {{k: {text}}})"
    assert evaluate(entries, x=held) == taken
    listed = taken if taken is FAILS else list(taken.values())
    assert evaluate(f"x.transformList(k, v, {cel}, {text})", x=held) == listed


@given(NUMBERS)
def test_entries_with_the_same_key_are_refused(held: list[int]) -> None:
    wanted = {one: place for place, one in enumerate(held)}
    found = evaluate("x.transformMapEntry(i, v, {v: i})", x=held)
    assert found == (wanted if len(wanted) == len(held) else FAILS)


OPERANDS = st.lists(st.sampled_from(["true", "false", "1 / 0 == 1"]), min_size=2, max_size=5)
KNOWN = {"true": True, "false": False, "1 / 0 == 1": FAILS}


@given(OPERANDS)
def test_chains_of_conditions(operands: list[str]) -> None:
    values = [KNOWN[one] for one in operands]
    assert evaluate(" || ".join(operands)) is decided(values, True)
    assert evaluate(" && ".join(operands)) is decided(values, False)


@given(st.integers(MIN_INT, MAX_INT), st.integers(MIN_INT, MAX_INT))
def test_integers_are_those_of_64_bits(left: int, right: int) -> None:
    def fits(value: int) -> Any:
        return value if MIN_INT <= value <= MAX_INT else FAILS

    assert evaluate("a + b", a=left, b=right) == fits(left + right)
    assert evaluate("a - b", a=left, b=right) == fits(left - right)
    assert evaluate("a * b", a=left, b=right) == fits(left * right)
    if right:
        quotient = evaluate("a / b", a=left, b=right)
        rest = evaluate("a % b", a=left, b=right)
        assert quotient is FAILS or quotient * right + rest == left
        assert abs(rest) < abs(right)
        assert rest == 0 or (rest < 0) == (left < 0)


@pytest.mark.parametrize("text", ["a / b == 1", "a % b == 1"])
def test_nothing_is_divided_by_zero(text: str) -> None:
    assert evaluate(text, a=1, b=0) is FAILS


OPTIONALS = st.one_of(st.just(NONE), st.integers(-2, 2).map(OptionalValue))


@given(OPTIONALS, OPTIONALS)
def test_optional_values(one: OptionalValue, two: OptionalValue) -> None:
    assert evaluate("o.hasValue()", o=one) is one.known
    assert evaluate("o.orValue(9)", o=one) == (one.value if one.known else 9)
    assert evaluate("o.orValue(1 / 0)", o=one) == (one.value if one.known else FAILS)
    assert evaluate("o.or(p)", o=one, p=two) == (one if one.known else two)
    assert evaluate("o.value()", o=one) == (one.value if one.known else FAILS)
    halves = attempt(lambda: OptionalValue(truncated(6 / one.value))) if one.known else NONE
    assert evaluate("o.optMap(v, 6 / v)", o=one) == halves
    chosen = two if one.known else NONE
    assert evaluate("o.optFlatMap(v, p)", o=one, p=two) == chosen
    listed = [held.value for held in (one, two) if held.known]
    assert evaluate("[?o, ?p]", o=one, p=two) == listed
    assert evaluate("[o, p].unwrapOpt()", o=one, p=two) == listed
    mapped = {name: held.value for name, held in (("o", one), ("p", two)) if held.known}
    assert evaluate("{?'o': o, ?'p': p}", o=one, p=two) == mapped
    assert evaluate("[?1]") is FAILS
    assert evaluate("o == p", o=one, p=two) is (one == two)


@given(TABLES, st.sampled_from("abcdef"))
def test_optional_fields_and_items(table: dict[str, int], name: str) -> None:
    wanted = OptionalValue(table[name]) if name in table else NONE
    assert evaluate(f"x.?{name}", x=table) == wanted
    assert evaluate("x[?n]", x=table, n=name) == wanted
    assert evaluate(f"x.?y.{name}", x={"y": table}) == wanted
    assert evaluate(f"x.?z.{name}", x={"y": table}) == NONE
    assert evaluate(f"has(x.{name})", x=table) is (name in table)


@given(NUMBERS, st.integers(-2, 6))
def test_optional_places_of_lists(held: list[int], place: int) -> None:
    wanted = OptionalValue(held[place]) if 0 <= place < len(held) else NONE
    assert evaluate("x[?p]", x=held, p=place) == wanted
    assert evaluate("x.first()", x=held) == (OptionalValue(held[0]) if held else NONE)
    assert evaluate("x.last()", x=held) == (OptionalValue(held[-1]) if held else NONE)


@given(NUMBERS)
def test_names_count_inside_their_macro_only(held: list[int]) -> None:
    """The inner name hides the outer one, and the outer one is back afterwards."""
    source = "x.all(v, x.all(x, x == x) && x.exists(w, w == v) && [v].all(v, v == v))"
    assert evaluate(source, x=held) is True


def test_bools_are_no_numbers() -> None:
    assert evaluate("a == b", a=True, b=1) is False
    assert evaluate("[a] == [b]", a=[True], b=[1]) is False
    assert evaluate("{a: 1} == {b: 1}", a=True, b=1) is False
    assert evaluate("a in [1]", a=True) is False
    assert evaluate("{a: 1, b: 2}.size()", a=True, b=1) == 2
    assert evaluate("{a: 1}.all(k, k)", a=True) is True
    assert evaluate("a + 1", a=True) is FAILS
    assert evaluate("[1, 2][a]", a=True) is FAILS
