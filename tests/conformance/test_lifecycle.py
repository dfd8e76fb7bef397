"""How objects go: finalizers, owners, namespaces."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from tests.conformance.samples import FINALIZER, config_map
from tests.conformance.target import GROUP, Api, Json, widget


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


_AS_MAP: Json = {"apiVersion": "v1", "kind": "ConfigMap"}


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


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("nowhere.taskctl.test/v1", "Thing"),  # no such group
        (f"{GROUP}/v9", "Widget"),  # not in that version
        (f"{GROUP}/v1", "Gadget"),  # no such kind
    ],
)
async def test_owners_of_a_kind_that_is_not_served(api: Api, api_version: str, kind: str) -> None:
    """Nothing can be said of such an owner, so its dependents stay, with their references."""
    owner = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "owner", "uid": "8f1e1c9a-0000-4000-8000-000000000001"},
    }
    (await api.create(api.core("configmaps"), {**owned_by(owner, "child"), **_AS_MAP})).ok()
    # One that can be told to be gone does not help while there is one that cannot.
    gone = (await api.create(api.widgets(), widget("gone"))).ok()
    both = owned_by(owner, "both")
    both["metadata"]["ownerReferences"] += owned_by(gone, "x")["metadata"]["ownerReferences"]
    (await api.create(api.core("configmaps"), {**both, **_AS_MAP})).ok()
    (await api.create(api.core("configmaps"), {**owned_by(gone, "other"), **_AS_MAP})).ok()
    (await api.delete(api.widgets("gone"))).ok()
    await api.gone(api.core("configmaps", "other"))
    await asyncio.sleep(0.5)
    for name, count in (("child", 1), ("both", 2)):
        left = (await api.get(api.core("configmaps", name))).ok()
        assert len(left["metadata"]["ownerReferences"]) == count, name


async def test_an_owner_without_a_namespace(api: Api) -> None:
    path, name = "/apis/rbac.authorization.k8s.io/v1/clusterroles", f"owner-{api.namespace}"
    owner = (await api.create(path, {"metadata": {"name": name}, "rules": []})).ok()
    owner = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", **owner}
    (await api.create(api.core("configmaps"), {**owned_by(owner, "child"), **_AS_MAP})).ok()
    await asyncio.sleep(0.5)
    (await api.get(api.core("configmaps", "child"))).ok()
    (await api.delete(f"{path}/{name}")).ok()
    await api.gone(api.core("configmaps", "child"))


async def test_an_owner_in_another_namespace(api: Api) -> None:
    other = f"{api.namespace}-x"
    (await api.create("/api/v1/namespaces", {"metadata": {"name": other}})).ok()
    try:
        there = api.widgets().replace(api.namespace, other)
        owner = (await api.create(there, widget("owner"))).ok()
        (await api.create(api.widgets(), owned_by(owner, "child"))).ok()
        await api.gone(api.widgets("child"))
        (await api.get(f"{there}/owner")).ok()
        listed = await api.until(
            api.core("events"),
            lambda body: any(one["reason"] == "OwnerRefInvalidNamespace" for one in body["items"]),
        )
        event = next(x for x in listed["items"] if x["reason"] == "OwnerRefInvalidNamespace")
        uid = owner["metadata"]["uid"]
        assert event["message"] == (
            f"ownerRef [{GROUP}/v1/Widget, namespace: {api.namespace}, name: owner, uid: {uid}] "
            f'does not exist in namespace "{api.namespace}"'
        )
        assert event["involvedObject"]["name"] == "child"
        assert event["type"] == "Warning"
    finally:
        await api.delete(f"/api/v1/namespaces/{other}")


async def test_a_dependent_without_a_namespace(api: Api) -> None:
    """It cannot have an owner that has one; the collector leaves it alone."""
    owner = (await api.create(api.widgets(), widget("owner"))).ok()
    path, name = "/apis/rbac.authorization.k8s.io/v1/clusterroles", f"child-{api.namespace}"
    body = owned_by(owner, name)
    for field in ("apiVersion", "kind", "spec"):
        body.pop(field, None)
    (await api.create(path, {**body, "rules": []})).ok()
    await asyncio.sleep(0.5)
    (await api.get(f"{path}/{name}")).ok()
    (await api.delete(f"{path}/{name}")).ok()


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


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [
        ("Foreground", [FINALIZER, "foregroundDeletion"]),
        ("Orphan", [FINALIZER, "orphan"]),
        ("Background", [FINALIZER]),
    ],
)
async def test_policies_become_finalizers(api: Api, policy: str, finalizers: list[str]) -> None:
    body = widget("a")
    body["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(api.widgets(), body)).ok()
    held = (await api.delete(api.widgets("a"), {"propagationPolicy": policy})).ok()
    assert sorted(held["metadata"]["finalizers"]) == sorted(finalizers)
    # The collector has nothing to wait for.
    done = await api.until(
        api.widgets("a"), lambda body: body["metadata"]["finalizers"] == [FINALIZER]
    )
    assert done["metadata"]["deletionTimestamp"]
    (await api.patch(api.widgets("a"), {"metadata": {"finalizers": None}})).ok()
    await api.gone(api.widgets("a"))


async def test_the_last_policy_counts(api: Api) -> None:
    owner = widget("owner")
    owner["metadata"]["finalizers"] = [FINALIZER]
    made = (await api.create(api.widgets(), owner)).ok()
    child = owned_by(made, "child", blocking=True)
    child["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(api.widgets(), child)).ok()
    await asyncio.sleep(0.5)
    (await api.delete(api.widgets("owner"), {"propagationPolicy": "Foreground"})).ok()
    await api.until(api.widgets("child"), lambda body: "deletionTimestamp" in body["metadata"])
    after = (await api.delete(api.widgets("owner"), {"propagationPolicy": "Background"})).ok()
    assert after["metadata"]["finalizers"] == [FINALIZER]
    for name in ("owner", "child"):
        (await api.patch(api.widgets(name), {"metadata": {"finalizers": None}})).ok()
        await api.gone(api.widgets(name))


async def test_dependents_of_another_kind(api: Api) -> None:
    owner = (await api.create(api.widgets(), widget("owner"))).ok()
    body = config_map("child")
    body["metadata"]["ownerReferences"] = owned_by(owner, "x")["metadata"]["ownerReferences"]
    (await api.create(api.core("configmaps"), body)).ok()
    (await api.delete(api.widgets("owner"))).ok()
    await api.gone(api.core("configmaps", "child"))


async def test_dry_run_of_the_last_finalizer(api: Api) -> None:
    body = widget("a")
    body["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(api.widgets(), body)).ok()
    (await api.delete(api.widgets("a"))).ok()
    free = {"metadata": {"finalizers": None}}
    (await api.patch(api.widgets("a"), free, dryRun="All")).ok()
    (await api.get(api.widgets("a"))).ok()
    (await api.patch(api.widgets("a"), free)).ok()
    (await api.get(api.widgets("a"))).refused(404, "NotFound")


async def test_malformed_finalizers(api: Api) -> None:
    body = widget("a")
    body["metadata"]["finalizers"] = ["bad name/x"]
    refusal = (await api.create(api.widgets(), body)).refused(422, "Invalid")
    assert 'metadata.finalizers: Invalid value: "bad name/x"' in refusal["message"]
    body["metadata"]["finalizers"] = ["plain"]
    reply = await api.create(api.widgets(), body)
    assert (
        reply.warnings
        == [
            '299 - "metadata.finalizers: \\"plain\\": prefer a domain-qualified finalizer name '
            'including a path (/) to avoid accidental conflicts with other finalizer writers"'
        ]
        or "prefer a domain-qualified finalizer name" in reply.warnings[0]
    )
    (await api.patch(api.widgets("a"), {"metadata": {"finalizers": None}})).ok()


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


async def test_a_namespace_says_what_it_waits_for(api: Api) -> None:
    path = f"/api/v1/namespaces/doomed-{secrets.token_hex(3)}"
    made = (
        await api.create("/api/v1/namespaces", {"metadata": {"name": path.split("/")[-1]}})
    ).ok()
    body = config_map("held")
    body["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(f"{path}/configmaps", body)).ok()
    marked = (await api.delete(path)).ok()
    assert marked["metadata"]["deletionTimestamp"]
    assert "deletionGracePeriodSeconds" not in marked["metadata"]
    assert "generation" not in made["metadata"]
    found = await api.until(
        path,
        lambda body: any(
            one["type"] == "NamespaceFinalizersRemaining" and one["status"] == "True"
            for one in body["status"].get("conditions", ())
        ),
    )
    said = {one["type"]: (one["status"], one["message"]) for one in found["status"]["conditions"]}
    assert said["NamespaceContentRemaining"] == (
        "True",
        "Some resources are remaining: configmaps. has 1 resource instances",
    )
    assert said["NamespaceFinalizersRemaining"][1] == (
        f"Some content in the namespace has finalizers remaining: {FINALIZER} in 1 resource "
        "instances"
    )
    assert said["NamespaceDeletionContentFailure"][0] == "False"
    # What is there can still be changed.
    (await api.patch(f"{path}/configmaps/held", {"data": {"a": "b"}})).ok()
    (await api.patch(f"{path}/configmaps/held", {"metadata": {"finalizers": None}})).ok()
    await api.gone(path)


async def test_what_of_a_namespace_cannot_change(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}"
    name = {"kubernetes.io/metadata.name": api.namespace}
    for labels in ({"kubernetes.io/metadata.name": "x"}, None):
        made = (await api.patch(path, {"metadata": {"labels": labels}})).ok()
        assert made["metadata"]["labels"] == name
    made = (await api.patch(path, {"spec": {"finalizers": ["a.b/c"]}})).ok()
    assert made["spec"]["finalizers"] == ["kubernetes"]
    reply = await api.patch(f"{path}/status", {"status": {"phase": "Terminating"}})
    assert reply.refused(422, "Invalid")["message"] == (
        f'Namespace "{api.namespace}" is invalid: status.Phase: Invalid value: "Terminating": may '
        "only be 'Active' if `deletionTimestamp` is empty"
    )


def finalizers_of(api: Api, *names: str, **metadata: str) -> Json:
    """Return the body of a PUT to the namespace's ``/finalize``."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": api.namespace, **metadata},
        "spec": {"finalizers": list(names)},
    }


