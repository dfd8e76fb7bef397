"""The four kinds of patch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.target import APPLY, GROUP, JSON_PATCH, STRATEGIC, Api, Json, widget


async def test_merge_patch_sets_and_removes(api: Api) -> None:
    (await api.create(api.widgets(), widget("a", target="t", options={"x": "1", "y": "2"}))).ok()
    change = {"spec": {"target": None, "options": {"x": None, "z": "3"}}}
    spec = (await api.patch(api.widgets("a"), change)).ok()["spec"]
    assert "target" not in spec
    assert spec["options"] == {"y": "2", "z": "3"}


async def test_merge_patch_replaces_lists(api: Api) -> None:
    (await api.create(api.widgets(), widget("a", parts=[{"name": "p"}, {"name": "q"}]))).ok()
    spec = (await api.patch(api.widgets("a"), {"spec": {"parts": [{"name": "r"}]}})).ok()["spec"]
    assert spec["parts"] == [{"name": "r"}]


async def test_merge_patch_with_an_old_version(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    version = made["metadata"]["resourceVersion"]
    change = {"metadata": {"resourceVersion": version}, "spec": {"size": 2}}
    (await api.patch(api.widgets("a"), change)).ok()
    body = (await api.patch(api.widgets("a"), change)).refused(409, "Conflict")
    assert body["message"] == (
        f'Operation cannot be fulfilled on widgets.{GROUP} "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_patch_with_another_uid(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    change = {"metadata": {"uid": "11111111-2222-3333-4444-555555555555"}}
    body = (await api.patch(api.widgets("a"), change)).refused(422, "Invalid")
    assert "metadata.uid: Invalid value: " in body["message"]
    assert "field is immutable" in body["message"]


async def test_patch_of_nothing(api: Api) -> None:
    (await api.patch(api.widgets("nobody"), {"spec": {"size": 2}})).refused(404, "NotFound")


async def test_patch_that_makes_the_object_invalid(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    body = (await api.patch(api.widgets("a"), {"spec": {"size": -1}})).refused(422, "Invalid")
    assert body["message"] == (
        f'Widget.{GROUP} "a" is invalid: spec.size: Invalid value: -1: spec.size in body should '
        "be greater than or equal to 0"
    )


async def test_json_patch(api: Api) -> None:
    (await api.create(api.widgets(), widget("a", parts=[{"name": "p"}], target="t"))).ok()
    operations: list[Json] = [
        {"op": "test", "path": "/spec/target", "value": "t"},
        {"op": "add", "path": "/spec/parts/-", "value": {"name": "q"}},
        {"op": "replace", "path": "/spec/size", "value": 9},
        {"op": "remove", "path": "/spec/target"},
    ]
    spec = (await api.patch(api.widgets("a"), operations, JSON_PATCH)).ok()["spec"]
    assert (spec["size"], spec["parts"]) == (9, [{"name": "p"}, {"name": "q"}])
    assert "target" not in spec


async def test_json_patch_whose_test_fails(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    operations = [
        {"op": "replace", "path": "/spec/size", "value": 9},
        {"op": "test", "path": "/spec/color", "value": "green"},
    ]
    (await api.patch(api.widgets("a"), operations, JSON_PATCH)).refused(422, "Invalid")
    assert (await api.get(api.widgets("a"))).ok()["spec"]["size"] == 1


@pytest.mark.parametrize("body", ["not json", '{"op": "add"}', '[{"op": "fly"}]'])
async def test_malformed_json_patch(api: Api, body: str) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    reply = await api.patch(api.widgets("a"), body, JSON_PATCH)
    assert reply.status in (400, 422)


def pod(name: str) -> Json:
    container = {"name": "main", "image": "busybox:1", "env": [{"name": "A", "value": "1"}]}
    return {"metadata": {"name": name}, "spec": {"containers": [container]}}


async def test_strategic_merge_patch_merges_lists_by_key(api: Api) -> None:
    (await api.create(api.core("pods"), pod("p"))).ok()
    conditions = [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]
    path = api.core("pods", "p", "status")
    (await api.patch(path, {"status": {"conditions": conditions}}, STRATEGIC)).ok()
    change = {"status": {"conditions": [{"type": "B", "status": "False"}]}}
    status = (await api.patch(path, change, STRATEGIC)).ok()["status"]
    found = {one["type"]: one["status"] for one in status["conditions"]}
    assert found["A"] == "True"
    assert found["B"] == "False"
    drop = {"status": {"conditions": [{"$patch": "delete", "type": "A"}]}}
    status = (await api.patch(path, drop, STRATEGIC)).ok()["status"]
    assert "A" not in {one["type"] for one in status["conditions"]}


async def test_strategic_merge_patch_of_a_map(api: Api) -> None:
    body = {"metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}}
    (await api.create(api.core("configmaps"), body)).ok()
    change = {"data": {"a": None, "c": "3"}}
    made = (await api.patch(api.core("configmaps", "m"), change, STRATEGIC)).ok()
    assert made["data"] == {"b": "2", "c": "3"}


async def apply(api: Api, manager: str, spec: Json, **query: str) -> Any:
    body = {**widget("a"), "spec": spec}
    return await api.patch(api.widgets("a"), body, APPLY, fieldManager=manager, **query)


async def test_apply_creates_and_records_who_owns_what(api: Api) -> None:
    reply = await apply(api, "one", {"size": 1, "target": "t"})
    assert reply.status == 201
    (entry,) = reply.json["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("one", "Apply")
    assert set(entry["fieldsV1"]["f:spec"]) == {"f:size", "f:target"}


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


async def test_apply_conflict_and_force(api: Api) -> None:
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
    (await apply(api, "one", {"size": 3})).refused(409, "Conflict")


async def test_update_takes_fields_from_an_applier(api: Api) -> None:
    (await apply(api, "one", {"size": 1})).ok()
    (await api.patch(api.widgets("a"), {"spec": {"size": 7}}, fieldManager="editor")).ok()
    body = (await apply(api, "one", {"size": 1})).refused(409, "Conflict")
    assert 'conflict with "editor" using' in body["message"]


async def test_apply_merges_lists_by_key(api: Api) -> None:
    (await apply(api, "one", {"size": 1, "parts": [{"name": "p", "count": 1}]})).ok()
    (await apply(api, "two", {"size": 1, "parts": [{"name": "q", "count": 2}]})).ok()
    spec = (await api.get(api.widgets("a"))).ok()["spec"]
    assert {part["name"]: part["count"] for part in spec["parts"]} == {"p": 1, "q": 2}


async def test_the_same_apply_again_changes_nothing(api: Api) -> None:
    (await apply(api, "one", {"size": 1, "target": "t"})).ok()
    # The first write after the creation may store defaults that reading showed before.
    first = (await api.patch(api.widgets("a", "status"), {"status": {"host": "h"}})).ok()
    again = (await apply(api, "one", {"size": 1, "target": "t"})).ok()
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_apply_needs_a_manager(api: Api) -> None:
    body = (await api.patch(api.widgets("a"), widget("a"), APPLY)).refused(422, "Invalid")
    assert body["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for '
        "apply patch"
    )


async def test_force_is_for_apply(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    reply = await api.patch(api.widgets("a"), {"spec": {"size": 2}}, force="true")
    reply.refused(422, "Invalid")


async def test_patch_cannot_rename(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    reply = await api.patch(api.widgets("a"), {"metadata": {"name": "b"}})
    assert reply.refused(400, "BadRequest")["message"] == (
        "the name of the object (b) does not match the name on the URL (a)"
    )
