"""Pods: defaults, what admission adds, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.server.pods import admission as pod_admission
from taskctl.embedded.server.pods.strategy import PodStrategy
from taskctl.embedded.server.refusals.errors import Resource, StatusError
from taskctl.embedded.server.storage.store import Store
from tests.unit.clocks import SetClock

Json = dict[str, Any]
ACCOUNTS = Resource("", "serviceaccounts")
PODS = PodStrategy()


def pod(**spec: Any) -> Json:
    containers = [{"name": "main", "image": "i:1"}]
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"containers": containers, **spec},
    }
    PODS.prepare_create(obj)
    return obj


def main(**fields: Any) -> Json:
    return pod(containers=[{"name": "main", "image": "i:1", **fields}])


def faults(obj: Json) -> list[str]:
    return [str(one) for one in PODS.check_create(obj)]


@pytest.fixture
def store() -> Store:
    store = Store(SetClock())
    store.open(ACCOUNTS, {})
    for name, fields in (("default", {}), ("quiet", {"automountServiceAccountToken": False})):
        metadata = {"name": name, "namespace": "ns"}
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, **fields}
        store.create(ACCOUNTS, body)
    return store


def test_a_plain_pod_is_sound() -> None:
    assert faults(pod()) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"env": [{"value": "x"}]}, "env[0].name: Required value"),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]},
            "env[0].valueFrom.secretKeyRef.key: Required value",
        ),
        (
            {
                "env": [
                    {
                        "name": "A",
                        "valueFrom": {
                            "fieldRef": {"fieldPath": "metadata.name"},
                            "configMapKeyRef": {"name": "m", "key": "k"},
                        },
                    }
                ]
            },
            'env[0].valueFrom: Invalid value: "": may not have more than one field specified at a '
            "time",
        ),
        ({"envFrom": [{"secretRef": {}}]}, "envFrom[0].secretRef.name: Required value"),
        (
            {"ports": [{"containerPort": 70000}]},
            "ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            {"ports": [{"containerPort": 1, "protocol": "X"}]},
            'ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"',
        ),
        (
            {"resources": {"limits": {"weird": "1"}}},
            'resources.limits[weird]: Invalid value: "weird": must be a standard resource for '
            "containers",
        ),
        (
            {"resources": {"requests": {"cpu": "-1"}}},
            'resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0',
        ),
        (
            {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1024Mi"}}},
            'resources.requests: Invalid value: "2Gi": must be less than or equal to memory limit '
            "of 1024Mi",
        ),
        (
            {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        ({"volumeDevices": [{"name": "x"}]}, "volumeDevices[0].devicePath: Required value"),
    ],
)
def test_faults_of_a_container(fields: Json, expected: str) -> None:
    found = faults(main(**fields))
    assert any(one.startswith("spec.containers[0].") and expected in one for one in found), found


@pytest.mark.parametrize(
    "env",
    [
        {"name": "A.b-c d", "value": "x"},
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}},
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ],
)
def test_sound_variables(env: Json) -> None:
    assert faults(main(env=[env])) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"hostPath": {}}, "hostPath.path: Required value"),
        ({"hostPath": {"path": "/", "type": "X"}}, 'hostPath.type: Unsupported value: "X"'),
        ({"nfs": {"path": "x"}}, "nfs.server: Required value"),
        ({"nfs": {"path": "x"}}, 'nfs.path: Invalid value: "x": must be an absolute path'),
        ({"secret": {"secretName": "s", "items": [{"path": "/a"}]}}, "items[0].key: Required"),
        ({"configMap": {"name": "m", "items": [{"key": "k", "path": "../a"}]}}, "contain '..'"),
        ({"downwardAPI": {"items": [{"path": "a"}]}}, "one of fieldRef and resourceFieldRef is"),
        (
            {"projected": {"sources": [{"serviceAccountToken": {}}]}},
            "volumes[0].projected.path: Required value",
        ),
        ({"projected": {"sources": [{"secret": {}}]}}, "sources[0].secret.name: Required value"),
    ],
)
def test_faults_of_a_volume(source: Json, expected: str) -> None:
    found = faults(pod(volumes=[{"name": "v", **source}]))
    assert any(expected in one for one in found), found


def test_a_faulty_volume_cannot_be_mounted() -> None:
    mount = {"name": "v", "mountPath": "/v"}
    containers = [{"name": "main", "image": "i:1", "volumeMounts": [mount]}]
    bad = pod(containers=containers, volumes=[{"name": "v", "hostPath": {}}])
    assert faults(bad)[-1] == 'spec.containers[0].volumeMounts[0].name: Not found: "v"'
    twice = pod(containers=containers, volumes=[{"name": "v", "emptyDir": {}}] * 2)
    assert faults(twice) == ['spec.volumes[1].name: Duplicate value: "v"']


def test_defaults_of_probes_and_fields() -> None:
    obj = main(
        livenessProbe={"httpGet": {"port": 1}},
        lifecycle={"preStop": {"httpGet": {"port": 1}}},
        env=[{"name": "A", "value": ""}],
        tty=False,
    )
    container = obj["spec"]["containers"][0]
    assert container["livenessProbe"] == {
        "httpGet": {"port": 1, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert container["lifecycle"]["preStop"]["httpGet"]["path"] == "/"
    assert container["env"] == [{"name": "A"}]
    assert "tty" not in container


def test_admission_is_idempotent(store: Store) -> None:
    obj = pod()
    pod_admission.admit(obj, store)
    first = [one["name"] for one in obj["spec"]["volumes"]]
    pod_admission.admit(obj, store)
    assert [one["name"] for one in obj["spec"]["volumes"]] == first
    assert len(obj["spec"]["tolerations"]) == 2


def test_admission_by_account(store: Store) -> None:
    obj = pod(serviceAccountName="quiet")
    pod_admission.admit(obj, store)
    assert "volumes" not in obj["spec"]
    with pytest.raises(StatusError) as caught:
        pod_admission.admit(pod(serviceAccountName="nobody"), store)
    assert caught.value.code == 403


def test_a_priority_cannot_be_chosen_freely(store: Store) -> None:
    with pytest.raises(StatusError) as caught:
        pod_admission.admit(pod(priority=5), store)
    assert "the integer value of priority (5) must not be provided" in caught.value.message