async def test_finalizers_of_a_namespace(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}"
    body = finalizers_of(api, "kubernetes", "a.b/c")
    made = (await api.put(f"{path}/finalize", body, dryRun="All")).ok()
    assert made["spec"]["finalizers"] == ["kubernetes", "a.b/c"]
    (await api.put(f"{path}/finalize", body, dryRun="x")).refused(422, "Invalid")
    before = (await api.get(path)).ok()
    assert before["spec"]["finalizers"] == ["kubernetes"]
    known = {name: before["metadata"][name] for name in ("uid", "resourceVersion")}
    made = (await api.put(f"{path}/finalize", finalizers_of(api, "kubernetes", **known))).ok()
    assert made["metadata"]["resourceVersion"] == known["resourceVersion"]
    assert made["status"]["phase"] == "Active"
    for method in ("GET", "PATCH", "DELETE"):
        (await api.send(method, f"{path}/finalize")).refused(405, "MethodNotAllowed")


async def test_malformed_finalizers_of_a_namespace(api: Api) -> None:
    path = f"/api/v1/namespaces/{api.namespace}/finalize"
    for body, code, reason, words in (
        (finalizers_of(api, resourceVersion="1"), 409, "Conflict", "has been modified"),
        (finalizers_of(api, uid="other"), 409, "Conflict", "UID in precondition: other"),
        (finalizers_of(api, name="x"), 400, "BadRequest", "does not match the name on the URL"),
        ({**finalizers_of(api), "kind": "Foo"}, 400, "BadRequest", "cannot be handled as a"),
        (
            finalizers_of(api, "kubernetes", "foo"),
            422,
            "Invalid",
            'spec.finalizers[1]: Invalid value: "foo": name is neither a standard finalizer name '
            "nor is it fully qualified",
        ),
    ):
        assert words in (await api.put(path, body)).refused(code, reason)["message"]
    namespace = (await api.get(f"/api/v1/namespaces/{api.namespace}")).ok()
    assert namespace["spec"]["finalizers"] == ["kubernetes"]
    body = {"metadata": {"name": f"{api.namespace}-x"}, "spec": {"finalizers": ["foo"]}}
    (await api.create("/api/v1/namespaces", body, dryRun="All")).refused(422, "Invalid")


