"""Reading Kubernetes' protobuf, which clients in Go send for built-in kinds.

client-go's typed clients, controller-runtime and kubectl's typed commands write their bodies in
it and do not fall back to JSON. What comes out is what the same client would have sent as JSON:
zeros that Go leaves out are left out. Fields that are not in the tables, those of a newer
Kubernetes, are skipped, as on a real server.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from taskctl.clock import format_seconds
from taskctl.embedded.server.protobuf.tables import (
    BYTES,
    FIXED32,
    FIXED64,
    MAGIC,
    MEDIA_TYPE,
    VARINT,
    Field,
    fields_of,
    message_of,
)

__all__ = ["MEDIA_TYPE", "UnreadableError", "decode"]

# Messages are nested far less; without a limit a body could exhaust the stack.
_DEPTH_LIMIT: Final = 100
# A body of 3 MiB can hold a million empty messages; no object that may be stored has that many.
_FIELD_LIMIT: Final = 300_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_JSON_SCHEMA: Final = "apiextensions.v1.JSONSchemaProps"
_UINT64: Final = 1 << 64


class UnreadableError(ValueError):
    """The body is not protobuf of a kind known here, or its bytes are wrong."""


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in a protobuf body, as its JSON would be.

    Args:
        body: with Kubernetes' envelope.

    Raises:
        UnreadableError: the kind is not known here, or the bytes are wrong.
    """
    if not body.startswith(MAGIC):
        raise UnreadableError("the body does not begin as Kubernetes' protobuf does")
    api_version = kind = ""
    raw = memoryview(b"")
    # runtime.Unknown: typeMeta 1, raw 2, contentEncoding 3, contentType 4.
    for number, value in _split(memoryview(body)[len(MAGIC) :]):
        if number == 1 and not isinstance(value, int):
            types = {key: _text(one) for key, one in _split(value) if not isinstance(one, int)}
            api_version, kind = types.get(1, ""), types.get(2, "")
        elif number == 2 and not isinstance(value, int):
            raw = value
    message = message_of(api_version, kind)
    if message is None:
        raise UnreadableError(
            f'no kind "{kind}" of version "{api_version}" can be read from protobuf'
        )
    return {"apiVersion": api_version, "kind": kind, **_Decoder().message(raw, message, 0)}


