"""Create, read, replace, delete; versions and conflicts."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from tests.conformance.samples import RULES_NOT_CHECKED, messages
from tests.conformance.target import GROUP, Api, Json, widget


async def test_created_object_carries_what_the_server_owns(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    meta = made["metadata"]
    assert meta["namespace"] == api.namespace
    assert len(meta["uid"]) == 36
    assert meta["generation"] == 1
    assert int(meta["resourceVersion"]) > 0
    assert meta["creationTimestamp"].endswith("Z")
    assert (await api.get(api.widgets("a"))).ok()["metadata"]["uid"] == meta["uid"]


async def test_create_answers_201_and_get_200(api: Api) -> None:
    assert (await api.create(api.widgets(), widget("a"))).status == 201
    assert (await api.get(api.widgets("a"))).status == 200


async def test_missing_object(api: Api) -> None:
    body = (await api.get(api.widgets("nobody"))).refused(404, "NotFound")
    assert body["message"] == f'widgets.{GROUP} "nobody" not found'
    assert body["details"] == {"name": "nobody", "group": GROUP, "kind": "widgets"}


async def test_taken_name(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    body = (await api.create(api.widgets(), widget("a"))).refused(409, "AlreadyExists")
    assert body["message"] == f'widgets.{GROUP} "a" already exists'


async def test_replace_with_an_old_version_is_a_conflict(api: Api) -> None:
    first = (await api.create(api.widgets(), widget("a"))).ok()
    second = {**first, "spec": {**first["spec"], "size": 2}}
    (await api.put(api.widgets("a"), second)).ok()
    body = (await api.put(api.widgets("a"), second)).refused(409, "Conflict")
    assert body["message"] == (
        f'Operation cannot be fulfilled on widgets.{GROUP} "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_replace_of_a_custom_resource_needs_a_version(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    body = (await api.put(api.widgets("a"), widget("a", size=2))).refused(422, "Invalid")
    assert "metadata.resourceVersion: Invalid value: " in body["message"]
    assert "must be specified for an update" in body["message"]


async def test_replace_of_a_config_map_needs_none(api: Api) -> None:
    body = {"metadata": {"name": "m"}, "data": {"a": "1"}}
    (await api.create(api.core("configmaps"), body)).ok()
    (await api.put(api.core("configmaps", "m"), {**body, "data": {"a": "2"}})).ok()
    assert (await api.get(api.core("configmaps", "m"))).ok()["data"] == {"a": "2"}


async def test_replace_with_another_uid_is_a_conflict(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    made["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555"
    body = (await api.put(api.widgets("a"), made)).refused(409, "Conflict")
    assert "Precondition failed: UID in precondition: 11111111-" in body["message"]


async def test_replace_under_another_name(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    body = (await api.put(api.widgets("b"), made)).refused(400, "BadRequest")
    assert body["message"] == ("the name of the object (a) does not match the name on the URL (b)")
    del made["metadata"]["name"]
    body = (await api.put(api.widgets("a"), made)).refused(400, "BadRequest")
    assert body["message"] == (
        "the name of the object (a based on URL) was undeterminable: name must be provided"
    )


async def test_replace_with_a_version_that_is_none(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    for version, code in (("", 422), ("0", 422), ("x", 500), ("1", 409)):
        made["metadata"]["resourceVersion"] = version
        assert (await api.put(api.widgets("a"), made)).status == code, version


async def test_replace_of_what_is_not_there(api: Api) -> None:
    (await api.put(api.widgets("a"), widget("a"))).refused(404, "NotFound")
    body = widget("a")
    body["metadata"]["resourceVersion"] = "5"
    (await api.put(api.widgets("a"), body)).refused(404, "NotFound")


async def test_versions_rise_over_all_kinds(api: Api) -> None:
    seen = []
    for index in range(3):
        made = (await api.create(api.widgets(), widget(f"w{index}"))).ok()
        seen.append(int(made["metadata"]["resourceVersion"]))
        made = (await api.create(api.core("configmaps"), {"metadata": {"name": f"m{index}"}})).ok()
        seen.append(int(made["metadata"]["resourceVersion"]))
    assert seen == sorted(set(seen))


async def test_a_write_that_changes_nothing_makes_no_version(api: Api) -> None:
    (await api.create(api.widgets(), widget("a", options={"x": "1", "y": "2"}))).ok()
    # The first write may store defaults that reading showed before.
    made = (await api.patch(api.widgets("a", "status"), {"status": {"host": "h"}})).ok()
    made["spec"]["options"] = {"y": "2", "x": "1"}
    again = (await api.put(api.widgets("a"), made)).ok()
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    patched = (await api.patch(api.widgets("a"), {"spec": {"size": 1}})).ok()
    assert patched["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_generation_counts_changes_of_the_spec_only(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    labelled = (await api.patch(api.widgets("a"), {"metadata": {"labels": {"x": "y"}}})).ok()
    assert labelled["metadata"]["generation"] == 1
    changed = (await api.patch(api.widgets("a"), {"spec": {"size": 5}})).ok()
    assert changed["metadata"]["generation"] == 2


async def test_generated_names(api: Api) -> None:
    body = widget("")
    body["metadata"] = {"generateName": "gen-"}
    names = {(await api.create(api.widgets(), body)).ok()["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("gen-") and len(name) == 9 for name in names)


async def test_what_names_are_generated_from(api: Api) -> None:
    body = widget("")
    body["metadata"] = {"generateName": "A_"}
    refusal = (await api.create(api.widgets(), body)).refused(422, "Invalid")
    fields = [field for field, _ in messages(refusal)]
    assert fields == ["metadata.generateName", "metadata.name"]
    body["metadata"] = {"generateName": "x" * 80}
    name = (await api.create(api.widgets(), body)).ok()["metadata"]["name"]
    assert (len(name), name[:58]) == (63, "x" * 58)
    body["metadata"] = {"generateName": "unused-", "name": "given"}
    assert (await api.create(api.widgets(), body)).ok()["metadata"]["name"] == "given"


async def test_name_is_required(api: Api) -> None:
    body = widget("")
    body["metadata"] = {}
    refusal = (await api.create(api.widgets(), body)).refused(422, "Invalid")
    assert messages(refusal) == [
        ("metadata.name", "Required value: name or generateName is required"),
        RULES_NOT_CHECKED,
    ]


async def test_empty_metadata_is_left_out(api: Api) -> None:
    body = widget("a")
    body["metadata"] |= {"labels": {}, "annotations": {}, "finalizers": [], "ownerReferences": []}
    made = (await api.create(api.widgets(), body)).ok()
    empty = {"labels", "annotations", "finalizers", "ownerReferences"}
    assert not empty & set(made["metadata"])
    (await api.patch(api.widgets("a"), {"metadata": {"labels": {"a": "b"}}})).ok()
    made = (await api.patch(api.widgets("a"), {"metadata": {"labels": {"a": None}}})).ok()
    assert "labels" not in made["metadata"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"apiVersion": ""},
            ("metadata.ownerReferences.apiVersion", 'Invalid value: "": version must not be empty'),
        ),
        (
            {"apiVersion": "a/b/c"},
            (
                "metadata.ownerReferences.apiVersion",
                'Invalid value: "a/b/c": version must not be empty',
            ),
        ),
        ({"uid": ""}, ("metadata.ownerReferences.uid", 'Invalid value: "": must not be empty')),
        ({"name": ""}, ("metadata.ownerReferences.name", 'Invalid value: "": must not be empty')),
    ],
)
async def test_malformed_owners(api: Api, change: Json, found: tuple[str, str]) -> None:
    body = widget("a")
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", **change}
    body["metadata"]["ownerReferences"] = [owner]
    refusal = (await api.create(api.widgets(), body)).refused(422, "Invalid")
    assert messages(refusal)[0] == found


async def test_bad_name(api: Api) -> None:
    body = (await api.create(api.widgets(), widget("Not_Good"))).refused(422, "Invalid")
    assert body["message"] == (
        f'Widget.{GROUP} "Not_Good" is invalid: metadata.name: Invalid value: "Not_Good": a '
        "lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
        "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex "
        "used for validation is "
        r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
    )
    assert body["details"]["causes"][0]["field"] == "metadata.name"
    assert body["details"]["causes"][0]["reason"] == "FieldValueInvalid"


async def test_bad_label(api: Api) -> None:
    body = widget("a")
    body["metadata"]["labels"] = {"good/key": "not good!"}
    refusal = (await api.create(api.widgets(), body)).refused(422, "Invalid")
    assert 'metadata.labels: Invalid value: "not good!"' in refusal["message"]


async def test_server_fields_cannot_be_set_or_changed(api: Api) -> None:
    body = widget("a")
    body["metadata"] |= {
        "uid": "11111111-2222-3333-4444-555555555555",
        "creationTimestamp": "2001-01-01T00:00:00Z",
        "generation": 77,
        "deletionTimestamp": "2001-01-01T00:00:00Z",
    }
    made = (await api.create(api.widgets(), body)).ok()
    meta = made["metadata"]
    assert meta["uid"] != body["metadata"]["uid"]
    assert meta["generation"] == 1
    assert "deletionTimestamp" not in meta
    assert not meta["creationTimestamp"].startswith("2001")
    made["metadata"] = {**meta, "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9}
    again = (await api.put(api.widgets("a"), made)).ok()
    assert again["metadata"]["creationTimestamp"] == meta["creationTimestamp"]
    assert again["metadata"]["generation"] == 1


async def test_create_with_a_version_is_refused(api: Api) -> None:
    body = widget("a")
    body["metadata"]["resourceVersion"] = "5"
    reply = await api.create(api.widgets(), body)
    assert reply.status in (400, 500)  # Kubernetes calls this its own error
    assert reply.json["message"] == "resourceVersion should not be set on objects to be created"


async def test_namespace_must_match_and_exist(api: Api) -> None:
    body = widget("a")
    body["metadata"]["namespace"] = "other"
    refusal = (await api.create(api.widgets(), body)).refused(400, "BadRequest")
    assert "does not match the namespace" in refusal["message"]
    nowhere = f"/apis/{GROUP}/v1/namespaces/nowhere-{secrets.token_hex(3)}/widgets"
    refusal = (await api.create(nowhere, widget("a"))).refused(404, "NotFound")
    assert refusal["message"].startswith('namespaces "nowhere-')


async def test_delete_answers_with_a_status(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    body = (await api.delete(api.widgets("a"))).ok()
    assert (body["kind"], body["status"]) == ("Status", "Success")
    assert body["details"] == {
        "name": "a",
        "group": GROUP,
        "kind": "widgets",
        "uid": made["metadata"]["uid"],
    }
    (await api.delete(api.widgets("a"))).refused(404, "NotFound")


async def test_delete_preconditions(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    wrong = {"preconditions": {"uid": "11111111-2222-3333-4444-555555555555"}}
    body = (await api.delete(api.widgets("a"), wrong)).refused(409, "Conflict")
    assert body["message"].startswith(f'Operation cannot be fulfilled on Widget.{GROUP} "a": ')
    assert "the UID in the precondition (11111111-" in body["message"]
    old = {"preconditions": {"resourceVersion": "1"}}
    body = (await api.delete(api.widgets("a"), old)).refused(409, "Conflict")
    assert "the ResourceVersion in the precondition (1) does not match" in body["message"]
    meta = made["metadata"]
    right = {"preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    (await api.delete(api.widgets("a"), right)).ok()


async def test_malformed_delete_options(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    both = {"propagationPolicy": "Orphan", "orphanDependents": True}
    for body, code in (
        ({"propagationPolicy": "Sideways"}, 422),
        (both, 422),
        ({"dryRun": ["Some"]}, 422),
        # What cannot be decoded is the server's fault, it says.
        ({"kind": "Foo"}, 500),
        ({"gracePeriodSeconds": "5"}, 500),
        ("{", 500),
        ("[]", 500),
    ):
        assert (await api.send("DELETE", api.widgets("a"), body)).status == code, body
    (await api.delete(api.widgets("a"), gracePeriodSeconds="x")).refused(400, "BadRequest")
    (await api.get(api.widgets("a"))).ok()


async def test_a_body_of_a_delete_replaces_the_query(api: Api) -> None:
    for name in ("a", "b", "c"):
        (await api.create(api.widgets(), widget(name))).ok()
    (await api.delete(api.widgets("a"), dryRun="All")).ok()
    (await api.get(api.widgets("a"))).ok()
    (await api.delete(api.widgets("a"), {}, dryRun="All", propagationPolicy="Sideways")).ok()
    (await api.get(api.widgets("a"))).refused(404, "NotFound")
    (await api.send("DELETE", api.widgets("b"), "null", gracePeriodSeconds="x")).ok()
    (await api.get(api.widgets("b"))).refused(404, "NotFound")
    (await api.delete(api.widgets(), {"dryRun": ["All"]}, gracePeriodSeconds="x")).ok()
    (await api.delete(api.widgets(), {}, dryRun="All")).ok()
    await api.gone(api.widgets("c"))


async def test_orphans_by_the_query_of_a_delete(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    reply = await api.delete(api.widgets("a"), propagationPolicy="Orphan", orphanDependents="true")
    reply.refused(422, "Invalid")
    left = (await api.delete(api.widgets("a"), orphanDependents="true", dryRun="All")).ok()
    assert left["metadata"]["finalizers"] == ["orphan"]


async def test_delete_collection(api: Api) -> None:
    for name in ("a", "b", "c"):
        body = widget(name)
        body["metadata"]["labels"] = {"keep": "yes" if name == "c" else "no"}
        (await api.create(api.widgets(), body)).ok()
    (await api.delete(api.widgets(), labelSelector="keep=no")).ok()
    await api.gone(api.widgets("b"))
    left = (await api.get(api.widgets())).ok()["items"]
    assert [one["metadata"]["name"] for one in left] == ["c"]


async def test_concurrent_writers_do_not_lose_each_others_changes(api: Api) -> None:
    (await api.create(api.widgets(), widget("a", options={}))).ok()
    replies = await asyncio.gather(
        *(
            api.patch(api.widgets("a"), {"spec": {"options": {f"k{index}": "v"}}})
            for index in range(20)
        )
    )
    for reply in replies:
        reply.ok()
    made = (await api.get(api.widgets("a"))).ok()
    assert len(made["spec"]["options"]) == 20
    assert made["metadata"]["generation"] == 21


async def test_one_winner_among_guarded_writers(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    version = made["metadata"]["resourceVersion"]
    replies = await asyncio.gather(
        *(
            api.patch(
                api.widgets("a", "status"),
                {"metadata": {"resourceVersion": version}, "status": {"host": f"h{index}"}},
            )
            for index in range(8)
        )
    )
    assert sorted(reply.status for reply in replies) == [200] + [409] * 7
