"""Defaulting, pruning, uniqueness."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server.kinds.builtin_schema import schema_for
from taskctl.embedded.server.kinds.structural_schema import StructuralSchema
from taskctl.embedded.server.refusals.gotext import go_value

RAW: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "default": {},
            "properties": {
                "slots": {"type": "integer", "default": 1},
                "note": {"type": "string"},
                "maybe": {"type": "string", "nullable": True, "default": "d"},
                "env": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "protocol"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "protocol": {"type": "string", "default": "TCP"},
                        },
                    },
                },
                "tags": {
                    "type": "array",
                    "x-kubernetes-list-type": "set",
                    "items": {"type": "string"},
                },
                "free": {"x-kubernetes-preserve-unknown-fields": True},
                "half": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"known": {"type": "object", "properties": {}}},
                },
                "table": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "properties": {"n": {"type": "integer", "default": 7}},
                    },
                },
                "inner": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "properties": {"data": {"type": "string"}},
                },
            },
        }
    },
}
SCHEMA = StructuralSchema(RAW)


def test_fills_in_defaults_at_every_depth() -> None:
    obj: dict[str, Any] = {"spec": {"env": [{"name": "a"}], "table": {"x": {}}}}
    SCHEMA.apply_defaults(obj)
    assert obj["spec"] == {
        "slots": 1,
        "maybe": "d",
        "env": [{"name": "a", "protocol": "TCP"}],
        "table": {"x": {"n": 7}},
    }


def test_default_of_an_absent_parent_is_filled_in_as_well() -> None:
    obj: dict[str, Any] = {}
    SCHEMA.apply_defaults(obj)
    assert obj == {"spec": {"slots": 1, "maybe": "d"}}


def test_null_means_absent_unless_nullable() -> None:
    obj: dict[str, Any] = {"spec": {"slots": None, "note": None, "maybe": None}}
    SCHEMA.apply_defaults(obj)
    assert obj == {"spec": {"slots": 1, "maybe": None}}


def test_a_default_is_copied_not_shared() -> None:
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    SCHEMA.apply_defaults(first)
    SCHEMA.apply_defaults(second)
    first["spec"]["slots"] = 9
    assert second["spec"]["slots"] == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["spec", "slots", "note", "maybe", "env", "name", "tags", "free", "half", "known",
                 "table", "n", "inner", "data", "kind", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["spec", "x", "kind"]), JSON, max_size=3))
def test_defaulting_and_pruning_are_idempotent(obj: dict[str, Any]) -> None:
    SCHEMA.prune(obj)
    SCHEMA.apply_defaults(obj)
    once = copy.deepcopy(obj)
    assert SCHEMA.prune(obj) == []
    SCHEMA.apply_defaults(obj)
    assert obj == once


def test_prunes_unknown_fields_and_names_them() -> None:
    obj: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "X",
        "metadata": {"name": "a", "nam": "b"},
        "extra": 1,
        "spec": {"foo": 1, "env": [{"name": "a", "vale": "b"}], "table": {"k": {"z": 1}}},
    }
    assert SCHEMA.prune(obj) == [
        'unknown field "extra"',
        'unknown field "metadata.nam"',
        'unknown field "spec.env[0].vale"',
        'unknown field "spec.foo"',
        'unknown field "spec.table.k.z"',
    ]
    assert obj == {
        "apiVersion": "v1",
        "kind": "X",
        "metadata": {"name": "a"},
        "spec": {"env": [{"name": "a"}], "table": {"k": {}}},
    }


def test_keeps_unknown_fields_where_told_to() -> None:
    obj: dict[str, Any] = {
        "spec": {"free": {"a": [{"b": 1}]}, "half": {"other": {"x": 1}, "known": {"gone": 1}}}
    }
    assert SCHEMA.prune(obj) == ['unknown field "spec.half.known.gone"']
    assert obj["spec"] == {"free": {"a": [{"b": 1}]}, "half": {"other": {"x": 1}, "known": {}}}


def test_an_embedded_resource_keeps_its_type_and_metadata() -> None:
    inner = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "n"}, "data": "d", "gone": 1}
    obj: dict[str, Any] = {"spec": {"inner": inner}}
    assert SCHEMA.prune(obj) == ['unknown field "spec.inner.gone"']
    assert SCHEMA.validate(obj, None) == []
    del inner["kind"]
    assert [str(error) for error in SCHEMA.validate(obj, None)] == [
        "spec.inner.kind: Required value: must not be empty"
    ]


def test_refuses_duplicates_in_sets_and_maps() -> None:
    obj = {
        "spec": {"tags": ["a", "b", "a"], "env": [{"name": "a"}, {"name": "a", "protocol": "TCP"}]}
    }
    assert [str(error) for error in SCHEMA.validate(obj, None)] == [
        'spec.tags[2]: Duplicate value: "a"',
        'spec.env[1]: Duplicate value: {"name":"a","protocol":"TCP"}',
    ]


def test_keeps_an_object_that_was_stored_with_duplicates() -> None:
    old = {"spec": {"tags": ["a", "a"]}}
    assert SCHEMA.validate({"spec": {"tags": ["a", "a"], "note": "n"}}, old) == []


def test_empty_parts_of_built_in_kinds_are_left_out() -> None:
    schema = schema_for("", "v1", "Pod")
    assert schema is not None
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "labels": {}, "annotations": None},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "nodeSelector": {},
            "tolerations": [],
            "securityContext": {},
            "containers": [{"name": "c", "command": [], "resources": {"limits": {}}, "env": None}],
        },
    }
    schema.settle(pod)
    assert pod == {
        "metadata": {"name": "p"},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "securityContext": {},
            "containers": [{"name": "c", "resources": {}}],
        },
    }


def test_a_definitions_own_json_is_left_alone() -> None:
    schema = schema_for("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    assert schema is not None
    field = {"type": "array", "nullable": True, "default": [], "enum": [[], None]}
    inner = {"type": "object", "properties": {"x": field}}
    version = {
        "name": "v1",
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": inner}}},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [],
    }
    crd = {"spec": {"versions": [copy.deepcopy(version)]}}
    schema.settle(crd)
    del version["additionalPrinterColumns"]
    assert crd == {"spec": {"versions": [version]}}


def test_unknown_fields_are_told_in_the_texts_order() -> None:
    schema = schema_for("", "v1", "ConfigMap")
    assert schema is not None
    obj = {"metadata": {"z": 1, "ownerReferences": [{"uid": "u", "bar": 1}]}, "y": 1, "x": 1}
    assert schema.prune(obj) == [
        f'unknown field "{path}"' for path in ("metadata.z", "metadata.ownerReferences[0].bar",
                                                "y", "x")
    ]  # fmt: skip
    assert obj == {"metadata": {"ownerReferences": [{"uid": "u"}]}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T00:00:00.123456Z", True),
        ("2026-01-01T00:00:00.123456+02:00", True),
        ("2026-01-01T00:00:00.123Z", False),
        ("2026-01-01T00:00:00.1234567Z", False),
        ("2026-01-01T00:00:00Z", False),
        ("2026-13-01T00:00:00.123456Z", False),
    ],
)
def test_micro_times(text: str, expected: bool) -> None:
    schema = schema_for("coordination.k8s.io", "v1", "Lease")
    assert schema is not None
    assert (schema.validate({"spec": {"renewTime": text}}, None) == []) is expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": [1, "x", True, None], "a": {}}, "map[a:map[] b:[1 x true <nil>]]"),
        ([], "[]"),
        ("x", "x"),
        (1.5, "1.5"),
    ],
)
def test_values_as_go_prints_them(value: Any, text: str) -> None:
    assert go_value(value) == text
