"""Server-side apply: who owns what, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.samples import FINALIZER, config_map
from tests.conformance.target import APPLY, GROUP, Api, Json, Reply, widget


async def apply(api: Api, manager: str, spec: Json, **query: str) -> Reply:
    body = {**widget("a"), "spec": spec}
    return await api.patch(api.widgets("a"), body, APPLY, fieldManager=manager, **query)


async def apply_meta(api: Api, manager: str, **metadata: Any) -> Reply:
    body = {**widget("a"), "metadata": {"name": "a", **metadata}}
    del body["spec"]
    return await api.patch(api.widgets("a"), body, APPLY, fieldManager=manager)


def owned(obj: Json) -> dict[tuple[str, str], Json]:
    """Return fieldsV1 by manager and subresource."""
    return {
        (one["manager"], one.get("subresource", "")): one["fieldsV1"]
        for one in obj["metadata"].get("managedFields", ())
    }


async def test_apply_creates_and_records_who_owns_what(api: Api) -> None:
    reply = await apply(api, "one", {"size": 1, "target": "t"})
    assert reply.status == 201
    (entry,) = reply.json["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    assert (entry["apiVersion"], entry["fieldsType"]) == (f"{GROUP}/v1", "FieldsV1")
    assert entry["fieldsV1"] == {"f:spec": {"f:size": {}, "f:target": {}}}


async def test_apply_removes_what_the_manager_no_longer_names(api: Api) -> None:
    (await apply(api, "one", {"size": 1, "target": "t", "options": {"x": "1"}})).ok()
    spec = (await apply(api, "one", {"size": 1, "options": {"y": "2"}})).ok()["spec"]
    assert "target" not in spec
    assert spec["options"] == {"y": "2"}


async def test_apply_keeps_what_others_own(api: Api) -> None:
    (await apply(api, "one", {"size": 1, "options": {"x": "1"}})).ok()
    (await apply(api, "two", {"size": 1, "options": {"y": "2"}})).ok()
    spec = (await apply(api, "one", {"size": 1})).ok()["spec"]
    assert spec["options"] == {"y": "2"}


async def test_a_field_of_two_stays_until_both_give_it_up(api: Api) -> None:
    (await apply(api, "one", {"size": 1, "target": "t"})).ok()
    (await apply(api, "two", {"size": 1, "target": "t"})).ok()
    after = (await apply(api, "one", {"size": 1})).ok()
    assert after["spec"]["target"] == "t"
    assert set(owned(after)["two", ""]["f:spec"]) == {"f:size", "f:target"}
    assert "target" not in (await apply(api, "two", {"size": 1})).ok()["spec"]


async def test_conflict_and_force(api: Api) -> None:
    (await apply(api, "one", {"size": 1})).ok()
    body = (await apply(api, "two", {"size": 2})).refused(409, "Conflict")
    assert body["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.size'
    assert body["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "one"',
            "field": ".spec.size",
        }
    ]
    forced = (await apply(api, "two", {"size": 2}, force="true")).ok()
    assert forced["spec"]["size"] == 2
    assert set(owned(forced)) == {("two", "")}
    (await apply(api, "one", {"size": 3})).refused(409, "Conflict")


async def test_several_conflicts(api: Api) -> None:
    (await apply(api, "one", {"size": 1, "target": "t", "options": {"x": "1"}})).ok()
    wanted = {"size": 2, "target": "u", "options": {"x": "2"}}
    body = (await apply(api, "two", wanted)).refused(409, "Conflict")
    fields = [".spec.size", ".spec.target", ".spec.options.x"]
    listed = "\n".join(f"- {field}" for field in fields)
    assert body["message"] == (f'Apply failed with 3 conflicts: conflicts with "one":\n{listed}')
    assert [cause["field"] for cause in body["details"]["causes"]] == fields


async def test_update_takes_fields_from_an_applier(api: Api) -> None:
    (await apply(api, "one", {"size": 1})).ok()
    (await api.patch(api.widgets("a"), {"spec": {"size": 7}}, fieldManager="editor")).ok()
    body = (await apply(api, "one", {"size": 1})).refused(409, "Conflict")
    assert 'conflict with "editor" using' in body["message"]


async def test_the_same_value_is_shared(api: Api) -> None:
    (await apply(api, "one", {"size": 1})).ok()
    made = (await apply(api, "two", {"size": 1})).ok()
    assert set(owned(made)) == {("one", ""), ("two", "")}


async def test_lists_merge_by_key(api: Api) -> None:
    (await apply(api, "one", {"size": 1, "parts": [{"name": "p", "count": 1}]})).ok()
    made = (await apply(api, "two", {"size": 1, "parts": [{"name": "q", "count": 2}]})).ok()
    assert {one["name"]: one["count"] for one in made["spec"]["parts"]} == {"p": 1, "q": 2}
    assert owned(made)["two", ""]["f:spec"]["f:parts"] == {
        'k:{"name":"q"}': {".": {}, "f:count": {}, "f:name": {}}
    }


async def test_a_list_item_of_two_owners(api: Api) -> None:
    (await apply(api, "one", {"size": 1, "parts": [{"name": "p", "count": 1}]})).ok()
    (await apply(api, "two", {"size": 1, "parts": [{"name": "p"}]})).ok()
    # "one" gives the item up: what was its alone goes, the item itself stays with "two".
    spec = (await apply(api, "one", {"size": 1})).ok()["spec"]
    assert spec["parts"] == [{"name": "p"}]
    spec = (await apply(api, "two", {"size": 1})).ok()["spec"]
    assert not spec.get("parts")


async def test_the_same_again_changes_nothing(api: Api) -> None:
    (await apply(api, "one", {"size": 1, "target": "t"})).ok()
    # The first write after the creation may store defaults that reading showed before.
    first = (await api.patch(api.widgets("a", "status"), {"status": {"host": "h"}})).ok()
    again = (await apply(api, "one", {"size": 1, "target": "t"})).ok()
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_status_and_spec_are_applied_apart(api: Api) -> None:
    (await apply(api, "one", {"size": 1})).ok()
    path = api.widgets("a", "status")
    body = {**widget("a", size=9), "status": {"host": "h"}}
    made = (await api.patch(path, body, APPLY, fieldManager="two")).ok()
    assert (made["spec"]["size"], made["status"]["host"]) == (1, "h")
    assert owned(made) == {
        ("one", ""): {"f:spec": {"f:size": {}}},
        ("two", "status"): {"f:status": {"f:host": {}}},
    }
    body["status"]["host"] = "i"
    refusal = (await api.patch(path, body, APPLY, fieldManager="three")).refused(409, "Conflict")
    assert refusal["details"]["causes"][0] == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "two" with subresource "status"',
        "field": ".status.host",
    }


async def test_metadata_is_owned_too(api: Api) -> None:
    (await apply(api, "one", {"size": 1})).ok()
    (await apply_meta(api, "two", finalizers=[FINALIZER], labels={"a": "b"})).ok()
    (await apply_meta(api, "three", finalizers=["test.taskctl.test/other"])).ok()
    made = (await apply_meta(api, "two", labels={"a": "b"})).ok()
    assert made["metadata"]["finalizers"] == ["test.taskctl.test/other"]
    assert owned(made)["three", ""] == {
        "f:metadata": {"f:finalizers": {'v:"test.taskctl.test/other"': {}}}
    }
    (await api.patch(api.widgets("a"), {"metadata": {"finalizers": None}})).ok()


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"size": 1, "foo": 1}, ".spec.foo: field not declared in schema"),
        ({"size": "x"}, ".spec.size: expected numeric (int or float), got string"),
        (
            {"size": 1, "target": True},
            ".spec.target: expected string, got &value.valueUnstructured{Value:true}",
        ),
        (
            {"size": 1, "parts": [{"name": "d"}, {"name": "d"}]},
            '.spec.parts: duplicate entries for key [name="d"]',
        ),
        (
            {"size": 1, "parts": [{"count": 1}]},
            ".spec.parts: element 0: associative list with keys has an element that omits all key "
            'fields ["name"] (and doesn\'t have default values for any key fields)',
        ),
    ],
)
async def test_what_the_schema_does_not_declare(api: Api, spec: Json, why: str) -> None:
    for query in ({}, {"fieldValidation": "Ignore"}):
        reply = await apply(api, "one", spec, **query)
        assert (reply.status, reply.json["message"]) == (
            500,
            f"failed to create typed patch object (/a; {GROUP}/v1, Kind=Widget): {why}",
        )


async def test_built_in_kinds(api: Api) -> None:
    path = api.core("configmaps", "m")
    (await api.patch(path, config_map("m", a="1", b="2"), APPLY, fieldManager="one")).ok()
    made = (await api.patch(path, config_map("m", c="3"), APPLY, fieldManager="two")).ok()
    assert made["data"] == {"a": "1", "b": "2", "c": "3"}
    made = (await api.patch(path, config_map("m", a="1"), APPLY, fieldManager="one")).ok()
    assert made["data"] == {"a": "1", "c": "3"}
    reply = await api.patch(path, config_map("m", a="9", c="9"), APPLY, fieldManager="two")
    assert reply.refused(409, "Conflict")["details"]["causes"][0]["field"] == ".data.a"
    reply = await api.patch(path, {**config_map("m"), "foo": 1}, APPLY, fieldManager="two")
    assert reply.json["message"] == (
        "failed to create typed patch object (/m; /v1, Kind=ConfigMap): .foo: field not declared "
        "in schema"
    )


async def test_apply_needs_a_manager(api: Api) -> None:
    body = (await api.patch(api.widgets("a"), widget("a"), APPLY)).refused(422, "Invalid")
    assert body["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for '
        "apply patch"
    )
    for manager, why in (
        ("m" * 129, "Too long: may not be more than 128 bytes"),
        ("a\nb", 'Invalid value: "a\\nb": invalid character U+000A (at position 1)'),
    ):
        body = (await apply(api, manager, {"size": 1})).refused(422, "Invalid")
        assert body["message"] == f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {why}'


async def test_guards(api: Api) -> None:
    (await apply(api, "one", {"size": 1})).ok()
    refusal = (await apply_meta(api, "one", resourceVersion="1")).refused(409, "Conflict")
    assert "the object has been modified" in refusal["message"]
    wrong = "11111111-2222-3333-4444-555555555555"
    (await apply_meta(api, "one", uid=wrong)).refused(422, "Invalid")
    refusal = (await apply_meta(api, "one", managedFields=[])).refused(400, "BadRequest")
    assert refusal["message"] == "metadata.managedFields must be nil"
    body = {**widget("b"), "metadata": {"name": "b", "uid": wrong}}
    reply = await api.patch(api.widgets("b"), body, APPLY, fieldManager="one")
    assert reply.refused(409, "Conflict")["message"] == (
        f'Operation cannot be fulfilled on widgets.{GROUP} "b": uid mismatch: the provided object '
        f"specified uid {wrong}, and no existing object was found"
    )
    body = {**widget("b"), "metadata": {"generateName": "b-"}}
    reply = await api.patch(api.widgets("b"), body, APPLY, fieldManager="one")
    reply.refused(400, "BadRequest")


async def test_dry_runs(api: Api) -> None:
    assert (await apply(api, "one", {"size": 1}, dryRun="All")).status == 201
    (await api.get(api.widgets("a"))).refused(404, "NotFound")
    (await apply(api, "one", {"size": 1})).ok()
    assert (await apply(api, "one", {"size": 2}, dryRun="All")).ok()["spec"]["size"] == 2
    assert (await api.get(api.widgets("a"))).ok()["spec"]["size"] == 1


async def test_an_invalid_result_is_refused(api: Api) -> None:
    (await apply(api, "one", {"size": -1})).refused(422, "Invalid")
    (await api.get(api.widgets("a"))).refused(404, "NotFound")


async def test_the_record_can_be_reset(api: Api) -> None:
    (await apply(api, "one", {"size": 1})).ok()
    reset: Json = {"metadata": {"managedFields": [{}]}}
    made = (await api.patch(api.widgets("a"), reset)).ok()
    assert "managedFields" not in made["metadata"]


async def test_yaml(api: Api) -> None:
    text = f"apiVersion: {GROUP}/v1\nkind: Widget\nmetadata: {{name: a}}\nspec: {{size: 4}}\n"
    made = (await api.patch(api.widgets("a"), text, APPLY, fieldManager="one")).ok()
    assert made["spec"]["size"] == 4
    for text in ("a: [", "- a"):
        reply = await api.patch(api.widgets("a"), text, APPLY, fieldManager="one")
        reply.refused(400, "BadRequest")
