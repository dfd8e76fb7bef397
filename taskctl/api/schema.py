"""Pydantic models to CustomResourceDefinitions.

Kubernetes wants *structural* schemas: no ``$ref``, no ``anyOf`` for optional fields, a type
on every node, draft 4's boolean ``exclusiveMinimum``. Pydantic writes JSON Schema 2020-12.
This module rewrites the one into the other, and refuses what it does not know, so that a
new kind of field cannot slip in half translated.

Sources: "Specifying a structural schema" and "Validation rules" in the Kubernetes
documentation of CustomResourceDefinitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from taskctl.constants import GROUP, VERSION
from taskctl.errors import TerminalError

JsonSchema = dict[str, Any]

# Keywords that mean the same on both sides.
_COPIED = frozenset(
    {
        "type", "format", "pattern", "default", "minimum", "maximum", "minLength",
        "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "enum",
        "required", "nullable", "not", "oneOf",
    }
)  # fmt: skip
_DROPPED = frozenset({"title", "$defs"})
_ROOT_DESCRIPTIONS = {
    "apiVersion": "Version of the schema of this object.",
    "kind": "Kind of this object.",
}


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """One of ``additionalPrinterColumns``.

    Attributes:
        name: heading.
        type: string, integer or date.
        path: JSONPath.
        wide: shown by ``kubectl get -o wide`` only.
    """

    name: str
    type: str
    path: str
    wide: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the entry as the CRD has it."""
        entry: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.wide:
            entry["priority"] = 1
        return entry


@dataclass(frozen=True, slots=True)
class Scale:
    """The `scale` subresource, which `kubectl scale` and autoscalers use.

    Attributes:
        spec_replicas: JSON path of the number wanted.
        status_replicas: JSON path of the number there is.
        selector: JSON path of the label selector of the pods, as a string.
    """

    spec_replicas: str
    status_replicas: str
    selector: str

    def to_json(self) -> dict[str, str]:
        """Return the entry as the CRD has it."""
        return {
            "specReplicasPath": self.spec_replicas,
            "statusReplicasPath": self.status_replicas,
            "labelSelectorPath": self.selector,
        }


@dataclass(frozen=True, slots=True)
class KindInfo:
    """What a CRD says besides its schema.

    Attributes:
        model: pydantic model of the whole object.
        plural: resource name.
        short_names: for ``kubectl get``.
        columns: printer columns.
        selectable: JSON paths usable in field selectors (Kubernetes 1.32 and later).
        scale: paths of the `scale` subresource; None: the kind has none. It needs a status.
        status_default: what readers see before the controller writes a status; None: the kind
            has no status subresource; empty: it has one without a default.
    """

    model: type[BaseModel]
    plural: str
    short_names: tuple[str, ...]
    columns: tuple[PrinterColumn, ...]
    selectable: tuple[str, ...] = ()
    scale: Scale | None = None
    status_default: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        """The kind's name."""
        return self.model.__name__


def structural_schema(info: KindInfo) -> JsonSchema:
    """Return the structural schema of a kind's whole object.

    Raises:
        TerminalError: the model uses a JSON Schema keyword that has no translation.
    """
    source = info.model.model_json_schema(by_alias=True, mode="validation")
    properties = {name: node for name, node in source["properties"].items() if name != "metadata"}
    status = properties.pop("status", None)
    for name, description in _ROOT_DESCRIPTIONS.items():
        properties[name] = {"type": "string", "description": description}
    definitions = source.get("$defs", {})
    schema = _translate({**source, "properties": properties}, definitions, info.kind)
    schema["properties"] = {
        "apiVersion": schema["properties"].pop("apiVersion"),
        "kind": schema["properties"].pop("kind"),
        "metadata": {"type": "object"},
        **schema["properties"],
    }
    if status is not None:
        schema["properties"]["status"] = _status_schema(status, definitions, info)
    required = [name for name in source.get("required", []) if name != "metadata"]
    if required:
        schema["required"] = required
    else:
        schema.pop("required", None)
    return schema


