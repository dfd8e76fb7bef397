"""Pods: defaults, checks, what admission adds, binding, deletion with grace, eviction."""

from __future__ import annotations

import asyncio
from typing import Any

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
    body = pod(initContainers=[])
    body["spec"]["containers"][0]["resources"] = resources
    assert (await api.create(api.core("pods"), body)).ok()["status"]["qosClass"] == expected


def work(**source: Any) -> Json:
    """Return a pod spec's volumes: one, named ``work``."""
    return {"volumes": [{"name": "work", **source}]}


def main_with(**fields: Any) -> Json:
    """Return a pod spec's containers: one, with these fields."""
    return {"containers": [{"name": "main", "image": "i:1", **fields}]}


NO_WORK = ("spec.containers[0].volumeMounts[0].name", 'Not found: "work"')
TOKEN = {"serviceAccountToken": {"path": "token", "expirationSeconds": 5}}


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (
            {"restartPolicy": "Sometimes"},
            [
                (
                    "spec.restartPolicy",
                    'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", '
                    '"Never"',
                )
            ],
        ),
        (
            {"activeDeadlineSeconds": 0},
            [
                (
                    "spec.activeDeadlineSeconds",
                    "Invalid value: 0: must be between 1 and 2147483647, inclusive",
                )
            ],
        ),
        (
            {"tolerations": [{"key": "a", "operator": "Weird"}]},
            [
                (
                    "spec.tolerations[0].operator",
                    'Unsupported value: "Weird": supported values: "Equal", "Exists"',
                )
            ],
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "Weird"}}},
            [
                (
                    "spec.securityContext.seccompProfile.type",
                    'Unsupported value: "Weird": supported values: "Localhost", '
                    '"RuntimeDefault", "Unconfined"',
                )
            ],
        ),
        (
            main_with(ports=[{"containerPort": 0}]),
            [("spec.containers[0].ports[0].containerPort", "Required value")],
        ),
        (
            main_with(ports=[{"name": "x", "containerPort": n} for n in (1, 2)]),
            [("spec.containers[0].ports[1].name", 'Duplicate value: "x"')],
        ),
        (
            main_with(livenessProbe={}),
            [("spec.containers[0].livenessProbe", "Required value: must specify a handler type")],
        ),
        (
            main_with(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            [
                (
                    "spec.containers[0].resources.requests",
                    'Invalid value: "2": must be less than or equal to cpu limit of 1',
                )
            ],
        ),
        (
            {"containers": [{"name": "a", "image": "i"}] * 2},
            [("spec.containers[1].name", 'Duplicate value: "a"')],
        ),
        (
            {"initContainers": [{"name": "main", "image": "i"}]},
            [("spec.initContainers[0].name", 'Duplicate value: "main"')],
        ),
        (work(hostPath={"path": "/x/../y"}),
         [("spec.volumes[0].hostPath.path", 'Invalid value: "/x/../y": must not contain \'..\''),
          NO_WORK]),
        (work(emptyDir={}, hostPath={"path": "/"}),
         [("spec.volumes[0].hostPath", "Forbidden: may not specify more than 1 volume type"),
          NO_WORK]),
        (work(persistentVolumeClaim={}),
         [("spec.volumes[0].persistentVolumeClaim.claimName", "Required value"), NO_WORK]),
        (work(configMap={}), [("spec.volumes[0].configMap.name", "Required value"), NO_WORK]),
        (work(secret={}), [("spec.volumes[0].secret.secretName", "Required value"), NO_WORK]),
        (work(projected={"sources": [TOKEN]}),
         [("spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds",
           "Invalid value: 5: may not specify a duration less than 10 minutes"), NO_WORK]),
        ({"volumes": []}, [NO_WORK]),
    ],
)  # fmt: skip
async def test_malformed_pods(api: Api, spec: Json, found: list[tuple[str, str]]) -> None:
    refusal = (await api.create(api.core("pods"), pod(**spec))).refused(422, "Invalid")
    assert messages(refusal) == found


async def test_a_pod_needs_containers(api: Api) -> None:
    for body in ({"metadata": {"name": "p"}, "spec": {}}, {"metadata": {"name": "p"}}):
        refusal = (await api.create(api.core("pods"), body)).refused(422, "Invalid")
        assert "spec.containers: Required value" in refusal["message"]


async def test_a_quantity_must_be_one(api: Api) -> None:
    body = pod(**main_with(resources={"limits": {"cpu": "x"}}))
    (await api.create(api.core("pods"), body)).refused(400, "BadRequest")


