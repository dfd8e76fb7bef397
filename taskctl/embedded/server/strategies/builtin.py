"""What is particular to writing the built-in kinds that have no file of their own."""

from __future__ import annotations

from typing import Final

from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.storage.records import GRACE, Record
from taskctl.embedded.server.storage.store import Store
from taskctl.embedded.server.strategies.strategy import Strategy, take_over
from taskctl.embedded.server.values import meta
from taskctl.embedded.server.values.meta import FINALIZER_NAMESPACE, KNOWN_FINALIZERS, NameRule

CLAIM_FINALIZER: Final = "kubernetes.io/pvc-protection"
_STORAGE_CLASSES: Final = Resource("storage.k8s.io", "storageclasses")
_DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
PERMANENT_NAMESPACES: Final = ("default", "kube-system", "kube-public")


def _finalizer_faults(where: str, name: str) -> list[FieldError]:
    problems = meta.qualified_problems(name)
    if "/" not in name and name not in KNOWN_FINALIZERS:
        problems.append(meta.UNQUALIFIED)
    return [fields.invalid(where, name, one) for one in problems]


class NamespaceStrategy(Strategy):
    """Namespaces: Active until deleted, then emptied before they go."""

    name_rule = NameRule.LABEL

    def prepare_create(self, obj: Json) -> None:
        """Set what the namespace controller and admission would."""
        spec = obj.get("spec")
        given = spec.get("finalizers") if isinstance(spec, dict) else None
        obj["spec"] = {"finalizers": list(dict.fromkeys([*(given or ()), FINALIZER_NAMESPACE]))}
        obj["status"] = {"phase": "Active"}
        self._label(obj)

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Only the metadata may change, and not all of it."""
        super().prepare_update(obj, old)
        take_over(obj, old, "spec")
        self._label(obj)

    def prepare_finalize(self, obj: Json, old: Json) -> None:
        """Keep the status; the rest may change."""
        take_over(obj, old, "status")
        obj["spec"] = obj.get("spec") or {}
        self._label(obj)

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check the finalizers' names."""
        names = obj["spec"]["finalizers"]
        return [one for name in names for one in _finalizer_faults("spec.finalizers", name)]

    def check_finalize(self, obj: Json) -> list[FieldError]:
        """Check the finalizers' names (ValidateNamespaceFinalizeUpdate)."""
        names = enumerate(obj["spec"].get("finalizers") or ())
        return [
            one for i, name in names for one in _finalizer_faults(f"spec.finalizers[{i}]", name)
        ]

    def _label(self, obj: Json) -> None:
        labels = obj["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")

    def check_status(self, obj: Json, old: Json) -> list[FieldError]:
        """A namespace is Active until it is deleted, and Terminating from then on."""
        phase = (obj.get("status") or {}).get("phase")
        deleting = "deletionTimestamp" in old["metadata"]
        if phase == ("Terminating" if deleting else "Active"):
            return []
        only = "Terminating" if deleting else "Active"
        state = "not empty" if deleting else "empty"
        message = f"may only be '{only}' if `deletionTimestamp` is {state}"
        return [fields.invalid("status.Phase", phase, message)]

    def prepare_delete(self, obj: Json) -> None:
        """Show it."""
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        obj["metadata"].pop(GRACE, None)  # namespaces know no grace, not even none

    def admit_delete(self, record: Record) -> None:
        """Keep the namespaces that the rest relies on."""
        if record.name in PERMANENT_NAMESPACES:
            why = "this namespace may not be deleted"
            raise errors.forbidden(record.resource, record.name, why)


class NodeStrategy(Strategy):
    """Nodes: the kubelet registers with its status."""

    def prepare_create(self, obj: Json) -> None:
        """Give the spec its empty form."""
        obj.setdefault("spec", {})
        obj.setdefault("status", {})


