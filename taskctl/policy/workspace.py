"""The workspace of a TaskCluster: which volume, and which claim has to be made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.states import Reclaim
from taskctl.constants import (
    DEFAULT_WORKSPACE_PATH,
    LABEL_CLUSTER,
    LABEL_CLUSTER_UID,
    LABEL_MANAGED_BY,
    WORKSPACE_VOLUME,
)
from taskctl.policy.lineage import label_value

_MANY: Final = "ReadWriteMany"


@dataclass(frozen=True, slots=True)
class Workspace:
    """What a TaskCluster's ``spec.workspace`` comes to.

    Attributes:
        volume: the pods' volume, or None: no workspace.
        mount_path: where it is mounted.
        claim: the PersistentVolumeClaim to create, or None: the volume needs none of ours.
        claim_name: name of the claim that the volume uses, ours or not; empty for none.
        one_node: the claim can be used on one node only, so all workers must share one.
    """

    volume: dict[str, Any] | None
    mount_path: str
    claim: dict[str, Any] | None = None
    claim_name: str = ""
    one_node: bool = False


def plan_workspace(cluster: Mapping[str, Any], owner: Mapping[str, Any]) -> Workspace:
    """Return the workspace of a TaskCluster.

    Args:
        cluster: the raw TaskCluster.
        owner: owner reference to it, for a claim that is deleted with it. The API server's
            garbage collector does the deleting; ``reclaim: Retain`` leaves the claim without
            an owner.
    """
    spec = cluster["spec"].get("workspace")
    if spec is None or spec.get("enable") is False:
        return Workspace(None, DEFAULT_WORKSPACE_PATH)
    path = spec.get("mountPath") or DEFAULT_WORKSPACE_PATH
    if spec.get("claimName"):
        return Workspace(_claim_volume(spec["claimName"]), path, claim_name=spec["claimName"])
    for source in ("hostPath", "nfs", "emptyDir"):
        if spec.get(source) is not None:
            return Workspace({"name": WORKSPACE_VOLUME, source: dict(spec[source])}, path)
    claim = _claim(cluster, spec, owner)
    name = claim["metadata"]["name"]
    one_node = _MANY not in claim["spec"]["accessModes"]
    return Workspace(_claim_volume(name), path, claim, name, one_node)


def _claim_volume(name: str) -> dict[str, Any]:
    return {"name": WORKSPACE_VOLUME, "persistentVolumeClaim": {"claimName": name}}


def _claim(
    cluster: Mapping[str, Any], spec: Mapping[str, Any], owner: Mapping[str, Any]
) -> dict[str, Any]:
    metadata = cluster["metadata"]
    wanted = spec.get("pvc") or {}
    claim_spec: dict[str, Any] = {
        "accessModes": list(wanted.get("accessModes") or ["ReadWriteOnce"]),
        "resources": dict(wanted.get("resources") or {"requests": {"storage": "1Gi"}}),
        "volumeMode": wanted.get("volumeMode") or "Filesystem",
    }
    for field in ("storageClassName", "selector"):
        if wanted.get(field) is not None:
            claim_spec[field] = wanted[field]
    claim: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"{metadata['name']}-workspace",
            "namespace": metadata["namespace"],
            "labels": {
                LABEL_MANAGED_BY: "taskctl",
                LABEL_CLUSTER: label_value(metadata["name"]),
                LABEL_CLUSTER_UID: metadata["uid"],
            },
        },
        "spec": claim_spec,
    }
    if spec.get("reclaim", Reclaim.DELETE) != Reclaim.RETAIN:
        claim["metadata"]["ownerReferences"] = [dict(owner)]
    return claim
