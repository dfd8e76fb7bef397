"""Pods: defaults, checks, what admission adds, binding, deletion with grace, eviction."""

from __future__ import annotations

import asyncio
import pytest

from tests.conformance.samples import FINALIZER, add, bind, ephemeral, messages, pod
from tests.conformance.target import MERGE, STRATEGIC, Api, Json


async def test_defaults(api: Api) -> None:
    body = {**pod(), "status": {"phase": "Running"}}
    made = (await api.create(api.core("pods"), body)).ok()
    spec, status = made["spec"], made["status"]
    assert spec["restartPolicy"] == "Always"
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["serviceAccountName"] == "default"
    (container,) = spec["containers"]
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["terminationMessagePath"] == "/dev/termination-log"
    assert container["terminationMessagePolicy"] == "File"
    assert (status["phase"], status["qosClass"]) == ("Pending", "BestEffort")


@pytest.mark.parametrize(
    ("image", "policy"),
    [("a", "Always"), ("a:latest", "Always"), ("r:5000/a", "Always"), ("a:1", "IfNotPresent")],
)
async def test_pull_policy_follows_the_tag(api: Api, image: str, policy: str) -> None:
    body = pod()
    body["spec"]["containers"][0]["image"] = image
    made = (await api.create(api.core("pods"), body)).ok()
    assert made["spec"]["containers"][0]["imagePullPolicy"] == policy


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({}, "BestEffort"),
    ],
)
async def test_qos_class(api: Api, resources: Json, expected: str) -> None:
    body = pod()
    body["spec"]["containers"][0]["resources"] = resources
    assert (await api.create(api.core("pods"), body)).ok()["status"]["qosClass"] == expected


async def test_malformed_pods(api: Api) -> None:
    refusal = (await api.create(api.core("pods"), {"metadata": {"name": "p"}, "spec": {}})).refused(
        422, "Invalid"
    )
    assert "spec.containers: Required value" in refusal["message"]
    body = pod()
    body["spec"]["containers"][0]["volumeMounts"][0]["name"] = "nothing"
    refusal = (await api.create(api.core("pods"), body)).refused(422, "Invalid")
    assert refusal["message"] == (
        'Pod "p" is invalid: spec.containers[0].volumeMounts[0].name: Not found: "nothing"'
    )
    body = pod(restartPolicy="Sometimes")
    refusal = (await api.create(api.core("pods"), body)).refused(422, "Invalid")
    assert 'spec.restartPolicy: Unsupported value: "Sometimes"' in refusal["message"]


async def test_the_service_account_must_exist(api: Api) -> None:
    body = pod(serviceAccountName="nobody")
    refusal = (await api.create(api.core("pods"), body)).refused(403, "Forbidden")
    assert refusal["message"] == (
        f'pods "p" is forbidden: error looking up service account {api.namespace}/nobody: '
        'serviceaccount "nobody" not found'
    )


