"""The life of namespaces: what each starts with, and how one is emptied."""

from __future__ import annotations

from collections import Counter
from typing import Final

from taskctl.clock import format_seconds
from taskctl.embedded.server.controllers.background import DELETIONS_PER_TURN, KeyWorker
from taskctl.embedded.server.core import Core, kind_of
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.storage.records import Event, EventType, Record
from taskctl.embedded.server.strategies.builtin import NamespaceStrategy
from taskctl.embedded.server.values.meta import FINALIZER_NAMESPACE
from taskctl.embedded.server.writes.writer import NAMESPACES, Writer, background_delete

_FIRST: Final = ("default", "kube-system", "kube-public", "kube-node-lease")
_ACCOUNTS: Final = Resource("", "serviceaccounts")
_CONFIG_MAPS: Final = Resource("", "configmaps")
_ROOT_CA: Final = "kube-root-ca.crt"
_ROOT_CA_TEXT: Final = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
    "endpoints such as the internal service IP or kubernetes.default.svc. No other usage is "
    "guaranteed across distributions of Kubernetes clusters."
)


class NamespaceController:
    """Gives namespaces their service account and the authority's certificate; empties deleted ones.

    Args:
        core: the parts below HTTP.
        authority: PEM certificate that clients in pods trust.
    """

    def __init__(self, core: Core, authority: str) -> None:
        self._core = core
        self._authority = authority
        self._store = core.store
        self._writer = Writer(core)
        self._queue: KeyWorker[str] = KeyWorker("namespaces", core.store, self._attend)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def bootstrap(self) -> None:
        """Make the namespaces that Kubernetes has from the start, with their contents."""
        for name in _FIRST:
            if self._store.get(NAMESPACES, "", name) is None:
                obj: Json = {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": name},
                }
                NamespaceStrategy().prepare_create(obj)
                self._store.create(NAMESPACES, obj)
        for record in self._store.records(NAMESPACES):
            self._attend(record.name)

    def notice(self, event: Event) -> None:
        """Queue the namespace that an event concerns. A listener of the store."""
        record = event.record
        if record.resource == NAMESPACES:
            if event.type is not EventType.DELETED:
                self._queue.add(record.name)
        elif record.resource == _CONFIG_MAPS and record.name == _ROOT_CA:
            self._queue.add(record.namespace)
        elif event.type is EventType.DELETED and record.namespace:
            namespace = self._store.get(NAMESPACES, "", record.namespace)
            if namespace is not None and (
                namespace.deleting or record.resource in (_ACCOUNTS, _CONFIG_MAPS)
            ):
                self._queue.add(record.namespace)

    def _attend(self, name: str) -> None:
        record = self._store.get(NAMESPACES, "", name)
        if record is None:
            return
        if record.deleting:
            self._empty(record)
        else:
            self._furnish(name)

    def _furnish(self, namespace: str) -> None:
        """Make what pods may rely on in every namespace."""
        account: Json = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        }
        root_ca: Json = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": _ROOT_CA,
                "namespace": namespace,
                "annotations": {"kubernetes.io/description": _ROOT_CA_TEXT},
            },
            "data": {"ca.crt": self._authority},
        }
        for resource, obj in ((_ACCOUNTS, account), (_CONFIG_MAPS, root_ca)):
            if self._store.get(resource, namespace, obj["metadata"]["name"]) is None:
                self._store.create(resource, obj)
        # As pkg/controller/certificates/rootcacertpublisher: whatever else stands there is undone.
        found = self._store.require(_CONFIG_MAPS, namespace, _ROOT_CA).load()
        if found.get("data") != root_ca["data"] or found.get("binaryData"):
            found["data"] = root_ca["data"]
            found.pop("binaryData", None)
            self._store.update(_CONFIG_MAPS, found)

    def _empty(self, record: Record) -> None:
        left: dict[Resource, int] = {}
        deleted = 0
        for resource in self._store.resources():
            kind = kind_of(self._core, resource)
            if kind is None or not kind.namespaced:
                continue
            for found in self._store.records(resource, record.name):
                if found.deleting:
                    continue
                if deleted == DELETIONS_PER_TURN:
                    self._queue.add(record.name)
                    return
                self._writer.delete(kind, found.namespace, found.name, background_delete())
                deleted += 1
            count = self._store.count(resource, record.name)
            if count:
                left[resource] = count
        current = self._store.get(NAMESPACES, "", record.name)
        if current is None:
            return
        obj = current.load()
        if not left:
            # The namespace stays while anybody else has a finalizer in its spec.
            others = [
                one for one in obj["spec"].get("finalizers") or () if one != FINALIZER_NAMESPACE
            ]
            obj["spec"] = {"finalizers": others} if others else {}
            self._store.update(NAMESPACES, obj)
            return
        conditions = _conditions(left, self._finalizers(left, record.name))
        now = format_seconds(self._core.clock.now())
        before = {one["type"]: one for one in obj["status"].get("conditions") or ()}
        for one in conditions:
            was = before.get(one["type"]) or {}
            same = was.get("status") == one["status"]
            one["lastTransitionTime"] = was["lastTransitionTime"] if same else now
        obj["status"]["conditions"] = conditions
        self._store.update(NAMESPACES, obj)

    def _finalizers(self, left: dict[Resource, int], namespace: str) -> Counter[str]:
        """Count the finalizers that hold objects back."""
        found: Counter[str] = Counter()
        for resource in left:
            for record in self._store.records(resource, namespace):
                found.update(record.load()["metadata"].get("finalizers") or ())
        return found


def _conditions(left: dict[Resource, int], finalizers: Counter[str]) -> list[Json]:
    """Say what a namespace that is being deleted still waits for.

    Types and sentences are those of Kubernetes
    ``pkg/controller/namespace/deletion/status_condition_utils.go``.
    """
    objects = ", ".join(
        sorted(f"{one.plural}.{one.group} has {left[one]} resource instances" for one in left)
    )
    holders = ", ".join(
        f"{name} in {finalizers[name]} resource instances" for name in sorted(finalizers)
    )
    return [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, status, reason, message in (
            (
                "NamespaceDeletionDiscoveryFailure",
                "False",
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            (
                "NamespaceDeletionContentFailure",
                "False",
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            (
                "NamespaceContentRemaining",
                "True",
                "SomeResourcesRemain",
                f"Some resources are remaining: {objects}",
            ),
            (
                "NamespaceFinalizersRemaining",
                "True" if holders else "False",
                "SomeFinalizersRemain" if holders else "ContentHasNoFinalizers",
                f"Some content in the namespace has finalizers remaining: {holders}"
                if holders
                else "All content-preserving finalizers finished",
            ),
        )
    ]
