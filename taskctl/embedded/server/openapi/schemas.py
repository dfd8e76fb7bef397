"""Schemas as they stand in OpenAPI documents, version 2 and 3."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from taskctl.embedded.server.kinds import builtin_schema
from taskctl.embedded.server.kinds.model import Kind

JSON = dict[str, Any]

_REF: Final = "#/definitions/"
_V3_REF: Final = "#/components/schemas/"
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
OBJECT_META: Final = f"{_META}ObjectMeta"
LIST_META: Final = f"{_META}ListMeta"
_GVK: Final = "x-kubernetes-group-version-kind"
_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_API_VERSION: Final = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should "
    "convert recognized schemas to the latest internal value, and may reject unrecognized values."
)
_KIND: Final = (
    "Kind is a string value representing the REST resource this object represents. Servers may "
    "infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase."
)
# What OpenAPI 2 cannot say, or what old clients stumble over
# (k8s.io/apiextensions-apiserver pkg/controller/openapi/v2/conversion.go).
_NOT_IN_V2: Final = ("anyOf", "oneOf", "not", "allOf", "nullable", "default")


def definition_name(kind: Kind) -> str:
    """Return ``dev.taskctl.v1alpha1.Task`` or the name in Kubernetes' own document."""
    if kind.builtin:
        name = builtin_schema.definition_name(kind.group, kind.version, kind.kind)
        if name is not None:
            return name
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


def definitions(kinds: list[Kind]) -> dict[str, JSON]:
    """Return the definitions of kinds, their lists and all that they refer to.

    References are of version 2; :func:`to_v3` and :func:`to_v2` finish them.
    """
    found: dict[str, JSON] = {LIST_META: _list_meta()}
    for kind in kinds:
        name = definition_name(kind)
        described = kind.builtin and not kind.read_only
        found[name] = _builtin(name) if described else _custom(kind)
        found[_list_name(name, kind)] = _list_of(name, kind)
    known = builtin_schema.data()["definitions"]
    todo = [OBJECT_META, *references(found)]
    while todo:
        name = todo.pop()
        if name not in found and name in known:
            found[name] = known[name]
            todo.extend(references(known[name]))
    return dict(sorted(found.items()))


def references(value: Any) -> set[str]:
    """Return the names of all definitions that a JSON value refers to."""
    return set(re.findall(rf'"{_REF}([^"]+)"', json.dumps(value)))


def _list_name(name: str, kind: Kind) -> str:
    return name.removesuffix(kind.kind) + kind.list_kind


def _gvk(kind: Kind, name: str) -> list[JSON]:
    return [{"group": kind.group, "version": kind.version, "kind": name}]


def _builtin(name: str) -> JSON:
    raw: JSON = builtin_schema.data()["definitions"][name]
    return raw


def _custom(kind: Kind) -> JSON:
    raw: JSON = dict(kind.custom_schema.raw) if kind.custom_schema is not None else {}
    properties = dict(raw.get("properties") or {})
    properties["apiVersion"] = {"description": _API_VERSION, "type": "string"}
    properties["kind"] = {"description": _KIND, "type": "string"}
    properties["metadata"] = {
        "description": "Standard object's metadata.",
        "$ref": _REF + OBJECT_META,
    }
    return {**raw, "type": "object", "properties": properties, _GVK: _gvk(kind, kind.kind)}


def _list_of(name: str, kind: Kind) -> JSON:
    return {
        "description": f"{kind.list_kind} is a list of {kind.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": _API_VERSION, "type": "string"},
            "kind": {"description": _KIND, "type": "string"},
            "items": {
                "description": f"List of {kind.plural}.",
                "type": "array",
                "items": {"$ref": _REF + name},
            },
            "metadata": {"description": "Standard list metadata.", "$ref": _REF + LIST_META},
        },
        _GVK: _gvk(kind, kind.list_kind),
    }


def _list_meta() -> JSON:
    text: JSON = {"type": "string"}
    return {
        "description": "ListMeta describes metadata that lists have.",
        "type": "object",
        "properties": {
            "continue": text,
            "remainingItemCount": {"type": "integer", "format": "int64"},
            "resourceVersion": text,
            "selfLink": text,
        },
    }


def to_v3(raw: Any) -> Any:
    """Finish a definition for OpenAPI 3.

    A reference beside other keywords goes into ``allOf``, where those keywords count.
    """
    if isinstance(raw, list):
        return [to_v3(one) for one in raw]
    if not isinstance(raw, dict):
        return raw
    out = {key: _v3_value(key, one) for key, one in raw.items() if key != "$ref"}
    if out.get("format") == "quantity":
        del out["format"]
    if isinstance(raw.get("$ref"), str):
        target = {"$ref": _V3_REF + raw["$ref"].removeprefix(_REF)}
        return {**out, "allOf": [target]} if out else target
    return out


def _v3_value(key: str, value: Any) -> Any:
    if key in ("default", "enum", "example"):
        return value
    if key in ("properties",):
        return {name: to_v3(one) for name, one in value.items()}
    return to_v3(value)


def to_v2(raw: Any) -> Any:
    """Finish a definition for OpenAPI 2, leaving out what it cannot express."""
    if not isinstance(raw, dict):
        return raw
    out = {key: one for key, one in raw.items() if key not in _NOT_IN_V2}
    if out.get("format") == "quantity":
        del out["format"]
    loose = raw.get("nullable") or raw.get(_PRESERVE) or raw.get("x-kubernetes-int-or-string")
    if loose and _GVK not in raw:
        # Old clients know neither null nor unions: let them accept anything here.
        for key in ("type", "properties", "items", "additionalProperties", "required", "enum"):
            out.pop(key, None)
        return out
    if raw.get(_PRESERVE):
        out.pop("required", None)
    if isinstance(out.get("properties"), dict):
        out["properties"] = {name: to_v2(one) for name, one in out["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(out.get(key), dict):
            out[key] = to_v2(out[key])
    return out
