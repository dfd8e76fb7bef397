"""CustomResourceDefinitions and the registry of kinds."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from taskctl.embedded.server.definitions.crds import check_crd, kinds_from_crd
from taskctl.embedded.server.kinds.builtin import BUILTINS
from taskctl.embedded.server.kinds.registry import Registry
from tests.edits import put

CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.dev"},
    "spec": {
        "group": "example.dev",
        "scope": "Namespaced",
        "names": {
            "plural": "widgets",
            "kind": "Widget",
            "shortNames": ["wd"],
            "categories": ["all"],
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.size"}],
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1}
                ],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"size": {"type": "integer", "default": 1}},
                            },
                            "status": {"type": "object"},
                        },
                    }
                },
            }
        ],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the CRD with one spot changed; ``...`` removes it."""
    crd = copy.deepcopy(CRD)
    put(crd, path, value)
    return crd


SCHEMA = "spec/versions/0/schema/openAPIV3Schema"
SPEC = f"{SCHEMA}/properties/spec"
AT = "spec.versions[0].schema.openAPIV3Schema"
AT_SPEC = f"{AT}.properties[spec]"


def test_accepts_a_good_one() -> None:
    assert check_crd(CRD) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (
            "metadata/name",
            "x",
            'metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group',
        ),
        (
            "spec/scope",
            "Global",
            'spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced"',
        ),
        ("spec/versions", [], "spec.versions: Required value"),
        ("spec/versions/0/storage", False, "exactly one version marked as storage version"),
        ("spec/conversion", {"strategy": "Webhook"}, "spec.conversion.strategy: Unsupported value"),
        ("spec/preserveUnknownFields", True, "spec.preserveUnknownFields: Invalid value: true"),
        ("spec/names/kind", "Wid get", "spec.names.kind: Invalid value"),
        (SCHEMA, ..., f"{AT}: Required value: schemas are required"),
        (
            f"{SCHEMA}/type",
            "array",
            f'{AT}.type: Invalid value: "array": must be object at the root',
        ),
        (
            f"{SPEC}/type",
            ...,
            f"{AT_SPEC}.type: Required value: must not be empty for specified object fields",
        ),
        (f"{SPEC}/type", "objekt", f"{AT_SPEC}.type: Unsupported value"),
        (f"{SPEC}/$ref", "#/x", f"{AT_SPEC}.$ref: Forbidden"),
        (
            f"{SPEC}/additionalProperties",
            {"type": "string"},
            f"{AT_SPEC}.additionalProperties: Forbidden: additionalProperties and "
            f"properties are mutual exclusive",
        ),
        (
            f"{SPEC}/properties/size/pattern",
            "[",
            f"{AT_SPEC}.properties[size].pattern: Invalid value",
        ),
        (
            f"{SPEC}/properties/size/default",
            "x",
            f"{AT_SPEC}.properties[size].default: Invalid value",
        ),
        (
            f"{SPEC}/properties/list",
            {"type": "array"},
            f"{AT_SPEC}.properties[list].items: Required value: must be specified",
        ),
        (
            f"{SPEC}/anyOf",
            [{"type": "object"}],
            f"{AT_SPEC}.anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            f"{SPEC}/anyOf",
            [{"properties": {"x": {"minimum": 1}}}],
            f"{AT_SPEC}.properties[x]: Required value: because it is defined in "
            f"{AT_SPEC}.anyOf[0].properties[x]",
        ),
        (
            f"{SPEC}/x-kubernetes-validations",
            [{"rule": "self.typo > 1"}],
            f"{AT_SPEC}.x-kubernetes-validations[0].rule: Invalid value",
        ),
        (
            f"{SPEC}/x-kubernetes-validations",
            [{"rule": "a\nb"}],
            f"{AT_SPEC}.x-kubernetes-validations[0].message: Required value",
        ),
        (
            "spec/versions/0/additionalPrinterColumns/0/type",
            "text",
            "additionalPrinterColumns[0].type: Invalid value",
        ),
        (
            "spec/versions/0/additionalPrinterColumns/0/jsonPath",
            ".a[",
            "additionalPrinterColumns[0].JSONPath: Invalid value",
        ),
        (
            "spec/versions/0/additionalPrinterColumns/0/jsonPath",
            "a",
            "additionalPrinterColumns[0].JSONPath: Invalid value",
        ),
        (
            "spec/versions/0/selectableFields/0/jsonPath",
            ".spec.nope",
            "selectableFields[0].jsonPath: Invalid value",
        ),
        (
            "spec/versions/0/selectableFields/0/jsonPath",
            ".metadata.name",
            "must not point to fields in metadata",
        ),
        ("spec/versions/0/subresources", {"scale": {}}, "specReplicasPath: Required value"),
    ],
)
def test_refuses(path: str, value: Any, expected: str) -> None:
    errors = [str(error) for error in check_crd(changed(path, value))]
    assert len(errors) >= 1
    assert any(expected in error for error in errors), errors


