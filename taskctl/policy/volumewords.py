"""What a worker may be waiting for while its node says nothing.

A kubelet writes an Event once a mount has failed. A server that does not answer lets it hang,
for minutes, and until then there is no Event and no word in the pod's status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-has-network: the volumes are
# mounted before it becomes True.
_VOLUMES_MOUNTED: Final = "PodReadyToStartContainers"


def awaited_volumes(pod: Mapping[str, Any]) -> str:
    """Return which volumes of a raw pod its node may be waiting for; empty: none that could hang.

    Args:
        pod: one that has not started, and of which no Event says why.
    """
    if not pod["spec"].get("nodeName") or _volumes_mounted(pod):
        return ""
    found = [
        f"{volume['name']} ({words})"
        for volume in pod["spec"].get("volumes") or ()
        if (words := _words(volume))
    ]
    if not found:
        return ""
    return f"its node has not said why; it may be waiting for the volumes {', '.join(found)}"


def _volumes_mounted(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(
        one.get("type") == _VOLUMES_MOUNTED and one.get("status") == "True" for one in conditions
    )


def _words(volume: Mapping[str, Any]) -> str:
    """Say what a volume is, if mounting it needs an answer from another component."""
    nfs, csi = volume.get("nfs"), volume.get("csi")
    claim = volume.get("persistentVolumeClaim")
    if nfs is not None:
        return f"NFS server {nfs.get('server')}, path {nfs.get('path')}"
    if claim is not None:
        return f"PersistentVolumeClaim {claim.get('claimName')}"
    if csi is not None:
        return f"CSI driver {csi.get('driver')}"
    if "ephemeral" in volume:
        return "a claim of this worker"
    return ""
