"""Is a worker on a node that is about to go?

``kubectl cordon`` and ``drain`` set ``spec.unschedulable``; the node controller makes it a taint,
too. Autoscalers that take a node away set one of their own. Kubernetes keeps further *pods* off
such a node. Tasks are containers in a pod that is there already, so this is for taskctl to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# https://kubernetes.io/docs/reference/labels-annotations-taints/#node-kubernetes-io-unschedulable
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_LEAVING: Final = frozenset(
    {
        _UNSCHEDULABLE,
        "ToBeDeletedByClusterAutoscaler",  # cluster-autoscaler, utils/taints
        "karpenter.sh/disrupted",  # https://karpenter.sh/docs/concepts/disruption/
    }
)
MOVING_MESSAGE: Final = (
    "The node of its workers is to be emptied. They share a claim of one node, so others are "
    "created when the last of them has left it."
)
_NO_SCHEDULE: Final = "NoSchedule"


def leaving_taints(node: Mapping[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """Return key and value of the taints that say that a raw Node is to be emptied, in order."""
    spec = (node or {}).get("spec") or {}
    found = {
        str(taint["key"]): str(taint.get("value") or "")
        for taint in spec.get("taints") or ()
        if taint.get("key") in _LEAVING
    }
    if spec.get("unschedulable"):
        found.setdefault(_UNSCHEDULABLE, "")
    return tuple(sorted(found.items()))


def must_leave(pod: Mapping[str, Any], node: Mapping[str, Any] | None) -> bool:
    """Whether no more tasks should be placed in a raw pod, because its node is to be emptied.

    Not if the pod tolerates it: its replacement might come to the same node.

    Args:
        pod: of a worker.
        node: the raw Node that it is on; None: it is not known.
    """
    tolerations = pod["spec"].get("tolerations") or ()
    return any(
        not any(_tolerates(one, key, value) for one in tolerations)
        for key, value in leaving_taints(node)
    )


def _tolerates(toleration: Mapping[str, Any], key: str, value: str) -> bool:
    """Kubernetes' rule (`ToleratesTaint`, k8s.io/component-helpers) for the effect NoSchedule."""
    if toleration.get("effect") not in (None, "", _NO_SCHEDULE):
        return False
    wanted = toleration.get("key") or ""
    if toleration.get("operator") == "Exists":
        return wanted in ("", key)
    return wanted == key and (toleration.get("value") or "") == value
