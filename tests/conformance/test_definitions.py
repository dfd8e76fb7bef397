"""Custom resource definitions: how they come, change and go."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conformance.target import Api, Json, real_only, widget, widget_crd
from tests.edits import put

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@asynccontextmanager
async def own_kind(api: Api) -> AsyncIterator[str]:
    """Define a kind of the case's own; yields its plural name and group, joined."""
    group = f"g{secrets.token_hex(3)}.taskctl.test"
    name = f"gadgets.{group}"
    made = (await api.create(CRDS, widget_crd(group, "gadgets"))).ok()
    assert made["metadata"]["name"] == name
    try:
        await api.until(f"/apis/{group}/v1/gadgets", lambda body: True)
        yield group
    finally:
        await api.delete(f"{CRDS}/{name}")
        await api.gone(f"{CRDS}/{name}")


def gadget(group: str, name: str) -> Json:
    return {**widget(name), "apiVersion": f"{group}/v1", "kind": "Gadget"}


async def test_a_definition_is_established(api: Api) -> None:
    async with own_kind(api) as group:
        found = await api.until(
            f"{CRDS}/gadgets.{group}",
            lambda body: (
                {c["type"]: c["status"] for c in body["status"].get("conditions", ())}.get(
                    "Established"
                )
                == "True"
            ),
        )
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions["NamesAccepted"] == "True"
    assert found["status"]["acceptedNames"]["kind"] == "Gadget"
    assert found["status"]["acceptedNames"]["listKind"] == "GadgetList"
    assert found["status"]["storedVersions"] == ["v1"]
    assert found["spec"]["conversion"] == {"strategy": "None"}


async def test_deleting_a_definition_deletes_its_objects(api: Api) -> None:
    async with own_kind(api) as group:
        path = api.path(f"/apis/{group}/v1", "gadgets")
        (await api.create(path, gadget(group, "a"))).ok()
        (await api.delete(f"{CRDS}/gadgets.{group}")).ok()
        await api.gone(f"{CRDS}/gadgets.{group}")
        await api.gone(path)
        # The same definition again does not bring the objects back.
        (await api.create(CRDS, widget_crd(group, "gadgets"))).ok()
        body = await api.until(path, lambda body: True)
        assert body["items"] == []


async def test_a_changed_schema_holds_at_once(api: Api) -> None:
    async with own_kind(api) as group:
        path = api.path(f"/apis/{group}/v1", "gadgets")
        (await api.create(path, gadget(group, "a"))).ok()
        crd = (await api.get(f"{CRDS}/gadgets.{group}")).ok()
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"]["properties"]["shape"] = {
            "type": "string",
            "default": "round",
        }
        (await api.put(f"{CRDS}/gadgets.{group}", crd)).ok()
        found = await api.until(f"{path}/a", lambda body: "shape" in body["spec"])
        assert found["spec"]["shape"] == "round"
        reply = await api.patch(f"{path}/a", {"spec": {"shape": "square"}})
        assert reply.ok()["spec"]["shape"] == "square"


async def test_a_definition_must_be_sound(api: Api) -> None:
    group = f"g{secrets.token_hex(3)}.taskctl.test"
    body = widget_crd(group, "gadgets")
    body["metadata"]["name"] = "wrong"
    refusal = (await api.create(CRDS, body)).refused(422, "Invalid")
    assert (
        'metadata.name: Invalid value: "wrong": must be spec.names.plural+"."+spec.group'
        in (refusal["message"])
    )
    body = widget_crd(group, "gadgets")
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = {
        "properties": {"x": {"type": "string"}}
    }
    refusal = (await api.create(CRDS, body)).refused(422, "Invalid")
    assert "type: Required value: must not be empty" in refusal["message"]


async def test_the_scope_of_a_definition_stays(api: Api) -> None:
    async with own_kind(api) as group:
        await api.until(
            f"{CRDS}/gadgets.{group}",
            lambda body: any(
                one["type"] == "Established" and one["status"] == "True"
                for one in body["status"].get("conditions", ())
            ),
        )
        reply = await api.patch(f"{CRDS}/gadgets.{group}", {"spec": {"scope": "Cluster"}})
        refusal = reply.refused(422, "Invalid")
        assert 'spec.scope: Invalid value: "Cluster": field is immutable' in refusal["message"]


async def test_two_versions_of_one_kind(api: Api) -> None:
    group = f"g{secrets.token_hex(3)}.taskctl.test"
    body = widget_crd(group, "gadgets")
    second = {**body["spec"]["versions"][0], "name": "v2", "storage": False}
    body["spec"]["versions"].append(second)
    (await api.create(CRDS, body)).ok()
    try:
        new, old = (api.path(f"/apis/{group}/{v}", "gadgets") for v in ("v2", "v1"))
        await api.until(new, lambda body: True)
        made = {**gadget(group, "a"), "apiVersion": f"{group}/v2"}
        assert (await api.create(new, made)).ok()["apiVersion"] == f"{group}/v2"
        assert (await api.get(f"{old}/a")).ok()["apiVersion"] == f"{group}/v1"
        items = (await api.get(new)).ok()["items"]
        assert [item["apiVersion"] for item in items] == [f"{group}/v2"]
        changed = (await api.patch(f"{new}/a", {"spec": {"size": 5}})).ok()
        assert (changed["apiVersion"], changed["spec"]["size"]) == (f"{group}/v2", 5)
    finally:
        await api.delete(f"{CRDS}/gadgets.{group}")


