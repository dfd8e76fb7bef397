"""Value validation, in the words of a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.server.kinds.structural_schema import StructuralSchema

SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "minLength": 1, "maxLength": 5},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
        "small": {"type": "integer", "format": "int32"},
        "ratio": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        "mode": {"type": "string", "enum": ["a", "b"]},
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "when": {"type": "string", "format": "date-time"},
        "loose": {"type": "string", "format": "no-such-format"},
        "port": {"x-kubernetes-int-or-string": True},
        "maybe": {"type": "string", "nullable": True, "enum": ["x"]},
        "args": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {
                "type": "object",
                "required": ["key"],
                "properties": {"key": {"type": "string"}},
            },
        },
        "labels": {
            "type": "object",
            "maxProperties": 1,
            "additionalProperties": {"type": "string"},
        },
        "either": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        "some": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        "never": {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "not": {"required": ["a"]},
        },
    },
}
SCHEMA = StructuralSchema({"type": "object", "properties": {"spec": SPEC}})


def problems(**spec: Any) -> list[str]:
    obj = {"spec": {"image": "x", **spec}}
    return [str(error) for error in SCHEMA.validate(obj, None)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"replicas": "abc"},
            'spec.replicas: Invalid value: "string": spec.replicas in body must be '
            'of type integer: "string"',
        ),
        (
            {"replicas": True},
            'spec.replicas: Invalid value: "boolean": spec.replicas in body must '
            'be of type integer: "boolean"',
        ),
        (
            {"replicas": 0},
            "spec.replicas: Invalid value: 0: spec.replicas in body should be "
            "greater than or equal to 1",
        ),
        (
            {"replicas": 11},
            "spec.replicas: Invalid value: 11: spec.replicas in body should be "
            "less than or equal to 10",
        ),
        (
            {"small": 2**31},
            "spec.small: Invalid value: 2147483648: Checked value must be of type "
            "integer with format int32 in spec.small",
        ),
        ({"ratio": 0}, "spec.ratio: Invalid value: 0: spec.ratio in body should be greater than 0"),
        ({"mode": "c"}, 'spec.mode: Unsupported value: "c": supported values: "a", "b"'),
        (
            {"name": "A"},
            "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        ),
        (
            {"name": "a\n"},
            "spec.name: Invalid value: \"a\\n\": spec.name in body should match '^[a-z]+$'",
        ),
        (
            {"image": ""},
            'spec.image: Invalid value: "": spec.image in body should be at least 1 chars long',
        ),
        ({"image": "abcdef"}, "spec.image: Too long: may not be more than 5 bytes"),
        (
            {"when": "soon"},
            'spec.when: Invalid value: "soon": spec.when in body must be of type date-time: "soon"',
        ),
        (
            {"port": 1.5},
            'spec.port: Invalid value: "number": spec.port in body must be of type '
            'integer,string: "number"',
        ),
        (
            {"args": []},
            "spec.args: Invalid value: 0: spec.args in body should have at least 1 items",
        ),
        ({"args": [{"key": "a"}] * 3}, "spec.args: Too many: 3: must have at most 2 items"),
        ({"args": [{}]}, "spec.args[0].key: Required value"),
        (
            {"args": [None]},
            'spec.args[0]: Invalid value: "null": spec.args[0] in body must be of '
            'type object: "null"',
        ),
        (
            {"labels": {"a": 1}},
            'spec.labels.a: Invalid value: "integer": spec.labels.a in body must '
            'be of type string: "integer"',
        ),
        ({"labels": {"a": "1", "b": "2"}}, "spec.labels: Too many: 2: must have at most 1 item"),
        ({"maybe": "y"}, 'spec.maybe: Unsupported value: "y": supported values: "x"'),
        (
            {"never": {"a": "x"}},
            '<nil>: Invalid value: "": "spec.never" must not validate the schema (not)',
        ),
    ],
)
def test_words_a_finding_as_kubernetes_does(spec: dict[str, Any], expected: str) -> None:
    assert problems(**spec) == [expected]


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 3},
        {"replicas": 3.0},
        {"port": 80},
        {"port": "http"},
        {"maybe": None},
        {"loose": "anything"},
        {"when": "2024-01-02T03:04:05.123456789Z"},
        {"either": {"a": "x"}},
        {"labels": {"a": "b"}},
    ],
)
def test_accepts(spec: dict[str, Any]) -> None:
    assert problems(**spec) == []


def test_names_a_missing_field() -> None:
    (error,) = SCHEMA.validate({"spec": {}}, None)
    assert (error.path, error.reason, error.message) == (
        "spec.image", "FieldValueRequired", "Required value"
    )  # fmt: skip


def test_says_how_many_alternatives_fit() -> None:
    head = '<nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). '
    assert problems(either={"a": "1", "b": "2"}) == [f"{head}Found 2 valid alternatives"]
    assert problems(either={}) == [f"{head}Found none valid", "spec.either.a: Required value"]
    assert problems(some={}) == [
        '<nil>: Invalid value: "": "spec.some" must validate at least one schema (anyOf)',
        "spec.some.a: Required value",
    ]


def test_forgives_what_an_update_leaves_alone() -> None:
    old = {"spec": {"image": "x", "replicas": 99}}
    assert SCHEMA.validate({"spec": {"image": "y", "replicas": 99}}, old) == []
    (error,) = SCHEMA.validate({"spec": {"image": "y", "replicas": 98}}, old)
    assert error.path == "spec.replicas"


def test_does_not_forgive_a_new_error_in_an_old_list() -> None:
    old = {"spec": {"image": "x", "args": [{"key": "a"}]}}
    new = {"spec": {"image": "x", "args": [{"key": "a"}, {}]}}
    assert [error.path for error in SCHEMA.validate(new, old)] == ["spec.args[1].key"]
