"""Other forms of the same objects: tables, metadata only; and what the server says of itself."""

from __future__ import annotations

from tests.conformance.samples import NOBODY, config_map
from tests.conformance.target import GROUP, Api, widget

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


async def test_table_of_a_custom_resource(api: Api) -> None:
    (await api.create(api.widgets(), widget("a", size=7))).ok()
    body = (await api.send("GET", api.widgets(), accept=TABLE)).ok()
    assert (body["kind"], body["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    columns = [column["name"] for column in body["columnDefinitions"]]
    assert columns == ["Name", "Size", "State", "Color", "Age"]
    assert [column["priority"] for column in body["columnDefinitions"]] == [0, 0, 0, 1, 0]
    (row,) = body["rows"]
    assert row["cells"][:4] == ["a", 7, "New", "red"]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert row["object"]["metadata"]["name"] == "a"
    assert int(body["metadata"]["resourceVersion"]) > 0


async def test_table_of_one_object(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    body = (await api.send("GET", api.widgets("a"), accept=TABLE)).ok()
    assert body["kind"] == "Table"
    assert len(body["rows"]) == 1


async def test_table_with_whole_objects_or_none(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    body = (await api.send("GET", api.widgets(), accept=TABLE, includeObject="Object")).ok()
    assert body["rows"][0]["object"]["spec"]["size"] == 1
    body = (await api.send("GET", api.widgets(), accept=TABLE, includeObject="None")).ok()
    assert not body["rows"][0].get("object")


async def test_table_of_pods(api: Api) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "schedulerName": NOBODY}
    (await api.create(api.core("pods"), {"metadata": {"name": "p"}, "spec": spec})).ok()
    body = (await api.send("GET", api.core("pods"), accept=TABLE)).ok()
    columns = [column["name"] for column in body["columnDefinitions"]]
    assert columns[:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert body["rows"][0]["cells"][:3] == ["p", "0/1", "Pending"]


async def test_watched_tables(api: Api) -> None:
    revision = (await api.get(api.widgets())).ok()["metadata"]["resourceVersion"]
    async with api.watch(api.widgets(), accept=TABLE, resourceVersion=revision) as stream:
        (await api.create(api.widgets(), widget("a", size=3))).ok()
        (await api.patch(api.widgets("a"), {"spec": {"size": 4}})).ok()
        first, second = await stream.next(), await stream.next()
    assert (first["type"], first["object"]["kind"]) == ("ADDED", "Table")
    assert first["object"]["columnDefinitions"][1]["name"] == "Size"
    assert first["object"]["rows"][0]["cells"][:2] == ["a", 3]
    assert (second["type"], second["object"]["rows"][0]["cells"][1]) == ("MODIFIED", 4)
    assert second["object"]["columnDefinitions"] is None  # said once


async def test_watched_tables_from_the_beginning(api: Api) -> None:
    for name in ("a", "b"):
        (await api.create(api.widgets(), widget(name))).ok()
    initial = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    async with api.watch(api.widgets(), accept=TABLE, **initial) as stream:
        first, second, mark = [await stream.next() for _ in range(3)]
    assert first["object"]["columnDefinitions"][0]["name"] == "Name"
    assert second["object"]["columnDefinitions"] is None
    assert (mark["type"], mark["object"]["kind"]) == ("BOOKMARK", "Table")
    (row,) = mark["object"]["rows"]
    assert row["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_tables_of_the_older_version(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    older = TABLE.replace("v=v1;", "v=v1beta1;")
    body = (await api.send("GET", api.widgets(), accept=older)).ok()
    assert body["apiVersion"] == "meta.k8s.io/v1beta1"
    assert body["rows"][0]["object"]["apiVersion"] == "meta.k8s.io/v1beta1"
    async with api.watch(api.widgets(), accept=older) as stream:
        assert (await stream.next())["object"]["apiVersion"] == "meta.k8s.io/v1beta1"


async def test_pages_of_a_table(api: Api) -> None:
    for index in range(3):
        (await api.create(api.widgets(), widget(f"w{index}"))).ok()
    body = (await api.send("GET", api.widgets(), accept=TABLE, limit="2")).ok()
    assert [row["cells"][0] for row in body["rows"]] == ["w0", "w1"]
    assert body["metadata"]["remainingItemCount"] == 1
    query = {"continue": body["metadata"]["continue"]}
    rest = (await api.send("GET", api.widgets(), accept=TABLE, **query)).ok()
    assert [row["cells"][0] for row in rest["rows"]] == ["w2"]


async def test_tables_of_built_in_kinds(api: Api) -> None:
    (await api.create(api.core("configmaps"), config_map("m", a="1", b="2"))).ok()
    (await api.create(api.core("secrets"), {"metadata": {"name": "m"}})).ok()
    one = {"fieldSelector": "metadata.name=m"}
    body = (await api.send("GET", api.core("configmaps"), accept=TABLE, **one)).ok()
    assert body["rows"][0]["cells"][:2] == ["m", 2]
    body = (await api.send("GET", api.core("secrets"), accept=TABLE, **one)).ok()
    assert body["rows"][0]["cells"][:3] == ["m", "Opaque", 0]


async def test_what_a_table_may_include(api: Api) -> None:
    reply = await api.send("GET", api.widgets(), accept=TABLE, includeObject="Foo")
    reply.refused(400, "BadRequest")


async def test_metadata_only(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    body = (await api.send("GET", api.widgets(), accept=PARTIAL_LIST)).ok()
    assert (body["kind"], body["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    (item,) = body["items"]
    assert item["metadata"]["name"] == "a"
    assert "spec" not in item
    assert "status" not in item
    one = (await api.send("GET", api.widgets("a"), accept=PARTIAL)).ok()
    assert (one["kind"], one["metadata"]["name"]) == ("PartialObjectMetadata", "a")
    assert "spec" not in one


async def test_watched_metadata(api: Api) -> None:
    revision = (await api.get(api.widgets())).ok()["metadata"]["resourceVersion"]
    async with api.watch(api.widgets(), accept=PARTIAL, resourceVersion=revision) as stream:
        (await api.create(api.widgets(), widget("a"))).ok()
        event = await stream.next()
    assert event["object"]["kind"] == "PartialObjectMetadata"
    assert "spec" not in event["object"]


async def test_the_answer_of_a_write_may_be_metadata_only(api: Api) -> None:
    reply = await api.send("POST", api.widgets(), widget("a"), accept=PARTIAL)
    assert reply.ok()["kind"] == "PartialObjectMetadata"


async def test_aggregated_discovery(api: Api) -> None:
    for path in ("/api", "/apis"):
        reply = await api.send("GET", path, accept=AGGREGATED)
        body = reply.ok()
        assert body["kind"] == "APIGroupDiscoveryList"
        assert "as=APIGroupDiscoveryList" in reply.headers["Content-Type"]
        assert "g=apidiscovery.k8s.io" in reply.headers["Content-Type"]
    groups = {item["metadata"].get("name"): item for item in body["items"]}
    (resource,) = groups[GROUP]["versions"][0]["resources"]
    assert resource["resource"] == "widgets"
    assert resource["scope"] == "Namespaced"
    assert set(resource["verbs"]) >= {"create", "delete", "get", "list", "patch", "update", "watch"}
    assert [one["subresource"] for one in resource["subresources"]] == ["status"]


async def test_plain_discovery(api: Api) -> None:
    groups = (await api.get("/apis")).ok()
    assert groups["kind"] == "APIGroupList"
    assert GROUP in {group["name"] for group in groups["groups"]}
    assert (await api.get("/api")).ok()["versions"] == ["v1"]
    resources = (await api.get(f"/apis/{GROUP}/v1")).ok()
    assert resources["groupVersion"] == f"{GROUP}/v1"
    assert {one["name"] for one in resources["resources"]} == {"widgets", "widgets/status"}
    core = (await api.get("/api/v1")).ok()
    found = {one["name"]: one for one in core["resources"]}
    assert {"pods", "pods/log", "pods/ephemeralcontainers", "configmaps", "bindings"} <= set(found)
    assert "deletecollection" in found["pods"]["verbs"]
    assert "deletecollection" not in found["namespaces"]["verbs"]
    assert found["pods/eviction"]["group"] == "policy"
    assert "group" not in found["pods/binding"]


async def test_reviews_are_discovered(api: Api) -> None:
    wanted = {
        "authentication.k8s.io": {
            "selfsubjectreviews": "SelfSubjectReview",
            "tokenreviews": "TokenReview",
        },
        "authorization.k8s.io": {
            "selfsubjectaccessreviews": "SelfSubjectAccessReview",
            "selfsubjectrulesreviews": "SelfSubjectRulesReview",
            "subjectaccessreviews": "SubjectAccessReview",
        },
    }
    items = (await api.send("GET", "/apis", accept=AGGREGATED)).ok()["items"]
    listed = {group["name"] for group in (await api.get("/apis")).ok()["groups"]}
    for group, kinds in wanted.items():
        assert group in listed
        assert (await api.get(f"/apis/{group}")).ok()["preferredVersion"]["version"] == "v1"
        (item,) = [one for one in items if one["metadata"]["name"] == group]
        aggregated = {one["resource"]: one for one in item["versions"][0]["resources"]}
        plain = {one["name"]: one for one in (await api.get(f"/apis/{group}/v1")).ok()["resources"]}
        for plural, kind in kinds.items():
            assert aggregated[plural]["responseKind"]["kind"] == plain[plural]["kind"] == kind
            assert aggregated[plural]["singularResource"] == kind.lower()
            assert plain[plural]["singularName"] == kind.lower()
            assert (aggregated[plural]["scope"], plain[plural]["namespaced"]) == ("Cluster", False)
            assert aggregated[plural]["verbs"] == plain[plural]["verbs"] == ["create"]


async def test_openapi(api: Api) -> None:
    paths = (await api.get("/openapi/v3")).ok()["paths"]
    url = paths[f"apis/{GROUP}/v1"]["serverRelativeURL"]
    path, _, query = url.partition("?")
    document = (await api.get(path, **dict([query.split("=", 1)]))).ok()
    schemas = document["components"]["schemas"]
    (schema,) = [
        one
        for one in schemas.values()
        if any(gvk["kind"] == "Widget" for gvk in one.get("x-kubernetes-group-version-kind", ()))
        and "spec" in one.get("properties", {})
    ]
    assert schema["properties"]["spec"]["properties"]["size"]["type"] == "integer"
