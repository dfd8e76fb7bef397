"""How objects go: finalizers, owners, namespaces, definitions."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.conformance.target import GROUP, Api, Json, widget, widget_crd

FINALIZER = "test.taskctl.test/hold"


async def test_finalizers_hold_an_object_back(api: Api) -> None:
    body = widget("a")
    body["metadata"]["finalizers"] = [FINALIZER]
    made = (await api.create(api.widgets(), body)).ok()
    revision = made["metadata"]["resourceVersion"]
    async with api.watch(api.widgets(), resourceVersion=revision) as stream:
        held = (await api.delete(api.widgets("a"))).ok()
        assert held["kind"] == "Widget"
        assert held["metadata"]["deletionTimestamp"]
        assert held["metadata"]["deletionGracePeriodSeconds"] == 0
        assert held["metadata"]["generation"] == 2
        (await api.patch(api.widgets("a"), {"spec": {"size": 9}})).ok()
        (await api.delete(api.widgets("a"))).ok()
        freed = (await api.patch(api.widgets("a"), {"metadata": {"finalizers": None}})).ok()
        assert freed["spec"]["size"] == 9
        events = [(await stream.next())["type"] for _ in range(3)]
    assert events == ["MODIFIED", "MODIFIED", "DELETED"]
    (await api.get(api.widgets("a"))).refused(404, "NotFound")


async def test_no_new_finalizers_on_the_way_out(api: Api) -> None:
    body = widget("a")
    body["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(api.widgets(), body)).ok()
    (await api.delete(api.widgets("a"))).ok()
    change = {"metadata": {"finalizers": [FINALIZER, "test.taskctl.test/more"]}}
    refusal = (await api.patch(api.widgets("a"), change)).refused(422, "Invalid")
    assert (
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being "
        'deleted, found new finalizers []string{"test.taskctl.test/more"}'
    ) in refusal["message"]
    (await api.patch(api.widgets("a"), {"metadata": {"finalizers": None}})).ok()


async def test_deletion_cannot_be_taken_back(api: Api) -> None:
    body = widget("a")
    body["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(api.widgets(), body)).ok()
    held = (await api.delete(api.widgets("a"))).ok()
    del held["metadata"]["deletionTimestamp"]
    after = (await api.put(api.widgets("a"), held)).ok()
    assert after["metadata"]["deletionTimestamp"]
    (await api.patch(api.widgets("a"), {"metadata": {"finalizers": None}})).ok()


def owned_by(owner: Json, name: str, *, blocking: bool = False) -> Json:
    body = widget(name)
    body["metadata"]["ownerReferences"] = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": blocking,
        }
    ]
    return body


async def test_dependents_go_with_their_owner(api: Api) -> None:
    owner = (await api.create(api.widgets(), widget("owner"))).ok()
    child = (await api.create(api.widgets(), owned_by(owner, "child"))).ok()
    (await api.create(api.widgets(), owned_by(child, "grandchild"))).ok()
    (await api.create(api.widgets(), widget("stranger"))).ok()
    (await api.delete(api.widgets("owner"), {"propagationPolicy": "Background"})).ok()
    await api.gone(api.widgets("child"))
    await api.gone(api.widgets("grandchild"))
    (await api.get(api.widgets("stranger"))).ok()


async def test_a_dependent_of_nobody_is_collected(api: Api) -> None:
    owner = (await api.create(api.widgets(), widget("owner"))).ok()
    (await api.delete(api.widgets("owner"))).ok()
    (await api.create(api.widgets(), owned_by(owner, "late"))).ok()
    await api.gone(api.widgets("late"))


async def test_a_namesake_is_not_the_owner(api: Api) -> None:
    owner = (await api.create(api.widgets(), widget("owner"))).ok()
    (await api.delete(api.widgets("owner"))).ok()
    (await api.create(api.widgets(), widget("owner"))).ok()
    (await api.create(api.widgets(), owned_by(owner, "late"))).ok()
    await api.gone(api.widgets("late"))


async def test_one_of_two_owners_is_enough(api: Api) -> None:
    first = (await api.create(api.widgets(), widget("first"))).ok()
    second = (await api.create(api.widgets(), widget("second"))).ok()
    body = owned_by(first, "child")
    body["metadata"]["ownerReferences"] += owned_by(second, "x")["metadata"]["ownerReferences"]
    (await api.create(api.widgets(), body)).ok()
    (await api.delete(api.widgets("first"), {"propagationPolicy": "Background"})).ok()
    left = await api.until(
        api.widgets("child"), lambda body: len(body["metadata"]["ownerReferences"]) == 1
    )
    assert left["metadata"]["ownerReferences"][0]["name"] == "second"
    (await api.delete(api.widgets("second"), {"propagationPolicy": "Background"})).ok()
    await api.gone(api.widgets("child"))


async def test_orphans_stay(api: Api) -> None:
    owner = (await api.create(api.widgets(), widget("owner"))).ok()
    (await api.create(api.widgets(), owned_by(owner, "child"))).ok()
    # The collector of a real server learns of the child by watching.
    await asyncio.sleep(0.5)
    (await api.delete(api.widgets("owner"), {"propagationPolicy": "Orphan"})).ok()
    await api.gone(api.widgets("owner"))
    child = (await api.get(api.widgets("child"))).ok()
    assert "ownerReferences" not in child["metadata"]


async def test_foreground_deletion_waits_for_those_that_block(api: Api) -> None:
    owner = (await api.create(api.widgets(), widget("owner"))).ok()
    body = owned_by(owner, "child", blocking=True)
    body["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(api.widgets(), body)).ok()
    await asyncio.sleep(0.5)
    held = (await api.delete(api.widgets("owner"), {"propagationPolicy": "Foreground"})).ok()
    assert held["metadata"]["finalizers"] == ["foregroundDeletion"]
    await api.until(api.widgets("child"), lambda body: "deletionTimestamp" in body["metadata"])
    (await api.get(api.widgets("owner"))).ok()
    (await api.patch(api.widgets("child"), {"metadata": {"finalizers": None}})).ok()
    await api.gone(api.widgets("owner"))
    await api.gone(api.widgets("child"))


async def test_propagation_policy_must_be_known(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    reply = await api.delete(api.widgets("a"), {"propagationPolicy": "Sideways"})
    assert reply.status in (400, 422)


async def test_a_new_namespace_is_furnished(api: Api) -> None:
    space = (await api.get(f"/api/v1/namespaces/{api.namespace}")).ok()
    assert space["status"]["phase"] == "Active"
    assert space["spec"]["finalizers"] == ["kubernetes"]
    assert space["metadata"]["labels"]["kubernetes.io/metadata.name"] == api.namespace
    await api.until(api.core("serviceaccounts", "default"), lambda body: True)
    await api.until(api.core("configmaps", "kube-root-ca.crt"), lambda body: True)


async def test_deleting_a_namespace_empties_it(api: Api) -> None:
    name = f"doomed-{secrets.token_hex(3)}"
    path = f"/api/v1/namespaces/{name}"
    widgets = f"/apis/{GROUP}/v1/namespaces/{name}/widgets"
    (await api.create("/api/v1/namespaces", {"metadata": {"name": name}})).ok()
    (await api.create(widgets, widget("free"))).ok()
    body = widget("held")
    body["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(widgets, body)).ok()
    (await api.create(f"{path}/configmaps", {"metadata": {"name": "m"}})).ok()
    gone = (await api.delete(path)).ok()
    assert gone["status"]["phase"] == "Terminating"
    await api.gone(f"{widgets}/free")
    await api.gone(f"{path}/configmaps/m")
    refusal = (await api.create(widgets, widget("late"))).refused(403, "Forbidden")
    assert refusal["message"] == (
        f'widgets.{GROUP} "late" is forbidden: unable to create new content in namespace {name} '
        "because it is being terminated"
    )
    assert refusal["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    await api.until(path, lambda body: body["status"]["phase"] == "Terminating")
    (await api.patch(f"{widgets}/held", {"metadata": {"finalizers": None}})).ok()
    await api.gone(path)


async def test_some_namespaces_stay(api: Api) -> None:
    refusal = (await api.delete("/api/v1/namespaces/default")).refused(403, "Forbidden")
    assert refusal["message"] == (
        'namespaces "default" is forbidden: this namespace may not be deleted'
    )


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


async def test_many_objects_go_with_their_namespace(api: Api) -> None:
    name = f"full-{secrets.token_hex(3)}"
    path = f"/api/v1/namespaces/{name}"
    (await api.create("/api/v1/namespaces", {"metadata": {"name": name}})).ok()
    replies = await asyncio.gather(
        *(
            api.create(f"{path}/configmaps", {"metadata": {"name": f"m{index}"}})
            for index in range(450)
        )
    )
    for reply in replies:
        reply.ok()
    (await api.delete(path)).ok()
    await api.gone(path, timeout_s=50.0)


async def test_many_objects_go_with_one_request(api: Api) -> None:
    await asyncio.gather(
        *(
            api.create(api.core("configmaps"), {"metadata": {"name": f"m{index}"}})
            for index in range(450)
        )
    )
    (await api.delete(api.core("configmaps"))).ok()
    left = (await api.get(api.core("configmaps"))).ok()["items"]
    assert [one["metadata"]["name"] for one in left if one["metadata"]["name"][0] == "m"] == []
