"""Bodies in protobuf, which clients in Go send for built-in kinds."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.server.protobuf import decode as protobuf
from taskctl.embedded.server.protobuf import encode as protobuf_encode
from tests.conformance.samples import config_map, pod
from tests.conformance.target import Api, Json, Reply, configured_kubeconfig, widget

PROTOBUF = protobuf.MEDIA_TYPE
LEASES = "/apis/coordination.k8s.io/v1"


async def send(
    api: Api, method: str, path: str, body: Json | None, accept: str = PROTOBUF, **query: str
) -> Reply:
    data = protobuf_encode.encode_object(body) if body is not None else None
    return await api.send(method, path, data, content_type=PROTOBUF, accept=accept, **query)


def read(reply: Reply) -> Json:
    """Return the object in an answer in protobuf."""
    assert 200 <= reply.status < 300, f"{reply.status}: {reply.text[:1000]}"
    assert reply.headers["Content-Type"] == PROTOBUF
    return protobuf.decode(reply.raw)


def typed(api_version: str, kind: str, name: str, **fields: Any) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


async def test_a_pod_from_creation_to_deletion(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "Pod", **pod("p")}
    body["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "250m"}}
    body["spec"]["containers"][0]["env"] = [{"name": "EMPTY"}]
    made = read(await send(api, "POST", api.core("pods"), body))
    assert made["metadata"]["uid"]
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "250m"}
    made["metadata"]["labels"] = {"a": "b"}
    changed = read(await send(api, "PUT", api.core("pods", "p"), made))
    assert changed["metadata"]["labels"] == {"a": "b"}
    changed["status"] = {
        "phase": "Running",
        "containerStatuses": [
            {"name": "main", "ready": False, "restartCount": 0, "image": "", "imageID": ""}
        ],
    }
    shown = read(await send(api, "PUT", api.core("pods", "p", "status"), changed))
    assert shown["status"]["phase"] == "Running"
    plain = (await api.get(api.core("pods", "p"))).ok()
    assert plain["status"]["containerStatuses"][0]["restartCount"] == 0
    assert plain["metadata"]["labels"] == {"a": "b"}
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    assert (await send(api, "DELETE", api.core("pods", "p"), options)).status == 200
    await api.gone(api.core("pods", "p"))


async def test_a_lease_as_an_election_writes_it(api: Api) -> None:
    path = api.path(LEASES, "leases")
    spec = {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T00:00:00.000001Z",
        "renewTime": "2026-01-01T00:00:00.000001Z",
        "leaseTransitions": 0,
    }
    body = typed("coordination.k8s.io/v1", "Lease", "leader", spec=spec)
    made = read(await send(api, "POST", path, body))
    assert made["spec"] == spec
    made["spec"]["renewTime"] = "2026-01-01T00:00:02.123456Z"
    renewed = read(await send(api, "PUT", f"{path}/leader", made))
    assert renewed["spec"]["renewTime"] == "2026-01-01T00:00:02.123456Z"
    (await send(api, "PUT", f"{path}/leader", made, accept="application/json")).refused(
        409, "Conflict"
    )


async def test_an_event(api: Api) -> None:
    body = typed(
        "v1",
        "Event",
        "e",
        involvedObject={"kind": "Pod", "name": "p", "namespace": api.namespace},
        reason="Tested",
        message="hello",
        firstTimestamp="2026-01-01T00:00:00Z",
        lastTimestamp="2026-01-01T00:00:00Z",
        count=1,
        type="Normal",
        source={"component": "test"},
    )
    made = read(await send(api, "POST", api.core("events"), body))
    assert (made["reason"], made["count"]) == ("Tested", 1)


async def test_binary_data(api: Api) -> None:
    body = typed("v1", "Secret", "s", data={"a": "AP8="}, stringData={"b": "text"})
    made = read(await send(api, "POST", api.core("secrets"), body))
    assert made["data"] == {"a": "AP8=", "b": "dGV4dA=="}


async def test_who_also_takes_json_may_get_it(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("a")}
    reply = await send(api, "POST", api.core("configmaps"), body, accept=f"{PROTOBUF}, */*")
    kind = reply.headers["Content-Type"]
    found = protobuf.decode(reply.raw) if kind == PROTOBUF else reply.ok()
    assert found["metadata"]["name"] == "a"


async def test_a_list(api: Api) -> None:
    (await api.create(api.core("configmaps"), config_map("a"))).ok()
    reply = await api.send("GET", api.core("configmaps"), accept=PROTOBUF)
    assert (reply.status, reply.headers["Content-Type"]) == (200, PROTOBUF)
    assert b"ConfigMapList" in reply.raw
    assert b"kube-root-ca.crt" in reply.raw


async def test_a_body_of_another_kind(api: Api) -> None:
    body = typed("v1", "Secret", "s")
    (await send(api, "POST", api.core("configmaps"), body, accept="application/json")).refused(
        400, "BadRequest"
    )


@pytest.mark.parametrize("body", [b"k8s\x00\xff", b"nothing of the kind"])
async def test_a_malformed_body(api: Api, body: bytes) -> None:
    reply = await api.send("POST", api.core("configmaps"), body, content_type=PROTOBUF)
    reply.refused(400, "BadRequest")


async def test_custom_resources_have_no_protobuf(api: Api) -> None:
    if not configured_kubeconfig():  # a real server ends the connection without an answer
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}
        (await send(api, "POST", api.widgets(), body, accept="application/json")).refused(
            415, "UnsupportedMediaType"
        )
    (await api.create(api.widgets(), widget("a"))).ok()
    assert (await api.send("GET", api.widgets("a"), accept=PROTOBUF)).status == 406
