"""What is particular to a kind when it is written: defaults, what a client may not set, checks.

The registry strategies of Kubernetes (``pkg/registry/*/strategy.go``) cut down to the kinds this
server has. Methods get the parsed objects and may change the new one, never the old one.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, ClassVar, Final

from taskctl.embedded.server import errors, fields
from taskctl.embedded.server.errors import Json
from taskctl.embedded.server.fields import FieldError
from taskctl.embedded.server.meta import IMMUTABLE, NameRule
from taskctl.embedded.server.records import Record
from taskctl.embedded.server.store import Store

CLAIM_FINALIZER: Final = "kubernetes.io/pvc-protection"
PERMANENT_NAMESPACES: Final = ("default", "kube-system", "kube-public")
_CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_CONFIG_KEY_MESSAGE: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_IDENTITY: Final = frozenset({"apiVersion", "kind", "metadata", "status"})


class Strategy:
    """A kind without peculiarities.

    Attributes:
        name_rule: what names must look like.
        returns_deleted: a finished delete answers with the object instead of a Status.
        needs_revision: a PUT without resourceVersion is refused.
    """

    name_rule: ClassVar[NameRule] = NameRule.SUBDOMAIN
    returns_deleted: ClassVar[bool] = False
    needs_revision: ClassVar[bool] = False

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


class NamespaceStrategy(Strategy):
    """Namespaces: Active until deleted, then emptied before they go."""

    name_rule = NameRule.LABEL

    def prepare_create(self, obj: Json) -> None:
        """Set what the namespace controller and admission would."""
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
        labels = obj["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Only the metadata may change."""
        super().prepare_update(obj, old)
        _take_over(obj, old, "spec")

    def prepare_delete(self, obj: Json) -> None:
        """Show it."""
        obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}

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


class SecretStrategy(Strategy):
    """Secrets."""

    def prepare_create(self, obj: Json) -> None:
        """Encode ``stringData``; the type defaults to Opaque."""
        obj.setdefault("type", "Opaque")
        _fold_string_data(obj)

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Encode ``stringData``."""
        obj.setdefault("type", "Opaque")
        _fold_string_data(obj)

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check that the values are base64."""
        found = _check_keys(obj, ("data",))
        for name, value in (obj.get("data") or {}).items():
            try:
                base64.b64decode(value or "", validate=True)
            except (binascii.Error, TypeError, ValueError):
                # The value is a secret, so the message does not repeat it.
                found.append(fields.invalid(f"data[{name}]", "***", "must be base64"))
        return found

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Check the values, the type, and that an immutable secret stays as it is."""
        found = self.check_create(obj)
        if obj.get("type") != old.get("type"):
            found.append(fields.invalid("type", obj.get("type"), IMMUTABLE))
        return found + _check_immutable(obj, old, ("data",))


def _fold_string_data(obj: Json) -> None:
    plain = obj.pop("stringData", None)
    if isinstance(plain, dict):
        data: dict[str, Any] = obj.get("data") or {}
        for name, value in plain.items():
            data[name] = base64.b64encode(str(value).encode()).decode()
        obj["data"] = data


class ConfigMapStrategy(Strategy):
    """ConfigMaps."""

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check that no key is in both maps."""
        both = set(obj.get("data") or ()) & set(obj.get("binaryData") or ())
        return _check_keys(obj, ("data", "binaryData")) + [
            fields.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
            for key in sorted(both)
        ]

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Also check that an immutable map stays as it is."""
        return self.check_create(obj) + _check_immutable(obj, old, ("data", "binaryData"))


def _check_keys(obj: Json, names: tuple[str, ...]) -> list[FieldError]:
    """Check the keys of a ConfigMap or Secret, which may become file names."""
    found = []
    for name in names:
        for key in obj.get(name) or ():
            path = f"{name}[{key}]"
            if not _CONFIG_KEY.fullmatch(key):
                found.append(fields.invalid(path, key, _CONFIG_KEY_MESSAGE))
            elif key in (".", "..") or key.startswith(".."):
                found.append(fields.invalid(path, key, f"must not be '{key[:2]}' or start with it"))
            elif len(key) > 253:
                found.append(fields.invalid(path, key, "must be no more than 253 characters"))
    return found


def _check_immutable(obj: Json, old: Json, names: tuple[str, ...]) -> list[FieldError]:
    if not old.get("immutable"):
        return []
    message = "field is immutable when `immutable` is set"
    found = [] if obj.get("immutable") else [fields.forbidden("immutable", message)]
    return found + [
        fields.forbidden(name, message) for name in names if obj.get(name) != old.get(name)
    ]


class ServiceAccountStrategy(Strategy):
    """ServiceAccounts."""

    returns_deleted = True


class LeaseStrategy(Strategy):
    """Leases."""

    needs_revision = True

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


class EventStrategy(Strategy):
    """Events."""

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check that the event lies beside the object it is about."""
        about = (obj.get("involvedObject") or {}).get("namespace")
        if about and about != obj["metadata"].get("namespace"):
            message = "does not match event.namespace"
            return [fields.invalid("involvedObject.namespace", about, message)]
        return []


class RbacStrategy(Strategy):
    """Roles and bindings: stored, never consulted; the only access rule here is the token."""

    name_rule = NameRule.PATH_SEGMENT


_BY_KIND: Final[dict[str, Strategy]] = {
    "Namespace": NamespaceStrategy(),
    "Node": NodeStrategy(),
    "PersistentVolumeClaim": ClaimStrategy(),
    "PersistentVolume": VolumeStrategy(),
    "StorageClass": StorageClassStrategy(),
    "Secret": SecretStrategy(),
    "ConfigMap": ConfigMapStrategy(),
    "ServiceAccount": ServiceAccountStrategy(),
    "Lease": LeaseStrategy(),
    "Event": EventStrategy(),
    "Role": RbacStrategy(),
    "RoleBinding": RbacStrategy(),
    "ClusterRole": RbacStrategy(),
    "ClusterRoleBinding": RbacStrategy(),
}
_PLAIN: Final = Strategy()
_CUSTOM: Final = {flag: CustomStrategy(has_status=flag) for flag in (False, True)}


def builtin_strategy(kind: str) -> Strategy:
    """Return the strategy of a built-in kind that has no module of its own."""
    return _BY_KIND.get(kind, _PLAIN)


def custom_strategy(*, has_status: bool) -> Strategy:
    """Return the strategy of a custom resource."""
    return _CUSTOM[has_status]
