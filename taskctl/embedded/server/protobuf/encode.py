"""Writing Kubernetes' protobuf, for clients that take nothing else.

Those that also take JSON, as client-go does unless told otherwise, get JSON: objects are stored
that way.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from taskctl.embedded.server.protobuf.tables import (
    FIXED64,
    LIST_META,
    MAGIC,
    Field,
    fields_of,
    message_of,
)
from taskctl.embedded.server.protobuf.wire import field_bytes, field_int, varint

_SCHEMA: Final = "apiextensions.v1.JSONSchemaProps"


def encode_object(obj: dict[str, Any]) -> bytes:
    """Encode an object of a kind in the tables, with the envelope.

    Raises:
        KeyError: the kind is not there.
    """
    message = message_of(obj["apiVersion"], obj["kind"])
    if message is None:
        raise KeyError(f"{obj['apiVersion']}/{obj['kind']}")
    return _envelope(obj["apiVersion"], obj["kind"], _message(obj, message))


def encode_list(head: dict[str, Any], kind: str, items: Sequence[dict[str, Any]]) -> bytes:
    """Encode a list.

    Args:
        head: ``apiVersion``, ``kind`` and ``metadata`` of the list.
        kind: of the items.
        items: the objects.
    """
    message = message_of(head["apiVersion"], kind)
    if message is None:
        items, message = (), LIST_META
    parts = [field_bytes(1, _message(_list_meta(head["metadata"]), LIST_META))]
    parts.extend(field_bytes(2, _message(item, message)) for item in items)
    return _envelope(head["apiVersion"], head["kind"], b"".join(parts))


def _list_meta(metadata: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if value != ""}


def _envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    types = field_bytes(1, api_version.encode()) + field_bytes(2, kind.encode())
    return (
        MAGIC
        + field_bytes(1, types)
        + field_bytes(2, raw)
        + field_bytes(3, b"")
        + field_bytes(4, b"")
    )


def _message(obj: dict[str, Any], message: str) -> bytes:
    out = []
    for field in fields_of(message).values():
        if field.inline:
            inner = _message(obj, field.type)
            if inner:
                out.append(field_bytes(field.number, inner))
            continue
        value = obj.get(field.name)
        if value is None:
            continue
        if field.map:
            out.extend(
                field_bytes(field.number, field_bytes(1, key.encode()) + _value(field, 2, one))
                for key, one in value.items()
            )
        elif field.many:
            out.extend(_value(field, field.number, one) for one in value)
        else:
            out.append(_value(field, field.number, value))
    return b"".join(out)


def _value(field: Field, number: int, value: Any) -> bytes:
    match field.type:
        case "string":
            return field_bytes(number, str(value).encode())
        case "int" | "bool":
            return field_int(number, int(value))
        case "bytes":
            return field_bytes(number, base64.b64decode(value))
        case "double":
            return varint(number << 3 | FIXED64) + struct.pack("<d", value)
        case "meta.v1.Time" | "meta.v1.MicroTime":
            return field_bytes(number, _time(value))
        case "resource.Quantity":
            return field_bytes(number, field_bytes(1, str(value).encode()))
        case "intstr.IntOrString":
            return field_bytes(number, _int_or_string(value))
        case "meta.v1.FieldsV1" | "runtime.RawExtension" | "apiextensions.v1.JSON":
            return field_bytes(number, field_bytes(1, orjson.dumps(value)))
        case "authentication.v1.ExtraValue" | "authorization.v1.ExtraValue":
            return field_bytes(number, b"".join(field_bytes(1, one.encode()) for one in value))
    if field.type.startswith(f"{_SCHEMA}Or"):
        return field_bytes(number, _alternative(field.type, value))
    return field_bytes(number, _message(value, field.type))


def _alternative(message: str, value: Any) -> bytes:
    if message.endswith("Bool"):
        if isinstance(value, dict):
            return field_int(1, 1) + field_bytes(2, _message(value, _SCHEMA))
        return field_int(1, int(value))
    if isinstance(value, dict):
        return field_bytes(1, _message(value, _SCHEMA))
    return b"".join(
        field_bytes(2, one.encode() if isinstance(one, str) else _message(one, _SCHEMA))
        for one in value
    )


def _time(text: str) -> bytes:
    moment = datetime.fromisoformat(text)
    return field_int(1, int(moment.timestamp() // 1)) + field_int(2, moment.microsecond * 1000)


def _int_or_string(value: int | str) -> bytes:
    if isinstance(value, str):
        return field_int(1, 1) + field_int(2, 0) + field_bytes(3, value.encode())
    return field_int(1, 0) + field_int(2, value) + field_bytes(3, b"")
