"""JSON values as CEL rules see them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, Final

from taskctl.clock import parse_time
from taskctl.embedded.server.cel.names import spellings
from taskctl.embedded.server.cel.time import duration
from taskctl.embedded.server.schema.nodes import SchemaNode

JSON = dict[str, Any]

_UNSUPPORTED: Final = object()


def convert_object(value: JSON, node: SchemaNode, wanted: set[str] | None) -> JSON:
    """Convert the fields of an object.

    Args:
        value: the object.
        node: its schema.
        wanted: names of the fields, as rules see them; None for all.
    """
    out: JSON = {}
    for name, one in value.items():
        prop = node.properties.get(name)
        if prop is None or (one is None and prop.type):
            continue  # unknown fields are not visible; a null field counts as absent
        keys = [key for key in spellings(name) if wanted is None or key in wanted]
        converted = to_cel(one, prop) if keys else _UNSUPPORTED
        if converted is not _UNSUPPORTED:
            out.update(dict.fromkeys(keys, converted))
    return out


def to_cel(value: Any, node: SchemaNode) -> Any:
    """Convert a JSON value to what rules see, along its schema.

    Numbers of type ``number`` become floats, strings of the formats date-time, date,
    duration and byte become timestamps, durations and bytes.
    """
    match value:
        case dict():
            if node.additional is not None and not node.properties:
                additional = node.additional
                return {name: to_cel(one, additional) for name, one in value.items()}
            if not node.properties:
                return {} if node.type else value  # without a type: compared as a whole
            return convert_object(value, node, None)
        case list():
            items = node.items
            if items is None:
                return [] if node.type else value
            return [to_cel(one, items) for one in value]
        case str() if node.format and node.type == "string":
            return _convert_text(value, node.format)
        case int() if node.type == "number" and not isinstance(value, bool):
            return float(value)
        case float() if node.type == "integer":
            return int(value)
    return value


def _convert_text(text: str, kind: str) -> Any:
    match kind:
        case "date-time":
            return parse_time(text)
        case "date":
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        case "duration":
            return duration(text)
        case "byte":
            return base64.b64decode(text)
    return text
