"""Pods: defaults, ephemeral containers, deletion with grace, binding, eviction."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.target import JSON_PATCH, MERGE, STRATEGIC, Api, Json


def pod(name: str = "p", **spec: Any) -> Json:
    container = {
        "name": "main",
        "image": "example.test/main:1",
        "volumeMounts": [{"name": "work", "mountPath": "/work"}],
    }
    return {
        "metadata": {"name": name},
        "spec": {"containers": [container], "volumes": [{"name": "work", "emptyDir": {}}], **spec},
    }


def ephemeral(name: str, **fields: Any) -> Json:
    return {"name": name, "image": "example.test/tool:1", "command": ["true"], **fields}


async def add(api: Api, *entries: Json, kind: str = STRATEGIC, name: str = "p") -> Any:
    body = {"spec": {"ephemeralContainers": list(entries)}}
    return await api.patch(api.core("pods", name, "ephemeralcontainers"), body, kind)


def entry_names(body: Json) -> list[str]:
    return [one["name"] for one in body["spec"].get("ephemeralContainers", ())]


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


# --- ephemeral containers ---------------------------------------------------------------


async def test_appending(api: Api) -> None:
    before = (await api.create(api.core("pods"), pod())).ok()
    made = (
        await add(api, ephemeral("one", volumeMounts=[{"name": "work", "mountPath": "/w"}]))
    ).ok()
    assert made["kind"] == "Pod"
    (entry,) = made["spec"]["ephemeralContainers"]
    assert entry["name"] == "one"
    assert entry["imagePullPolicy"] == "IfNotPresent"
    assert entry["terminationMessagePolicy"] == "File"
    assert made["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    # New ones come first with this kind of patch.
    assert entry_names((await add(api, ephemeral("two"))).ok()) == ["two", "one"]


async def test_appending_the_same_again_changes_nothing(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    first = (await add(api, ephemeral("one", env=[{"name": "A", "value": "1"}]))).ok()
    again = (await add(api, ephemeral("one", env=[{"name": "A", "value": "1"}]))).ok()
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    fewer = (await add(api, ephemeral("one", env=[]))).ok()
    assert fewer["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_existing_ones_may_not_change(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one"))).ok()
    refusal = (await add(api, ephemeral("one", command=["false"]))).refused(422, "Invalid")
    assert refusal["message"].startswith(
        'Pod "p" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers '
        '"one" may not be changed\n'
    )


async def test_existing_ones_may_not_go(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one"))).ok()
    refusal = (await add(api, ephemeral("two"), kind=MERGE)).refused(422, "Invalid")
    assert (
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "one" may not be '
        "removed\n"
    ) in refusal["message"]


async def test_appending_by_json_patch_and_put(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one"))).ok()
    path = api.core("pods", "p", "ephemeralcontainers")
    operation = {"op": "add", "path": "/spec/ephemeralContainers/-", "value": ephemeral("two")}
    assert entry_names((await api.patch(path, [operation], JSON_PATCH)).ok()) == ["one", "two"]
    body = (await api.get(path)).ok()
    body["spec"]["ephemeralContainers"].append(ephemeral("three"))
    assert entry_names((await api.put(path, body)).ok()) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            ephemeral("x", ports=[{"containerPort": 1}]),
            "[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", resources={"limits": {"cpu": "1"}}),
            "[0].resources: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", livenessProbe={"exec": {"command": ["a"]}}),
            "[0].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", lifecycle={"preStop": {"exec": {"command": ["a"]}}}),
            "[0].lifecycle: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", volumeMounts=[{"name": "work", "mountPath": "/w", "subPath": "s"}]),
            "[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            ephemeral("x", volumeMounts=[{"name": "none", "mountPath": "/w"}]),
            '[0].volumeMounts[0].name: Not found: "none"',
        ),
        (ephemeral("main"), '[0].name: Duplicate value: "main"'),
        (ephemeral("Bad_Name"), '[0].name: Invalid value: "Bad_Name": a lowercase RFC 1123 label'),
        ({"name": "x", "command": ["true"]}, "[0].image: Required value"),
        (
            ephemeral("x", targetContainerName="nobody"),
            '[0].targetContainerName: Not found: "nobody"',
        ),
    ],
)
async def test_what_an_entry_may_not_have(api: Api, entry: Json, message: str) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    refusal = (await add(api, entry)).refused(422, "Invalid")
    assert f"spec.ephemeralContainers{message}" in refusal["message"]


async def test_a_pod_cannot_be_created_with_them(api: Api) -> None:
    body = pod(ephemeralContainers=[ephemeral("one")])
    refusal = (await api.create(api.core("pods"), body)).refused(422, "Invalid")
    assert "spec.ephemeralContainers: Forbidden: cannot be set on create" in refusal["message"]


async def test_they_cannot_come_through_the_pod_itself(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    body = {"spec": {"ephemeralContainers": [ephemeral("one")]}}
    reply = await api.patch(api.core("pods", "p"), body, STRATEGIC)
    reply.refused(422, "Invalid")


async def test_nothing_else_comes_through_the_subresource(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    body = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"hostname": "h", "ephemeralContainers": [ephemeral("one")]},
    }
    path = api.core("pods", "p", "ephemeralcontainers")
    made = (await api.patch(path, body, STRATEGIC)).ok()
    assert entry_names(made) == ["one"]
    assert "hostname" not in made["spec"]
    assert "labels" not in made["metadata"]


async def test_the_uid_guards_an_append(api: Api) -> None:
    made = (await api.create(api.core("pods"), pod())).ok()
    path = api.core("pods", "p", "ephemeralcontainers")
    body = {
        "metadata": {"uid": "11111111-2222-3333-4444-555555555555"},
        "spec": {"ephemeralContainers": [ephemeral("one")]},
    }
    refusal = (await api.patch(path, body, STRATEGIC)).refused(422, "Invalid")
    assert "metadata.uid: Invalid value: " in refusal["message"]
    assert "field is immutable" in refusal["message"]
    body["metadata"] = {"uid": made["metadata"]["uid"]}
    (await api.patch(path, body, STRATEGIC)).ok()


async def test_appending_to_a_finished_pod_is_allowed(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    status = {"status": {"phase": "Failed"}}
    (await api.patch(api.core("pods", "p", "status"), status, STRATEGIC)).ok()
    (await add(api, ephemeral("one"))).ok()


async def test_an_ended_container_does_not_come_back(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    (await add(api, ephemeral("one"))).ok()
    path = api.core("pods", "p", "status")
    ended = {"name": "one", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    done = {**ended, "state": {"terminated": {"exitCode": 0}}}
    body = {"status": {"ephemeralContainerStatuses": [done]}}
    (await api.patch(path, body, STRATEGIC)).ok()
    again = {**ended, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    body = {"status": {"ephemeralContainerStatuses": [again]}}
    refusal = (await api.patch(path, body, STRATEGIC)).refused(422, "Invalid")
    assert (
        "status.ephemeralContainerStatuses[0].state: Forbidden: may not be transitioned to "
        "non-terminated state"
    ) in refusal["message"]


# --- status, binding, deletion ----------------------------------------------------------


async def bind(api: Api, node: str = "n") -> Any:
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": node},
    }
    return await api.create(api.core("pods", "p", "binding"), body)


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
    body["metadata"]["finalizers"] = ["test.taskctl.test/hold"]
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
