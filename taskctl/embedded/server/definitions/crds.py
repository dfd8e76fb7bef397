"""CustomResourceDefinitions: from the object to kinds, and what may be in one.

Rules and texts from k8s.io/apiextensions-apiserver
``pkg/apis/apiextensions/validation/validation.go``.
"""

from __future__ import annotations

import re
from typing import Any, Final

from taskctl.embedded.server.definitions import scale_paths
from taskctl.embedded.server.definitions.structure import check_structure
from taskctl.embedded.server.kinds.model import Column, Kind
from taskctl.embedded.server.kinds.structural_schema import StructuralSchema, compiled
from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.schema.nodes import SchemaNode
from taskctl.embedded.server.schema.walks import apply_defaults, copy_json
from taskctl.embedded.server.tables.jsonpath import PathError, compile_path

JSON = dict[str, Any]

_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_LIMIT: Final = 63
_LABEL_MESSAGE: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "
    "'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = (
    "byte", "date", "date-time", "double", "float", "int32", "int64", "password"
)  # fmt: skip
_SIMPLE_PATH: Final = re.compile(r"(\.[A-Za-z0-9_\-]+)+")
_MAX_SELECTABLE: Final = 8
_DEFAULT_COLUMNS: Final = (
    Column(
        "Age",
        "date",
        description="CreationTimestamp is a timestamp representing the server time when "
        "this object was created.",
        json_path=".metadata.creationTimestamp",
    ),
)


def kinds_from_crd(crd: JSON) -> tuple[Kind, ...]:
    """Return one kind per served version.

    Args:
        crd: a CustomResourceDefinition (v1) that :func:`check_crd` finds no fault with.
    """
    spec = crd["spec"]
    names = spec["names"]
    return tuple(
        _kind_of(spec, names, version) for version in spec["versions"] if version.get("served")
    )


def _kind_of(spec: JSON, names: JSON, version: JSON) -> Kind:
    namespaced = spec["scope"] == "Namespaced"
    common = ("metadata.name", "metadata.namespace") if namespaced else ("metadata.name",)
    extra = tuple(one["jsonPath"].lstrip(".") for one in version.get("selectableFields") or ())
    name = f"{spec['group']}/{version['name']} {names['kind']}"
    return Kind(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        list_kind=names.get("listKind") or f"{names['kind']}List",
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        namespaced=namespaced,
        subresources=frozenset(
            name
            for name, declared in (version.get("subresources") or {}).items()
            if declared is not None
        ),
        columns=_columns_of(version),
        selectable_fields=common + extra,
        storage=bool(version.get("storage")),
        scale=scale_paths.paths_of(version),
        deprecation_warning=(
            version.get("deprecationWarning") or f"{name} is deprecated"
            if version.get("deprecated")
            else ""
        ),
        custom_schema=compiled(version["schema"]["openAPIV3Schema"]),
    )


def _columns_of(version: JSON) -> tuple[Column, ...]:
    declared = version.get("additionalPrinterColumns")
    if not declared:
        return _DEFAULT_COLUMNS
    return tuple(
        Column(
            name=one["name"],
            type=one["type"],
            format=one.get("format") or "",
            description=one.get("description") or "",
            priority=one.get("priority") or 0,
            json_path=one["jsonPath"],
        )
        for one in declared
    )


def check_crd(crd: JSON) -> list[FieldError]:
    """Return what is wrong with a CustomResourceDefinition; empty when it can be served.

    More is refused than on a real server: webhook conversion, and CEL functions that this
    server does not have. Less is: the cost estimate of CEL rules is not computed.
    """
    errors: list[FieldError] = []
    spec = crd.get("spec")
    if not isinstance(spec, dict):
        return [fields.required("spec")]
    _check_names(crd, spec, errors)
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        shown = spec.get("scope")
        errors.append(
            fields.not_supported("spec.scope", shown, ("Cluster", "Namespaced"))
            if shown
            else fields.required("spec.scope")
        )
    if spec.get("preserveUnknownFields"):
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
            "spec.versions[*].schema instead"
        )
        errors.append(fields.invalid("spec.preserveUnknownFields", True, detail))
    strategy = (spec.get("conversion") or {}).get("strategy", "None")
    if strategy != "None":
        errors.append(fields.not_supported("spec.conversion.strategy", strategy, ("None",)))
    _check_versions(spec, errors)
    return errors


