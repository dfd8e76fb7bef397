"""What Go's decoding makes of the values in a built-in kind's JSON.

Null leaves a field out, and is a zero in a list or map. Empty lists and maps are left out.
Quantities and base64 are rewritten in their canonical forms. Whole numbers have no point.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Any, Final

from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.fields import FieldError, Path
from taskctl.embedded.server.schema.nodes import SchemaNode
from taskctl.embedded.server.schema.walks import ANY_JSON, QUANTITY, drop_nulls
from taskctl.embedded.server.values import quantity

_BYTES: Final = "byte"
_INTEGER: Final = "integer"


class _UndecodableError(Exception):
    """A value that cannot be decoded. The path grows as the error travels up."""

    def __init__(self, value: Any, why: str) -> None:
        super().__init__(why)
        self.value = value
        self.why = why
        self.path: Path = ()


def settle(obj: dict[str, Any], node: SchemaNode) -> FieldError | None:
    """Change an object, in place, as decoding it would. Returns what is wrong, if anything is."""
    try:
        _settle_fields(obj, node)
    except _UndecodableError as error:
        return fields.type_invalid(fields.format_path(error.path), error.value, error.why)
    return None


def _settle_fields(value: dict[str, Any], node: SchemaNode) -> None:
    gone = []
    is_map = not node.properties and node.additional is not None
    for key, one in value.items():
        kind = one.__class__
        if kind is str and not is_map:
            below = node.child(key)
            if below is None or not below.format:
                continue
        elif one is None and not is_map:
            gone.append(key)
            continue
        elif kind is bool:
            continue
        below = node.child(key)
        if below is None or below.preserve:
            drop_nulls(one)
            continue
        if kind is list or kind is dict:
            if key in ANY_JSON:
                continue
            # An empty value of another type is wrong, not absent.
            may_go = (
                below.type == "array"
                if kind is list
                else not below.properties and below.additional is not None
            )
            if not one and may_go:
                gone.append(key)
                continue
        try:
            value[key] = _settled(one, below, to_milli=is_map)
        except _UndecodableError as error:
            error.path = (key, *error.path)
            raise
    for key in gone:
        del value[key]


def _settled(value: Any, node: SchemaNode, *, to_milli: bool = False) -> Any:
    if value is None:
        return _zero(node)
    if isinstance(value, dict):
        _settle_fields(value, node)
    elif isinstance(value, list):
        items = node.items
        for index, one in enumerate(value if items is not None else ()):
            if one.__class__ is str or items is None:
                continue
            try:
                value[index] = _settled(one, items)
            except _UndecodableError as error:
                error.path = (index, *error.path)
                raise
    elif node.format == QUANTITY:
        return _quantity(value, to_milli)
    elif isinstance(value, float) and node.type == _INTEGER:
        raise _UndecodableError(value, "must be an integer: a number without a point or exponent")
    elif isinstance(value, str) and node.format == _BYTES:
        return _base64(value)
    return value


def _zero(node: SchemaNode) -> Any:
    """Return Go's zero of what a list or map holds."""
    if node.format == QUANTITY:
        return "0"
    if node.type == "object" and node.properties:
        return {}
    return {"string": "", _INTEGER: 0, "number": 0, "boolean": False}.get(node.type)


def _quantity(value: Any, to_milli: bool) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value  # the schema says so
    try:
        return _canonical(value if isinstance(value, str) else str(value), to_milli)
    except ValueError:
        return value


@lru_cache(maxsize=1024)
def _canonical(text: str, to_milli: bool) -> str:
    return quantity.canonical(text, to_milli=to_milli)


def _base64(text: str) -> str:
    # encoding/base64 passes over the ends of lines.
    stripped = text.replace("\r", "").replace("\n", "")
    try:
        return base64.b64encode(base64.b64decode(stripped, validate=True)).decode()
    except (binascii.Error, ValueError):
        return text