def changed(group: str, path: str, value: Any) -> Json:
    """Return a definition with one place changed; ``...`` takes it away."""
    body = widget_crd(group, "gadgets")
    put(body["spec"], path, value)
    return body


SCHEMA = "versions/0/schema/openAPIV3Schema"
FIELD = f"{SCHEMA}/properties/spec/properties/x"
PARTS = {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("group", ..., "spec.group"),
        ("names/kind", ..., "spec.names.kind"),
        ("names/kind", "bad_kind", "spec.names.kind"),
        ("names/shortNames", ["a", "A"], "spec.names.shortNames[1]"),
        ("scope", "World", "spec.scope"),
        ("versions", [], "spec.versions"),
        ("versions/0/storage", False, "spec.versions"),
        ("versions/0/name", "V_1", "spec.versions[0].name"),
        ("versions/0/name", "v" * 64, "spec.versions[0].name"),
        ("names/singular", "w" * 64, "spec.names.singular"),
        ("versions/0/schema", ..., "openAPIV3Schema"),
        ("conversion", {"strategy": "Webhook"}, "spec.conversion"),
        ("preserveUnknownFields", True, "spec.preserveUnknownFields"),
        (f"{SCHEMA}/type", "array", "openAPIV3Schema.type"),
        (f"{SCHEMA}/properties/spec/type", ..., "openAPIV3Schema.properties[spec].type"),
        (FIELD, {"type": "thing"}, "properties[x].type"),
        (FIELD, {"type": "string", "pattern": "("}, "properties[x].pattern"),
        (FIELD, {"type": "string", "default": 5}, "properties[x].default"),
        (FIELD, {"type": "string", "maxLength": 2, "default": "abc"}, "properties[x].default"),
        (
            FIELD,
            {"type": "string", "x-kubernetes-validations": [{"rule": "self.foo =="}]},
            "properties[x].x-kubernetes-validations[0].rule",
        ),
        (
            FIELD,
            {"type": "string", "x-kubernetes-validations": [{"rule": "nobody == 1"}]},
            "properties[x].x-kubernetes-validations[0].rule",
        ),
        (
            FIELD,
            {"type": "string", "x-kubernetes-validations": [{"rule": ""}]},
            "properties[x].x-kubernetes-validations[0].rule",
        ),
        (
            FIELD,
            {**PARTS, "x-kubernetes-list-type": "map"},
            "properties[x].x-kubernetes-list-map-keys",
        ),
        (
            FIELD,
            {**PARTS, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["b"]},
            "properties[x].x-kubernetes-list-map-keys",
        ),
        ("versions/0/selectableFields", [{"jsonPath": ".spec.nothing"}], "selectableFields[0]"),
        ("versions/0/selectableFields", [{"jsonPath": "spec.color"}], "selectableFields[0]"),
        ("versions/0/selectableFields", [{"jsonPath": ".spec.parts"}], "selectableFields[0]"),
        (
            "versions/0/additionalPrinterColumns",
            [{"name": "a", "type": "weird", "jsonPath": ".x"}],
            "additionalPrinterColumns[0].type",
        ),
        (
            "versions/0/additionalPrinterColumns",
            [{"name": "a", "type": "string", "jsonPath": "x"}],
            "additionalPrinterColumns[0].JSONPath",
        ),
    ],
)
async def test_malformed_definitions(api: Api, path: str, value: Any, field: str) -> None:
    body = changed(f"g{secrets.token_hex(3)}.taskctl.test", path, value)
    refusal = (await api.create(CRDS, body, dryRun="All")).refused(422, "Invalid")
    fields = [cause["field"] for cause in refusal["details"]["causes"]]
    # Kubernetes leaves out the version where there is but one.
    assert any(field in one for one in fields), refusal["message"]


@pytest.mark.parametrize("path", ["versions/0/name", "names/kind"])
async def test_names_are_no_longer_than_labels(api: Api, path: str) -> None:
    body = changed(f"g{secrets.token_hex(3)}.taskctl.test", path, "v" * 64)
    refusal = (await api.create(CRDS, body, dryRun="All")).refused(422, "Invalid")
    assert "must be no more than 63 characters" in refusal["message"]
    assert "a DNS-1035 label must consist of" not in refusal["message"]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(
            "self + 1",
            marks=real_only("the embedded one compiles rules without checking their types"),
        ),
        pytest.param(
            "self.matches('(a+)+') && self.contains(self + self + self)",
            marks=real_only("the embedded one finds what rules cost only when they run"),
        ),
    ],
)
async def test_rules_that_are_checked_further(api: Api, rule: str) -> None:
    schema = {"type": "string", "x-kubernetes-validations": [{"rule": rule}]}
    listed = {"type": "array", "items": schema}
    body = changed(f"g{secrets.token_hex(3)}.taskctl.test", FIELD, listed)
    (await api.create(CRDS, body, dryRun="All")).refused(422, "Invalid")


async def test_what_of_a_definition_cannot_change(api: Api) -> None:
    async with own_kind(api) as group:
        path = f"{CRDS}/gadgets.{group}"
        for change in ({"group": "x.y"}, {"names": {"plural": "x"}}, {"names": {"kind": "X"}}):
            (await api.patch(path, {"spec": change})).refused(422, "Invalid")
        (await api.create(CRDS, widget_crd(group, "gadgets"))).refused(409, "AlreadyExists")
