"""Which fields without effect are told of, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.node.unsupported import ignored_fields, not_yet_told
from tests.unit.embedded_node.builders import Json, container, pod

PROFILE: Json = {
    "seccompProfile": {"type": "RuntimeDefault"},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
}
HARDENED: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "privileged": False,
    "procMount": "Default",
}


def test_fields_without_effect_are_listed() -> None:
    subject = pod(
        container("c", tty=True, resources={"limits": {"cpu": "1"}}, readinessProbe={"exec": {}}),
        volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}],
        hostAliases=[{"ip": "1.1.1.1"}],
        hostPID=True,
        hostUsers=False,
        ephemeralContainers=[container("e", stdin=True)],
    )
    assert ignored_fields(subject).own == (
        "spec.containers[].readinessProbe",
        "spec.containers[].resources.limits",
        "spec.containers[].tty",
        "spec.ephemeralContainers[].stdin",
        "spec.hostAliases",
        "spec.hostPID",
        "spec.hostUsers",
        "spec.volumes[].emptyDir.medium",
    )
    plain = ignored_fields(pod())
    assert (plain.own, plain.common) == ((), ())


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"capabilities": {"add": ["NET_ADMIN"]}}, ""),
        ({"procMount": "Unmasked"}, "procMount"),
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
        ({"seccompProfile": {"type": "Localhost", "localhostProfile": "x"}}, "seccompProfile"),
        ({"seLinuxOptions": {"level": "s0"}}, "seLinuxOptions"),
        ({"capabilities": {"add": ["NET_ADMIN"]}, "privileged": True}, ""),
        ({"seccompProfile": {"type": "Unconfined"}}, ""),
        (HARDENED, ""),
    ],
)
def test_security_that_is_asked_for_in_vain(fields: Json, path: str) -> None:
    found = ignored_fields(pod(container("c", securityContext=fields)))
    assert found.own == ((f"spec.containers[].securityContext.{path}",) if path else ())
    assert found.common == ()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"mountPropagation": "HostToContainer"}, True),
        ({"mountPropagation": "None"}, False),
        ({"recursiveReadOnly": "Enabled"}, True),
        ({"recursiveReadOnly": "IfPossible"}, False),
        ({"subPath": "a"}, False),
    ],
)
def test_mounts(fields: dict[str, Any], told: bool) -> None:
    mount = {"name": "v", "mountPath": "/v", **fields}
    found = ignored_fields(pod(container("c", volumeMounts=[mount]))).own
    assert found == ((f"spec.containers[].volumeMounts[].{next(iter(fields))}",) if told else ())


def test_the_profile_of_workers_is_told_once() -> None:
    node: set[str] = set()
    worker = pod(container("c", securityContext=HARDENED), securityContext=PROFILE)
    news = not_yet_told(ignored_fields(worker), set(), node)
    assert news == (
        "spec.securityContext.fsGroup=65532",
        "spec.securityContext.runAsGroup=65532",
        "spec.securityContext.runAsNonRoot=True",
        "spec.securityContext.runAsUser=65532",
    )
    assert not_yet_told(ignored_fields(worker), set(), node) == ()
    other = pod(securityContext={**PROFILE, "runAsUser": 7})
    assert not_yet_told(ignored_fields(other), set(), node) == ("spec.securityContext.runAsUser=7",)


def test_other_fields_are_told_of_every_pod_once() -> None:
    node: set[str] = set()
    found = ignored_fields(pod(hostIPC=True))
    for _ in range(2):
        told: set[str] = set()
        assert not_yet_told(found, told, node) == ("spec.hostIPC",)
        assert not_yet_told(found, told, node) == ()


def test_users_are_applied_in_images() -> None:
    user = {"runAsUser": 7, "runAsNonRoot": True, "fsGroup": 5}
    own = {"runAsUser": 8, "supplementalGroups": [1]}
    subject = pod(container("a", securityContext=own), container("b"), securityContext=user)
    everywhere = ignored_fields(subject, ["a", "b"])
    assert everywhere.own == ()
    assert everywhere.common == ("spec.securityContext.fsGroup=5",)
    some = ignored_fields(subject, ["a"])
    assert some.own == ()
    assert "spec.securityContext.runAsUser=7" in some.common
    assert "spec.containers[].securityContext.runAsUser=8" not in some.common
