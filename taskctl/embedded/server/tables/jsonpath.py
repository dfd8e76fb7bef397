"""The part of kubectl's JSONPath that printer columns use.

``.a.b``, ``.a[0].b``, ``.a[-1]``, ``.a[*].b``, ``['a.b']``, ``.metadata.labels.app\\.io/x`` and
filters ``.conditions[?(@.type=="Ready")].status`` (==, !=, <, <=, >, >=). Compiled once.
Syntax from k8s.io/client-go ``util/jsonpath``; slices, unions, recursion (``..``) and ranges
are refused.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

Step = Callable[[list[Any]], list[Any]]

_NAME: Final = re.compile(r"\.((?:[^.\[\]\\]|\\.)+)")
_QUOTED: Final = re.compile(r"\[(?:'([^']*)'|\"([^\"]*)\")\]")
_INDEX: Final = re.compile(r"\[(-?\d+|\*)\]")
_FILTER: Final = re.compile(
    r"\[\?\(\s*@((?:\.[^.\[\]\s=!<>()]+)+)\s*(?:(==|!=|<=|>=|<|>)\s*"
    r"(\"[^\"]*\"|'[^']*'|-?\d+(?:\.\d+)?|true|false))?\s*\)\]"
)
_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class PathError(ValueError):
    """The path uses syntax that is not supported, or none."""


def _field(name: str) -> Step:
    def step(values: list[Any]) -> list[Any]:
        return [one[name] for one in values if isinstance(one, dict) and name in one]

    return step


def _index(number: int) -> Step:
    def step(values: list[Any]) -> list[Any]:
        return [
            one[number]
            for one in values
            if isinstance(one, list) and -len(one) <= number < len(one)
        ]

    return step


def _all(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for one in values:
        if isinstance(one, list):
            found.extend(one)
        elif isinstance(one, dict):
            found.extend(one.values())
    return found


def _filter(path: str, sign: str | None, literal: str | None) -> Step:
    inner = compile_path(path)
    compare = _OPERATORS[sign] if sign else None
    wanted = _literal(literal) if literal is not None else None

    def keep(item: Any) -> bool:
        found = inner(item)
        if compare is None:
            return bool(found)
        try:
            return any(compare(one, wanted) for one in found)
        except TypeError:
            return False

    def step(values: list[Any]) -> list[Any]:
        return [item for item in _all(values) if keep(item)]

    return step


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text[0] in "\"'":
        return text[1:-1]
    return float(text) if "." in text else int(text)


@lru_cache(maxsize=512)
def compile_path(text: str) -> Callable[[Any], list[Any]]:
    """Compile a path to a function from an object to the values found.

    Args:
        text: for example ``.status.podName``; braces around it are allowed.

    Raises:
        PathError: see the module's text for what is understood.
    """
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1].strip()
    rest = rest.removeprefix("$")
    if not rest:
        raise PathError("must not be empty; write a path such as .status.phase")
    if rest[0] not in ".[":
        rest = f".{rest}"
    steps: list[Step] = []
    while rest:
        if rest == ".":
            break
        step, used = _next_step(rest, text)
        steps.append(step)
        rest = rest[used:]

    def run(value: Any) -> list[Any]:
        values = [value]
        for step in steps:
            values = step(values)
        return values

    return run


def _next_step(rest: str, whole: str) -> tuple[Step, int]:
    if found := _NAME.match(rest):
        name = re.sub(r"\\(.)", r"\1", found.group(1))
        return (_all if name == "*" else _field(name)), found.end()
    if found := _QUOTED.match(rest):
        return _field(found.group(1) or found.group(2) or ""), found.end()
    if found := _INDEX.match(rest):
        number = found.group(1)
        return (_all if number == "*" else _index(int(number))), found.end()
    if found := _FILTER.match(rest):
        return _filter(*found.groups()), found.end()
    raise PathError(
        f"cannot read {rest!r} in {whole!r}; allowed are .a.b, [0], [*] and [?(@.a==1)]"
    )
