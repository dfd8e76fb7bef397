"""Schemas, rules, unknown fields, dry runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.samples import RULES_NOT_CHECKED, messages
from tests.conformance.target import GROUP, JSON_PATCH, MERGE, Api, widget


async def test_required_field(api: Api) -> None:
    body = {**widget("a"), "spec": {"color": "green"}}
    refusal = (await api.create(api.widgets(), body)).refused(422, "Invalid")
    assert "spec.size: Required value" in refusal["message"]
    assert refusal["details"]["causes"][0] == {
        "reason": "FieldValueRequired",
        "message": "Required value",
        "field": "spec.size",
    }


async def test_wrong_type(api: Api) -> None:
    refusal = (await api.create(api.widgets(), widget("a", size="big"))).refused(422, "Invalid")
    assert (
        'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'
        in refusal["message"]
    )


async def test_rule_over_the_spec(api: Api) -> None:
    refusal = (await api.create(api.widgets(), widget("a", size=500))).refused(422, "Invalid")
    assert messages(refusal) == [
        ("spec", 'Invalid value: "object": only green widgets may be that large')
    ]
    (await api.create(api.widgets(), widget("a", size=500, color="green"))).ok()


async def test_transition_rule(api: Api) -> None:
    (await api.create(api.widgets(), widget("a", fixed="x"))).ok()
    (await api.patch(api.widgets("a"), {"spec": {"size": 2}})).ok()
    reply = await api.patch(api.widgets("a"), {"spec": {"fixed": "y"}})
    assert reply.refused(422, "Invalid")["message"] == (
        f'Widget.{GROUP} "a" is invalid: spec.fixed: Invalid value: "string": fixed cannot be '
        "changed"
    )


async def test_duplicate_list_key(api: Api) -> None:
    body = widget("a", parts=[{"name": "p"}, {"name": "p"}])
    refusal = (await api.create(api.widgets(), body)).refused(422, "Invalid")
    assert 'spec.parts[1]: Duplicate value: {"name":"p"}' in refusal["message"]


async def test_unknown_fields_strict(api: Api) -> None:
    body = widget("a", foo=1, bar={"x": 1})
    reply = await api.create(api.widgets(), body, fieldValidation="Strict")
    assert reply.refused(400, "BadRequest")["message"] == (
        'Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown '
        'field "spec.bar", unknown field "spec.foo"'
    )


async def test_unknown_fields_warn_is_the_default(api: Api) -> None:
    for name, query in (("a", {}), ("b", {"fieldValidation": "Warn"})):
        reply = await api.create(api.widgets(), widget(name, foo=1), **query)
        assert "foo" not in reply.ok()["spec"]
        assert reply.warnings == ['299 - "unknown field \\"spec.foo\\""']


async def test_unknown_fields_ignore(api: Api) -> None:
    reply = await api.create(api.widgets(), widget("a", foo=1), fieldValidation="Ignore")
    assert "foo" not in reply.ok()["spec"]
    assert reply.warnings == []


async def test_unknown_fields_of_a_built_in_kind(api: Api) -> None:
    body = {"metadata": {"name": "m"}, "data": {"a": "1"}, "dota": {}}
    reply = await api.create(api.core("configmaps"), body, fieldValidation="Strict")
    assert reply.refused(400, "BadRequest")["message"] == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
        'unknown field "dota"'
    )


async def test_field_given_twice(api: Api) -> None:
    text = '{"metadata": {"name": "m"}, "data": {"a": "1", "a": "2"}}'
    reply = await api.send("POST", api.core("configmaps"), text, fieldValidation="Strict")
    assert 'duplicate field "data.a"' in reply.refused(400, "BadRequest")["message"]
    reply = await api.send("POST", api.core("configmaps"), text)
    assert reply.ok()["data"] == {"a": "2"}
    assert reply.warnings == ['299 - "duplicate field \\"data.a\\""']
    text = '{"data": {"b": "1", "b": "2"}}'
    reply = await api.patch(api.core("configmaps", "m"), text)
    assert reply.warnings == ['299 - "duplicate field \\"data.b\\""']
    assert reply.ok()["data"]["b"] == "2"
    reply = await api.patch(api.core("configmaps", "m"), text, fieldValidation="Strict")
    assert reply.refused(422, "Invalid")["message"].endswith(
        'strict decoding error: duplicate field "data.b"'
    )
    reply = await api.patch(api.core("configmaps", "m"), text, fieldValidation="Ignore")
    assert reply.warnings == []


async def test_unknown_fields_of_the_metadata(api: Api) -> None:
    body = widget("a")
    body["metadata"]["foo"] = 1
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "bar": 1}
    body["metadata"]["ownerReferences"] = [owner]
    reply = await api.create(api.widgets(), body)
    assert "foo" not in reply.ok()["metadata"]
    assert sorted(reply.warnings) == [
        '299 - "unknown field \\"metadata.foo\\""',
        '299 - "unknown field \\"metadata.ownerReferences[0].bar\\""',
    ]


async def test_unknown_fields_are_told_in_order(api: Api) -> None:
    body = {"metadata": {"name": "m", "z": 1}, "data": {}, "y": 1, "x": 1}
    reply = await api.create(api.core("configmaps"), body)
    assert reply.warnings == [
        f'299 - "unknown field \\"{name}\\""' for name in ("metadata.z", "y", "x")
    ]


@pytest.mark.parametrize("kind", [MERGE, JSON_PATCH])
async def test_unknown_fields_of_a_patch(api: Api, kind: str) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    body: Any = {"spec": {"foo": 1}}
    if kind == JSON_PATCH:
        body = [{"op": "add", "path": "/spec/foo", "value": 1}]
    reply = await api.patch(api.widgets("a"), body, kind)
    assert "foo" not in reply.ok()["spec"]
    assert reply.warnings == ['299 - "unknown field \\"spec.foo\\""']
    reply = await api.patch(api.widgets("a"), body, kind, fieldValidation="Strict")
    assert reply.refused(422, "Invalid")["message"].endswith(
        'strict decoding error: unknown field "spec.foo"'
    )


async def test_numbers_beyond_64_bits(api: Api) -> None:
    refusal = (await api.create(api.widgets(), widget("a", size=2**63))).refused(422, "Invalid")
    assert messages(refusal)[0] == (
        "spec.size",
        'Invalid value: "number": spec.size in body must be of type integer: "number"',
    )


async def test_nulls_are_absent(api: Api) -> None:
    spec = (await api.create(api.widgets(), widget("a", color=None, target=None))).ok()["spec"]
    assert spec == {"size": 1, "color": "red"}
    refusal = (await api.create(api.widgets(), widget("b", size=None))).refused(422, "Invalid")
    assert messages(refusal)[0] == ("spec.size", "Required value")


async def test_rules_wait_for_the_rest_to_be_valid(api: Api) -> None:
    refusal = (await api.create(api.widgets(), widget("a", size=500, color="blue"))).refused(
        422, "Invalid"
    )
    assert messages(refusal) == [
        ("spec.color", 'Unsupported value: "blue": supported values: "red", "green"'),
        RULES_NOT_CHECKED,
    ]


async def test_wrong_type_in_a_built_in_kind(api: Api) -> None:
    body = {"metadata": {"name": "m"}, "data": {"a": 1}}
    reply = await api.create(api.core("configmaps"), body)
    assert reply.refused(400, "BadRequest")["message"].startswith(
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: '
    )


async def test_dry_run_create(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"), dryRun="All")).ok()
    assert made["spec"]["color"] == "red"
    assert made["metadata"]["uid"]
    (await api.get(api.widgets("a"))).refused(404, "NotFound")
    reply = await api.create(api.widgets(), widget("b", size=-1), dryRun="All")
    reply.refused(422, "Invalid")
    (await api.create(api.widgets(), widget("a"))).ok()
    (await api.create(api.widgets(), widget("a"), dryRun="All")).refused(409, "AlreadyExists")


async def test_dry_run_update_and_delete(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    changed = await api.patch(api.widgets("a"), {"spec": {"size": 2}}, dryRun="All")
    assert changed.ok()["spec"]["size"] == 2
    (await api.delete(api.widgets("a"), dryRun="All")).ok()
    assert (await api.get(api.widgets("a"))).ok()["spec"]["size"] == 1


async def test_dry_run_says_all_or_nothing(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"), dryRun="some")).refused(422, "Invalid")
