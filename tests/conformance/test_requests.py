"""Requests that are not as they should be, and paths beside the objects."""

from __future__ import annotations

import json
import re

import pytest

from tests.conformance.samples import config_map
from tests.conformance.target import GROUP, Api, configured_kubeconfig, widget


async def test_no_token_and_a_wrong_one(api: Api) -> None:
    reply = await api.send("GET", api.widgets(), authorization="Bearer not-the-token")
    reply.refused(401, "Unauthorized")


async def test_health_and_version(api: Api) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        reply = await api.get(path)
        assert (reply.status, reply.text) == (200, "ok")
    version = (await api.get("/version")).ok()
    assert version["major"] == "1"
    assert int(version["minor"].rstrip("+")) >= 34
    assert version["gitVersion"].startswith(f"v1.{version['minor'].rstrip('+')}.")
    # The names of Go, as nodes have them too, and not those of the kernel.
    assert re.fullmatch(r"linux/(amd64|arm64|arm|386|ppc64le|riscv64|s390x)", version["platform"])


@pytest.mark.parametrize("text", ["1_0", " 5 ", "\u0665", "5.0", "0x5", ""])
async def test_what_is_no_number_in_a_query(api: Api, text: str) -> None:
    for path, name in (
        (api.widgets(), "limit"),
        (api.core("configmaps"), "timeoutSeconds"),
    ):
        refusal = (await api.get(path, **{name: text})).refused(400, "BadRequest")
        assert f'strconv.ParseInt: parsing "{text}": invalid syntax' in refusal["message"]
    refusal = (await api.delete(api.widgets("a"), gracePeriodSeconds=text)).refused(
        400, "BadRequest"
    )
    assert refusal["message"] == f'strconv.ParseInt: parsing "{text}": invalid syntax'


async def test_numbers_of_a_query_have_64_bits(api: Api) -> None:
    refusal = (await api.get(api.widgets(), limit=str(2**63))).refused(400, "BadRequest")
    assert refusal["message"] == f'strconv.ParseInt: parsing "{2**63}": value out of range'
    (await api.get(api.widgets(), limit="+5")).ok()
    (await api.get(api.widgets(), limit=str(2**63 - 1))).ok()


async def test_unknown_resource_of_a_known_group(api: Api) -> None:
    reply = await api.get(f"/apis/{GROUP}/v1/gadgets")
    assert reply.status == 404


async def test_garbage_for_json(api: Api) -> None:
    reply = await api.send("POST", api.widgets(), "{ this is not json")
    reply.refused(400, "BadRequest")


async def test_json_that_is_no_object(api: Api) -> None:
    reply = await api.send("POST", api.widgets(), "[1, 2]")
    reply.refused(400, "BadRequest")


async def test_wrong_kind_and_version(api: Api) -> None:
    reply = await api.create(api.widgets(), {**widget("a"), "kind": "Gadget"})
    assert (
        'kind: Invalid value: "Gadget": must be Widget' in reply.refused(422, "Invalid")["message"]
    )
    reply = await api.create(api.widgets(), {**widget("a"), "apiVersion": f"{GROUP}/v9"})
    assert reply.refused(400, "BadRequest")["message"] == (
        f"the API version in the data ({GROUP}/v9) does not match the expected API version "
        f"({GROUP}/v1)"
    )
    reply = await api.create(api.core("configmaps"), {"kind": "Gadget", "metadata": {"name": "a"}})
    assert 'no kind "Gadget" is registered' in reply.refused(400, "BadRequest")["message"]


async def test_custom_resources_must_say_what_they_are(api: Api) -> None:
    reply = await api.create(api.widgets(), {"metadata": {"name": "a"}, "spec": {"size": 1}})
    assert "Object 'Kind' is missing" in reply.refused(400, "BadRequest")["message"]


async def test_unknown_media_type(api: Api) -> None:
    reply = await api.send("POST", api.widgets(), "x", content_type="application/x-tar")
    body = reply.refused(415, "UnsupportedMediaType")
    assert "accepted media types include" in body["message"]