@pytest.mark.parametrize(
    ("items", "more", "expected"),
    [
        ({"type": "string"}, {"x-kubernetes-list-map-keys": ["a"]}, "items.type: Invalid value"),
        (
            {"type": "object", "properties": {}},
            {"x-kubernetes-list-map-keys": ["a"]},
            "entries must all be names",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}},
            {"x-kubernetes-list-map-keys": ["a"]},
            "must have a default or be a required property",
        ),
        ({"type": "object", "properties": {}}, {}, "x-kubernetes-list-map-keys: Required value"),
    ],
)
def test_refuses_list_maps_without_usable_keys(
    items: dict[str, Any], more: dict[str, Any], expected: str
) -> None:
    field = {"type": "array", "x-kubernetes-list-type": "map", "items": items, **more}
    errors = [str(error) for error in check_crd(changed(f"{SPEC}/properties/list", field))]
    assert any(expected in error for error in errors), errors


def test_int_or_string_may_be_spelt_out() -> None:
    field = {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
    }
    assert check_crd(changed(f"{SPEC}/properties/port", field)) == []


def test_makes_a_kind_of_every_served_version() -> None:
    crd = copy.deepcopy(CRD)
    old = copy.deepcopy(crd["spec"]["versions"][0])
    old |= {"name": "v1alpha1", "storage": False, "deprecated": True}
    crd["spec"]["versions"].append(old)
    crd["spec"]["versions"].append({**old, "name": "v0", "served": False})
    new, deprecated = kinds_from_crd(crd)
    assert (new.api_version, new.list_kind, new.singular, new.short_names) == (
        "example.dev/v1", "WidgetList", "widget", ("wd",)
    )  # fmt: skip
    assert new.selectable_fields == ("metadata.name", "metadata.namespace", "spec.size")
    assert new.subresources == {"status"}
    assert new.storage
    assert not deprecated.storage
    assert deprecated.deprecation_warning == "example.dev/v1alpha1 Widget is deprecated"
    obj: dict[str, Any] = {"spec": {}}
    assert new.schema is not None
    new.schema.apply_defaults(obj)
    assert obj == {"spec": {"size": 1}}


def test_registry_follows_the_crds() -> None:
    registry = Registry()
    before = registry.generation
    assert registry.by_plural("example.dev", "v1", "widgets") is None
    registry.set_crd_kinds("widgets.example.dev", kinds_from_crd(CRD))
    found = registry.by_plural("example.dev", "v1", "widgets")
    assert found is not None
    assert registry.by_kind("example.dev", "v1", "Widget") is found
    assert registry.generation > before
    assert len(registry.all()) == len(BUILTINS) + 1
    registry.remove("widgets.example.dev")
    registry.remove("widgets.example.dev")
    assert registry.all() == BUILTINS