def build_crd(info: KindInfo) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind, as JSON."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": structural_schema(info)},
        "additionalPrinterColumns": [column.to_json() for column in info.columns],
    }
    if info.status_default is not None:
        version["subresources"] = {"status": {}}
    if info.scale is not None:
        version["subresources"]["scale"] = info.scale.to_json()
    if info.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in info.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{info.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": info.kind,
                "listKind": f"{info.kind}List",
                "plural": info.plural,
                "singular": info.kind.lower(),
                "shortNames": list(info.short_names),
                "categories": ["taskctl"],
            },
            "versions": [version],
        },
    }


def _status_schema(node: JsonSchema, definitions: JsonSchema, info: KindInfo) -> JsonSchema:
    """Translate the status; the models' own defaults stay out, so that absent stays absent."""
    schema = _translate(node, definitions, f"{info.kind}.status")
    _drop_defaults(schema)
    if info.status_default:
        schema["default"] = dict(info.status_default)
        for name, value in info.status_default.items():
            schema["properties"][name]["default"] = value
    return schema


def _drop_defaults(node: Any) -> None:
    if isinstance(node, dict):
        node.pop("default", None)
        for key, value in node.items():
            for child in value.values() if key == "properties" else (value,):
                _drop_defaults(child)


def _translate(node: JsonSchema, definitions: JsonSchema, path: str) -> JsonSchema:
    """Translate one node and what lies below it. ``path`` is for the error message."""
    node = _resolve(node, definitions)
    result: JsonSchema = {}
    for key, value in node.items():
        match key:
            case "properties":
                result[key] = {
                    name: _translate(child, definitions, f"{path}.{name}")
                    for name, child in value.items()
                }
            case "items":
                result[key] = _translate(value, definitions, f"{path}[]")
            # False: pruning and field validation see to unknown fields. True is written as
            # x-kubernetes-preserve-unknown-fields by the models that mean it.
            case "additionalProperties" if isinstance(value, bool):
                continue
            case "additionalProperties":
                result[key] = _translate(value, definitions, f"{path}[*]")
            case _:
                result.update(_translate_keyword(key, value, node, path))
    return {key: result[key] for key in sorted(result, key=_reading_order)}


def _translate_keyword(key: str, value: Any, node: JsonSchema, path: str) -> JsonSchema:
    """Translate a keyword without schemas below it."""
    if key in _DROPPED or (key == "default" and value is None):
        return {}
    if key == "description":
        return {key: " ".join(value.replace("``", "`").split())}
    if key in _COPIED or key.startswith("x-kubernetes-"):
        return {key: value}
    if key == "const":
        return {"enum": [value]}
    if key == "exclusiveMinimum":
        return {"minimum": value, "exclusiveMinimum": True}
    if key == "anyOf" and node.get("x-kubernetes-int-or-string"):
        return {key: value}
    raise TerminalError(f"{path}: the keyword {key!r} has no translation into a CRD")


def _reading_order(key: str) -> tuple[int, str]:
    """Sort the words for people first, rules and children last."""
    order = ("description", "type", "format", "enum", "default")
    last = ("required", "properties", "items", "additionalProperties", "x-kubernetes-validations")
    if key in order:
        return order.index(key), key
    return (len(order) + 1 + last.index(key), key) if key in last else (len(order), key)


def _resolve(node: JsonSchema, definitions: JsonSchema) -> JsonSchema:
    """Inline a reference or an optional; what stands beside it wins over what it names."""
    beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        return _resolve({**target, **beside}, definitions)
    if "anyOf" in node and not node.get("x-kubernetes-int-or-string"):
        options = [option for option in node["anyOf"] if option != {"type": "null"}]
        if len(options) == 1:
            return _resolve({**options[0], **beside}, definitions)
    return node
