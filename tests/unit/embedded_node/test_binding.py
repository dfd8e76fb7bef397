from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.node import binding


def claim(**spec: Any) -> dict[str, Any]:
    resources = {"requests": {"storage": "2Gi"}}
    meta = {"name": "c", "namespace": "ns", "uid": "u"}
    return {
        "metadata": meta,
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources, **spec},
    }


def volume(name: str, size: str = "5Gi", labels: dict[str, str] | None = None, **spec: Any) -> Any:
    body = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], **spec}
    return {"metadata": {"name": name, "uid": name, "labels": labels or {}}, "spec": body}


def chosen(wanted: dict[str, Any], *volumes: Any) -> str | None:
    found = binding.match(wanted, volumes)
    return found["metadata"]["name"] if found else None


def test_the_smallest_that_fits() -> None:
    assert (
        chosen(claim(), volume("big", "9Gi"), volume("fit", "2Gi"), volume("small", "1Gi")) == "fit"
    )


@pytest.mark.parametrize(
    ("wanted", "offered"),
    [
        (claim(storageClassName="fast"), volume("v")),
        (claim(accessModes=["ReadWriteMany"]), volume("v")),
        (claim(selector={"matchLabels": {"a": "1"}}), volume("v")),
        (claim(), volume("v", claimRef={"name": "other", "namespace": "ns", "uid": "x"})),
        (claim(), volume("v", claimRef={"name": "c", "namespace": "ns", "uid": "old"})),
        (claim(volumeName="w"), volume("v")),
        (claim(), {**volume("v"), "status": {"phase": "Released"}}),
        (claim(volumeMode="Block"), volume("v")),
        (claim(volumeMode="Filesystem"), volume("v", volumeMode="Block")),
        (claim(volumeMode="Block", volumeName="v"), volume("v", volumeMode="Filesystem")),
        (
            claim(volumeMode="Block"),
            volume("v", claimRef={"name": "c", "namespace": "ns", "uid": "u"}),
        ),
    ],
)
def test_what_does_not_fit(wanted: dict[str, Any], offered: Any) -> None:
    assert chosen(wanted, offered) is None


def test_what_fits() -> None:
    expressions = [{"key": "a", "operator": "In", "values": ["1"]}]
    assert chosen(claim(selector={"matchExpressions": expressions}), volume("v", labels={"a": "1"}))
    assert chosen(claim(volumeName="v"), volume("v", "1Gi"))
    assert chosen(claim(), volume("v", claimRef={"name": "c", "namespace": "ns"}))
    assert chosen(claim(volumeMode="Block"), volume("v", volumeMode="Block"))
    assert chosen(claim(volumeMode="Filesystem"), volume("v"))


def test_when_a_directory_is_made() -> None:
    assert binding.may_provision(claim())
    assert binding.may_provision(claim(storageClassName="standard"))
    assert not binding.may_provision(claim(storageClassName=""))
    assert not binding.may_provision(claim(selector={"matchLabels": {"a": "1"}}))
    assert not binding.may_provision(claim(volumeName="v"))
    assert not binding.may_provision(claim(volumeMode="Block"))
    classes = [
        {"metadata": {"name": "static"}, "provisioner": "kubernetes.io/no-provisioner"},
        {"metadata": {"name": "cloud"}, "provisioner": "ebs.csi.aws.com"},
    ]
    assert not binding.may_provision(claim(storageClassName="static"), classes)
    assert binding.may_provision(claim(storageClassName="cloud"), classes)
    assert binding.may_provision(claim(), classes)


def test_a_pending_claim_is_told_what_to_change() -> None:
    assert "use volumeMode Filesystem" in binding.explanation(claim(volumeMode="Block"))
    assert "a selector, a volumeName" in binding.explanation(claim(volumeName="v"))


def test_the_made_volume_belongs_to_its_claim() -> None:
    made = binding.new_volume(claim(storageClassName="standard"), "/data/ns/c")
    assert made["metadata"]["name"] == "pvc-u"
    assert made["spec"]["hostPath"]["path"] == "/data/ns/c"
    assert made["spec"]["capacity"] == {"storage": "2Gi"}
    assert made["spec"]["storageClassName"] == "standard"
    assert binding.belongs_to(made, claim())
    assert chosen(claim(storageClassName="standard"), made) == "pvc-u"


def test_bound_means_phase_and_name() -> None:
    bound = {**claim(volumeName="v"), "status": {"phase": "Bound"}}
    assert binding.is_bound(bound)
    assert not binding.is_bound(claim(volumeName="v"))


def test_a_class_that_waits_for_a_pod() -> None:
    classes = [
        {"metadata": {"name": "later"}, "volumeBindingMode": "WaitForFirstConsumer"},
        {"metadata": {"name": "now"}, "volumeBindingMode": "Immediate"},
    ]
    assert binding.waits_for_pod(claim(storageClassName="later"), classes)
    for other in (claim(storageClassName="now"), claim(storageClassName="absent"), claim()):
        assert not binding.waits_for_pod(other, classes)
    assert not binding.is_awaited(claim())
    assert binding.is_awaited(claim(volumeName="v"))
    told = claim()
    told["metadata"]["annotations"] = {binding.SELECTED_NODE: "local"}
    assert binding.is_awaited(told)
