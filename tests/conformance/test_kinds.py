"""What is particular to some built-in kinds: ConfigMaps, Secrets, RBAC, leases, events."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.conformance.samples import config_map, messages
from tests.conformance.target import MERGE, STRATEGIC, Api, Json

RBAC = "/apis/rbac.authorization.k8s.io/v1"
LEASES = "/apis/coordination.k8s.io/v1"
RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
LIMIT = 1024 * 1024


# --- ConfigMaps and Secrets ---------------------------------------------------------------


async def test_secret_values(api: Api) -> None:
    body = {"metadata": {"name": "s"}, "stringData": {"a": "plain"}, "data": {"b": "eA=="}}
    made = (await api.create(api.core("secrets"), body)).ok()
    assert made["data"] == {"a": "cGxhaW4=", "b": "eA=="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made
    reply = await api.patch(api.core("secrets", "s"), {"type": "other"})
    assert (
        'type: Invalid value: "other": field is immutable'
        in (reply.refused(422, "Invalid")["message"])
    )


@pytest.mark.parametrize(
    ("kind", "data", "missing"),
    [
        ("kubernetes.io/tls", {"tls.crt": "eA=="}, ["data[tls.key]"]),
        ("kubernetes.io/dockerconfigjson", {}, ["data[.dockerconfigjson]"]),
        ("kubernetes.io/basic-auth", {}, ["data[username]", "data[password]"]),
        ("kubernetes.io/ssh-auth", {}, ["data[ssh-privatekey]"]),
        (
            "kubernetes.io/service-account-token",
            {},
            ["metadata.annotations[kubernetes.io/service-account.name]"],
        ),
    ],
)
async def test_what_a_secret_of_a_type_must_have(
    api: Api, kind: str, data: Json, missing: list[str]
) -> None:
    body = {"metadata": {"name": "s"}, "type": kind, "data": data}
    refusal = (await api.create(api.core("secrets"), body)).refused(422, "Invalid")
    assert messages(refusal) == [(field, "Required value") for field in missing]


async def test_keys_and_sizes(api: Api) -> None:
    maps = api.core("configmaps")
    refusal = (await api.create(maps, config_map("m", **{"a b": "x"}))).refused(422, "Invalid")
    assert "data[a b]: Invalid value: " in refusal["message"]
    twice = {**config_map("m", a="1"), "binaryData": {"a": "aGk="}}
    refusal = (await api.create(maps, twice)).refused(422, "Invalid")
    assert "duplicate of key present in binaryData" in refusal["message"]
    refusal = (await api.create(maps, config_map("m", a="x" * (LIMIT + 1)))).refused(422, "Invalid")
    assert messages(refusal) == [("[]", "Too long: may not be more than 1048576 bytes")]
    secret = {"metadata": {"name": "s"}, "stringData": {"a": "x" * (LIMIT + 1)}}
    refusal = (await api.create(api.core("secrets"), secret)).refused(422, "Invalid")
    assert messages(refusal) == [("data", "Too long: may not be more than 1048576 bytes")]
    fits = {
        "metadata": {"name": "s"},
        "data": {"a": base64.b64encode(b"x" * LIMIT).decode()},
    }
    (await api.create(api.core("secrets"), fits)).ok()


async def test_immutable_config_map(api: Api) -> None:
    (await api.create(api.core("configmaps"), {**config_map("m", a="1"), "immutable": True})).ok()
    reply = await api.patch(api.core("configmaps", "m"), {"data": {"a": "2"}})
    assert "field is immutable when `immutable` is set" in reply.refused(422, "Invalid")["message"]
    (await api.patch(api.core("configmaps", "m"), {"metadata": {"labels": {"a": "b"}}})).ok()


async def test_an_empty_map_is_left_out(api: Api) -> None:
    made = (await api.create(api.core("configmaps"), config_map("m"))).ok()
    assert "data" not in made


async def test_items_of_a_list_do_not_name_their_type(api: Api) -> None:
    (await api.create(api.core("configmaps"), config_map("m"))).ok()
    body = (await api.get(api.core("configmaps"), fieldSelector="metadata.name=m")).ok()
    assert (body["kind"], body["apiVersion"]) == ("ConfigMapList", "v1")
    assert set(body["items"][0]) == {"metadata"}


# --- RBAC ---------------------------------------------------------------------------------


def binding(name: str, role: str = "r", **fields: Any) -> Json:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
    subjects = [{"kind": "ServiceAccount", "name": "default"}]
    return {"metadata": {"name": name}, "roleRef": reference, "subjects": subjects, **fields}


async def test_roles_are_stored(api: Api) -> None:
    path = api.path(RBAC, "roles")
    made = (await api.create(path, {"metadata": {"name": "r"}, "rules": [RULE]})).ok()
    assert made["rules"] == [RULE]
    empty = (await api.create(path, {"metadata": {"name": "empty"}})).ok()
    assert empty["rules"] is None
    listed = (await api.get(path)).ok()
    assert [one["metadata"]["name"] for one in listed["items"]] == ["empty", "r"]
    (await api.delete(api.path(RBAC, "roles", "r"))).ok()
    (await api.get(api.path(RBAC, "roles", "r"))).refused(404, "NotFound")
    # Their names may be what others may not.
    odd = {"metadata": {"name": "system:x:Y"}, "rules": [RULE]}
    (await api.create(path, odd)).ok()


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        (
            {"apiGroups": [""], "resources": ["pods"]},
            [("rules[0].verbs", "Required value: verbs must contain at least one value")],
        ),
        (
            {"verbs": ["get"]},
            [
                (
                    "rules[0].apiGroups",
                    "Required value: resource rules must supply at least one api group",
                ),
                (
                    "rules[0].resources",
                    "Required value: resource rules must supply at least one resource",
                ),
            ],
        ),
        (
            {"verbs": ["get"], "nonResourceURLs": ["/x"]},
            [
                (
                    "rules[0].nonResourceURLs",
                    'Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs',
                )
            ],
        ),
    ],
)
async def test_malformed_roles(api: Api, rule: Json, found: list[tuple[str, str]]) -> None:
    body = {"metadata": {"name": "r"}, "rules": [rule]}
    refusal = (await api.create(api.path(RBAC, "roles"), body)).refused(422, "Invalid")
    assert messages(refusal) == found


async def test_bindings_are_completed_and_stored(api: Api) -> None:
    short = binding("b", roleRef={"kind": "Role", "name": "r"})
    short["subjects"].append({"kind": "User", "name": "u"})
    made = (await api.create(api.path(RBAC, "rolebindings"), short)).ok()
    assert made["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
    assert made["subjects"] == [
        {"kind": "ServiceAccount", "name": "default"},
        {"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"},
    ]


async def test_a_binding_stays_with_its_role(api: Api) -> None:
    (await api.create(api.path(RBAC, "rolebindings"), binding("b"))).ok()
    path = api.path(RBAC, "rolebindings", "b")
    refusal = (await api.patch(path, {"roleRef": {"name": "other"}})).refused(422, "Invalid")
    assert refusal["message"] == (
        'RoleBinding.rbac.authorization.k8s.io "b" is invalid: roleRef: Invalid value: '
        '{"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"other"}: cannot change '
        "roleRef"
    )
    made = (await api.patch(path, {"subjects": []})).ok()
    assert "subjects" not in made


async def test_malformed_bindings(api: Api) -> None:
    wrong = binding(
        "b",
        roleRef={"kind": "Foo", "name": ""},
        subjects=[{"kind": "Weird", "name": "a"}, {"kind": "ServiceAccount", "name": "Bad_"}],
    )
    refusal = (await api.create(api.path(RBAC, "rolebindings"), wrong)).refused(422, "Invalid")
    found = messages(refusal)
    assert found[:3] == [
        ("roleRef.kind", 'Unsupported value: "Foo": supported values: "Role", "ClusterRole"'),
        ("roleRef.name", "Required value"),
        (
            "subjects[0].kind",
            'Unsupported value: "Weird": supported values: "ServiceAccount", "User", "Group"',
        ),
    ]
    assert found[3][0] == "subjects[1].name"
    cluster = binding("b", roleRef={"kind": "Role", "name": "a"})
    refusal = (await api.create(f"{RBAC}/clusterrolebindings", cluster)).refused(422, "Invalid")
    assert messages(refusal) == [
        ("roleRef.kind", 'Unsupported value: "Role": supported values: "ClusterRole"'),
        ("subjects[0].namespace", "Required value"),
    ]


async def test_a_put_creates_some_kinds(api: Api) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "r"},
        "rules": [RULE],
    }
    assert (await api.put(api.path(RBAC, "roles", "r"), role)).status == 201
    assert (await api.put(api.path(RBAC, "roles", "r"), role)).status == 200
    (await api.put(api.core("configmaps", "m"), config_map("m"))).refused(404, "NotFound")
    role["metadata"] = {"name": "s", "uid": "11111111-2222-3333-4444-555555555555"}
    (await api.put(api.path(RBAC, "roles", "s"), role)).refused(409, "Conflict")


# --- leases -------------------------------------------------------------------------------


def lease(**spec: Any) -> Json:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l"},
        "spec": spec,
    }


async def test_leases_change_hands_once(api: Api) -> None:
    now = "2026-01-01T00:00:00.000001Z"
    body = lease(holderIdentity="a", leaseDurationSeconds=15, renewTime=now, leaseTransitions=0)
    made = (await api.create(api.path(LEASES, "leases"), body)).ok()
    assert made["spec"] == body["spec"]
    path = api.path(LEASES, "leases", "l")
    made["spec"]["holderIdentity"] = "b"
    (await api.put(path, made)).ok()
    (await api.put(path, made)).refused(409, "Conflict")
    guarded = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    (await api.patch(path, {**guarded, "spec": {"holderIdentity": "c"}})).refused(409, "Conflict")
    del made["metadata"]["resourceVersion"]
    refusal = (await api.put(path, made)).refused(422, "Invalid")
    assert "metadata.resourceVersion: Invalid value: " in refusal["message"]


async def test_a_lease_can_be_empty_and_put_first(api: Api) -> None:
    body = lease()
    del body["spec"]
    reply = await api.put(api.path(LEASES, "leases", "l"), body)
    assert (reply.status, reply.json["spec"]) == (201, {})


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (
            {"leaseDurationSeconds": 0},
            ("spec.leaseDurationSeconds", "Invalid value: 0: must be greater than 0"),
        ),
        (
            {"leaseTransitions": -1},
            ("spec.leaseTransitions", "Invalid value: -1: must be greater than or equal to 0"),
        ),
    ],
)
async def test_malformed_leases(api: Api, spec: Json, found: tuple[str, str]) -> None:
    refusal = (await api.create(api.path(LEASES, "leases"), lease(**spec))).refused(422, "Invalid")
    assert messages(refusal) == [found]


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123Z", "soon"])
async def test_times_of_leases_have_six_decimals(api: Api, time: str) -> None:
    reply = await api.create(api.path(LEASES, "leases"), lease(renewTime=time))
    reply.refused(400, "BadRequest")


# --- events -------------------------------------------------------------------------------


def event(api: Api, name: str = "e", **fields: Any) -> Json:
    about = {"kind": "Widget", "name": "a", "namespace": api.namespace}
    return {"metadata": {"name": name}, "involvedObject": about, "reason": "Tested", **fields}


async def test_events_show_their_empty_fields(api: Api) -> None:
    made = (await api.create(api.core("events"), event(api))).ok()
    empty: Json = {
        "eventTime": None,
        "firstTimestamp": None,
        "lastTimestamp": None,
        "reportingComponent": "",
        "reportingInstance": "",
        "source": {},
    }
    assert {name: made[name] for name in empty} == empty
    patched = (await api.patch(api.core("events", "e"), {"count": 2}, STRATEGIC)).ok()
    assert (patched["count"], patched["source"]) == (2, {})
    patched = (await api.patch(api.core("events", "e"), {"message": "m"}, MERGE)).ok()
    assert (patched["message"], patched["eventTime"]) == ("m", None)


async def test_an_event_lies_beside_its_object(api: Api) -> None:
    for about in ({"namespace": "default"}, {"kind": "Node", "name": "n"}, {}):
        body = event(api, involvedObject=about)
        refusal = (await api.create(api.core("events"), body)).refused(422, "Invalid")
        assert refusal["details"]["causes"][0]["field"] == "involvedObject.namespace"
        assert "does not match event.namespace" in refusal["message"]
    # Those of cluster-scoped objects are in the namespace "default".
    body = event(api, involvedObject={"kind": "Node", "name": "n"})
    body["metadata"] = {"generateName": f"{api.namespace}-"}
    made = (await api.create("/api/v1/namespaces/default/events", body)).ok()
    name = made["metadata"]["name"]
    (await api.delete(f"/api/v1/namespaces/default/events/{name}")).ok()


async def test_events_are_selected_by_what_they_are_about(api: Api) -> None:
    for name, fields in (("a", {}), ("b", {"reason": "Other"}), ("c", {"type": "Warning"})):
        (await api.create(api.core("events"), event(api, name, **fields))).ok()
    for selector, expected in (
        ("reason=Other", ["b"]),
        ("type=Warning", ["c"]),
        ("involvedObject.name=a,reason=Tested", ["a", "c"]),
        ("involvedObject.kind!=Widget", []),
    ):
        found = (await api.get(api.core("events"), fieldSelector=selector)).ok()["items"]
        assert [one["metadata"]["name"] for one in found] == expected, selector
    (await api.get(api.core("events"), fieldSelector="message=x")).refused(400, "BadRequest")


async def test_fields_that_kinds_can_be_selected_by(api: Api) -> None:
    for plural, field in (
        ("pods", "spec.nodeName"),
        ("pods", "spec.restartPolicy"),
        ("pods", "spec.schedulerName"),
        ("pods", "spec.serviceAccountName"),
        ("pods", "spec.hostNetwork"),
        ("pods", "status.phase"),
        ("pods", "status.podIP"),
        ("pods", "status.nominatedNodeName"),
        ("secrets", "type"),
    ):
        (await api.get(api.core(plural), fieldSelector=f"{field}=x")).ok()
    (await api.get("/api/v1/nodes", fieldSelector="spec.unschedulable=true")).ok()
    (await api.get("/api/v1/namespaces", fieldSelector="status.phase=Active")).ok()
    reply = await api.get(api.core("configmaps"), fieldSelector="data=x")
    assert reply.refused(400, "BadRequest")["message"].endswith(
        '"data" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )
