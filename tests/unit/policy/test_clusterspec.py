"""No worker is made of a spec that is half understood."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskctl.api.crds import load_all
from taskctl.policy.clusterspec import LAST_APPLIED, spec_problem
from tests.unit.policy.build import raw_cluster

Json = dict[str, Any]
VOLUME = {"name": "data", "persistentVolumeClaim": {"claimName": "x"}}
MOUNT = {"name": "data", "mountPath": "/data"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
TERM = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}


def template(**parts: Any) -> Json:
    return {"template": parts}


GOOD: list[Json] = [
    {},
    {"volumes": [VOLUME], "volumeMounts": [MOUNT | {"readOnly": True}]},
    {"volumes": [{"name": "a", "csi": {"driver": "d", "volumeAttributes": {"x": "y"}}}]},
    {"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}]},
    {
        "volumes": [
            {
                "name": "a",
                "projected": {
                    "sources": [
                        {"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}},
                        {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}},
                    ]
                },
            }
        ]
    },
    {
        "volumes": [
            {
                "name": "a",
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "metadata": {"labels": {"a": "b"}},
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "1Gi"}},
                        },
                    }
                },
            }
        ]
    },
    template(
        tolerations=[{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute"}]
    ),
    template(affinity={"podAntiAffinity": {PREFERRED: [{"weight": 5, "podAffinityTerm": TERM}]}}),
    template(affinity={"podAffinity": {REQUIRED: [TERM]}, "nodeAffinity": None}),
    template(resources={"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"gpu.x/y": "1"}}),
    template(securityContext={"runAsUser": 0, "seccompProfile": {"type": "Unconfined"}}),
    template(imagePullSecrets=[{"name": "pull"}], nodeSelector={"a": "b"}),
]
# What is written, and the path of the field that is wrong.
BAD: list[tuple[Json, str]] = [
    (template(tolerations=[{"kye": "a", "operator": "Exists"}]), "template.tolerations[0].kye"),
    (template(tolerations=[{}, {"toleration_seconds": 5}]), "template.tolerations[1].toleration_"),
    (template(node_selector={"a": "b"}), "template.node_selector"),
    (template(resource={}), "template.resource"),
    (template(resources={"limit": {"cpu": 1}}), "template.resources.limit"),
    (template(securityContext={"runAsuser": 0}), "template.securityContext.runAsuser"),
    (
        template(securityContext={"seccompProfile": {"kind": "x", "type": "RuntimeDefault"}}),
        "template.securityContext.seccompProfile.kind",
    ),
    (template(imagePullSecrets=[{"nam": "pull"}]), "template.imagePullSecrets[0].nam"),
    (template(affinity={"nodeAfinity": {}}), "template.affinity.nodeAfinity"),
    (
        template(affinity={"podAffinity": {REQUIRED: [TERM | {"namespace": "x"}]}}),
        f"template.affinity.podAffinity.{REQUIRED}[0].namespace",
    ),
    (
        template(affinity={"podAffinity": {REQUIRED: [{**TERM, "labelSelector": {"match": 1}}]}}),
        f"template.affinity.podAffinity.{REQUIRED}[0].labelSelector.match",
    ),
    ({"volumes": [{"name": "a", "hostPth": {"path": "/x"}}]}, "volumes[0].hostPth"),
    ({"volumes": [{"name": "a", "host_path": {"path": "/x"}}]}, "volumes[0].host_path"),
    ({"volumes": [{"name": "a", "emptyDir": {"meduim": "Memory"}}]}, "volumes[0].emptyDir.meduim"),
    (
        {"volumes": [VOLUME, {"name": "s", "secret": {"secretName": "x", "item": []}}]},
        "volumes[1].secret.item",
    ),
    (
        {"volumes": [VOLUME], "volumeMounts": [MOUNT | {"readonly": True}]},
        "volumeMounts[0].readonly",
    ),
    ({"slots_per_worker": 3}, "slots_per_worker"),
    ({"workspace": {"pvc": {"selector": {"matchLabel": {}}}}}, "workspace.pvc.selector.matchLabel"),
    ({"workspace": {"hostPath": {"pth": "/x", "path": "/x"}}}, "workspace.hostPath.pth"),
    ({"workspace": {"host_path": {"path": "/x"}}}, "workspace.host_path"),
]


@pytest.mark.parametrize("spec", GOOD)
def test_what_kubernetes_knows_is_understood(spec: Json) -> None:
    assert spec_problem(raw_cluster(**spec)) == ""
    assert spec_problem(applied(spec)) == ""


@pytest.mark.parametrize(("spec", "path"), BAD)
def test_what_it_does_not_know_is_named(spec: Json, path: str) -> None:
    assert f"spec.{path}" in spec_problem(raw_cluster(**spec))


@pytest.mark.parametrize(("spec", "path"), BAD)
def test_what_the_api_server_dropped_is_named_too(spec: Json, path: str) -> None:
    """`kubectl apply --validate=false`: only what kubectl noted shows what was meant."""
    problem = spec_problem(applied(spec))
    assert f"spec.{path}" in problem
    assert "unknown field" in problem


@pytest.mark.parametrize(("spec", "path"), BAD)
def test_the_api_server_refuses_the_field(spec: Json, path: str) -> None:
    """The CRD has a schema at that place, and it does not have the field."""
    crd = next(c for c in load_all() if c["spec"]["names"]["kind"] == "TaskCluster")
    node = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    *above, _ = path.replace("]", "").replace("[", ".").split(".")
    value: Any = spec
    for step in above:
        node = node["items"] if step.isdigit() else node["properties"][step]
        value = value[int(step)] if step.isdigit() else value[step]
    assert "x-kubernetes-preserve-unknown-fields" not in node
    assert set(value) - set(node["properties"])


@pytest.mark.parametrize("note", ["", "{", "[]", '{"spec": 3}', '{"spec": {"replicas": "x"}}'])
def test_a_note_that_cannot_be_read_says_nothing(note: str) -> None:
    cluster = raw_cluster()
    cluster["metadata"]["annotations"] = {LAST_APPLIED: note}
    assert spec_problem(cluster) == ""


def applied(spec: Json) -> Json:
    cluster = raw_cluster()
    cluster["metadata"]["annotations"] = {LAST_APPLIED: json.dumps({"spec": spec})}
    return cluster
