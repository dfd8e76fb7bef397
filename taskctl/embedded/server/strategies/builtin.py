"""What is particular to a kind when it is written: defaults, what a client may not set, checks.

The registry strategies of Kubernetes (``pkg/registry/*/strategy.go``) cut down to the kinds this
server has. Methods get the parsed objects and may change the new one, never the old one.
"""

from __future__ import annotations

from typing import ClassVar, Final

from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.storage.deletion import FINALIZER_NAMESPACE, KNOWN_FINALIZERS
from taskctl.embedded.server.storage.records import GRACE, Record
from taskctl.embedded.server.storage.store import Store
from taskctl.embedded.server.values import meta
from taskctl.embedded.server.values.meta import NameRule

CLAIM_FINALIZER: Final = "kubernetes.io/pvc-protection"
_STORAGE_CLASSES: Final = Resource("storage.k8s.io", "storageclasses")
_DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
PERMANENT_NAMESPACES: Final = ("default", "kube-system", "kube-public")
_IDENTITY: Final = frozenset({"apiVersion", "kind", "metadata", "status"})


class Strategy:
    """A kind without peculiarities.

    Attributes:
        name_rule: what names must look like.
        returns_deleted: a finished delete answers with the object instead of a Status.
        needs_revision: a PUT without resourceVersion is refused.
        graceful: objects have a grace period.
        creates_on_update: a PUT to a free name creates the object.
    """

    name_rule: ClassVar[NameRule] = NameRule.SUBDOMAIN
    returns_deleted: ClassVar[bool] = False
    needs_revision: ClassVar[bool] = False
    graceful: ClassVar[bool] = False
    creates_on_update: ClassVar[bool] = False

    def prepare_create(self, obj: Json) -> None:
        """Set defaults and remove what a client may not set at creation."""

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Undo what this path may not change."""
        _take_over(obj, old, "status")

    def prepare_status(self, obj: Json, old: Json) -> None:
        """Undo what a write to ``/status`` may not change."""
        _take_over(obj, old, "spec")
        # Kubernetes does this for pods since old kubelets damaged the references; harmless
        # elsewhere.
        _take_over(obj["metadata"], old["metadata"], "ownerReferences")

    def prepare_delete(self, obj: Json) -> None:
        """Change an object that begins to be deleted."""

    def admit_create(self, obj: Json, store: Store, now: str) -> None:
        """Refuse, or complete, a new object because of what else is stored.

        Args:
            obj: the new object, defaulted.
            store: everything else.
            now: the time, as objects have it.

        Raises:
            errors.StatusError: refused.
        """

    def admit_delete(self, record: Record) -> None:
        """Refuse to delete an object.

        Raises:
            errors.StatusError: refused.
        """

    def check_create(self, obj: Json) -> list[FieldError]:
        """Return what is wrong with a new object."""
        return []

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Return what is wrong with a changed object."""
        return []

    def check_status(self, obj: Json, old: Json) -> list[FieldError]:
        """Return what is wrong with a changed status."""
        return []

    def grace_s(self, obj: Json, asked_s: int | None) -> int:
        """Return the seconds between the request to delete ``obj`` and its removal."""
        return 0


def _take_over(obj: Json, old: Json, name: str) -> None:
    if name in old:
        obj[name] = old[name]
    else:
        obj.pop(name, None)


class CustomStrategy(Strategy):
    """Custom resources (apiextensions-apiserver ``customresource/strategy.go``)."""

    needs_revision = True

    def __init__(self, *, has_status: bool) -> None:
        self._has_status = has_status

    def prepare_create(self, obj: Json) -> None:
        """Drop the status where it is a subresource."""
        if self._has_status:
            obj.pop("status", None)
        obj["metadata"]["generation"] = 1

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Keep the status where it is a subresource; count changes of the rest."""
        if self._has_status:
            _take_over(obj, old, "status")
        generation = old["metadata"].get("generation", 1)
        if _content(obj) != _content(old) or (
            not self._has_status and obj.get("status") != old.get("status")
        ):
            generation += 1
        obj["metadata"]["generation"] = generation

    def prepare_status(self, obj: Json, old: Json) -> None:
        """Keep everything but the status, and the bookkeeping of who owns which field."""
        status, had = obj.get("status"), "status" in obj
        managed = obj["metadata"].get("managedFields")
        obj.clear()
        obj.update(old)
        obj["metadata"] = dict(old["metadata"])
        if managed is not None:
            obj["metadata"]["managedFields"] = managed
        obj.pop("status", None)
        if had:
            obj["status"] = status


def _content(obj: Json) -> Json:
    return {name: value for name, value in obj.items() if name not in _IDENTITY}


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
        _take_over(obj, old, "spec")
        self._label(obj)

    def prepare_finalize(self, obj: Json, old: Json) -> None:
        """Keep the status; the rest may change."""
        _take_over(obj, old, "status")
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
_CUSTOM: Final = {flag: CustomStrategy(has_status=flag) for flag in (False, True)}


def builtin_strategy(kind: str) -> Strategy:
    """Return the strategy of a built-in kind that has no module of its own."""
    return _BY_KIND.get(kind, _PLAIN)


def custom_strategy(*, has_status: bool) -> Strategy:
    """Return the strategy of a custom resource."""
    return _CUSTOM[has_status]
