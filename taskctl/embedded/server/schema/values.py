"""Value validation: types, bounds, patterns, enumerations, required fields, combinators.

jsonschema-rs does the checking (its regular expressions have the syntax of Go's, unlike
Python's); this module translates OpenAPI v3 to JSON Schema before and the findings to
Kubernetes' wording after. Texts from k8s.io/kube-openapi ``pkg/validation/errors``.
"""

from __future__ import annotations

from typing import Any, Final

import jsonschema_rs

from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.fields import FieldError, Path
from taskctl.embedded.server.schema.formats import CHECKS, QUANTITY_CHECK
from taskctl.embedded.server.schema.walks import QUANTITY

JSON = dict[str, Any]

_COPIED: Final = (
    "pattern", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems",
    "minProperties", "maxProperties", "required", "multipleOf", "title",
)  # fmt: skip
_TYPE_NAMES: Final = {
    type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string",
    list: "array", dict: "object",
}  # fmt: skip
_COMBINATORS: Final = ("allOf", "anyOf", "oneOf")
# Go decodes JSON integers to int64, and int32 where the format says so.
_RANGES: Final = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
_RANGE_TITLE: Final = "k8s-range:"


def translate(raw: JSON) -> JSON:
    """Translate a structural schema to JSON Schema 2020-12."""
    out: JSON = {name: raw[name] for name in _COPIED if name in raw and name != "title"}
    int_or_string = raw.get("x-kubernetes-int-or-string")
    kinds = ["integer", "string"] if int_or_string else [raw["type"]] if raw.get("type") else []
    if raw.get("format") == QUANTITY:  # built-in kinds; JSON may give ``cpu: 1``
        kinds = ["string", "number"]
    nullable = bool(raw.get("nullable"))
    if kinds:
        out["type"] = [*kinds, "null"] if nullable else kinds
    _translate_bounds(raw, out, kinds)
    if raw.get("enum") is not None:
        out["enum"] = [*raw["enum"], None] if nullable else list(raw["enum"])
    if raw.get("properties"):
        out["properties"] = {name: translate(one) for name, one in raw["properties"].items()}
    if isinstance(raw.get("additionalProperties"), dict):
        out["additionalProperties"] = translate(raw["additionalProperties"])
    if isinstance(raw.get("items"), dict):
        out["items"] = translate(raw["items"])
    if raw.get("format") == QUANTITY:
        out["format"] = QUANTITY_CHECK
    elif raw.get("format") in CHECKS and kinds in ([], ["string"]):
        out["format"] = raw["format"]
    return _translate_combinators(raw, out, nullable)


def _translate_bounds(raw: JSON, out: JSON, kinds: list[str]) -> None:
    for name in ("minimum", "maximum"):
        if raw.get(name) is not None:
            exclusive = f"exclusive{name.capitalize()}"
            out[exclusive if raw.get(exclusive) else name] = raw[name]
    if "integer" in kinds:
        size = raw.get("format") if raw.get("format") in _RANGES else "int64"
        low, high = _RANGES[str(size)]
        shown = raw.get("format") or ""
        out["allOf"] = [{"minimum": low, "maximum": high, "title": _RANGE_TITLE + shown}]


def _translate_combinators(raw: JSON, out: JSON, nullable: bool) -> JSON:
    combined: JSON = {}
    for name in _COMBINATORS:
        if raw.get(name):
            combined[name] = [translate(one) for one in raw[name]]
    if isinstance(raw.get("not"), dict):
        combined["not"] = translate(raw["not"])
    if not combined:
        return out
    if nullable:  # Kubernetes checks nothing but the type of a null
        out["if"], out["then"], out["else"] = {"type": "null"}, {}, combined
        return out
    if "allOf" in combined and "allOf" in out:
        combined["allOf"] = [*out["allOf"], *combined["allOf"]]
    return {**out, **combined}


class ValueValidator:
    """Checks values against one schema. Built once; thread-safe."""

    def __init__(self, raw: JSON) -> None:
        self._schema = translate(raw)
        self._validator = jsonschema_rs.Draft202012Validator(
            self._schema,
            formats=dict(CHECKS),
            validate_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )

    def check(self, obj: Any) -> list[tuple[Path, FieldError]]:
        """Return (where, error) for each finding, in schema order."""
        if self._validator.is_valid(obj):
            return []
        found: list[tuple[Path, FieldError]] = []
        for error in self._validator.iter_errors(obj):
            found.extend(_explain(error, self._schema))
        return found


