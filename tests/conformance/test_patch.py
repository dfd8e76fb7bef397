"""JSON Patch, merge patch and strategic merge patch; for apply see ``test_apply.py``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.samples import config_map
from tests.conformance.target import GROUP, JSON_PATCH, MERGE, STRATEGIC, Api, Json, widget


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


@pytest.mark.parametrize("body", ["not json", '{"op": "add"}', "[5]", '[{"path": 5}]', ""])
async def test_malformed_json_patch(api: Api, body: str) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    (await api.patch(api.widgets("a"), body, JSON_PATCH)).refused(400, "BadRequest")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "fly", "path": "/spec"},
        {"path": "/spec/size", "value": 3},
        {"op": "add", "path": "spec", "value": 1},
        {"op": "add", "path": "/spec/nope/deep", "value": 1},
        {"op": "add", "path": "/spec/parts/9", "value": {"name": "x"}},
        {"op": "replace", "path": "/spec/parts/9", "value": {"name": "x"}},
        {"op": "remove", "path": "/spec/nope"},
        {"op": "remove", "path": "/spec/parts/x"},
        {"op": "remove", "path": ""},
        {"op": "move", "from": "/spec/nope", "path": "/spec/target"},
        {"op": "test", "path": "/spec/size", "value": 9},
    ],
)
async def test_operations_that_do_not_fit(api: Api, operation: Json) -> None:
    (await api.create(api.widgets(), widget("a", parts=[{"name": "p"}]))).ok()
    reply = await api.patch(api.widgets("a"), [operation], JSON_PATCH)
    # Which operation it was, the server does not say.
    assert reply.refused(422, "Invalid")["message"] == (
        "the server rejected our request due to an error in our request"
    )


@pytest.mark.parametrize(
    ("operation", "field", "value"),
    [
        ({"op": "replace", "path": "/spec/target", "value": "t"}, "target", "t"),
        ({"op": "add", "path": "/spec/target"}, "target", None),
        ({"op": "test", "path": "/spec/target", "value": None}, "target", None),
        ({"op": "remove", "path": "/spec/parts/-1"}, "parts", [{"name": "p"}]),
        (
            {"op": "replace", "path": "/spec/parts/-2", "value": {"name": "r"}},
            "parts",
            [{"name": "r"}, {"name": "q"}],
        ),
        (
            {"op": "add", "path": "/spec/parts/-1", "value": {"name": "r"}},
            "parts",
            [{"name": "p"}, {"name": "q"}, {"name": "r"}],
        ),
    ],
)
async def test_leniencies_of_json_patch(api: Api, operation: Json, field: str, value: Any) -> None:
    (await api.create(api.widgets(), widget("a", parts=[{"name": "p"}, {"name": "q"}]))).ok()
    spec = (await api.patch(api.widgets("a"), [operation], JSON_PATCH)).ok()["spec"]
    assert spec.get(field) == value


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "null", ""])
async def test_malformed_merge_patch(api: Api, body: str) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    (await api.patch(api.widgets("a"), body)).refused(400, "BadRequest")


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [
        (MERGE, {"data": {"a": 1}}, '"{\\"'),
        (JSON_PATCH, [{"op": "add", "path": "/data/a", "value": 1}], '"{\\"'),
        (STRATEGIC, {"data": {"a": 1}}, '"map[data:map[a:1]]": '),
    ],
)
async def test_a_result_of_the_wrong_type(api: Api, kind: str, body: Any, shown: str) -> None:
    (await api.create(api.core("configmaps"), config_map("m", a="x"))).ok()
    refusal = (await api.patch(api.core("configmaps", "m"), body, kind)).refused(422, "Invalid")
    assert refusal["message"].startswith(f' "" is invalid: patch: Invalid value: {shown}')
    assert refusal["details"]["causes"][0]["field"] == "patch"
    assert "kind" not in refusal["details"]


async def test_what_a_patch_may_not_make_of_an_object(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    path = api.widgets("a")
    for change, code, why in (
        ({"metadata": None}, 400, "name must be provided"),
        ({"metadata": {"name": "b"}}, 400, "the name of the object (b) does not match"),
        ({"metadata": {"namespace": "b"}}, 400, "the namespace of the provided object does not"),
        ({"kind": "Gadget"}, 422, 'kind: Invalid value: "Gadget": must be Widget'),
        (
            {"apiVersion": "x.y/v1"},
            422,
            f'Widget.x.y "a" is invalid: apiVersion: Invalid value: "x.y/v1": must be {GROUP}/v1',
        ),
        ({"metadata": {"resourceVersion": None}}, 422, "must be specified for an update"),
        ({"metadata": {"resourceVersion": "0"}}, 422, "must be specified for an update"),
        ({"metadata": {"resourceVersion": "x"}}, 500, "invalid syntax"),
    ):
        reply = await api.patch(path, change)
        assert reply.status == code, (change, reply.text)
        assert why in reply.json["message"]
    gone = [{"op": "remove", "path": "/kind"}]
    refusal = (await api.patch(path, gone, JSON_PATCH)).refused(422, "Invalid")
    assert "Object 'Kind' is missing in '" in refusal["message"]


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
    path = api.core("configmaps", "m")
    made = (await api.patch(path, {"data": {"$patch": "replace", "z": "1"}}, STRATEGIC)).ok()
    assert made["data"] == {"z": "1"}
    reply = await api.patch(path, {"data": {"$retainKeys": ["z"], "y": "1"}}, STRATEGIC)
    assert reply.refused(400, "BadRequest")["message"] == "invalid patch format of retainKeys"
    reply = await api.patch(path, {"$patch": "weird"}, STRATEGIC)
    assert (reply.status, reply.json["message"]) == (
        500,
        "unknown patch type: weird in map: map[$patch:weird]",
    )


async def test_force_is_for_apply(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    for force in ("true", "false"):
        reply = await api.patch(api.widgets("a"), {"spec": {"size": 2}}, force=force)
        assert (
            "force: Forbidden: may not be specified for non-apply patch"
            in (reply.refused(422, "Invalid")["message"])
        )
