"""Which pods this node takes (pure): the rules of kube-scheduler that one node can keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from taskctl.embedded.node.binding import is_bound
from taskctl.embedded.node.model import Json

DEFAULT_SCHEDULER: Final = "default-scheduler"
# The words of kube-scheduler's plugins VolumeBinding (binder.go) and VolumeRestrictions.
NO_VOLUME: Final = "node(s) didn't find available persistent volumes to bind"
_ELSEWHERE: Final = "node(s) didn't match PersistentVolume's node affinity"
_ONE_POD: Final = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already "
    "in-use by another pod"
)


def is_candidate(pod: Json) -> bool:
    """Whether the pod waits to be given a node."""
    spec, meta = pod["spec"], pod["metadata"]
    return (
        not spec.get("nodeName")
        and not meta.get("deletionTimestamp")
        and not spec.get("schedulingGates")
        and (spec.get("schedulerName") or DEFAULT_SCHEDULER) == DEFAULT_SCHEDULER
    )


def refusal(pod: Json, node: Json) -> str:
    """Return why the node does not take the pod; empty when it does.

    Honoured: ``unschedulable``, taints, nodeSelector and required node affinity. Requests of
    CPU and memory are not: on one machine it is for the user to say how much is too much.
    """
    spec = node.get("spec") or {}
    labels = node["metadata"].get("labels") or {}
    if spec.get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in spec.get("taints") or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerated(pod, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return "node(s) didn't match Pod's node affinity/selector"
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None and not _selected(required, node):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def _selected(selector: Json, node: Json) -> bool:
    """Whether a NodeSelector selects the node."""
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    terms = selector.get("nodeSelectorTerms") or ()
    return any(_term_matches(term, labels, fields) for term in terms)


def claims_refusal(
    pod: Json,
    find: Callable[[str, str], Json | None],
    waits: Callable[[Json], bool] = lambda claim: False,
) -> str:
    """Return why the pod cannot go to any node because of a claim; empty when nothing is wrong.

    The rules and the words of kube-scheduler's VolumeBinding plugin (volume_binding.go,
    ``podHasPVCs`` and ``PreFilter``), for a class that binds at once: a pod on a claim that is
    being deleted would write what is thrown away.

    Args:
        pod: a pod without a node.
        find: returns a claim by namespace and name, or None.
        waits: whether a claim is bound only once a pod that uses it is placed.
    """
    unbound = False
    for name in claim_names(pod):
        claim = find(pod["metadata"].get("namespace", ""), name)
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        if claim["metadata"].get("deletionTimestamp"):
            return f'persistentvolumeclaim "{name}" is being deleted'
        phase = (claim.get("status") or {}).get("phase")
        unbound = unbound or (phase != "Bound" and not waits(claim))
    return "pod has unbound immediate PersistentVolumeClaims" if unbound else ""


def volumes_refusal(
    pod: Json, node: Json, claims: Iterable[Json], volumes: Iterable[Json], others: Iterable[Json]
) -> str:
    """Return why the pod's volumes keep it off this node; empty when nothing does.

    Args:
        pod: a pod without a node.
        node: this node.
        claims: those that the pod uses.
        volumes: all PersistentVolumes.
        others: the pods that have a node.
    """
    own = list(claims)
    names = {claim["spec"].get("volumeName") for claim in own if is_bound(claim)}
    for volume in volumes:
        required = (volume["spec"].get("nodeAffinity") or {}).get("required")
        if required and volume["metadata"]["name"] in names and not _selected(required, node):
            return _ELSEWHERE
    alone = {
        claim["metadata"]["name"]
        for claim in own
        if "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ())
    }
    namespace, uid = pod["metadata"].get("namespace"), pod["metadata"]["uid"]
    for other in others if alone else ():
        meta, phase = other["metadata"], (other.get("status") or {}).get("phase")
        if meta["uid"] == uid or phase in ("Succeeded", "Failed"):
            continue
        if meta.get("namespace") == namespace and not alone.isdisjoint(claim_names(other)):
            return _ONE_POD
    return ""


def claim_names(pod: Json) -> Iterator[str]:
    """Yield the names of the claims that the pod's volumes are."""
    for volume in pod["spec"].get("volumes") or ():
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if name:
            yield name


def uses_claims(pod: Json) -> bool:
    """Whether any of the pod's volumes is a claim."""
    volumes = pod["spec"].get("volumes") or ()
    return any(volume.get("persistentVolumeClaim") for volume in volumes)


def _tolerated(pod: Json, taint: Json) -> bool:
    for toleration in pod["spec"].get("tolerations") or ():
        if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
            continue
        key = toleration.get("key")
        if toleration.get("operator") == "Exists":
            if not key or key == taint["key"]:
                return True
        elif key == taint["key"] and (toleration.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _term_matches(term: Json, labels: dict[str, str], fields: dict[str, str]) -> bool:
    expressions = term.get("matchExpressions") or ()
    by_field = term.get("matchFields") or ()
    if not expressions and not by_field:
        return False  # an empty term selects nothing
    return all(_matches(e, labels) for e in expressions) and all(
        _matches(e, fields) for e in by_field
    )


def _matches(expression: Json, labels: dict[str, str]) -> bool:
    key, operator = expression["key"], expression.get("operator")
    values: list[Any] = expression.get("values") or []
    present = labels.get(key)
    match operator:
        case "In":
            return present in values
        case "NotIn":
            return present not in values
        case "Exists":
            return present is not None
        case "DoesNotExist":
            return present is None
        case "Gt" | "Lt":
            try:
                left, right = int(present or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right
    return False
