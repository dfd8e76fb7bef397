from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.node.scheduling import (
    claims_refusal,
    is_candidate,
    refusal,
    uses_claims,
    volumes_refusal,
)
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


def test_a_class_that_waits_for_a_pod_keeps_none_waiting() -> None:
    subject = on_claims("a", "b")
    claims = {"a": UNBOUND, "b": {**UNBOUND, "spec": {"storageClassName": "later"}}}
    waits = lambda claim: "spec" in claim  # noqa: E731
    assert "unbound immediate" in claims_refusal(subject, lambda _, name: claims[name], waits)
    claims["a"] = BOUND
    assert claims_refusal(subject, lambda _, name: claims[name], waits) == ""


# --- volumes ------------------------------------------------------------------------


def bound_claim(name: str, mode: str = "ReadWriteOnce") -> dict[str, Any]:
    spec = {"volumeName": f"pv-{name}", "accessModes": [mode]}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Bound"}}


def volume_for(name: str, *disks: str) -> dict[str, Any]:
    affinity = {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "disk", "operator": "In", "values": list(disks)}]}
    ]}  # fmt: skip
    spec = {"nodeAffinity": {"required": affinity}} if disks else {}
    return {"metadata": {"name": f"pv-{name}"}, "spec": spec}


@pytest.mark.parametrize(
    ("volumes", "accepted"),
    [
        ([volume_for("a")], True),
        ([volume_for("a", "ssd", "hdd")], True),
        ([volume_for("a", "hdd")], False),
        ([volume_for("other", "hdd")], True),
    ],
)
def test_a_volume_of_another_place(volumes: list[dict[str, Any]], accepted: bool) -> None:
    why = volumes_refusal(on_claims("a"), node(), [bound_claim("a")], volumes, [])
    assert (why == "") == accepted
    assert accepted or "PersistentVolume's node affinity" in why


def test_a_claim_for_one_pod_is_had_by_one_pod() -> None:
    mine = on_claims("a")
    other = on_claims("a") | {"metadata": mine["metadata"] | {"uid": "other"}}
    alone, shared = bound_claim("a", "ReadWriteOncePod"), bound_claim("a")
    assert "ReadWriteOncePod" in volumes_refusal(mine, node(), [alone], [], [other])
    assert volumes_refusal(mine, node(), [shared], [], [other]) == ""
    assert volumes_refusal(mine, node(), [alone], [], [mine]) == "", "that is the pod itself"
    ended = other | {"status": {"phase": "Succeeded"}}
    elsewhere = other | {"metadata": other["metadata"] | {"namespace": "elsewhere"}}
    without = other | {"spec": {}}
    for free in (ended, elsewhere, without):
        assert volumes_refusal(mine, node(), [alone], [], [free]) == ""