async def test_what_is_empty_is_left_out(api: Api) -> None:
    main = main_with(command=[], env=[{"name": "A", "value": ""}], stdin=False, ports=None)
    body = pod(**main, initContainers=[], nodeSelector={}, hostNetwork=False)
    body["metadata"] |= {"labels": {}, "annotations": None, "finalizers": []}
    made = (await api.create(api.core("pods"), body)).ok()
    assert not {"labels", "annotations", "finalizers"} & set(made["metadata"])
    assert not {"initContainers", "nodeSelector", "hostNetwork"} & set(made["spec"])
    (container,) = made["spec"]["containers"]
    assert container["env"] == [{"name": "A"}]
    assert not {"command", "stdin", "ports"} & set(container)


async def test_a_negative_grace_period_is_one_second(api: Api) -> None:
    made = (await api.create(api.core("pods"), pod(terminationGracePeriodSeconds=-5))).ok()
    assert made["spec"]["terminationGracePeriodSeconds"] == 1


# --- admission --------------------------------------------------------------------------

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def mounts(made: Json, container: str = "containers") -> list[str]:
    return [one["mountPath"] for one in made["spec"][container][0].get("volumeMounts", ())]


async def test_a_pod_gets_a_token(api: Api) -> None:
    made = (await api.create(api.core("pods"), pod())).ok()
    assert mounts(made) == ["/work", TOKEN_PATH]
    assert mounts(made, "initContainers") == [TOKEN_PATH]
    (volume,) = (one for one in made["spec"]["volumes"] if one["name"] != "work")
    assert volume["name"].startswith("kube-api-access-")
    token, root, namespace = volume["projected"]["sources"]
    assert token["serviceAccountToken"] == {"expirationSeconds": 3607, "path": "token"}
    assert root["configMap"]["name"] == "kube-root-ca.crt"
    assert namespace["downwardAPI"]["items"][0]["path"] == "namespace"
    # What is added later gets none of its own.
    added = (await add(api, ephemeral("one"))).ok()
    assert "volumeMounts" not in added["spec"]["ephemeralContainers"][0]