class _Decoder:
    """Decodes one body."""

    def __init__(self) -> None:
        self._left = _FIELD_LIMIT

    def message(self, data: memoryview, message: str, depth: int) -> dict[str, Any]:
        if depth > _DEPTH_LIMIT:
            raise UnreadableError(f"messages are nested more than {_DEPTH_LIMIT} deep")
        fields = fields_of(message)
        out: dict[str, Any] = {}
        for number, value in self._split(data):
            field = fields.get(number)
            if field is not None:
                self._add(out, field, value, depth)
        return out

    def _split(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        for part in _split(data):
            self._left -= 1
            if self._left < 0:
                raise UnreadableError(f"the body has more than {_FIELD_LIMIT} fields")
            yield part

    def _add(self, out: dict[str, Any], field: Field, value: int | memoryview, depth: int) -> None:
        if field.map:
            out.setdefault(field.name, {}).update(self._entry(field, value, depth))
        elif field.many:
            out.setdefault(field.name, []).append(self._value(field, value, depth))
        else:
            decoded = self._value(field, value, depth)
            if field.inline:
                out.update(decoded)
            elif decoded is None:  # a time that is not set
                out.pop(field.name, None)
            elif field.pointer or field.always or decoded not in ("", 0, 0.0, False):
                out[field.name] = decoded

    def _entry(self, field: Field, value: int | memoryview, depth: int) -> dict[str, Any]:
        parts = dict(self._split(_bytes(field, value)))
        key = _text(_bytes(field, parts.get(1, memoryview(b""))))
        empty: int | memoryview = 0 if field.type in ("int", "bool") else memoryview(b"")
        return {key: self._value(field, parts.get(2, empty), depth)}

    def _value(self, field: Field, value: int | memoryview, depth: int) -> Any:
        match field.type:
            case "string":
                return _text(_bytes(field, value))
            case "int":
                number = _number(field, value)
                return number - _UINT64 if number >= _UINT64 >> 1 else number
            case "bool":
                return bool(_number(field, value))
            case "bytes":
                return base64.b64encode(_bytes(field, value)).decode()
            case "double":
                return _double(field, value)
        data = _bytes(field, value)
        special = _SPECIAL.get(field.type)
        if special is not None:
            return special(data)
        if field.type.startswith(f"{_JSON_SCHEMA}Or"):
            return self._alternative(field.type, data, depth)
        found = self.message(data, field.type, depth + 1)
        if field.type in _WRAPPED_LISTS:
            return found.get("items", [])
        return found

    def _alternative(self, message: str, data: memoryview, depth: int) -> Any:
        """Read a schema, or what may stand in its place: a boolean, schemas, names."""
        found: Any = None
        other: list[Any] = []
        for number, value in self._split(data):
            if message.endswith("Bool"):
                if number == 1 and isinstance(value, int) and found is None:
                    found = bool(value)
                elif number == 2 and not isinstance(value, int):
                    found = self.message(value, _JSON_SCHEMA, depth + 1)
            elif isinstance(value, int):
                continue
            elif number == 1:
                found = self.message(value, _JSON_SCHEMA, depth + 1)
            elif number == 2 and message.endswith("StringArray"):
                other.append(_text(value))
            elif number == 2:
                other.append(self.message(value, _JSON_SCHEMA, depth + 1))
        return other if found is None else found


def _bytes(field: Field, value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise UnreadableError(f"{field.name} is a number on the wire, and not {field.type}")
    return value


def _number(field: Field, value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise UnreadableError(f"{field.name} is not a number on the wire, but {field.type}")
    return value % _UINT64


def _double(field: Field, value: int | memoryview) -> float:
    data = _bytes(field, value)
    if len(data) != 8:
        raise UnreadableError(f"{field.name} has not the eight bytes of a double")
    number: float = struct.unpack("<d", data)[0]
    if number != number or number in (float("inf"), float("-inf")):
        raise UnreadableError(f"{field.name} is not a number that JSON has")
    return number


def _text(value: memoryview) -> str:
    try:
        return value.tobytes().decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"a text is not UTF-8: {error}") from error


def _numbers(data: memoryview) -> dict[int, int]:
    """Return the fields of a message that are signed numbers."""
    found = {}
    for number, value in _split(data):
        if isinstance(value, int):
            value %= _UINT64
            found[number] = value - _UINT64 if value >= _UINT64 >> 1 else value
    return found


def _moment(data: memoryview) -> tuple[datetime, int] | None:
    """Read seconds and nanoseconds; nothing at all is Go's zero time."""
    if not data:
        return None
    parts = _numbers(data)
    try:
        moment = _EPOCH + timedelta(seconds=parts.get(1, 0))
    except OverflowError as error:
        raise UnreadableError(f"a time is out of range: {parts.get(1)} s") from error
    return moment, parts.get(2, 0)


def _time(data: memoryview) -> str | None:
    found = _moment(data)
    return None if found is None else format_seconds(found[0])


def _micro_time(data: memoryview) -> str | None:
    found = _moment(data)
    if found is None:
        return None
    micros = min(max(found[1] // 1000, 0), 999_999)
    return format_seconds(found[0]).removesuffix("Z") + f".{micros:06d}Z"


def _quantity(data: memoryview) -> str:
    for number, value in _split(data):
        if number == 1 and not isinstance(value, int):
            return _text(value)
    return "0"


def _int_or_string(data: memoryview) -> int | str:
    numbers, text = _numbers(data), ""
    for number, value in _split(data):
        if number == 3 and not isinstance(value, int):
            text = _text(value)
    return text if numbers.get(1) == 1 else numbers.get(2, 0)


def _raw_json(data: memoryview) -> Any:
    for number, value in _split(data):
        if number == 1 and not isinstance(value, int):
            if not value:
                return None
            try:
                return orjson.loads(value)
            except orjson.JSONDecodeError as error:
                raise UnreadableError(f"what should be JSON is not: {error}") from error
    return None


# Messages whose JSON is not an object of their fields.
_SPECIAL: Final[dict[str, Callable[[memoryview], Any]]] = {
    "meta.v1.Time": _time,
    "meta.v1.MicroTime": _micro_time,
    "resource.Quantity": _quantity,
    "intstr.IntOrString": _int_or_string,
    "meta.v1.FieldsV1": _raw_json,
    "runtime.RawExtension": _raw_json,
    "apiextensions.v1.JSON": _raw_json,
}
# Go's ``type ExtraValue []string``: a message here, a list in JSON.
_WRAPPED_LISTS: Final = frozenset({"authentication.v1.ExtraValue", "authorization.v1.ExtraValue"})


def _split(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value): varints as int, everything else as bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == VARINT:
            number, position = _varint(data, position)
            yield tag >> 3, number
            continue
        if wire == BYTES:
            length, position = _varint(data, position)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise UnreadableError(f"unknown wire type {wire}")
        end = position + length
        if end > len(data):
            raise UnreadableError("the body ends too early")
        yield tag >> 3, data[position:end]
        position = end


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise UnreadableError("the body ends too early")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
