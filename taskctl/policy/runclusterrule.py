"""What ``spec.cluster`` of a Task may hold, as the controller makes it with rights of its own.

Who may create Tasks need not be allowed to create TaskClusters, or pods. The API server tells no
controller who has created an object, so the controller cannot look at that person's rights. An
admission policy can (:mod:`taskctl.install.runclusters`); where there is none, only what gives a
Task's author nothing that he would not have in any TaskCluster is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from taskctl.policy.workerpod import LABEL_KUEUE_QUEUE


class RunClusters(StrEnum):
    """Which TaskClusters the controller makes for single runs."""

    ANY = "any"  # an admission policy has asked for the right to create TaskClusters
    PLAIN = "plain"  # workers and a workspace of their own, and no more
    NONE = "none"


# Everything else is refused, so a field that comes later is, until it is added here.
PLAIN_FIELDS: Final = frozenset(
    {
        "replicas", "minReplicas", "maxReplicas", "slotsPerWorker", "idleSecondsBeforeScaleDown",
        "rotation", "standby", "inlineOutputs", "workspace", "volumes", "volumeMounts", "template",
        "taskDefaults", "images", "allowedImages", "peers",
    }
)  # fmt: skip
PLAIN_WORKSPACE: Final = frozenset(
    {"enable", "pvc", "emptyDir", "mountPath", "reclaim", "cleanup", "logLimitBytes"}
)
PLAIN_TEMPLATE: Final = frozenset(
    {
        "resources", "podResources", "imagePullPolicy", "imagePullSecrets", "nodeSelector",
        "affinity", "topologySpreadConstraints", "labels", "securityContext",
    }
)  # fmt: skip
# Not `selector`, `volumeName` or `dataSource`: they lead to volumes that hold the files of others.
PLAIN_CLAIM: Final = frozenset({"accessModes", "resources", "storageClassName", "volumeMode"})
# A Task may name Secrets and ConfigMaps in its `env`, so these volumes show it nothing new.
PLAIN_VOLUMES: Final = frozenset({"emptyDir", "configMap", "secret", "downwardAPI"})
# No account's token (`serviceAccountToken`), no other authority.
PLAIN_PROJECTIONS: Final = frozenset({"configMap", "secret", "downwardAPI"})
# Labels decide which NetworkPolicies and Services a pod is subject to.
PLAIN_LABELS: Final = frozenset({LABEL_KUEUE_QUEUE})
_SECCOMP: Final = "RuntimeDefault"


def problem_with(run_cluster: Mapping[str, Any], mode: RunClusters) -> str:
    """Return why such a controller does not make a TaskCluster, as a sentence; empty: it does.

    Args:
        run_cluster: ``spec.cluster`` of a raw Task.
        mode: of the controller.
    """
    if mode is RunClusters.ANY:
        return ""
    if mode is RunClusters.NONE:
        return (
            "spec.cluster is not allowed by this controller (--run-clusters=none). Ask a user "
            "who may create TaskClusters for one, and name it as spec.clusterName of a new Task."
        )
    path = next(_not_plain(run_cluster), "")
    if not path:
        return ""
    return (
        f"spec.cluster{path} is not allowed by this controller (--run-clusters=plain), because "
        "users who may only create Tasks could gain rights by it. Leave it out, or ask a user who "
        "may create TaskClusters for one, and name it as spec.clusterName of a new Task."
    )


def _not_plain(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of what is more than plain."""
    yield from _others(spec, PLAIN_FIELDS, "")
    yield from _others(spec.get("workspace"), PLAIN_WORKSPACE, ".workspace")
    pvc = (spec.get("workspace") or {}).get("pvc")
    yield from _others(pvc, PLAIN_CLAIM, ".workspace.pvc")
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from _volume(volume, f".volumes[{index}]")
    template = spec.get("template") or {}
    yield from _others(template, PLAIN_TEMPLATE, ".template")
    for key in sorted((template.get("labels") or {}).keys() - PLAIN_LABELS):
        yield f".template.labels[{key}]"
    yield from _security(template.get("securityContext") or {}, ".template.securityContext")


def _others(part: Mapping[str, Any] | None, known: frozenset[str], path: str) -> Iterator[str]:
    for name, value in (part or {}).items():
        if value is not None and name not in known:
            yield f"{path}.{name}"


def _volume(volume: Mapping[str, Any], path: str) -> Iterator[str]:
    for kind, source in volume.items():
        if kind == "name" or source is None:
            continue
        if kind == "projected":
            for index, one in enumerate(source.get("sources") or ()):
                yield from _others(one, PLAIN_PROJECTIONS, f"{path}.projected.sources[{index}]")
        elif kind == "ephemeral":
            claim = (source.get("volumeClaimTemplate") or {}).get("spec")
            yield from _others(claim, PLAIN_CLAIM, f"{path}.ephemeral.volumeClaimTemplate.spec")
        elif kind not in PLAIN_VOLUMES:
            yield f"{path}.{kind}"


def _security(context: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield what the restricted Pod Security Standard does not allow, and what is not known."""
    for name, value in context.items():
        allowed = {
            "runAsUser": value != 0,
            "runAsGroup": True,
            "runAsNonRoot": value is not False,
            "fsGroup": True,
            "fsGroupChangePolicy": True,
            "seccompProfile": (value or {}) == {} or _type_of(value) == _SECCOMP,
        }.get(name, False)
        if value is not None and not allowed:
            yield f"{path}.{name}"


def _type_of(profile: Any) -> Any:
    return profile.get("type") if isinstance(profile, Mapping) else None
