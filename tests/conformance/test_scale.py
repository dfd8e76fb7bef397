"""The scale subresource of custom resources."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import install
from tests.conformance.programs import Kubectl
from tests.conformance.target import JSON_PATCH, MERGE, STRATEGIC, Api, Json, plain_definition

GROUP = "scale.taskctl.test"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PATHS = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def definition(kind: str = "Dial", **paths: str) -> Json:
    number = {"type": "integer"}
    spec = {"replicas": {**number, "maximum": 50}, "other": {"type": "string"}}
    status = {"replicas": number, "selector": {"type": "string"}}
    body = plain_definition(GROUP, kind, spec)
    (version,) = body["spec"]["versions"]
    version["subresources"] = {"status": {}, "scale": paths or PATHS}
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["status"] = {"type": "object", "properties": status}
    return body


def path(api: Api, name: str = "", sub: str = "") -> str:
    return api.path(f"/apis/{GROUP}/v1", "dials", name, sub)


def dial(name: str = "d", **spec: Any) -> Json:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Dial",
        "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": spec,
    }


async def made(api: Api, **spec: Any) -> Json:
    """Return the Scale of a new object."""
    await install(api, definition(), f"/apis/{GROUP}/v1/dials")
    (await api.create(path(api), dial(**spec))).ok()
    if "replicas" not in spec:
        return {}
    return (await api.get(path(api, "d", "scale"))).ok()


async def test_what_a_scale_says(api: Api) -> None:
    scale = await made(api, replicas=3)
    obj = (await api.get(path(api, "d"))).ok()
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    assert scale == {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: obj["metadata"][name] for name in kept},
        "spec": {"replicas": 3},
        "status": {"replicas": 0},
    }
    status = {"status": {"replicas": 2, "selector": "a=b"}}
    (await api.patch(path(api, "d", "status"), status)).ok()
    scale = (await api.get(path(api, "d", "scale"))).ok()
    assert scale["status"] == {"replicas": 2, "selector": "a=b"}
    (await api.get(path(api, "none", "scale"))).refused(404, "NotFound")
    table = "application/json;as=Table;g=meta.k8s.io;v=v1"
    shown = (await api.send("GET", path(api, "d", "scale"), accept=table)).ok()
    assert [one["name"] for one in shown["columnDefinitions"]] == [
        "Name", "Desired", "Available", "Age"
    ]  # fmt: skip
    assert shown["rows"][0]["cells"][:3] == ["d", 3, 2]


async def test_putting_a_scale(api: Api) -> None:
    scale = await made(api, replicas=3, other="kept")
    scale["spec"]["replicas"] = 5
    scale["status"]["replicas"] = 9
    after = (await api.put(path(api, "d", "scale"), scale)).ok()
    assert (after["kind"], after["spec"], after["status"]) == (
        "Scale", {"replicas": 5}, {"replicas": 0}
    )  # fmt: skip
    obj = (await api.get(path(api, "d"))).ok()
    assert obj["spec"] == {"replicas": 5, "other": "kept"}
    assert obj["metadata"]["generation"] == 2
    assert obj["metadata"]["labels"] == {"a": "b"}
    (await api.put(path(api, "d", "scale"), scale)).refused(409, "Conflict")
    del scale["metadata"]["resourceVersion"]
    scale["spec"] = {}
    del scale["kind"], scale["apiVersion"]
    assert (await api.put(path(api, "d", "scale"), scale)).ok()["spec"] == {}
    assert (await api.get(path(api, "d"))).ok()["spec"]["replicas"] == 0
    scale = {**scale, "kind": "Scale", "apiVersion": "autoscaling/v1"}
    dry = {**scale, "spec": {"replicas": 7}}
    assert (await api.put(path(api, "d", "scale"), dry, dryRun="All")).status == 200
    assert (await api.get(path(api, "d"))).ok()["spec"]["replicas"] == 0


async def test_patching_a_scale(api: Api) -> None:
    await made(api, replicas=3)
    for kind, body, found in (
        (MERGE, {"spec": {"replicas": 4}}, 4),
        (JSON_PATCH, [{"op": "replace", "path": "/spec/replicas", "value": 6}], 6),
    ):
        after = (await api.patch(path(api, "d", "scale"), body, kind)).ok()
        assert after["spec"] == {"replicas": found}
    for kind in (STRATEGIC,):
        (await api.patch(path(api, "d", "scale"), {}, kind)).refused(415, "UnsupportedMediaType")
    wrong = {"metadata": {"resourceVersion": "1"}}
    (await api.patch(path(api, "d", "scale"), wrong)).refused(409, "Conflict")
    (await api.patch(path(api, "d", "scale"), {"spec": {"replicas": "x"}})).refused(422, "Invalid")


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"spec": {"replicas": -1}}, 422, "Invalid"),
        ({"spec": {"replicas": 51}}, 422, "Invalid"),
        ({"spec": {"replicas": "1"}}, 400, "BadRequest"),
        ({"kind": "Dial", "apiVersion": f"{GROUP}/v1"}, 400, "BadRequest"),
        ({"metadata": {"name": "other"}}, 400, "BadRequest"),
        ({"metadata": {}}, 400, "BadRequest"),
    ],
)
async def test_scales_that_are_refused(api: Api, change: Json, code: int, reason: str) -> None:
    scale = await made(api, replicas=3)
    del scale["metadata"]["resourceVersion"]
    body = {key: value for key, value in {**scale, **change}.items() if value is not None}
    (await api.put(path(api, "d", "scale"), body)).refused(code, reason)
    assert (await api.get(path(api, "d"))).ok()["spec"]["replicas"] == 3


async def test_an_object_without_replicas(api: Api) -> None:
    await made(api)
    reply = await api.get(path(api, "d", "scale"))
    assert reply.status == 500
    assert ".spec.replicas" in reply.json["message"]
    after = (await api.patch(path(api, "d", "scale"), {"spec": {"replicas": 2}})).ok()
    assert after["spec"] == {"replicas": 2}


async def test_other_verbs(api: Api) -> None:
    scale = await made(api, replicas=3)
    (await api.create(path(api, "d", "scale"), scale)).refused(405, "MethodNotAllowed")
    (await api.delete(path(api, "d", "scale"))).refused(405, "MethodNotAllowed")
    assert (await api.get(api.widgets("x", "scale"))).status == 404


async def test_numbers_in_the_object_itself(api: Api) -> None:
    await made(api, replicas=3)
    refused = (await api.patch(path(api, "d"), {"spec": {"replicas": -2}})).refused(422, "Invalid")
    assert (
        ".spec.replicas: Invalid value: -2: should be a non-negative integer"
        in (refused["message"])
    )
    wrong = {"status": {"replicas": -2}}
    (await api.patch(path(api, "d", "status"), wrong)).refused(422, "Invalid")


async def test_discovery(api: Api) -> None:
    await made(api)
    listed = (await api.get(f"/apis/{GROUP}/v1")).ok()["resources"]
    found = next(one for one in listed if one["name"] == "dials/scale")
    assert (found["group"], found["version"], found["kind"]) == ("autoscaling", "v1", "Scale")
    assert sorted(found["verbs"]) == ["get", "patch", "update"]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ({"statusReplicasPath": ".status.r"}, "specReplicasPath: Required value"),
        ({"specReplicasPath": ".spec.r"}, "statusReplicasPath: Required value"),
        ({**PATHS, "specReplicasPath": "spec.r"}, "must be a simple json path starting with ."),
        ({**PATHS, "specReplicasPath": ".status.r"}, "should be a json path under .spec"),
        ({**PATHS, "statusReplicasPath": ".spec.r"}, "should be a json path under .status"),
        ({**PATHS, "labelSelectorPath": ".metadata.x"}, "under either .spec or .status"),
    ],
)
async def test_paths_of_a_definition(api: Api, paths: dict[str, str], said: str) -> None:
    body = definition("Knob", **paths)
    refused = (await api.create(CRDS, body, dryRun="All")).refused(422, "Invalid")
    assert said in refused["message"]


@pytest.mark.kubectl
async def test_kubectl_scale(api: Api, kubectl: Kubectl) -> None:
    await made(api, replicas=3)
    await kubectl("scale", f"dials.{GROUP}/d", "--replicas=8")
    assert (await api.get(path(api, "d"))).ok()["spec"]["replicas"] == 8
    await kubectl("scale", f"dials.{GROUP}/d", "--replicas=2", "--current-replicas=8")
    assert (await api.get(path(api, "d"))).ok()["spec"]["replicas"] == 2
