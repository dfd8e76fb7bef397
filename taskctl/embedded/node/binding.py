"""Which volume a claim gets (pure): the rules of the persistent volume controller."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from taskctl.embedded.node.model import Json
from taskctl.quantity import parse_quantity

PROVISIONER: Final = "taskctl.local/directory"
# Of a class for volumes that an administrator makes ("Local" in Kubernetes' documentation of
# StorageClasses).
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
# What kube-scheduler writes on a claim of a class that waits for a pod.
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
# The persistent volume controller's words (pv_controller.go).
WAITS_MESSAGE: Final = "waiting for first consumer to be created before binding"
_FILESYSTEM: Final = "Filesystem"


def explanation(claim: Json) -> str:
    """Say why a claim that no volume suits stays pending."""
    if wants_block(claim):
        return (
            "no PersistentVolume with volumeMode Block matches, and what the local node makes are "
            "directories; use volumeMode Filesystem"
        )
    return (
        "no PersistentVolume matches, and a claim with a selector, a volumeName, the storage "
        f'class "" or one with the provisioner {NO_PROVISIONER} does not get a directory made'
    )


def is_bound(claim: Json) -> bool:
    """Whether the claim has its volume and says so."""
    phase = (claim.get("status") or {}).get("phase")
    return phase == "Bound" and bool(claim["spec"].get("volumeName"))


def match(claim: Json, volumes: Iterable[Json]) -> Json | None:
    """Return the volume that suits the claim best: the smallest one that is free and fits."""
    fits = [volume for volume in volumes if _fits(claim, volume)]
    return min(fits, key=lambda v: parse_quantity(v["spec"]["capacity"]["storage"]), default=None)


def wants_block(claim: Json) -> bool:
    """Whether the claim is for a device and not for a directory."""
    return _mode(claim) != _FILESYSTEM


def may_provision(claim: Json, classes: Iterable[Json] = ()) -> bool:
    """Whether a directory may be made for the claim.

    Not with a selector, an empty class, or a class that says that nothing makes its volumes: all
    ask for one that exists. A class of any other provisioner, or one that is not there, is taken
    for ours, so that manifests written for a cluster work here.
    """
    spec = claim["spec"]
    if wants_block(claim):
        return False
    if spec.get("selector") or spec.get("volumeName"):
        return False
    name = spec.get("storageClassName")
    static = any(
        one["metadata"]["name"] == name and one.get("provisioner") == NO_PROVISIONER
        for one in classes
    )
    return bool(name != "") and not static


def waits_for_pod(claim: Json, classes: Iterable[Json]) -> bool:
    """Whether the claim is to be bound once a pod that uses it is placed, and not before."""
    name = claim["spec"].get("storageClassName")
    return any(
        one["metadata"]["name"] == name and one.get("volumeBindingMode") == "WaitForFirstConsumer"
        for one in classes
    )


def is_awaited(claim: Json) -> bool:
    """Whether a pod that uses the claim has been given a node, but for this claim."""
    annotations = claim["metadata"].get("annotations") or {}
    return bool(annotations.get(SELECTED_NODE) or claim["spec"].get("volumeName"))


def belongs_to(volume: Json, claim: Json) -> bool:
    """Whether the volume is reserved for exactly this claim."""
    ref = volume["spec"].get("claimRef") or {}
    meta = claim["metadata"]
    same = ref.get("name") == meta["name"] and ref.get("namespace") == meta["namespace"]
    return same and ref.get("uid") in (None, "", meta["uid"])


def requested(claim: Json) -> str:
    """Return the storage that the claim asks for."""
    resources = claim["spec"].get("resources") or {}
    return str((resources.get("requests") or {}).get("storage") or "1Gi")


def new_volume(claim: Json, path: str) -> Json:
    """Return the volume object for a directory made for this claim."""
    meta, spec = claim["metadata"], claim["spec"]
    body: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{meta['uid']}",
            "annotations": {PROVISIONED_BY: PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": requested(claim)},
            "accessModes": spec.get("accessModes") or ["ReadWriteOnce"],
            "volumeMode": _FILESYSTEM,
            "persistentVolumeReclaimPolicy": "Delete",
            "hostPath": {"path": path, "type": "DirectoryOrCreate"},
            "claimRef": claim_ref(claim),
        },
    }
    if spec.get("storageClassName"):
        body["spec"]["storageClassName"] = spec["storageClassName"]
    return body


def claim_ref(claim: Json) -> Json:
    """Return the reference that a volume keeps to its claim."""
    meta = claim["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
    }


def _fits(claim: Json, volume: Json) -> bool:
    wanted, offered = claim["spec"], volume["spec"]
    if _mode(claim) != _mode(volume):
        return False
    if offered.get("claimRef"):
        return belongs_to(volume, claim)
    if wanted.get("volumeName"):
        return bool(wanted["volumeName"] == volume["metadata"]["name"])
    if (volume.get("status") or {}).get("phase") in ("Released", "Failed"):
        return False
    if (wanted.get("storageClassName") or "") != (offered.get("storageClassName") or ""):
        return False
    if not set(wanted.get("accessModes") or ()) <= set(offered.get("accessModes") or ()):
        return False
    labels = volume["metadata"].get("labels") or {}
    if not _selects(wanted.get("selector") or {}, labels):
        return False
    size = (offered.get("capacity") or {}).get("storage") or "0"
    return parse_quantity(size) >= parse_quantity(requested(claim))


def _mode(item: Json) -> str:
    return str(item["spec"].get("volumeMode") or _FILESYSTEM)


def _selects(selector: Json, labels: dict[str, str]) -> bool:
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or ():
        value, values = labels.get(expression["key"]), expression.get("values") or ()
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }.get(expression.get("operator"), False)
        if not holds:
            return False
    return True
