"""The workspace of a TaskCluster: which volume, and which claim has to be made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.states import Reclaim
from taskctl.constants import (
    ANNOTATION_RECLAIM,
    DEFAULT_WORKSPACE_PATH,
    LABEL_CLUSTER,
    LABEL_CLUSTER_UID,
    LABEL_MANAGED_BY,
    WORKSPACE_VOLUME,
)
from taskctl.policy.lineage import label_value
from taskctl.policy.variables import expanded

_CLAIM_SUFFIX: Final = "-workspace"


@dataclass(frozen=True, slots=True)
class WorkspaceVolume:
    """What a TaskCluster's ``spec.workspace`` comes to.

    Attributes:
        volume: the pods' volume, or None: no workspace.
        mount_path: where it is mounted.
        claim: the PersistentVolumeClaim to create, or None: the volume needs none of ours.
        claim_name: name of the claim that the volume uses, ours or not; empty for none.
    """

    volume: dict[str, Any] | None
    mount_path: str
    claim: dict[str, Any] | None = None
    claim_name: str = ""


def plan_workspace(cluster: Mapping[str, Any]) -> WorkspaceVolume:
    """Return the workspace of a raw TaskCluster.

    The claim has no owner reference: the garbage collector would delete it with the TaskCluster
    whatever ``reclaim`` says by then, and under Tasks that still wait for the TaskCluster. The
    controller deletes it (:mod:`taskctl.policy.workspaceclaim`).
    """
    spec = expanded(cluster).get("workspace")
    if spec is None or spec.get("enable") is False:
        return WorkspaceVolume(None, DEFAULT_WORKSPACE_PATH)
    path = spec.get("mountPath") or DEFAULT_WORKSPACE_PATH
    if spec.get("claimName"):
        return WorkspaceVolume(_claim_volume(spec["claimName"]), path, claim_name=spec["claimName"])
    for source in ("hostPath", "nfs", "emptyDir"):
        if spec.get(source) is not None:
            return WorkspaceVolume({"name": WORKSPACE_VOLUME, source: dict(spec[source])}, path)
    claim = _claim(cluster, spec)
    name = claim["metadata"]["name"]
    return WorkspaceVolume(_claim_volume(name), path, claim, name)


def _claim_volume(name: str) -> dict[str, Any]:
    return {"name": WORKSPACE_VOLUME, "persistentVolumeClaim": {"claimName": name}}


def claim_name_of(cluster_name: str) -> str:
    """Return the name of the claim that taskctl makes for a TaskCluster."""
    return f"{cluster_name}{_CLAIM_SUFFIX}"


def cluster_name_of(claim_name: str) -> str:
    """Return the name of the TaskCluster that a claim of that name is made for; or empty."""
    name = claim_name.removesuffix(_CLAIM_SUFFIX)
    return name if name != claim_name else ""


def reclaim_of(cluster: Mapping[str, Any]) -> Reclaim:
    """Return ``spec.workspace.reclaim`` of a raw TaskCluster."""
    spec = cluster["spec"].get("workspace") or {}
    return Reclaim(spec.get("reclaim") or Reclaim.DELETE)


def _claim(cluster: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
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
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name_of(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {
                LABEL_MANAGED_BY: "taskctl",
                LABEL_CLUSTER: label_value(metadata["name"]),
                LABEL_CLUSTER_UID: metadata["uid"],
            },
            "annotations": {ANNOTATION_RECLAIM: reclaim_of(cluster).value},
        },
        "spec": claim_spec,
    }