async def test_unknown_patch_type(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    reply = await api.patch(api.widgets("a"), {"spec": {"size": 2}}, "application/json")
    reply.refused(415, "UnsupportedMediaType")


async def test_strategic_merge_patch_is_for_built_in_kinds(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    kind = "application/strategic-merge-patch+json"
    reply = await api.patch(api.widgets("a"), {"spec": {"size": 2}}, kind)
    reply.refused(415, "UnsupportedMediaType")


async def test_unacceptable_answer_form(api: Api) -> None:
    reply = await api.send("GET", api.widgets(), accept="image/png")
    assert reply.status == 406


async def test_yaml_bodies(api: Api) -> None:
    text = f"""
apiVersion: {GROUP}/v1
kind: Widget
metadata:
  name: from-yaml
  annotations: {{when: 2024-01-01}}
spec: {{size: 3}}
"""
    made = (await api.send("POST", api.widgets(), text, content_type="application/yaml")).ok()
    assert made["spec"]["size"] == 3


async def test_body_over_three_mebibytes(api: Api) -> None:
    body = json.dumps(widget("a", target="x" * (3 * 1024 * 1024 + 100)))
    reply = await api.send("POST", api.widgets(), body)
    reply.refused(413, "RequestEntityTooLarge")


async def test_method_that_a_resource_has_not(api: Api) -> None:
    reply = await api.create(api.core("configmaps", "a"), {"metadata": {"name": "a"}})
    body = reply.refused(405, "MethodNotAllowed")
    assert body["message"] == "the server does not allow this method on the requested resource"
    for method, path in (
        ("PUT", api.core("configmaps")),
        ("PATCH", api.core("configmaps")),
        ("OPTIONS", api.core("configmaps")),
        ("POST", "/version"),
        ("DELETE", "/api"),
        ("DELETE", "/api/v1/namespaces"),
    ):
        (await api.send(method, path)).refused(405, "MethodNotAllowed")
    assert (await api.send("HEAD", api.core("configmaps"))).status == 405


async def test_paths_that_lead_nowhere(api: Api) -> None:
    for path in (
        "/nothing",
        "/api/v2",
        "/apis/no.such.group",
        "/apis/no.such.group/v1",
        "/api/v1/pods/x",
        f"/api/v1/namespaces/{api.namespace}/nodes/x",
        api.core("pods", "x", "y"),
        api.core("pods", "x", "y/z"),
    ):
        assert (await api.get(path)).status == 404, path
    # Custom resources are made in a namespace; without one there is no such path, even.
    assert (await api.create(f"/apis/{GROUP}/v1/widgets", widget("a"))).status == 404


async def test_all_namespaces_at_once(api: Api) -> None:
    """Across namespaces one can read, and nothing else."""
    (await api.create(api.core("configmaps"), config_map("kept"))).ok()
    (await api.create(api.widgets(), widget("kept"))).ok()
    body = config_map("x")
    for path in ("/api/v1/configmaps", "/apis/coordination.k8s.io/v1/leases"):
        assert (await api.get(path)).status == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            (await api.send(method, path, body)).refused(405, "MethodNotAllowed")
        (await api.patch(path, body)).refused(405, "MethodNotAllowed")
        assert (await api.send("HEAD", path)).status == 405
    path = f"/apis/{GROUP}/v1/widgets"
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert (await api.send(method, path, widget("x"))).status == 404, method
    assert (await api.patch(path, widget("x"))).status == 404
    for found in (path, api.widgets(), api.widgets("kept")):
        reply = await api.send("HEAD", found)
        assert (reply.status, reply.text) == (200, "")
    assert (await api.send("HEAD", api.widgets("none"))).status == 404
    (await api.get(api.core("configmaps", "kept"))).ok()
    (await api.get(api.widgets("kept"))).ok()


async def test_a_namespace_that_is_left_empty(api: Api) -> None:
    """Clients that are given no namespace write ``namespaces//configmaps``."""
    (await api.create(api.core("configmaps"), config_map("kept"))).ok()
    (await api.create(api.widgets(), widget("kept"))).ok()
    for path, kind in (
        ("/api/v1/namespaces//configmaps", "ConfigMap"),
        (f"/apis/{GROUP}/v1/namespaces//widgets", "Widget"),
    ):
        listed = (await api.get(path)).ok()["items"]
        found = [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in listed]
        assert (api.namespace, "kept") in found, kind
        async with api.watch(path) as events:
            assert (await events.next())["object"]["kind"] == kind
    path = "/api/v1/namespaces//configmaps"
    body = config_map("x")
    refused = (await api.create(path, body)).refused(422, "Invalid")
    assert "metadata.namespace: Required value" in refused["message"]
    for reply in (
        await api.get(f"{path}/x"),
        await api.put(f"{path}/x", body),
        await api.patch(f"{path}/x", body),
        await api.delete(f"{path}/x"),
        await api.get("/api/v1/namespaces//pods/x/log"),
    ):
        assert reply.refused(400, "BadRequest")["message"] == "Namespace parameter required."
    for method in ("PUT", "OPTIONS"):
        (await api.send(method, path, body)).refused(405, "MethodNotAllowed")
    (await api.create(f"{path}/x", body)).refused(405, "MethodNotAllowed")
    widgets = f"/apis/{GROUP}/v1/namespaces//widgets"
    for method in ("POST", "PUT", "DELETE"):
        assert (await api.send(method, widgets, widget("x"))).status == 404, method
    assert (await api.get(f"{widgets}/kept")).status == 404
    if not configured_kubeconfig():  # a real server deletes in all namespaces
        (await api.delete(path)).refused(405, "MethodNotAllowed")
    (await api.get(api.core("configmaps", "kept"))).ok()


async def test_slashes_too_many(api: Api) -> None:
    (await api.create(api.core("configmaps"), config_map("a"))).ok()
    for path in (f"{api.core('configmaps')}/", f"{api.core('configmaps')}//"):
        assert (await api.get(path)).ok()["kind"] == "ConfigMapList"
    for path in (
        "//api/v1/configmaps",
        "//api/v1",
        "/api//v1/configmaps",
        "/api/v1//configmaps",
        f"/api/v1/namespaces/{api.namespace}//configmaps",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles//x",
        f"/apis/authentication.k8s.io/v1/namespaces/{api.namespace}/tokenreviews",
        "/apis/authentication.k8s.io/v1/tokenreviews/x",
    ):
        assert (await api.get(path)).status == 404, path
        assert (await api.create(path, {})).status == 404, path
    assert (await api.create("/api/v1/bindings", {})).status == 404
