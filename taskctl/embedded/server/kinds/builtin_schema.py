"""Schemas of the built-in kinds, from ``data/builtin_schemas.json``.

The file is made by ``scripts/gen_builtin_schemas.py``. It holds one ``definitions`` map in
which definitions refer to each other by ``$ref``; :func:`schema_for` puts them in place.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final

import orjson

from taskctl.embedded.server.kinds.structural_schema import StructuralSchema
from taskctl.embedded.server.schema.formats import MICRO_TIME

JSON = dict[str, Any]

_REF: Final = "#/definitions/"
# JSONSchemaProps refers to itself; below that depth anything goes, as in a CRD's schema.
_MAX_NESTING: Final = 2
# metav1.MicroTime, which the documents do not tell from metav1.Time: six decimals, no fewer.
_MICRO_TIMES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "Lease": (("spec", "acquireTime"), ("spec", "renewTime")),
    "Event": (("eventTime",), ("series", "lastObservedTime")),
}


@cache
def data() -> JSON:
    """Return the data file: ``kinds`` (apiVersion/kind → definition) and ``definitions``."""
    path = resources.files("taskctl.embedded.server.kinds").joinpath("data/builtin_schemas.json")
    loaded: JSON = orjson.loads(path.read_bytes())
    return loaded


def definition_name(group: str, version: str, kind: str) -> str | None:
    """Return the name of a kind's definition in the data file, or None."""
    api_version = f"{group}/{version}" if group else version
    name: str | None = data()["kinds"].get(f"{api_version}/{kind}")
    return name


@lru_cache(maxsize=64)
def schema_for(group: str, version: str, kind: str) -> StructuralSchema | None:
    """Return the compiled schema of a built-in kind, or None when it is not one."""
    raw = raw_schema(group, version, kind)
    return None if raw is None else StructuralSchema(raw, builtin=True)


def raw_schema(group: str, version: str, kind: str) -> JSON | None:
    """Return the OpenAPI v3 JSON of a built-in kind with every ``$ref`` put in place."""
    name = definition_name(group, version, kind)
    if name is None:
        return None
    raw = _inline({"$ref": _REF + name}, ())
    status = raw["properties"].get("status")
    if status is not None:
        # Required in the documents, but a real server fills in Go's zero values there.
        raw["properties"]["status"] = _without_required(status)
    _give_keys_defaults(raw)
    for path in _MICRO_TIMES.get(kind, ()):
        spot = raw
        for step in path:
            spot = spot["properties"][step]
        spot["format"] = MICRO_TIME
    return raw


def _give_keys_defaults(raw: JSON) -> None:
    """Where a list's items go by a name, an item without one goes by "": Go's zero value."""
    items = raw.get("items")
    if isinstance(items, dict):
        for name in raw.get("x-kubernetes-list-map-keys") or ():
            key = items.get("properties", {}).get(name, {})
            if key.get("type") == "string":
                items["properties"][name] = {"default": "", **key}
    below = [*raw.get("properties", {}).values(), items, raw.get("additionalProperties")]
    for one in below:
        if isinstance(one, dict):
            _give_keys_defaults(one)


def _without_required(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {
            key: _without_required(one)
            for key, one in raw.items()
            if key != "required" or not isinstance(one, list)
        }
    return [_without_required(one) for one in raw] if isinstance(raw, list) else raw


def _inline(raw: JSON, inside: tuple[str, ...]) -> JSON:
    name = raw.get("$ref", "").removeprefix(_REF)
    if name:
        if inside.count(name) >= _MAX_NESTING:
            return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        below = _inline(data()["definitions"][name], (*inside, name))
        return {**below, **{key: one for key, one in raw.items() if key != "$ref"}}
    out = dict(raw)
    if "properties" in raw:
        out["properties"] = {key: _inline(one, inside) for key, one in raw["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(raw.get(key), dict):
            out[key] = _inline(raw[key], inside)
    return out