class ClaimStrategy(Strategy):
    """PersistentVolumeClaims."""

    returns_deleted = True

    def prepare_create(self, obj: Json) -> None:
        """Start as Pending, and protected while pods use the claim."""
        obj["status"] = {"phase": "Pending"}
        finalizers: list[str] = obj["metadata"].setdefault("finalizers", [])
        if CLAIM_FINALIZER not in finalizers:
            finalizers.append(CLAIM_FINALIZER)
        obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")

    def admit_create(self, obj: Json, store: Store, now: str) -> None:
        """Take the default storage class where none is asked for."""
        spec: Json = obj["spec"]
        if spec.get("storageClassName") is None and not spec.get("volumeName"):
            classes = [record.load() for record in store.records(_STORAGE_CLASSES)]
            marked = [one for one in classes if _is_default_class(one)]
            if marked:  # of several, the newest
                newest = max(marked, key=lambda one: str(one["metadata"]["creationTimestamp"]))
                spec["storageClassName"] = newest["metadata"]["name"]

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check the fields that Kubernetes requires."""
        spec = obj["spec"]
        found = []
        modes = spec.get("accessModes")
        if not modes:
            found.append(fields.required("spec.accessModes", "at least 1 access mode is required"))
        supported = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]
        found += [
            fields.not_supported("spec.accessModes", mode, supported)
            for mode in modes or ()
            if mode not in supported
        ]
        if "storage" not in ((spec.get("resources") or {}).get("requests") or {}):
            found.append(fields.required("spec.resources[storage]"))
        return found

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Refuse changes except a larger request and the binding."""
        munged = {**obj["spec"], "resources": None}
        before = {**old["spec"], "resources": None}
        if not before.get("volumeName"):
            munged.pop("volumeName", None)
            before.pop("volumeName", None)
        if munged == before:
            return []
        message = (
            "spec is immutable after creation except resources.requests and "
            "volumeAttributesClassName for bound claims"
        )
        return [fields.forbidden("spec", message)]


def _is_default_class(obj: Json) -> bool:
    annotations = obj["metadata"].get("annotations") or {}
    return annotations.get(_DEFAULT_CLASS) == "true"


class VolumeStrategy(Strategy):
    """PersistentVolumes."""

    returns_deleted = True

    def prepare_create(self, obj: Json) -> None:
        """Start as Pending."""
        obj["status"] = {"phase": "Pending"}
        spec = obj.setdefault("spec", {})
        spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
        spec.setdefault("volumeMode", "Filesystem")


class StorageClassStrategy(Strategy):
    """StorageClasses."""

    returns_deleted = True

    def prepare_create(self, obj: Json) -> None:
        """Set the defaults."""
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check the fields that Kubernetes requires."""
        return [] if obj.get("provisioner") else [fields.required("provisioner")]


class ServiceAccountStrategy(Strategy):
    """ServiceAccounts."""

    returns_deleted = True


class LeaseStrategy(Strategy):
    """Leases."""

    needs_revision = True
    creates_on_update = True

    def prepare_create(self, obj: Json) -> None:
        """Give the spec its empty form."""
        obj.setdefault("spec", {})

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Give the spec its empty form."""
        obj.setdefault("spec", {})

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check the numbers."""
        spec = obj.get("spec") or {}
        found = []
        if spec.get("leaseDurationSeconds", 1) <= 0:
            path, value = "spec.leaseDurationSeconds", spec["leaseDurationSeconds"]
            found.append(fields.invalid(path, value, "must be greater than 0"))
        if spec.get("leaseTransitions", 0) < 0:
            path, value = "spec.leaseTransitions", spec["leaseTransitions"]
            found.append(fields.invalid(path, value, "must be greater than or equal to 0"))
        return found

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Check the numbers."""
        return self.check_create(obj)


_BY_KIND: Final[dict[str, Strategy]] = {
    "Namespace": NamespaceStrategy(),
    "Node": NodeStrategy(),
    "PersistentVolumeClaim": ClaimStrategy(),
    "PersistentVolume": VolumeStrategy(),
    "StorageClass": StorageClassStrategy(),
    "ServiceAccount": ServiceAccountStrategy(),
    "Lease": LeaseStrategy(),
}
_PLAIN: Final = Strategy()


def builtin_strategy(kind: str) -> Strategy:
    """Return the strategy of a built-in kind that has no module of its own."""
    return _BY_KIND.get(kind, _PLAIN)
