"""JSON values as Go prints them: some of Kubernetes' sentences quote them so."""

from __future__ import annotations

from typing import Any, Final

_GO_TYPES: Final = {
    type(None): "<nil>", bool: "bool", int: "int64", float: "float64", str: "string",
    list: "[]interface {}", dict: "map[string]interface {}",
}  # fmt: skip


def go_value(value: Any) -> str:
    """Write a value as ``%v`` does: ``map[a:1 b:[x y]]``."""
    match value:
        case None:
            return "<nil>"
        case bool():
            return "true" if value else "false"
        case dict():
            return f"map[{' '.join(f'{key}:{go_value(value[key])}' for key in sorted(value))}]"
        case list():
            return f"[{' '.join(map(go_value, value))}]"
    return str(value)


def go_type(value: Any) -> str:
    """Name the type that Go decodes a JSON value to."""
    return _GO_TYPES[type(value)]
