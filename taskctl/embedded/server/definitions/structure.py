"""Is a CRD's schema structural?

Rules and texts from k8s.io/apiextensions-apiserver ``pkg/apiserver/schema/validation.go`` and
``pkg/apis/apiextensions/validation/validation.go``.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

import jsonschema_rs

from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.fields import FieldError

JSON = dict[str, Any]

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_SCALARS: Final = ("boolean", "integer", "number", "string")
_REFUSED: Final = (
    "$ref", "definitions", "dependencies", "deprecated", "discriminator", "id",
    "patternProperties", "additionalItems", "readOnly", "writeOnly", "xml", "const",
    "if", "then", "else", "propertyNames", "contains", "prefixItems", "$defs", "unevaluatedItems",
    "unevaluatedProperties", "dependentRequired", "dependentSchemas",
)  # fmt: skip
_INT_OR_STRING: Final = [{"type": "integer"}, {"type": "string"}]
_NESTED_FORBIDDEN: Final = {
    "type": "must be empty to be structural",
    "additionalProperties": "must be undefined to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    "x-kubernetes-preserve-unknown-fields": "must be false to be structural",
    "x-kubernetes-embedded-resource": "must be false to be structural",
    "x-kubernetes-int-or-string": "must be false to be structural",
    "x-kubernetes-list-map-keys": "must be empty to be structural",
    "x-kubernetes-list-type": "must be undefined to be structural",
    "x-kubernetes-map-type": "must be undefined to be structural",
    "x-kubernetes-validations": "must be empty to be structural",
}
_EXTENSIONS: Final = "x-kubernetes-"
_PRESERVE: Final = _EXTENSIONS + "preserve-unknown-fields"
_INT_OR_STR: Final = _EXTENSIONS + "int-or-string"
_EMBEDDED: Final = _EXTENSIONS + "embedded-resource"
_LIST_TYPE: Final = _EXTENSIONS + "list-type"
_LIST_KEYS: Final = _EXTENSIONS + "list-map-keys"
_MAP_TYPE: Final = _EXTENSIONS + "map-type"


class _Level(Enum):
    ROOT = "at the root"
    ITEM = "for specified array items"
    FIELD = "for specified object fields"


def check_structure(raw: JSON, path: str) -> list[FieldError]:
    """Return what keeps a schema from being structural; empty when nothing does.

    Args:
        raw: ``openAPIV3Schema``.
        path: where it lies, the start of the errors' paths.
    """
    errors: list[FieldError] = []
    _check(raw, path, _Level.ROOT, errors)
    return errors


def _check(raw: Any, path: str, level: _Level, errors: list[FieldError]) -> None:
    if not isinstance(raw, dict):
        errors.append(fields.invalid(path, raw, "must be a schema"))
        return
    _check_type(raw, path, level, errors)
    _check_refused(raw, path, errors)
    _check_extensions(raw, path, errors)
    _check_list(raw, path, errors)
    _check_rules(raw, path, errors)
    _check_values(raw, path, errors)
    for nested, spot in _alternatives(raw, path):
        _check_complete(nested, spot, raw, path, errors)
    for name, one in (raw.get("properties") or {}).items():
        _check(one, f"{path}.properties[{name}]", _Level.FIELD, errors)
    additional = raw.get("additionalProperties")
    if isinstance(additional, dict):
        _check(additional, f"{path}.additionalProperties", _Level.FIELD, errors)
    if isinstance(raw.get("items"), dict):
        _check(raw["items"], f"{path}.items", _Level.ITEM, errors)
    _check_root(raw, path, level, errors)


def _check_type(raw: JSON, path: str, level: _Level, errors: list[FieldError]) -> None:
    kind = raw.get("type")
    spot = f"{path}.type"
    if not kind:
        if raw.get(_EMBEDDED):
            detail = f"must be object if {_EMBEDDED} is true"
            errors.append(fields.required(spot, detail))
        elif not raw.get(_INT_OR_STR) and not raw.get(_PRESERVE):
            errors.append(fields.required(spot, f"must not be empty {level.value}"))
    elif kind not in _TYPES:
        errors.append(fields.not_supported(spot, kind, _TYPES))
    elif level is _Level.ROOT and kind != "object":
        errors.append(fields.invalid(spot, kind, "must be object at the root"))
    elif raw.get(_EMBEDDED) and kind != "object":
        errors.append(fields.invalid(spot, kind, f"must be object if {_EMBEDDED} is true"))
    elif kind == "array" and not isinstance(raw.get("items"), dict):
        errors.append(fields.required(f"{path}.items", "must be specified"))


def _check_refused(raw: JSON, path: str, errors: list[FieldError]) -> None:
    errors.extend(
        fields.forbidden(f"{path}.{name}", f"{name} is not supported")
        for name in _REFUSED
        if name in raw
    )
    if raw.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        errors.append(fields.forbidden(f"{path}.uniqueItems", detail))
    additional = raw.get("additionalProperties")
    if additional is False:
        detail = "additionalProperties cannot be set to false"
        errors.append(fields.forbidden(f"{path}.additionalProperties", detail))
    if additional is not None and raw.get("properties"):
        detail = "additionalProperties and properties are mutual exclusive"
        errors.append(fields.forbidden(f"{path}.additionalProperties", detail))


def _check_extensions(raw: JSON, path: str, errors: list[FieldError]) -> None:
    if raw.get(_PRESERVE) is False:
        errors.append(fields.invalid(f"{path}.{_PRESERVE}", False, "must be true or undefined"))
    for name in (_PRESERVE, _EMBEDDED):
        if raw.get(_INT_OR_STR) and raw.get(name):
            detail = f"must be false if {_INT_OR_STR} is true"
            errors.append(fields.invalid(f"{path}.{name}", True, detail))
    if raw.get(_EMBEDDED) and not raw.get(_PRESERVE) and not raw.get("properties"):
        detail = f"must not be empty if {_EMBEDDED} is true without {_PRESERVE}"
        errors.append(fields.required(f"{path}.properties", detail))
    map_type = raw.get(_MAP_TYPE)
    if map_type is not None and map_type not in ("atomic", "granular"):
        errors.append(fields.not_supported(f"{path}.{_MAP_TYPE}", map_type, ("atomic", "granular")))
    for name, wanted in ((_MAP_TYPE, "object"), (_LIST_TYPE, "array")):
        if raw.get(name) is not None and raw.get("type") != wanted:
            detail = f"must be {wanted} if {name} is specified"
            errors.append(fields.invalid(f"{path}.type", raw.get("type"), detail))


def _check_list(raw: JSON, path: str, errors: list[FieldError]) -> None:
    list_type, keys = raw.get(_LIST_TYPE), raw.get(_LIST_KEYS) or []
    if list_type not in (None, "atomic", "set", "map"):
        errors.append(
            fields.not_supported(f"{path}.{_LIST_TYPE}", list_type, ("atomic", "set", "map"))
        )
    if keys and list_type != "map":
        detail = f"must be map if {_LIST_KEYS} is non-empty"
        errors.append(fields.invalid(f"{path}.{_LIST_TYPE}", list_type, detail))
    items = raw.get("items")
    if not isinstance(items, dict):
        return
    if list_type == "set":
        _check_set_items(items, path, errors)
    if list_type in ("set", "map") and items.get("nullable"):
        detail = f"cannot be nullable when {_LIST_TYPE} is {list_type}"
        errors.append(fields.forbidden(f"{path}.items.nullable", detail))
    if list_type == "map":
        if not keys:
            detail = f"must not be empty if {_LIST_TYPE} is map"
            errors.append(fields.required(f"{path}.{_LIST_KEYS}", detail))
        _check_map_items(items, keys, path, errors)


def _check_set_items(items: JSON, path: str, errors: list[FieldError]) -> None:
    detail = f"must be atomic as item of a list with {_LIST_TYPE}=set"
    if items.get("type") == "array" and items.get(_LIST_TYPE) not in (None, "atomic"):
        errors.append(fields.invalid(f"{path}.items.{_LIST_TYPE}", items[_LIST_TYPE], detail))
    if items.get("type") == "object" and items.get(_MAP_TYPE) != "atomic":
        errors.append(fields.invalid(f"{path}.items.{_MAP_TYPE}", items.get(_MAP_TYPE), detail))


def _check_map_items(items: JSON, keys: list[str], path: str, errors: list[FieldError]) -> None:
    if items.get("type") != "object":
        detail = f"must be object if parent array's {_LIST_TYPE} is map"
        errors.append(fields.invalid(f"{path}.items.type", items.get("type"), detail))
        return
    properties = items.get("properties") or {}
    if len(set(keys)) != len(keys):
        detail = "must not contain duplicate entries"
        errors.append(fields.invalid(f"{path}.{_LIST_KEYS}", keys, detail))
    for key in keys:
        spot = f"{path}.items.properties[{key}]"
        prop = properties.get(key)
        if not isinstance(prop, dict):
            detail = "entries must all be names of item properties"
            errors.append(fields.invalid(f"{path}.{_LIST_KEYS}", keys, detail))
            continue
        if prop.get("type") not in _SCALARS:
            detail = f"must be a scalar type if parent array's {_LIST_TYPE} is map"
            errors.append(fields.invalid(f"{spot}.type", prop.get("type"), detail))
        named = f"this property is in {_LIST_KEYS}, so it"
        if key not in (items.get("required") or ()) and prop.get("default") is None:
            detail = f"{named} must have a default or be a required property"
            errors.append(fields.required(f"{spot}.default", detail))
        if prop.get("nullable"):
            errors.append(fields.forbidden(f"{spot}.nullable", f"{named} cannot be nullable"))


def _check_rules(raw: JSON, path: str, errors: list[FieldError]) -> None:
    for index, rule in enumerate(raw.get("x-kubernetes-validations") or ()):
        spot = f"{path}.x-kubernetes-validations[{index}]"
        text, message = rule.get("rule") or "", rule.get("message")
        if not text.strip():
            errors.append(fields.required(f"{spot}.rule", "rule is not specified"))
        if message is not None and not message.strip():
            detail = "must be non-empty if specified"
            errors.append(fields.invalid(f"{spot}.message", message, detail))
        elif message and "\n" in message.strip():
            detail = "must not contain line breaks"
            errors.append(fields.invalid(f"{spot}.message", message, detail))
        elif not message and "\n" in text.strip():
            detail = "message must be specified if rule contains line breaks"
            errors.append(fields.required(f"{spot}.message", detail))


def _check_values(raw: JSON, path: str, errors: list[FieldError]) -> None:
    """Check patterns and bounds here, and what stands under allOf, anyOf, oneOf and not."""
    _check_pattern(raw, path, errors)
    for name in ("anyOf", "allOf", "oneOf"):
        for index, one in enumerate(raw.get(name) or ()):
            if name == "anyOf" and raw.get(_INT_OR_STR) and raw["anyOf"] == _INT_OR_STRING:
                break  # the usual way to write an int-or-string
            if (
                name == "allOf"
                and index == 0
                and raw.get(_INT_OR_STR)
                and one.get("anyOf") == _INT_OR_STRING
            ):
                continue
            _check_nested(one, f"{path}.{name}[{index}]", errors)
    if isinstance(raw.get("not"), dict):
        _check_nested(raw["not"], f"{path}.not", errors)


def _check_pattern(raw: JSON, path: str, errors: list[FieldError]) -> None:
    checked = {
        name: raw[name]
        for name in ("pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
                     "maxProperties", "minimum", "maximum", "multipleOf", "required", "enum")
        if raw.get(name) is not None
    }  # fmt: skip
    for name, value in checked.items():
        try:
            jsonschema_rs.Draft202012Validator(
                {name: value}, pattern_options=jsonschema_rs.RegexOptions()
            )
        except ValueError as error:
            text = str(error).partition("\n")[0]
            detail = (
                f"must be a valid regular expression, but isn't: {text}"
                if name == "pattern"
                else f"must be valid, but isn't: {text}"
            )
            errors.append(fields.invalid(f"{path}.{name}", value, detail))


def _check_nested(raw: Any, path: str, errors: list[FieldError]) -> None:
    if not isinstance(raw, dict):
        errors.append(fields.invalid(path, raw, "must be a schema"))
        return
    errors.extend(
        fields.forbidden(f"{path}.{name}", detail)
        for name, detail in _NESTED_FORBIDDEN.items()
        if raw.get(name)
    )
    _check_refused({k: v for k, v in raw.items() if k != "additionalProperties"}, path, errors)
    _check_values(raw, path, errors)
    for name, one in (raw.get("properties") or {}).items():
        if name == "metadata":
            detail = "must not be specified in a nested context"
            errors.append(fields.forbidden(f"{path}.properties[metadata]", detail))
        _check_nested(one, f"{path}.properties[{name}]", errors)
    if isinstance(raw.get("items"), dict):
        _check_nested(raw["items"], f"{path}.items", errors)


def _alternatives(raw: JSON, path: str) -> Iterator[tuple[JSON, str]]:
    """Return the schemas under allOf, anyOf, oneOf and not."""
    for name in ("allOf", "anyOf", "oneOf"):
        for index, one in enumerate(raw.get(name) or ()):
            if isinstance(one, dict):
                yield one, f"{path}.{name}[{index}]"
    if isinstance(raw.get("not"), dict):
        yield raw["not"], f"{path}.not"


def _check_complete(
    nested: JSON, nested_path: str, whole: JSON, path: str, errors: list[FieldError]
) -> None:
    """Every field that an alternative speaks of must be declared outside of it."""
    declared = whole.get("properties") or {}
    for name, one in (nested.get("properties") or {}).items():
        spot = f"{nested_path}.properties[{name}]"
        if not isinstance(declared.get(name), dict):
            where = f"{path}.properties[{name}]"
            errors.append(fields.required(where, f"because it is defined in {spot}"))
        elif isinstance(one, dict):
            _check_complete(one, spot, declared[name], f"{path}.properties[{name}]", errors)
    if isinstance(nested.get("items"), dict):
        if not isinstance(whole.get("items"), dict):
            detail = f"because it is defined in {nested_path}.items"
            errors.append(fields.required(f"{path}.items", detail))
        else:
            spot = f"{nested_path}.items"
            _check_complete(nested["items"], spot, whole["items"], f"{path}.items", errors)
    for one, spot in _alternatives(nested, nested_path):
        _check_complete(one, spot, whole, path, errors)


def _check_root(raw: JSON, path: str, level: _Level, errors: list[FieldError]) -> None:
    """What concerns apiVersion, kind and metadata at the root."""
    if level is not _Level.ROOT:
        return
    if raw.get("additionalProperties") is not None:
        detail = "must not be used at the root"
        errors.append(fields.forbidden(f"{path}.additionalProperties", detail))
    if raw.get("nullable"):
        errors.append(fields.forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    properties = raw.get("properties") or {}
    for name in ("kind", "apiVersion"):
        prop = properties.get(name)
        if isinstance(prop, dict) and prop.get("type") != "string":
            spot = f"{path}.properties[{name}].type"
            errors.append(fields.invalid(spot, prop.get("type"), "must be string"))
    metadata = properties.get("metadata")
    if isinstance(metadata, dict):
        spot = f"{path}.properties[metadata]"
        if metadata.get("type") != "object":
            errors.append(fields.invalid(f"{spot}.type", metadata.get("type"), "must be object"))
        allowed = {"type", "description", "properties"}
        named = set(metadata.get("properties") or ())
        if set(metadata) - allowed or named - {"name", "generateName"}:
            detail = (
                "must not specify anything other than name and generateName, but metadata is "
                "implicitly specified"
            )
            errors.append(fields.forbidden(spot, detail))
