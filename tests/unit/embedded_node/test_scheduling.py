from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.node.scheduling import claims_refusal, is_candidate, refusal, uses_claims
from tests.unit.embedded_node.builders import pod


def node(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "local", "labels": {"disk": "ssd", "size": "8"}}, "spec": spec}


def affinity(*expressions: dict[str, Any], **term: Any) -> dict[str, Any]:
    terms = [{"matchExpressions": list(expressions), **term}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": required}}


@pytest.mark.parametrize(
    "subject",
    [
        pod(nodeName="x"),
        pod(schedulerName="mine"),
        pod(schedulingGates=[{"name": "g"}]),
        pod(meta={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ],
)
def test_pods_that_are_none_of_our_business(subject: dict[str, Any]) -> None:
    assert not is_candidate(subject)
    assert is_candidate(pod())


@pytest.mark.parametrize(
    ("spec", "accepted"),
    [
        ({}, True),
        ({"nodeSelector": {"disk": "ssd"}}, True),
        ({"nodeSelector": {"disk": "hdd"}}, False),
        (affinity({"key": "disk", "operator": "In", "values": ["ssd", "nvme"]}), True),
        (affinity({"key": "disk", "operator": "NotIn", "values": ["ssd"]}), False),
        (affinity({"key": "gpu", "operator": "Exists"}), False),
        (affinity({"key": "gpu", "operator": "DoesNotExist"}), True),
        (affinity({"key": "size", "operator": "Gt", "values": ["7"]}), True),
        (affinity({"key": "size", "operator": "Lt", "values": ["7"]}), False),
        (affinity({"key": "disk", "operator": "Gt", "values": ["7"]}), False),
        (affinity(), False),
        (
            affinity(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["local"]}]),
            True,
        ),
    ],
)
def test_selectors_and_affinity(spec: dict[str, Any], accepted: bool) -> None:
    assert (refusal(pod(**spec), node()) == "") == accepted


def test_cordon_and_taints() -> None:
    assert "unschedulable" in refusal(pod(), node(unschedulable=True))
    tainted = node(taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
    assert "untolerated taint {k: v}" in refusal(pod(), tainted)
    for toleration in (
        {"key": "k", "value": "v"},
        {"key": "k", "operator": "Exists", "effect": "NoSchedule"},
        {"operator": "Exists"},
    ):
        assert refusal(pod(tolerations=[toleration]), tainted) == ""
    for other in ({"key": "k", "value": "w"}, {"operator": "Exists", "effect": "NoExecute"}):
        assert refusal(pod(tolerations=[other]), tainted) != ""
    soft = node(taints=[{"key": "k", "effect": "PreferNoSchedule"}])
    assert refusal(pod(), soft) == ""


# --- claims -------------------------------------------------------------------------

BOUND = {"metadata": {}, "status": {"phase": "Bound"}}
DYING = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Bound"}}
UNBOUND = {"metadata": {}, "status": {"phase": "Pending"}}


def on_claims(*names: str) -> dict[str, Any]:
    claims = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
    return pod(volumes=[{"name": "tmp", "emptyDir": {}}, *claims])


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"a": BOUND}, ""),
        ({"a": BOUND, "b": BOUND}, ""),
        ({"a": None}, 'persistentvolumeclaim "a" not found'),
        ({"a": BOUND, "b": DYING}, 'persistentvolumeclaim "b" is being deleted'),
        ({"a": UNBOUND}, "pod has unbound immediate PersistentVolumeClaims"),
        ({"a": UNBOUND, "b": DYING}, 'persistentvolumeclaim "b" is being deleted'),
        ({"a": {"metadata": {}}}, "pod has unbound immediate PersistentVolumeClaims"),
    ],
)
def test_a_pod_waits_for_claims_that_can_be_used(claims: dict[str, Any], why: str) -> None:
    subject = on_claims(*claims)
    assert uses_claims(subject)
    assert claims_refusal(subject, lambda _, name: claims[name]) == why


def test_a_pod_without_claims_waits_for_none() -> None:
    assert not uses_claims(on_claims())
    assert claims_refusal(on_claims(), lambda _, name: None) == ""
