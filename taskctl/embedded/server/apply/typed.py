"""Whether an applied configuration has the shape of its schema.

Unlike other writes, an apply with an undeclared field is refused: the server could not tell
who owns it. After sigs.k8s.io/structured-merge-diff ``typed/validate.go``; the sentences are
its own.
"""

from __future__ import annotations

from typing import Any, Final

from taskctl.embedded.server.apply.field_sets import FieldsError, format_path, index_items
from taskctl.embedded.server.refusals.gotext import go_type, go_value
from taskctl.embedded.server.schema.nodes import ListType, SchemaNode
from taskctl.embedded.server.schema.walks import QUANTITY, TYPE_FIELDS

_UNTYPED: Final = "x-kubernetes-int-or-string"


def problems(applied: dict[str, Any], root: SchemaNode) -> list[str]:
    """Return one sentence per fault; the object's apiVersion and kind are not looked at."""
    found: list[str] = []
    for key, value in applied.items():
        below = root.child(key)
        if below is None:
            if key not in TYPE_FIELDS and not root.preserve:
                found.append(f".{key}: field not declared in schema")
        elif key == "metadata" or key not in TYPE_FIELDS:
            _check(value, below, f".{key}", found)
    return found


def _check(value: Any, node: SchemaNode, path: str, found: list[str]) -> None:
    if value is None or node.format == QUANTITY or node.raw.get(_UNTYPED):
        return
    if node.type == "object" or node.properties or node.additional is not None:
        _check_map(value, node, path, found)
    elif node.type == "array":
        _check_list(value, node, path, found)
    elif node.type == "string" and not isinstance(value, str):
        found.append(f"{path}: expected string, got {_shown(value)}")
    elif node.type == "boolean" and not isinstance(value, bool):
        found.append(f"{path}: expected boolean, got {_shown(value)}")
    elif node.type in ("integer", "number") and (
        isinstance(value, bool) or not isinstance(value, int | float)
    ):
        found.append(f"{path}: expected numeric (int or float), got {go_type(value)}")


def _check_map(value: Any, node: SchemaNode, path: str, found: list[str]) -> None:
    if not isinstance(value, dict):
        found.append(f"{path}: expected map, got {_shown(value)}")
        return
    for key, one in value.items():
        below = node.child(key)
        if below is not None:
            _check(one, below, f"{path}.{key}", found)
        elif node.properties and not node.preserve:
            found.append(f"{path}.{key}: field not declared in schema")


def _check_list(value: Any, node: SchemaNode, path: str, found: list[str]) -> None:
    if not isinstance(value, list):
        found.append(f"{path}: expected list, got {_shown(value)}")
        return
    if node.items is None:
        return
    if node.list_type is ListType.ATOMIC:
        for index, one in enumerate(value):
            _check(one, node.items, f"{path}[{index}]", found)
        return
    try:
        items = index_items(value, node, unique=True)
    except FieldsError as error:
        found.append(f"{path}: {error}")
        return
    for element, one in items.items():
        _check(one, node.items, path + format_path((element,)), found)


def _shown(value: Any) -> str:
    return f"&value.valueUnstructured{{Value:{go_value(value)}}}"
