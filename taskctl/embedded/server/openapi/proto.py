"""The OpenAPI 2 document in protobuf, as gnostic's ``openapi.v2.Document``.

kubectl asks for ``/openapi/v2`` in this form only. The field numbers are those of
google/gnostic-models ``openapiv2/OpenAPIv2.proto``; the wire format is written by hand, since
a protobuf runtime would be a dependency for this one document.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import orjson

from taskctl.embedded.server.protobuf.wire import field_bytes, field_int, varint

JSON = dict[str, Any]

_METHODS: Final = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}
_SCHEMA_TEXTS: Final = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_SCHEMA_DOUBLES: Final = {"multipleOf": 6, "maximum": 7, "minimum": 9}
_SCHEMA_BOOLS: Final = {"exclusiveMaximum": 8, "exclusiveMinimum": 10, "uniqueItems": 16}
_SCHEMA_INTS: Final = {
    "maxLength": 11,
    "minLength": 12,
    "maxItems": 14,
    "minItems": 15,
    "maxProperties": 17,
    "minProperties": 18,
}


def _text(number: int, value: str) -> bytes:
    return field_bytes(number, value.encode())


def _double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def _any(number: int, value: Any) -> bytes:
    """``Any`` with the value as YAML text; JSON is YAML."""
    return field_bytes(number, _text(2, orjson.dumps(value).decode()))


def _named(number: int, name: str, value: bytes) -> bytes:
    """``NamedSchema`` and its like: {name = 1, value = 2}."""
    return field_bytes(number, _text(1, name) + field_bytes(2, value))


def _extensions(number: int, raw: JSON) -> bytes:
    return b"".join(
        field_bytes(number, _text(1, name) + _any(2, value))
        for name, value in raw.items()
        if name.startswith("x-")
    )


def encode_document(document: JSON) -> bytes:
    """Encode a document made by openapi.OpenApi.v2_json."""
    info = document["info"]
    out = [
        _text(1, document["swagger"]),
        field_bytes(2, _text(1, info["title"]) + _text(2, info["version"])),
        field_bytes(8, b"".join(_named(2, n, _path(one)) for n, one in document["paths"].items())),
        field_bytes(
            9, b"".join(_named(1, n, _schema(one)) for n, one in document["definitions"].items())
        ),
    ]
    return b"".join(out)


def _schema(raw: JSON) -> bytes:
    out = [_text(number, raw[name]) for name, number in _SCHEMA_TEXTS.items() if raw.get(name)]
    if "default" in raw:
        out.append(_any(5, raw["default"]))
    for name, number in _SCHEMA_DOUBLES.items():
        if raw.get(name) is not None:
            out.append(_double(number, float(raw[name])))
    out.extend(field_int(number, 1) for name, number in _SCHEMA_BOOLS.items() if raw.get(name))
    for name, number in _SCHEMA_INTS.items():
        if raw.get(name) is not None:
            out.append(field_int(number, raw[name]))
    out.extend(_text(19, name) for name in raw.get("required") or ())
    out.extend(_any(20, value) for value in raw.get("enum") or ())
    additional = raw.get("additionalProperties")
    if isinstance(additional, dict):
        out.append(field_bytes(21, field_bytes(1, _schema(additional))))
    elif additional is True:
        out.append(field_bytes(21, field_int(2, 1)))
    if raw.get("type"):
        out.append(field_bytes(22, _text(1, raw["type"])))
    if isinstance(raw.get("items"), dict):
        out.append(field_bytes(23, field_bytes(1, _schema(raw["items"]))))
    properties = raw.get("properties")
    if properties:
        named = (_named(1, name, _schema(one)) for name, one in properties.items())
        out.append(field_bytes(25, b"".join(named)))
    out.append(_extensions(31, raw))
    return b"".join(out)


def _path(raw: JSON) -> bytes:
    out = [
        field_bytes(number, _operation(raw[method]))
        for method, number in _METHODS.items()
        if method in raw
    ]
    out.extend(field_bytes(9, _parameter(one)) for one in raw.get("parameters") or ())
    return b"".join(out)


def _operation(raw: JSON) -> bytes:
    out = [_text(5, raw["operationId"])] if raw.get("operationId") else []
    out.extend(_text(6, one) for one in raw.get("produces") or ())
    out.extend(_text(7, one) for one in raw.get("consumes") or ())
    out.extend(field_bytes(8, _parameter(one)) for one in raw.get("parameters") or ())
    responses = (_named(1, code, _response(one)) for code, one in raw["responses"].items())
    out.append(field_bytes(9, b"".join(responses)))
    out.append(_extensions(13, raw))
    return b"".join(out)


def _response(raw: JSON) -> bytes:
    body = _text(1, raw["description"])
    if "schema" in raw:
        body += field_bytes(2, field_bytes(1, _schema(raw["schema"])))
    return field_bytes(1, body)


def _parameter(raw: JSON) -> bytes:
    """``ParametersItem`` → ``Parameter`` → body, query or path parameter."""
    described = _text(3, raw["description"]) if raw.get("description") else b""
    required = field_int(1, 1) if raw.get("required") else b""
    if raw["in"] == "body":
        body = [described and _text(1, raw["description"]), _text(2, raw["name"]), _text(3, "body")]
        if raw.get("required"):
            body.append(field_int(4, 1))
        body.append(field_bytes(5, _schema(raw["schema"])))
        return field_bytes(1, field_bytes(1, b"".join(body)))
    common = required + _text(2, raw["in"]) + described + _text(4, raw["name"])
    if raw["in"] == "query":
        plain = field_bytes(3, common + _text(7, raw["type"]))
    else:
        plain = field_bytes(4, common + _text(5, raw["type"]))
    return field_bytes(1, field_bytes(2, plain))
