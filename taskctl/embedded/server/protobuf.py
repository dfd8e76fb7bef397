"""Reading Kubernetes' protobuf, for the few kinds that kubectl writes in it.

``kubectl create namespace``, ``create configmap``, ``create token``, ``auth can-i`` and their like
are compiled against typed clients, which send protobuf and do not fall back to JSON. Field
numbers are from the ``generated.proto`` files of k8s.io/api and k8s.io/apimachinery. Answers are
always JSON, which those clients read.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from taskctl.clock import format_seconds

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class UnreadableError(ValueError):
    """The body is not protobuf of a kind known here, or has a field that is not."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a message.

    Attributes:
        name: in JSON.
        type: ``string``, ``bytes``, ``int``, ``bool``, ``Time``, ``map``, ``bytesmap``, ``skip``
            (the server's to fill in) or the name of a message.
        many: repeated.
        pointer: a value of zero differs from an absent one.
    """

    name: str
    type: str
    many: bool
    pointer: bool


def _message(*lines: str) -> dict[int, _Field]:
    """Read lines such as ``4 name``, ``5 size int``, ``6 owners Owner*``, ``7 grace int?``."""
    fields = {}
    for line in lines:
        number, name, *rest = line.split()
        kind = rest[0] if rest else "string"
        fields[int(number)] = _Field(name, kind.rstrip("*?"), "*" in kind, "?" in kind)
    return fields


_META: Final = "1 metadata ObjectMeta"
_MESSAGES: Final[dict[str, dict[int, _Field]]] = {
    "Unknown": _message("1 typeMeta TypeMeta", "2 raw raw", "3 contentEncoding", "4 contentType"),
    "TypeMeta": _message("1 apiVersion", "2 kind"),
    "ObjectMeta": _message(
        "1 name", "2 generateName", "3 namespace", "4 selfLink", "5 uid", "6 resourceVersion",
        "7 generation int", "8 creationTimestamp Time", "9 deletionTimestamp Time",
        "10 deletionGracePeriodSeconds int?", "11 labels map", "12 annotations map",
        "13 ownerReferences OwnerReference*", "14 finalizers string*",
    ),
    "OwnerReference": _message(
        "1 kind", "3 name", "4 uid", "5 apiVersion", "6 controller bool?",
        "7 blockOwnerDeletion bool?",
    ),
    "ObjectReference": _message(
        "1 kind", "2 namespace", "3 name", "4 uid", "5 apiVersion", "6 resourceVersion",
        "7 fieldPath",
    ),
    "LocalObjectReference": _message("1 name"),
    "v1/Namespace": _message(_META, "2 spec NamespaceSpec", "3 status NamespaceStatus"),
    "NamespaceSpec": _message("1 finalizers string*"),
    "NamespaceStatus": _message("1 phase"),
    "v1/ConfigMap": _message(_META, "2 data map", "3 binaryData bytesmap", "4 immutable bool?"),
    "v1/Secret": _message(
        _META, "2 data bytesmap", "3 type", "4 stringData map", "5 immutable bool?"
    ),
    "v1/ServiceAccount": _message(
        _META, "2 secrets ObjectReference*", "3 imagePullSecrets LocalObjectReference*",
        "4 automountServiceAccountToken bool?",
    ),
    "v1/DeleteOptions": _message(
        "1 gracePeriodSeconds int?", "2 preconditions Preconditions", "3 orphanDependents bool?",
        "4 propagationPolicy", "5 dryRun string*",
    ),
    "Preconditions": _message("1 uid", "2 resourceVersion"),
    "policy/v1/Eviction": _message(_META, "2 deleteOptions v1/DeleteOptions"),
    "authentication.k8s.io/v1/TokenRequest": _message(
        _META, "2 spec TokenRequestSpec", "3 status skip"
    ),
    "TokenRequestSpec": _message(
        "1 audiences string*", "3 boundObjectRef BoundObjectReference",
        "4 expirationSeconds int?",
    ),
    "BoundObjectReference": _message("1 kind", "2 apiVersion", "3 name", "4 uid"),
    "authentication.k8s.io/v1/SelfSubjectReview": _message(_META, "2 status skip"),
    "authorization.k8s.io/v1/SelfSubjectAccessReview": _message(
        _META, "2 spec AccessSpec", "3 status skip"
    ),
    "AccessSpec": _message(
        "1 resourceAttributes ResourceAttributes", "2 nonResourceAttributes PathAttributes"
    ),
    "ResourceAttributes": _message(
        "1 namespace", "2 verb", "3 group", "4 version", "5 resource", "6 subresource", "7 name"
    ),
    "PathAttributes": _message("1 path", "2 verb"),
    "authorization.k8s.io/v1/SelfSubjectRulesReview": _message(
        _META, "2 spec RulesSpec", "3 status skip"
    ),
    "RulesSpec": _message("1 namespace"),
    "rbac.authorization.k8s.io/v1/Role": _message(_META, "2 rules PolicyRule*"),
    "rbac.authorization.k8s.io/v1/ClusterRole": _message(_META, "2 rules PolicyRule*"),
    "rbac.authorization.k8s.io/v1/RoleBinding": _message(
        _META, "2 subjects Subject*", "3 roleRef RoleRef"
    ),
    "rbac.authorization.k8s.io/v1/ClusterRoleBinding": _message(
        _META, "2 subjects Subject*", "3 roleRef RoleRef"
    ),
    "PolicyRule": _message(
        "1 verbs string*", "2 apiGroups string*", "3 resources string*", "4 resourceNames string*",
        "5 nonResourceURLs string*",
    ),
    "Subject": _message("1 kind", "2 apiGroup", "3 name", "4 namespace"),
    "RoleRef": _message("1 apiGroup", "2 kind", "3 name"),
}  # fmt: skip


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in a protobuf body, as its JSON would be.

    Args:
        body: with Kubernetes' envelope.

    Raises:
        UnreadableError: the kind or one of the fields is not known here, or the bytes are wrong.
    """
    if not body.startswith(_MAGIC):
        raise UnreadableError("the body does not begin as Kubernetes' protobuf does")
    envelope = _decode(memoryview(body)[len(_MAGIC) :], "Unknown")
    kind: dict[str, str] = envelope.get("typeMeta", {})
    name = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}"
    if "/" not in name.strip("/") or name not in _MESSAGES:
        raise UnreadableError(f"{name} is not among the kinds that can be read from protobuf")
    return {**kind, **_decode(memoryview(envelope.get("raw", b"")), name)}


