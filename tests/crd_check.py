"""What an API server does with a custom resource, in so far as tests of the CRDs need it.

Defaulting, then OpenAPI validation, then CEL rules from the root down. The embedded server
has its own implementation, which is not used here: the two should not share a mistake.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import cel
import jsonschema_rs

Json = dict[str, Any]
# After these the API server does not evaluate rules (hasBlockingErr in apiextensions).
_BLOCKING = {"type", "required", "maxLength", "maxItems", "maxProperties", "enum"}


def apply_defaults(value: Any, schema: Json) -> Any:
    """Return a copy with defaults filled in from the outside inwards."""
    if isinstance(value, dict):
        result = dict(value)
        for name, child in schema.get("properties", {}).items():
            if name not in result and "default" in child:
                result[name] = copy.deepcopy(child["default"])
            if name in result:
                result[name] = apply_defaults(result[name], child)
        return result
    if isinstance(value, list) and "items" in schema:
        return [apply_defaults(item, schema["items"]) for item in value]
    return value


def iter_rules(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every CEL rule of a schema with the path of its node."""
    for entry in schema.get("x-kubernetes-validations", ()):
        yield path, entry
    for name, child in schema.get("properties", {}).items():
        yield from iter_rules(child, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from iter_rules(schema["items"], f"{path}[]")


def check(crd: Json, obj: Json, old: Json | None = None) -> list[str]:
    """Return what an API server would complain of, as ``path: message`` lines."""
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    obj = apply_defaults(obj, schema)
    old = None if old is None else apply_defaults(old, schema)
    errors = list(jsonschema_rs.Draft4Validator(_without_nullable(schema)).iter_errors(obj))
    complaints = [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in errors]
    if any(error.kind.name in _BLOCKING for error in errors):
        return complaints
    return complaints + list(_rules(schema, obj, old, ""))


def _without_nullable(schema: Any) -> Any:
    """Return a schema in JSON Schema's words: ``nullable`` is one of OpenAPI's."""
    if isinstance(schema, list):
        return [_without_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {name: _without_nullable(value) for name, value in schema.items()}
    if result.get("nullable") is True and isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
    return result


def _context(bindings: Json) -> cel.Context:
    """Kubernetes' own functions, as far as the rules use them, beside the standard ones."""
    context = cel.Context(bindings)
    context.add_function("quantity", _quantity)
    context.add_function("compareTo", lambda one, other: (one > other) - (one < other))
    return context


def _quantity(text: str) -> float:
    number = text.rstrip("numkMGTPEi")
    suffix = text.removeprefix(number)
    if suffix.endswith("i"):
        return float(float(number) * 1024.0 ** ("KMGTPE".index(suffix[0]) + 1))
    power = "num kMGTPE".index(suffix) - 3 if suffix else 0
    return float(float(number) * 1000.0**power)


def _rules(schema: Json, value: Any, old: Any, path: str) -> Iterator[str]:
    for entry in schema.get("x-kubernetes-validations", ()):
        transition = "oldSelf" in entry["rule"]
        if transition and old is None:
            continue
        bindings = {"self": value, "oldSelf": old} if transition else {"self": value}
        if cel.evaluate(entry["rule"], _context(bindings)) is not True:
            yield f"{path}{entry.get('fieldPath', '')}: {entry['message']}"
    if isinstance(value, dict):
        for name, child in schema.get("properties", {}).items():
            if name in value:
                before = old.get(name) if isinstance(old, dict) else None
                yield from _rules(child, value[name], before, f"{path}.{name}".lstrip("."))
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _rules(schema["items"], item, None, f"{path}[{index}]")