async def test_a_pod_that_wants_no_token(api: Api) -> None:
    made = (await api.create(api.core("pods"), pod(automountServiceAccountToken=False))).ok()
    assert mounts(made) == ["/work"]
    robot = {"metadata": {"name": "robot"}, "automountServiceAccountToken": False}
    (await api.create(api.core("serviceaccounts"), robot)).ok()
    made = (await api.create(api.core("pods"), pod("q", serviceAccountName="robot"))).ok()
    assert mounts(made) == ["/work"]
    insists = pod("r", serviceAccountName="robot", automountServiceAccountToken=True)
    assert mounts((await api.create(api.core("pods"), insists)).ok()) == ["/work", TOKEN_PATH]
    own = pod("s")
    own["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] = TOKEN_PATH
    assert mounts((await api.create(api.core("pods"), own)).ok()) == [TOKEN_PATH]


async def test_a_pod_gets_the_pull_secrets_of_its_account(api: Api) -> None:
    robot = {"metadata": {"name": "robot"}, "imagePullSecrets": [{"name": "key"}]}
    (await api.create(api.core("serviceaccounts"), robot)).ok()
    made = (await api.create(api.core("pods"), pod(serviceAccountName="robot"))).ok()
    assert made["spec"]["imagePullSecrets"] == [{"name": "key"}]


async def test_a_pod_tolerates_a_node_that_is_not_ready(api: Api) -> None:
    made = (await api.create(api.core("pods"), pod())).ok()
    assert {one["key"]: one["tolerationSeconds"] for one in made["spec"]["tolerations"]} == {
        "node.kubernetes.io/not-ready": 300,
        "node.kubernetes.io/unreachable": 300,
    }
    own = {"operator": "Exists", "effect": "NoExecute"}
    made = (await api.create(api.core("pods"), pod("q", tolerations=[own]))).ok()
    assert made["spec"]["tolerations"] == [own]


async def test_priorities(api: Api) -> None:
    spec = (await api.create(api.core("pods"), pod())).ok()["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (0, "PreemptLowerPriority")
    body = pod("q", priorityClassName="system-node-critical")
    assert (await api.create(api.core("pods"), body)).ok()["spec"]["priority"] == 2_000_001_000
    refusal = (await api.create(api.core("pods"), pod("r", priorityClassName="nobody"))).refused(
        403, "Forbidden"
    )
    assert refusal["message"] == (
        'pods "r" is forbidden: no PriorityClass with name nobody was found'
    )


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


async def test_tolerations_can_only_be_added(api: Api) -> None:
    first = {"key": "a", "operator": "Exists"}
    (await api.create(api.core("pods"), pod(tolerations=[first]))).ok()
    path = api.core("pods", "p")
    more = {"spec": {"tolerations": [first, {"key": "b", "operator": "Exists"}]}}
    made = (await api.patch(path, more, MERGE)).ok()
    assert [one["key"] for one in made["spec"]["tolerations"]][:2] == ["a", "b"]
    less = {"spec": {"tolerations": [{"key": "b", "operator": "Exists"}]}}
    refusal = (await api.patch(path, less, MERGE)).refused(422, "Invalid")
    assert (
        "spec.tolerations: Forbidden: existing toleration can not be modified except its "
        "tolerationSeconds"
    ) in refusal["message"]


async def test_a_deadline_can_only_come_nearer(api: Api) -> None:
    (await api.create(api.core("pods"), pod(activeDeadlineSeconds=100))).ok()
    path = api.core("pods", "p")
    for seconds in (200, None):
        body = {"spec": {"activeDeadlineSeconds": seconds}}
        (await api.patch(path, body, STRATEGIC)).refused(422, "Invalid")
    (await api.patch(path, {"spec": {"activeDeadlineSeconds": 50}}, STRATEGIC)).ok()


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
    assert made["spec"]["nodeName"] == api.namespace
    conditions = {one["type"]: one["status"] for one in made["status"]["conditions"]}
    assert conditions["PodScheduled"] == "True"
    found = (await api.get(api.core("pods"), fieldSelector=f"spec.nodeName={api.namespace}")).ok()
    assert len(found["items"]) == 1
    refusal = (await bind(api, metadata={"name": "q"})).refused(400, "BadRequest")
    assert refusal["message"] == "name in URL does not match name in Binding object"
    refusal = (await bind(api, target={"kind": "Node", "name": "m"})).refused(409, "Conflict")
    assert refusal["message"] == (
        'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to '
        f'node "{api.namespace}"'
    )


async def test_a_pod_that_no_node_has_goes_at_once(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    revision = (await api.get(api.core("pods"))).ok()["metadata"]["resourceVersion"]
    gone = (await api.delete(api.core("pods", "p"))).ok()
    assert gone["kind"] == "Pod"
    assert gone["metadata"]["deletionGracePeriodSeconds"] == 0
    assert gone["metadata"]["generation"] == 2
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")
    # All the same, watchers see it being deleted first.
    async with api.watch(api.core("pods"), resourceVersion=revision) as stream:
        marked, last = await stream.next(), await stream.next()
    assert [marked["type"], last["type"]] == ["MODIFIED", "DELETED"]
    for event in (marked, last):
        assert event["object"]["metadata"]["deletionGracePeriodSeconds"] == 0


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
    path = api.core("pods", "p", "eviction")
    wrong = {"deleteOptions": {"preconditions": {"uid": "11111111-2222-3333-4444-555555555555"}}}
    (await api.create(path, {**body, **wrong})).refused(409, "Conflict")
    (await api.create(path, {**body, "metadata": {"name": "q"}})).refused(400, "BadRequest")
    # The query has the options of the eviction, and none of the deletion's.
    (await api.create(path, body, dryRun="All", gracePeriodSeconds="x")).ok()
    (await api.create(path, {**body, "deleteOptions": {}}, dryRun="All")).ok()
    (await api.create(path, {**body, "deleteOptions": {"dryRun": ["All"]}})).ok()
    left = (await api.get(api.core("pods", "p"))).ok()
    assert "deletionTimestamp" not in left["metadata"]
    assert "conditions" not in left["status"]
    assert (await api.create(path, body)).ok()["status"] == "Success"
    await api.gone(api.core("pods", "p"))
    (await api.create(path, body)).refused(404, "NotFound")


async def test_logs_of_a_pod_without_a_node(api: Api) -> None:
    (await api.create(api.core("pods"), pod())).ok()
    assert (await api.get(api.core("pods", "p", "log"))).status == 204
    refusal = (await api.get(api.core("pods", "p", "log"), container="x")).refused(
        400, "BadRequest"
    )
    assert refusal["message"] == "container x is not valid for pod p"
    log = api.core("pods", "p", "log")
    (await api.get(log, tailLines="x")).refused(400, "BadRequest")
    for query, why in (
        ({"tailLines": "-1"}, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ({"sinceSeconds": "0"}, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ({"limitBytes": "0"}, "limitBytes: Invalid value: 0: must be greater than 0"),
    ):
        refusal = (await api.get(log, **query)).refused(422, "Invalid")
        assert refusal["message"] == f'PodLogOptions "p" is invalid: {why}'


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


async def test_a_pod_that_has_no_node_does_not_keep_a_claim(api: Api) -> None:
    """No scheduler places it while the claim is being deleted: each would wait for the other."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"metadata": {"name": "data"}, "spec": {**spec, "storageClassName": "none"}}
    (await api.create(api.core("persistentvolumeclaims"), claim)).ok()
    volumes = [{"name": "work", "persistentVolumeClaim": {"claimName": "data"}}]
    (await api.create(api.core("pods"), pod(volumes=volumes, schedulerName="none"))).ok()
    await asyncio.sleep(0.5)
    (await api.delete(api.core("persistentvolumeclaims", "data"))).ok()
    await api.gone(api.core("persistentvolumeclaims", "data"))


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