def _decode(data: memoryview, message: str) -> dict[str, Any]:
    fields = _MESSAGES[message]
    out: dict[str, Any] = {}
    for number, value in _split(data):
        field = fields.get(number)
        if field is None:
            raise UnreadableError(f"field {number} of {message} is not known")
        if field.type == "skip":
            continue
        decoded = _value(field, value)
        if field.many:
            out.setdefault(field.name, []).append(decoded)
        elif field.type in ("map", "bytesmap"):
            out.setdefault(field.name, {}).update(decoded)
        elif decoded or field.pointer or field.name == "metadata":
            # Go writes empty strings and zeros too; in JSON they are left out.
            out[field.name] = decoded
    return out


def _value(field: _Field, value: int | memoryview) -> Any:
    if field.type in ("int", "bool"):
        if not isinstance(value, int):
            raise UnreadableError(f"{field.name} is not a number")
        if field.type == "bool":
            return bool(value)
        return value - (1 << 64) if value >= 1 << 63 else value
    if isinstance(value, int):
        raise UnreadableError(f"{field.name} is a number")
    match field.type:
        case "string":
            return _text(value)
        case "raw":
            return value.tobytes()
        case "bytes":
            return base64.b64encode(value).decode()
        case "Time":
            return _time(value)
        case "map" | "bytesmap":
            return _entry(value, "bytes" if field.type == "bytesmap" else "string")
    return _decode(value, field.type)


def _text(value: memoryview) -> str:
    try:
        return value.tobytes().decode()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"a text is not UTF-8: {error}") from error


def _entry(data: memoryview, kind: str) -> dict[str, Any]:
    parts: dict[int, Any] = dict(_split(data))
    key, value = parts.get(1, memoryview(b"")), parts.get(2, memoryview(b""))
    return {_text(key): _value(_Field("value", kind, many=False, pointer=False), value)}


def _time(data: memoryview) -> str | None:
    parts = dict(_split(data))
    seconds = parts.get(1)
    if not isinstance(seconds, int):
        return None
    return format_seconds(datetime.fromtimestamp(seconds, UTC))


def _split(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value): numbers as int, everything else as bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == _VARINT:
            number, position = _varint(data, position)
            yield tag >> 3, number
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
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
