"""CEL's macros that bind names: which there are, and what their parts are.

With one name those of the language (cel-go ``parser/macro.go``), with two those of its
``ext/comprehensions.go``, and those on optional values (``cel/library.go``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from taskctl.embedded.server.cel.syntax import Expression, NodeForm


class Macro(StrEnum):
    """What a macro does."""

    ALL = "all"
    EXISTS = "exists"
    EXISTS_ONE = "exists_one"
    FILTER = "filter"
    MAP = "map"
    TRANSFORM_MAP = "transformMap"
    TRANSFORM_MAP_ENTRY = "transformMapEntry"
    OPT_MAP = "optMap"
    OPT_FLAT_MAP = "optFlatMap"


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a macro is written.

    Attributes:
        macro: what it does.
        names: that it binds.
        filtered: a condition comes before the last part.
    """

    macro: Macro
    names: int
    filtered: bool = False


# By name and number of arguments.
_SHAPES: Final[dict[tuple[str, int], _Shape]] = {
    ("all", 2): _Shape(Macro.ALL, 1),
    ("all", 3): _Shape(Macro.ALL, 2),
    ("exists", 2): _Shape(Macro.EXISTS, 1),
    ("exists", 3): _Shape(Macro.EXISTS, 2),
    ("exists_one", 2): _Shape(Macro.EXISTS_ONE, 1),
    ("exists_one", 3): _Shape(Macro.EXISTS_ONE, 2),
    ("existsOne", 3): _Shape(Macro.EXISTS_ONE, 2),
    ("filter", 2): _Shape(Macro.FILTER, 1),
    ("map", 2): _Shape(Macro.MAP, 1),
    ("map", 3): _Shape(Macro.MAP, 1, filtered=True),
    ("transformList", 3): _Shape(Macro.MAP, 2),
    ("transformList", 4): _Shape(Macro.MAP, 2, filtered=True),
    ("transformMap", 3): _Shape(Macro.TRANSFORM_MAP, 2),
    ("transformMap", 4): _Shape(Macro.TRANSFORM_MAP, 2, filtered=True),
    ("transformMapEntry", 3): _Shape(Macro.TRANSFORM_MAP_ENTRY, 2),
    ("transformMapEntry", 4): _Shape(Macro.TRANSFORM_MAP_ENTRY, 2, filtered=True),
    ("optMap", 2): _Shape(Macro.OPT_MAP, 1),
    ("optFlatMap", 2): _Shape(Macro.OPT_FLAT_MAP, 1),
}
MACROS: Final = frozenset(name for name, _ in _SHAPES)
_RESULT_NAMES: Final = frozenset({"__result__", "@result"})
_FORMS: Final = {
    "all": "all(x, test) or all(i, x, test)",
    "exists": "exists(x, test) or exists(i, x, test)",
    "exists_one": "exists_one(x, test) or exists_one(i, x, test)",
    "existsOne": "exists_one(x, test) or existsOne(i, x, test)",
    "filter": "filter(x, test)",
    "map": "map(x, value) or map(x, test, value)",
    "transformList": "transformList(i, x, value) or transformList(i, x, test, value)",
    "transformMap": "transformMap(k, x, value) or transformMap(k, x, test, value)",
    "transformMapEntry": (
        "transformMapEntry(k, x, {key: value}) or transformMapEntry(k, x, test, {key: value})"
    ),
    "optMap": "optMap(x, value)",
    "optFlatMap": "optFlatMap(x, optional)",
}


@dataclass(frozen=True, slots=True)
class Binding:
    """A macro with its parts.

    Attributes:
        macro: what it does.
        held: the list, map or optional that it is called on.
        names: that stand for each item: its value, or index or key and value.
        test: that must hold of what is taken; None if all is.
        body: evaluated for each item.
    """

    macro: Macro
    held: Expression
    names: tuple[str, ...]
    test: Expression | None
    body: Expression


class MacroProblem(ValueError):
    """A macro is used as it cannot be.

    Attributes:
        node: where.
    """

    def __init__(self, node: Expression, why: str) -> None:
        super().__init__(why)
        self.node = node


def binding_of(node: Expression) -> Binding | None:
    """Return a node as a macro; None if it is none.

    Raises:
        MacroProblem: its names are not names, or it is written in another form.
    """
    if node.form is not NodeForm.METHOD or node.text not in MACROS:
        return None
    held, *arguments = node.parts
    shape = _SHAPES.get((node.text, len(arguments)))
    if shape is None:
        raise MacroProblem(
            node,
            f"undeclared reference to '{node.text}' (in container ''): there is no such macro "
            f"with {len(arguments)} arguments; write {_FORMS[node.text]}",
        )
    names = arguments[: shape.names]
    for one in names:
        if one.form is not NodeForm.NAME:
            raise MacroProblem(one, "argument must be a simple name")
        if one.text in _RESULT_NAMES:
            raise MacroProblem(one, "iteration variable overwrites accumulator variable")
    if len(names) == 2 and names[0].text == names[1].text:
        raise MacroProblem(names[1], f"duplicate variable name: {names[1].text}")
    test = arguments[-2] if shape.filtered else None
    spoken = tuple(one.text for one in names)
    return Binding(shape.macro, held, spoken, test, arguments[-1])
