"""Garbage collection by owner references.

The rules of Kubernetes ``pkg/controller/garbagecollector``: a dependent whose owners are all gone
is deleted; with a foreground deletion the owner waits for the dependents that block it; with an
orphaning one the dependents lose the reference first. Everything is found through the store's
index by owner, so an object's deletion costs its dependents and nothing else.

A reference whose kind is not served says nothing about its owner: the definition may come later,
or the owner may live behind another API server. The collector leaves such a dependent alone, and
looks at it again when a definition changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from taskctl.embedded.server.controllers import gc_events
from taskctl.embedded.server.controllers.background import KeyWorker
from taskctl.embedded.server.core import Core, kind_of, resource_of
from taskctl.embedded.server.definitions.strategy import CRDS
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.requests.options import DeleteOptions
from taskctl.embedded.server.storage.deletion import Propagation
from taskctl.embedded.server.storage.records import Event, EventType, Record
from taskctl.embedded.server.values.meta import FINALIZER_FOREGROUND, FINALIZER_ORPHAN
from taskctl.embedded.server.writes.writer import Writer

# garbagecollector.go, NewUIDCache(500): how many owners are remembered as gone.
_ABSENT_LIMIT: Final = 500


class _UnknownOwnerError(Exception):
    """What a reference names cannot be looked up."""


@dataclass(slots=True)
class _Owners:
    """An object's owner references by what has become of the owner."""

    solid: list[Json] = field(default_factory=list)
    dangling: list[Json] = field(default_factory=list)
    waiting: list[Json] = field(default_factory=list)  # being deleted in the foreground


