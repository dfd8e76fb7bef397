"""The TaskCluster of one run: a root's ``spec.cluster``.

Its name follows from the root's UID, so a controller that makes it twice finds the same one, and a
Task made again under the same name gets another. It is owned by the root and goes with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from taskctl.constants import API_VERSION

# What a TaskCluster's name may have (:data:`taskctl.api.taskcluster.MAX_PREFIX`).
_MAX_NAME: Final = 52
_HASH_CHARS: Final = 10
# How long the workers stay when the tree is complete, so that results and logs that lie in the
# workspace can be read through them; spec.cluster.idleSecondsBeforeScaleDown says otherwise.
KEEP_WORKERS_S: Final = 300


def run_cluster_name(task_name: str, task_uid: str) -> str:
    """Return the name of the TaskCluster of a root with ``spec.cluster``."""
    stem = task_name[: _MAX_NAME - _HASH_CHARS - 1].replace(".", "-").rstrip("-")
    return f"{stem}-{hashlib.sha256(task_uid.encode()).hexdigest()[:_HASH_CHARS]}"


def cluster_of_task(task: Mapping[str, Any]) -> str:
    """Return the name of the TaskCluster that a raw Task runs in; empty: it names none."""
    spec, metadata = task.get("spec") or {}, task["metadata"]
    if spec.get("clusterName"):
        return str(spec["clusterName"])
    if spec.get("cluster") is None:
        return ""
    return run_cluster_name(metadata["name"], metadata["uid"])


def build_run_cluster(root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of the TaskCluster of a raw root with ``spec.cluster``."""
    metadata = root["metadata"]
    owner = {
        "apiVersion": API_VERSION,
        "kind": "Task",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "TaskCluster",
        "metadata": {
            "name": cluster_of_task(root),
            "namespace": metadata["namespace"],
            "ownerReferences": [owner],
        },
        "spec": dict(root["spec"]["cluster"]),
    }


def run_of(cluster: Mapping[str, Any]) -> str:
    """Return the UID of the root whose run a raw TaskCluster was made for; empty: of none."""
    for owner in cluster["metadata"].get("ownerReferences") or ():
        kind = (owner.get("apiVersion"), owner.get("kind"))
        if owner.get("controller") and kind == (API_VERSION, "Task"):
            return str(owner["uid"])
    return ""


def is_run_cluster(cluster: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether a raw TaskCluster is the one that was made for a raw root."""
    return run_of(cluster) == str(root["metadata"]["uid"])


def workers_stay_s(cluster: Mapping[str, Any]) -> int:
    """Return for how many seconds after the end of its run a TaskCluster keeps its workers."""
    given = cluster["spec"].get("idleSecondsBeforeScaleDown")
    return KEEP_WORKERS_S if given is None else int(given)