async def test_most_of_a_pod_cannot_change(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    path = api.core("pods", "p")
    reply = await api.patch(path, {"spec": {"hostname": "h"}}, STRATEGIC)
    refusal = reply.refused(422, "Invalid")
    assert refusal["message"].startswith(
        'Pod "p" is invalid: spec: Forbidden: pod updates may not change fields other than '
        "`spec.containers[*].image`,`spec.initContainers[*].image`"
    )
    more = {"spec": {"containers": [{"name": "second", "image": "i"}]}}
    refusal = (await api.patch(path, more, STRATEGIC)).refused(422, "Invalid")
    assert "pod updates may not add or remove containers" in refusal["message"]
    image = {"spec": {"containers": [{"name": "main", "image": "example.test/main:2"}]}}
    made = (await api.patch(path, image, STRATEGIC)).ok()
    assert made["spec"]["containers"][0]["image"] == "example.test/main:2"
    (await api.patch(path, {"metadata": {"labels": {"a": "b"}}}, STRATEGIC)).ok()


# --- status, binding, deletion ----------------------------------------------------------


async def test_status_and_spec_are_apart(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    path = api.core("pods", "p", "status")
    body = {"spec": {"hostname": "h"}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}
    made = (await api.patch(path, body, STRATEGIC)).ok()
    assert made["status"]["phase"] == "Running"
    assert "hostname" not in made["spec"]
    main = (await api.patch(api.core("pods", "p"), {"status": {"phase": "Failed"}}, MERGE)).ok()
    assert main["status"]["phase"] == "Running"


async def test_binding(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    reply = await bind(api)
    assert (reply.status, reply.json["status"]) == (201, "Success")
    made = (await api.get(api.core("pods", "p"))).ok()
    assert made["spec"]["nodeName"] == "n"
    conditions = {one["type"]: one["status"] for one in made["status"]["conditions"]}
    assert conditions["PodScheduled"] == "True"
    found = (await api.get(api.core("pods"), fieldSelector="spec.nodeName=n")).ok()
    assert len(found["items"]) == 1
    refusal = (await bind(api, "m")).refused(409, "Conflict")
    assert refusal["message"] == (
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n"'
    )


async def test_a_pod_that_no_node_has_goes_at_once(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    gone = (await api.delete(api.core("pods", "p"))).ok()
    assert gone["kind"] == "Pod"
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")


async def test_deletion_with_grace(api: Api) -> None:
    made = (await api.create(api.core("pods"), pod(terminationGracePeriodSeconds=20))).ok()
    assert made["metadata"]["generation"] == 1
    (await bind(api)).ok()
    first = (await api.delete(api.core("pods", "p"))).ok()["metadata"]
    assert first["deletionGracePeriodSeconds"] == 20
    longer = (await api.delete(api.core("pods", "p"), {"gracePeriodSeconds": 60})).ok()["metadata"]
    assert longer["deletionTimestamp"] == first["deletionTimestamp"]
    shorter = (await api.delete(api.core("pods", "p"), {"gracePeriodSeconds": 5})).ok()["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert shorter["deletionTimestamp"] < first["deletionTimestamp"]
    reply = await api.delete(
        api.core("pods", "p"),
        {"gracePeriodSeconds": 0, "preconditions": {"uid": made["metadata"]["uid"]}},
    )
    reply.ok()
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")


async def test_a_dying_pod_can_still_be_written_to(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await bind(api)).ok()
    (await api.delete(api.core("pods", "p"))).ok()
    status = {"status": {"phase": "Running"}}
    (await api.patch(api.core("pods", "p", "status"), status, STRATEGIC)).ok()
    (await add(api, ephemeral("one"))).ok()
    (await api.delete(api.core("pods", "p"), {"gracePeriodSeconds": 0})).ok()


async def test_finalizer_and_grace_together(api: Api) -> None:
    body = pod()
    body["metadata"]["finalizers"] = [FINALIZER]
    (await api.create(api.core("pods"), body)).ok()
    (await bind(api)).ok()
    (await api.delete(api.core("pods", "p"))).ok()
    (await api.delete(api.core("pods", "p"), {"gracePeriodSeconds": 0})).ok()
    held = (await api.get(api.core("pods", "p"))).ok()
    assert held["metadata"]["deletionGracePeriodSeconds"] == 0
    (await api.patch(api.core("pods", "p"), {"metadata": {"finalizers": None}}, MERGE)).ok()
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")


async def test_eviction(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p", "namespace": api.namespace},
    }
    reply = await api.create(api.core("pods", "p", "eviction"), body)
    assert reply.ok()["status"] == "Success"
    await api.gone(api.core("pods", "p"))


async def test_logs_of_a_pod_without_a_node(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    assert (await api.get(api.core("pods", "p", "log"))).status == 204
    refusal = (await api.get(api.core("pods", "p", "log"), container="x")).refused(
        400, "BadRequest"
    )
    assert refusal["message"] == "container x is not valid for pod p"


# --- claims -----------------------------------------------------------------------------


async def test_a_claim_stays_while_a_pod_uses_it(api: Api) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"metadata": {"name": "data"}, "spec": {**spec, "storageClassName": "none"}}
    made = (await api.create(api.core("persistentvolumeclaims"), claim)).ok()
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert made["status"]["phase"] == "Pending"
    body = pod(volumes=[{"name": "work", "persistentVolumeClaim": {"claimName": "data"}}])
    (await api.create(api.core("pods"), body)).ok()
    (await bind(api)).ok()
    # The controller of a real server learns of the pod by watching.
    await asyncio.sleep(0.5)
    path = api.core("persistentvolumeclaims", "data")
    assert (await api.delete(path)).ok()["metadata"]["deletionTimestamp"]
    await asyncio.sleep(0.5)
    (await api.get(path)).ok()
    (await api.delete(api.core("pods", "p"), {"gracePeriodSeconds": 0})).ok()
    await api.gone(path)


async def test_an_unused_claim_goes_at_once(api: Api) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"metadata": {"name": "data"}, "spec": {**spec, "storageClassName": "none"}}
    (await api.create(api.core("persistentvolumeclaims"), claim)).ok()
    (await api.delete(api.core("persistentvolumeclaims", "data"))).ok()
    await api.gone(api.core("persistentvolumeclaims", "data"))


async def test_what_a_claim_must_have(api: Api) -> None:
    path = api.core("persistentvolumeclaims")
    refusal = (await api.create(path, {"metadata": {"name": "c"}, "spec": {}})).refused(
        422, "Invalid"
    )
    assert (
        "spec.accessModes: Required value: at least 1 access mode is required"
        in (refusal["message"])
    )
    assert "spec.resources[storage]: Required value" in refusal["message"]
