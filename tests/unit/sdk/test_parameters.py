"""Parameters are read as `inspect` reads them, without loading it."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.sdk import _values
from taskctl.sdk._parameters import Parameter, bound, parameters_of


def _names(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


@st.composite
def functions(draw: st.DrawFn) -> Any:
    """A function with any parameters."""
    only, both, named = (draw(st.integers(0, 2)) for _ in range(3))
    positional = _names(only + both)
    defaults = draw(st.integers(0, len(positional)))
    words = [
        name if index < len(positional) - defaults else f"{name}={index}"
        for index, name in enumerate(positional)
    ]
    if only:
        words.insert(only, "/")
    if draw(st.booleans()):
        words.append("*rest")
    elif named:
        words.append("*")
    words += [f"k{n}" + draw(st.sampled_from(["", f"={n}"])) for n in range(named)]
    if draw(st.booleans()):
        words.append("**more")
    space: dict[str, Any] = {}
    exec(f"{draw(st.sampled_from(['', 'async ']))}def made({', '.join(words)}): local = 1", space)
    return space["made"]


def _expected(function: Any) -> list[tuple[str, int, Any]]:
    return [
        (name, int(one.kind), Parameter.empty if one.default is one.empty else one.default)
        for name, one in inspect.signature(function).parameters.items()
    ]


def _found(function: Any) -> list[tuple[str, int, Any]]:
    return [(name, one.kind, one.default) for name, one in parameters_of(function).items()]


@given(functions())
def test_they_are_those_that_inspect_finds(function: Any) -> None:
    assert _found(function) == _expected(function)


ARGUMENTS = st.lists(st.integers(), max_size=5).map(tuple)
KEYWORDS = st.dictionaries(
    st.sampled_from([*_names(4), "k0", "k1", "rest", "more", "other"]), st.integers(), max_size=4
)


def _bound(call: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], str]:
    try:
        return call(), ""
    except TypeError as error:
        return {}, str(error)


@given(functions(), ARGUMENTS, KEYWORDS)
def test_a_call_gives_them_what_inspect_says(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    expected, message = _bound(lambda: inspect.signature(function).bind(*args, **kwargs).arguments)
    found, said = _bound(lambda: bound(function, args, kwargs))
    assert said == message
    if "rest" in expected and "rest" in parameters_of(function):
        kind = parameters_of(function)["rest"].kind
        if kind == Parameter.VAR_POSITIONAL:
            expected["rest"] = list(expected["rest"])
    assert list(found.items()) == list(expected.items())


def _pair(first: int, second: int = 2) -> int:
    return first + second


@functools.wraps(_pair)
def _wrapping(*args: Any, **kwargs: Any) -> int:
    return _pair(*args, **kwargs)


def _signed(*args: Any) -> None: ...


_signed.__signature__ = inspect.signature(_pair)  # type: ignore[attr-defined]


class _Callable:
    def __call__(self, one: int, /, *, two: str = "") -> None: ...

    def method(self, one: int) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        _wrapping,
        _signed,
        functools.partial(_pair, 1),
        _Callable(),
        _Callable().method,
        _Callable,
        divmod,
    ],
    ids=lambda function: getattr(function, "__name__", type(function).__name__),
)
def test_what_is_more_than_a_function_is_left_to_inspect(function: Any) -> None:
    assert _found(function) == _expected(function)


def test_a_function_of_numbers_and_texts_loads_nothing_slow() -> None:
    slow = ("inspect", "dataclasses", "pathlib", "uuid", "decimal", "base64", "asyncio", "json")
    code = (
        "import sys\n"
        "from taskctl.sdk import _functions, _values, task\n"
        "@task\n"
        "def count(number: int, names: list[str], limit: float = 1.5) -> int: return number\n"
        "given = _functions.encode_arguments(count.call(1, names=['a']))\n"
        "_functions.decode_arguments(count.function, given)\n"
        "_functions.encode_result(count.function, 1)\n"
        f"print([m for m in {slow} if m in sys.modules])"
    )
    root = Path(_values.__file__).parents[2]
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.stdout == "[]\n", done.stderr