class GarbageCollector:
    """Deletes dependents. Start with :meth:`scan`, then :meth:`run`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._writer = Writer(core)
        self._queue: KeyWorker[str] = KeyWorker("garbage collector", core.store, self._attend)
        # Owners known to be gone, by UID; their definitions may be gone, too.
        self._absent: OrderedDict[str, tuple[str, str, str, str]] = OrderedDict()
        self._unknown: set[str] = set()  # dependents that have a reference of an unknown kind

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def scan(self) -> None:
        """Queue whatever a stopped server may have left half done."""
        for resource in self._store.resources():
            for record in self._store.records(resource):
                if record.owners or record.deleting:
                    self._queue.add(record.uid)

    def notice(self, event: Event) -> None:
        """Queue what an event concerns. A listener of the store."""
        record = event.record
        if record.resource == CRDS:
            for uid in self._unknown:
                self._queue.add(uid)
            self._unknown.clear()
        if event.type is EventType.DELETED:
            self._unknown.discard(record.uid)
            dependents = self._store.dependents(record.uid)
            if dependents:
                self._remember_absent(record)
            for dependent in dependents:
                self._queue.add(dependent.uid)
            for owner in record.owners:
                self._queue.add(owner)
        elif record.deleting or (
            record.owners and (event.previous is None or event.previous.owners != record.owners)
        ):
            self._queue.add(record.uid)

    def _remember_absent(self, record: Record) -> None:
        obj = record.load()
        self._absent[record.uid] = (obj["apiVersion"], obj["kind"], record.namespace, record.name)
        while len(self._absent) > _ABSENT_LIMIT:
            self._absent.popitem(last=False)

    def _attend(self, uid: str) -> None:
        record = self._store.by_uid(uid)
        if record is None:
            return
        if record.deleting:
            self._attend_deleting(record)
        if record.owners and not record.deleting:
            self._attend_dependent(record)

    # --- owners ---------------------------------------------------------------------

    def _attend_deleting(self, record: Record) -> None:
        finalizers = record.load()["metadata"].get("finalizers") or ()
        if FINALIZER_ORPHAN in finalizers:
            for dependent in self._store.dependents(record.uid):
                self._drop_references(dependent, {record.uid})
            self._remove_finalizer(record, FINALIZER_ORPHAN)
        elif FINALIZER_FOREGROUND in finalizers:
            blocked = False
            for dependent in self._store.dependents(record.uid):
                blocked = blocked or _blocks(dependent, record.uid)
                if not dependent.deleting:
                    self._attend_dependent(dependent)
            if not blocked:
                self._remove_finalizer(record, FINALIZER_FOREGROUND)

    def _remove_finalizer(self, record: Record, name: str) -> None:
        obj = self._store.require(record.resource, record.namespace, record.name).load()
        metadata: Json = obj["metadata"]
        metadata["finalizers"] = [f for f in metadata.get("finalizers") or () if f != name]
        if not metadata["finalizers"]:
            del metadata["finalizers"]
        self._store.update(record.resource, obj, uid=record.uid)

    # --- dependents -----------------------------------------------------------------

    def _attend_dependent(self, record: Record) -> None:
        references = record.load()["metadata"].get("ownerReferences") or ()
        gc_events.report_foreign_owners(self._core, record, references)
        try:
            owners = self._classify(record, references)
        except _UnknownOwnerError:
            self._unknown.add(record.uid)
            return
        if owners.solid:
            lost = {ref.get("uid") for ref in owners.dangling + owners.waiting}
            if lost:
                self._drop_references(record, lost)
            return
        if owners.waiting and self._store.has_dependents(record.uid):
            self._delete(record, Propagation.FOREGROUND)
        elif owners.waiting or owners.dangling:
            finalizers = record.load()["metadata"].get("finalizers") or ()
            policy = Propagation.BACKGROUND
            if FINALIZER_ORPHAN in finalizers:
                policy = Propagation.ORPHAN
            elif FINALIZER_FOREGROUND in finalizers:
                policy = Propagation.FOREGROUND
            self._delete(record, policy)

    def _classify(self, record: Record, references: Iterable[Json]) -> _Owners:
        """Look up the owners (garbagecollector.go, classifyReferences).

        Raises:
            _UnknownOwnerError: one of them cannot be looked up, so nothing may be concluded.
        """
        found = _Owners()
        for reference in references:
            owner = self._owner(reference, record)
            if owner is None:
                found.dangling.append(reference)
            elif owner.deleting and FINALIZER_FOREGROUND in (
                owner.load()["metadata"].get("finalizers") or ()
            ):
                found.waiting.append(reference)
            else:
                found.solid.append(reference)
        return found

    def _owner(self, reference: Json, dependent: Record) -> Record | None:
        """Return what a reference names, or None if that is gone (isDangling).

        Raises:
            _UnknownOwnerError: its kind is not served in that version, or has namespaces while
                the dependent has none; or there can be no objects of it here.
        """
        api_version = str(reference.get("apiVersion", ""))
        kind_name, name = str(reference.get("kind", "")), str(reference.get("name", ""))
        uid = reference.get("uid", "")
        for namespace in ("", dependent.namespace):
            if self._absent.get(uid) == (api_version, kind_name, namespace, name):
                return None
        group, _, version = api_version.rpartition("/")
        kind = self._core.registry.by_kind(group, version, kind_name)
        if kind is None or kind.read_only or (kind.namespaced and not dependent.namespace):
            raise _UnknownOwnerError
        namespace = dependent.namespace if kind.namespaced else ""
        owner = self._store.get(resource_of(kind), namespace, name)
        return owner if owner is not None and owner.uid == uid else None

    def _drop_references(self, record: Record, uids: set[str | None]) -> None:
        current = self._store.get(record.resource, record.namespace, record.name)
        if current is None:
            return
        obj = current.load()
        kept = [
            ref
            for ref in obj["metadata"].get("ownerReferences") or ()
            if ref.get("uid") not in uids
        ]
        if kept:
            obj["metadata"]["ownerReferences"] = kept
        else:
            obj["metadata"].pop("ownerReferences", None)
        self._store.update(record.resource, obj, uid=record.uid)

    def _delete(self, record: Record, policy: Propagation) -> None:
        kind = kind_of(self._core, record.resource)
        if kind is not None:
            options = DeleteOptions(uid=record.uid, propagation=policy)
            self._writer.delete(kind, record.namespace, record.name, options)


def _blocks(dependent: Record, owner_uid: str) -> bool:
    references = dependent.load()["metadata"].get("ownerReferences") or ()
    return any(ref.get("uid") == owner_uid and ref.get("blockOwnerDeletion") for ref in references)
