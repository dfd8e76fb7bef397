"""Discovery and OpenAPI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from taskctl.embedded.server.definitions.crds import kinds_from_crd
from taskctl.embedded.server.kinds.registry import Registry
from taskctl.embedded.server.openapi import discovery
from taskctl.embedded.server.openapi.documents import OpenApi
from tests.unit.embedded.server.definitions.test_crds import CRD


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.set_crd_kinds("widgets.example.dev", kinds_from_crd(CRD))
    return made


def test_aggregated_discovery_of_the_core_group(registry: Registry) -> None:
    (group,) = discovery.aggregated(registry, legacy=True)["items"]
    (version,) = group["versions"]
    pods = next(one for one in version["resources"] if one["resource"] == "pods")
    assert pods["shortNames"] == ["po"]
    assert pods["scope"] == "Namespaced"
    assert "watch" in pods["verbs"]
    below = {one["subresource"]: one["verbs"] for one in pods["subresources"]}
    assert below == {
        "attach": ["create", "get"],
        "binding": ["create"],
        "eviction": ["create"],
        "ephemeralcontainers": ["get", "patch", "update"],
        "exec": ["create", "get"],
        "portforward": ["create", "get"],
        "log": ["get"],
        "status": ["get", "patch", "update"],
    }


def test_aggregated_discovery_of_named_groups(registry: Registry) -> None:
    items = discovery.aggregated(registry, legacy=False)["items"]
    names = [one["metadata"]["name"] for one in items]
    assert names == sorted(names)
    assert {"example.dev", "apiextensions.k8s.io", "authorization.k8s.io"} <= set(names)
    registry.remove("widgets.example.dev")
    items = discovery.aggregated(registry, legacy=False)["items"]
    assert "example.dev" not in [one["metadata"]["name"] for one in items]


def test_older_documents_say_the_same(registry: Registry) -> None:
    groups = discovery.api_group_list(registry)["groups"]
    assert discovery.api_group(registry, "example.dev")["versions"] == [
        {"groupVersion": "example.dev/v1", "version": "v1"}
    ]
    assert "example.dev" in [one["name"] for one in groups]
    resources = discovery.api_resource_list(registry, "example.dev", "v1")["resources"]
    assert [one["name"] for one in resources] == ["widgets", "widgets/status"]
    reviews = discovery.api_resource_list(registry, "authorization.k8s.io", "v1")["resources"]
    assert [one["name"] for one in reviews] == [
        "localsubjectaccessreviews",
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "subjectaccessreviews",
    ]
    for missing in (
        ("nope", "v1"),
        ("example.dev", "v2"),
        ("", "v2"),
        ("authorization.k8s.io", "v2"),
    ):
        with pytest.raises(KeyError):
            discovery.api_resource_list(registry, *missing)


def test_stable_versions_come_first(registry: Registry) -> None:
    (kind,) = kinds_from_crd(CRD)
    names = ("v1alpha1", "v2", "v1beta2", "v1", "v1beta1")
    versions = tuple(kind.__class__(**{**vars(kind), "version": one}) for one in names)
    registry.set_crd_kinds("widgets.example.dev", versions)
    found = discovery.api_group(registry, "example.dev")["versions"]
    assert [one["version"] for one in found] == ["v2", "v1", "v1beta2", "v1beta1", "v1alpha1"]


# --- OpenAPI ----------------------------------------------------------------------------


def every_reference(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from every_reference(one)
    elif isinstance(value, list):
        for one in value:
            yield from every_reference(one)


def test_v3_documents_are_closed_and_change_their_hash(registry: Registry) -> None:
    openapi = OpenApi(registry)
    index = openapi.v3_index()["paths"]
    assert {"api/v1", "apis/example.dev/v1"} <= set(index)
    for name in index:
        document = openapi.v3_document(name)
        schemas = document["components"]["schemas"]
        for reference in every_reference(document):
            assert reference.removeprefix("#/components/schemas/") in schemas
    registry.set_crd_kinds("widgets.example.dev", ())
    assert "apis/example.dev/v1" not in openapi.v3_index()["paths"]
    with pytest.raises(KeyError):
        openapi.v3_document("apis/example.dev/v1")


def test_v3_shows_what_kubectl_probes_for(registry: Registry) -> None:
    openapi = OpenApi(registry)
    custom = openapi.v3_document("apis/example.dev/v1")
    path = "/apis/example.dev/v1/namespaces/{namespace}/widgets/{name}"
    patch = custom["paths"][path]["patch"]
    gvk = {"group": "example.dev", "version": "v1", "kind": "Widget"}
    assert patch["x-kubernetes-group-version-kind"] == gvk
    assert {"fieldValidation", "dryRun"} <= {one["name"] for one in patch["parameters"]}
    strategic = "application/strategic-merge-patch+json"
    assert strategic not in patch["requestBody"]["content"]
    schema = custom["components"]["schemas"]["dev.example.v1.Widget"]
    assert schema["x-kubernetes-group-version-kind"] == [gvk]
    assert schema["properties"]["spec"]["properties"]["size"]["type"] == "integer"
    core = openapi.v3_document("api/v1")
    pods = core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]
    assert strategic in pods["patch"]["requestBody"]["content"]
    containers = core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"][
        "containers"
    ]
    assert containers["x-kubernetes-patch-merge-key"] == "name"


def test_v2_is_closed_and_leaves_out_what_it_cannot_say(registry: Registry) -> None:
    document = OpenApi(registry).v2_json()
    for reference in every_reference(document):
        assert reference.removeprefix("#/definitions/") in document["definitions"]
    widget = document["definitions"]["dev.example.v1.Widget"]
    assert "default" not in widget["properties"]["spec"]["properties"]["size"]


# --- protobuf ---------------------------------------------------------------------------


def decode(data: bytes) -> dict[int, list[Any]]:
    """Decode one protobuf message without a schema: field number → raw values."""
    found: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        match key & 7:
            case 0:
                value: Any = varint()
            case 1:
                value, at = data[at : at + 8], at + 8
            case 2:
                size = varint()
                value, at = data[at : at + size], at + size
            case other:
                raise AssertionError(f"wire type {other}")
        found.setdefault(key >> 3, []).append(value)
    assert at == len(data)
    return found


def named(data: bytes, number: int) -> dict[str, dict[int, list[Any]]]:
    return {
        decode(one)[1][0].decode(): decode(decode(one)[2][0])
        for one in decode(data).get(number, [])
    }


def test_v2_protobuf_is_the_same_document(registry: Registry) -> None:
    openapi = OpenApi(registry)
    plain, message = openapi.v2_json(), decode(openapi.v2_protobuf())
    assert message[1] == [b"2.0"]
    definitions, paths = named(message[9][0], 1), named(message[8][0], 2)
    assert set(definitions) == set(plain["definitions"])
    assert set(paths) == set(plain["paths"])
    widget = definitions["dev.example.v1.Widget"]
    extension = decode(widget[31][0])
    assert extension[1] == [b"x-kubernetes-group-version-kind"]
    assert b'"kind":"Widget"' in decode(extension[2][0])[2][0]
    patch = decode(paths["/api/v1/namespaces/{namespace}/pods/{name}"][8][0])
    assert b"application/strategic-merge-patch+json" in patch[7]
    query_names = []
    for item in patch[8]:
        parameter = decode(decode(item)[1][0])
        if 2 in parameter and 3 in decode(parameter[2][0]):
            query_names.append(decode(decode(parameter[2][0])[3][0])[4][0])
    assert b"dryRun" in query_names
