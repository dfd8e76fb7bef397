"""Defaulting, pruning, uniqueness."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server.schema import StructuralSchema

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