async def test_a_namespace_waits_for_the_finalizers_of_others(api: Api) -> None:
    name = f"{api.namespace}-held"
    path = f"/api/v1/namespaces/{name}"
    body = {"metadata": {"name": name}, "spec": {"finalizers": ["a.b/c"]}}
    made = (await api.create("/api/v1/namespaces", body)).ok()
    assert made["spec"]["finalizers"] == ["a.b/c", "kubernetes"]
    try:
        (await api.delete(path)).ok()
        await api.until(path, lambda found: found["spec"].get("finalizers") == ["a.b/c"])
        assert (await api.get(path)).ok()["status"]["phase"] == "Terminating"
    finally:
        (await api.put(f"{path}/finalize", {"metadata": {"name": name}})).ok()
    await api.gone(path)


async def test_nothing_is_made_where_there_is_no_namespace(api: Api) -> None:
    nowhere = f"/api/v1/namespaces/nowhere-{secrets.token_hex(3)}"
    assert (await api.get(f"{nowhere}/configmaps")).ok()["items"] == []
    for plural, body in (("configmaps", config_map("m")), ("pods", {"metadata": {"name": "p"}})):
        refusal = (await api.create(f"{nowhere}/{plural}", body)).refused(404, "NotFound")
        assert refusal["message"].startswith('namespaces "nowhere-')


async def test_some_namespaces_stay(api: Api) -> None:
    refusal = (await api.delete("/api/v1/namespaces/default")).refused(403, "Forbidden")
    assert refusal["message"] == (
        'namespaces "default" is forbidden: this namespace may not be deleted'
    )


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