def _explain(error: Any, schema: JSON) -> list[tuple[Path, FieldError]]:
    """Word one finding of jsonschema-rs as Kubernetes does."""
    path: Path = tuple(error.instance_path)
    kind = error.kind.name
    if kind in ("anyOf", "oneOf"):
        return _explain_alternatives(error, path, kind, schema)
    if kind == "not":
        where = "" if not path else fields.format_path(path)
        detail = f'"{where}" must not validate the schema (not)'
        return [(path, fields.invalid(fields.NO_PATH, "", detail))]
    if kind == "required":
        where = fields.format_path((*path, error.kind.property))
        return [(path, fields.required(where))]
    return [(path, _explain_value(error, fields.format_path(path), kind, schema))]


def _explain_alternatives(
    error: Any, path: Path, kind: str, schema: JSON
) -> list[tuple[Path, FieldError]]:
    where = "" if not path else fields.format_path(path)
    context = getattr(error.kind, "context", None) or []
    if kind == "anyOf":
        detail = f'"{where}" must validate at least one schema (anyOf)'
    else:
        valid = sum(1 for branch in context if not branch)
        count = f"Found {valid} valid alternatives" if valid else "Found none valid"
        detail = f'"{where}" must validate one and only one schema (oneOf). {count}'
    found = [(path, fields.invalid(fields.NO_PATH, "", detail))]
    failed = [branch for branch in context if branch]
    if failed and len(failed) == len(context):
        best = min(failed, key=len)
        for one in best:
            found.extend(_explain(one, schema))
    return found


def _explain_value(error: Any, where: str, kind: str, schema: JSON) -> FieldError:
    value, detail = error.instance, error.kind
    name = "" if where == fields.NO_PATH else where
    in_body = f"{name} in body"
    match kind:
        case "type":
            wanted = ",".join(one for one in _declared(error, schema) if one != "null")
            actual = _TYPE_NAMES[type(value)]
            text = f'{in_body} must be of type {wanted}: "{actual}"'
            return fields.type_invalid(where, actual, text)
        case "enum":
            return fields.not_supported(
                where, value, [one for one in detail.options if one is not None]
            )
        case "maxLength":
            return fields.too_long(where, detail.limit)
        case "maxItems" | "maxProperties":
            return fields.too_many(where, len(value), detail.limit)
        case "format":
            text = f"{in_body} must be of type {detail.format}: {fields.render(value)}"
            return fields.type_invalid(where, value, text)
        case "minItems":
            text = f"{in_body} should have at least {detail.limit} items"
            return fields.invalid(where, len(value), text)
        case "minProperties":
            text = f"{in_body} should have at least {detail.limit} properties"
            return fields.invalid(where, len(value), text)
        case "uniqueItems":
            return fields.invalid(where, "", f"{in_body} shouldn't contain duplicates")
        case "minimum" | "maximum":
            size = _range_name(error, schema)
            if size is not None and not -(2**63) <= value < 2**63:
                # Go reads it as a float.
                text = f'{in_body} must be of type integer: "number"'
                return fields.type_invalid(where, "number", text)
            if size is not None:
                said = f"with format {size}" if size else "(default format)"
                text = f"Checked value must be of type integer {said} in {name}"
                return fields.invalid(where, value, text)
    return fields.invalid(where, value, f"{in_body} {_bound_text(kind, detail)}")


def _bound_text(kind: str, detail: Any) -> str:
    match kind:
        case "minLength":
            return f"should be at least {detail.limit} chars long"
        case "pattern":
            return f"should match '{detail.pattern}'"
        case "minimum":
            return f"should be greater than or equal to {fields.render(detail.limit)}"
        case "maximum":
            return f"should be less than or equal to {fields.render(detail.limit)}"
        case "exclusiveMinimum":
            return f"should be greater than {fields.render(detail.limit)}"
        case "exclusiveMaximum":
            return f"should be less than {fields.render(detail.limit)}"
        case "multipleOf":
            return f"should be a multiple of {fields.render(detail.multiple_of)}"
    return f"breaks the schema's rule {kind!r}"


def _declared(error: Any, schema: JSON) -> list[str]:
    """The declared types in the schema's own order, which jsonschema-rs does not keep."""
    spot = _at(schema, error.schema_path)
    return list(spot) if isinstance(spot, list) else list(error.kind.types)


def _range_name(error: Any, schema: JSON) -> str | None:
    holder = _at(schema, error.schema_path[:-1])
    title = holder.get("title", "") if isinstance(holder, dict) else ""
    return title.removeprefix(_RANGE_TITLE) if title.startswith(_RANGE_TITLE) else None


def _at(schema: Any, path: list[Any]) -> Any:
    spot = schema
    for token in path:
        try:
            spot = spot[token]
        except (KeyError, IndexError, TypeError):
            return None
    return spot