def _check_names(crd: JSON, spec: JSON, errors: list[FieldError]) -> None:
    group = spec.get("group")
    if not isinstance(group, str) or not group:
        errors.append(fields.required("spec.group"))
    elif not _SUBDOMAIN.fullmatch(group) or "." not in group:
        errors.append(
            fields.invalid("spec.group", group, "should be a domain with at least one dot")
        )
    names = spec.get("names")
    if not isinstance(names, dict):
        errors.append(fields.required("spec.names"))
        return
    errors.extend(
        fields.required(f"spec.names.{name}") for name in ("plural", "kind") if not names.get(name)
    )
    for name in ("plural", "singular", "kind", "listKind"):
        _check_label(names.get(name), f"spec.names.{name}", errors)
    for name in ("shortNames", "categories"):
        for index, one in enumerate(names.get(name) or ()):
            _check_label(one, f"spec.names.{name}[{index}]", errors)
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        detail = "kind and listKind may not be the same"
        errors.append(fields.invalid("spec.names.listKind", names["listKind"], detail))
    actual = (crd.get("metadata") or {}).get("name")
    wanted = f"{names.get('plural')}.{group}"
    if actual != wanted:
        detail = 'must be spec.names.plural+"."+spec.group'
        errors.append(fields.invalid("metadata.name", actual, detail))


def _check_label(value: Any, path: str, errors: list[FieldError]) -> None:
    """Check a DNS-1035 label; kinds may have capitals."""
    if not value:
        return
    mixed = path.endswith(("kind", "listKind"))
    problems = _label_problems(str(value).lower() if mixed else str(value))
    if problems:
        prefix = "may have mixed case, but should otherwise match: " if mixed else ""
        errors.append(fields.invalid(path, value, prefix + ",".join(problems)))


def _label_problems(text: str) -> list[str]:
    """Say what keeps ``text`` from being a DNS-1035 label."""
    problems = []
    if len(text) > _LABEL_LIMIT:
        problems.append(f"must be no more than {_LABEL_LIMIT} characters")
    if not _LABEL.fullmatch(text):
        problems.append(_LABEL_MESSAGE)
    return problems


def _check_versions(spec: JSON, errors: list[FieldError]) -> None:
    versions = spec.get("versions")
    if not isinstance(versions, list) or not versions:
        errors.append(fields.required("spec.versions"))
        return
    seen: set[str] = set()
    for index, version in enumerate(versions):
        where = f"spec.versions[{index}]"
        name = version.get("name") or ""
        problems = _label_problems(str(name))
        if problems:
            errors.append(fields.invalid(f"{where}.name", name, ",".join(problems)))
        if name in seen:
            detail = "must contain unique version names"
            errors.append(fields.invalid("spec.versions", name, detail))
        seen.add(name)
        _check_version(version, where, errors)
    if sum(1 for one in versions if one.get("storage")) != 1:
        detail = "must have exactly one version marked as storage version"
        errors.append(fields.invalid("spec.versions", sorted(seen), detail))


def _check_version(version: JSON, where: str, errors: list[FieldError]) -> None:
    raw = (version.get("schema") or {}).get("openAPIV3Schema")
    path = f"{where}.schema.openAPIV3Schema"
    if not isinstance(raw, dict):
        errors.append(fields.required(path, "schemas are required"))
        return
    found = check_structure(raw, path)
    errors.extend(found)
    _check_columns(version, where, errors)
    if found:
        return  # a schema that is not structural cannot be compiled
    schema = compiled(raw)
    errors.extend(
        FieldError(f"{path}.{one.path}", one.reason, one.message) for one in schema.rule_errors
    )
    _check_defaults(schema.root, path, errors)
    _check_selectable(version, schema.root, where, errors)
    declared = (version.get("subresources") or {}).get(scale_paths.SUBRESOURCE)
    errors.extend(scale_paths.check_paths(declared, f"{where}.subresources.scale"))


