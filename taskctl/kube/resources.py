"""Which kinds there are and where the API server keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from taskctl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of the Kubernetes API.

    Attributes:
        group: API group; empty for the core group.
        version: API version, for example ``v1``.
        plural: the name in the path, for example ``pods``.
        kind: the name in objects, for example ``Pod``.
        namespaced: whether objects live in a namespace.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` of objects of this kind."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self, namespace: str | None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """Return the path below the server's address, every segment escaped.

        Args:
            namespace: None means all namespaces, which only a list or a watch can do;
                ignored for kinds that have none.
            name: the object's name; None for the collection.
            subresource: for example ``status``.

        Raises:
            ConfigError: an empty name or namespace, a subresource without a name, or a
                namespaced object without a namespace. Sent as they are, these would
                address something else (an empty name lists the collection).
        """
        self._check(namespace, name, subresource)
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        path = "".join("/" + quote(part, safe="") for part in parts)
        if subresource is None:
            return path
        return path + "/" + quote(subresource, safe="/")

    def _check(self, namespace: str | None, name: str | None, subresource: str | None) -> None:
        if name == "" or namespace == "":
            raise ConfigError(
                f"{self.kind}: the {'name' if name == '' else 'namespace'} is empty; give one"
            )
        if name is not None and self.namespaced and namespace is None:
            raise ConfigError(f"{self.kind} {name!r}: name the namespace it lives in")
        if subresource is not None and name is None:
            raise ConfigError(f"{self.kind}: subresource {subresource!r} needs an object's name")


PODS: Final = Resource("", "v1", "pods", "Pod")
PERSISTENTVOLUMES: Final = Resource(
    "", "v1", "persistentvolumes", "PersistentVolume", namespaced=False
)
STORAGECLASSES: Final = Resource(
    "storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False
)
PVCS: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
EVENTS: Final = Resource("", "v1", "events", "Event")
CONFIGMAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
SERVICEACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
ROLEBINDINGS: Final = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CRDS: Final = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
