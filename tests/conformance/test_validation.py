"""Schemas, rules, unknown fields, dry runs."""

from __future__ import annotations

from tests.conformance.target import GROUP, Api, widget


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
    assert "only green widgets may be that large" in refusal["message"]
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


async def test_secret_values(api: Api) -> None:
    body = {"metadata": {"name": "s"}, "stringData": {"a": "plain"}}
    made = (await api.create(api.core("secrets"), body)).ok()
    assert made["data"] == {"a": "cGxhaW4="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made


async def test_immutable_config_map(api: Api) -> None:
    body = {"metadata": {"name": "m"}, "data": {"a": "1"}, "immutable": True}
    (await api.create(api.core("configmaps"), body)).ok()
    reply = await api.patch(api.core("configmaps", "m"), {"data": {"a": "2"}})
    assert "field is immutable when `immutable` is set" in reply.refused(422, "Invalid")["message"]