def _check_columns(version: JSON, where: str, errors: list[FieldError]) -> None:
    for index, one in enumerate(version.get("additionalPrinterColumns") or ()):
        path = f"{where}.additionalPrinterColumns[{index}]"
        if not one.get("name"):
            errors.append(fields.required(f"{path}.name"))
        if one.get("type") not in _COLUMN_TYPES:
            detail = f"must be one of {','.join(_COLUMN_TYPES)}"
            errors.append(fields.invalid(f"{path}.type", one.get("type"), detail))
        if one.get("format") and one["format"] not in _COLUMN_FORMATS:
            detail = f"must be one of {','.join(_COLUMN_FORMATS)}"
            errors.append(fields.invalid(f"{path}.format", one["format"], detail))
        text = one.get("jsonPath") or ""
        try:
            compile_path(text)
        except PathError as error:
            errors.append(fields.invalid(f"{path}.JSONPath", text, str(error)))
        else:
            if not text.startswith("."):
                detail = "must be a simple json path starting with ."
                errors.append(fields.invalid(f"{path}.JSONPath", text, detail))


def _check_selectable(
    version: JSON, root: SchemaNode, where: str, errors: list[FieldError]
) -> None:
    declared = version.get("selectableFields") or ()
    if len(declared) > _MAX_SELECTABLE:
        errors.append(fields.too_many(f"{where}.selectableFields", len(declared), _MAX_SELECTABLE))
    seen: set[str] = set()
    for index, one in enumerate(declared):
        path = f"{where}.selectableFields[{index}].jsonPath"
        text = one.get("jsonPath") or ""
        if not text:
            errors.append(fields.required(path))
        elif not _SIMPLE_PATH.fullmatch(text):
            errors.append(fields.invalid(path, text, "is an invalid path: expected .a.b.c"))
        elif text.startswith(".metadata"):
            errors.append(fields.invalid(path, text, "must not point to fields in metadata"))
        elif text in seen:
            errors.append(fields.duplicate(path, text))
        elif _type_at(root, text) not in ("string", "boolean", "integer"):
            detail = (
                "must point to a field of type string, boolean or integer. Enum string fields "
                "and strings with formats are allowed."
            )
            errors.append(fields.invalid(path, text, detail))
        seen.add(text)


def _type_at(root: SchemaNode, path: str) -> str:
    node: SchemaNode | None = root
    for name in path.lstrip(".").split("."):
        node = node.properties.get(name) if node is not None else None
    return node.type if node is not None else ""


def _check_defaults(node: SchemaNode, path: str, errors: list[FieldError]) -> None:
    """A default must itself be valid and complete for the schema that it stands in."""
    if node.has_default:
        value = copy_json(node.default)
        apply_defaults(value, node)
        holder = StructuralSchema(
            {"type": "object", "properties": {"default": {**node.raw, "default": None}}}
        )
        for one in holder.validate({"default": value}, None):
            shown = one.path.removeprefix("default").lstrip(".")
            spot = f"{path}.default" + (f".{shown}" if shown and shown != "<nil>" else "")
            errors.append(FieldError(spot, one.reason, one.message))
        unknown: list[str] = holder.prune({"default": value})
        errors.extend(fields.invalid(f"{path}.default", node.default, one) for one in unknown)
    for name, below in node.properties.items():
        _check_defaults(below, f"{path}.properties[{name}]", errors)
    if node.additional is not None:
        _check_defaults(node.additional, f"{path}.additionalProperties", errors)
    if node.items is not None:
        _check_defaults(node.items, f"{path}.items", errors)
