"""From definitions to served kinds, and back: a deleted definition takes its objects along."""

from __future__ import annotations

from taskctl.clock import format_seconds
from taskctl.embedded.server.controllers.background import DELETIONS_PER_TURN, KeyWorker
from taskctl.embedded.server.core import Core, open_collection, resource_of
from taskctl.embedded.server.definitions.crds import kinds_from_crd
from taskctl.embedded.server.definitions.strategy import CRDS, FINALIZER
from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.storage.records import Event, EventType, Record
from taskctl.embedded.server.writes.writer import Writer, background_delete


class CrdController:
    """Keeps the registry in step with the stored definitions."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._writer = Writer(core)
        self._specs: dict[str, Json] = {}
        self._queue: KeyWorker[str] = KeyWorker("definitions", core.store, self._attend)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def register(self, crd: Json) -> None:
        """Serve a definition's kinds."""
        name = crd["metadata"]["name"]
        if self._specs.get(name) == crd["spec"]:
            return
        known = name in self._specs
        kinds = kinds_from_crd(crd)
        self._core.registry.set_crd_kinds(name, kinds)
        self._specs[name] = crd["spec"]
        storage = _storage_kind(kinds)
        if storage is None:
            return
        open_collection(self._core, storage)
        if known:
            self._bring_up_to_date(storage)

    def resume(self) -> None:
        """Queue the definitions that a stopped server was still deleting."""
        for record in self._core.store.records(CRDS):
            if record.deleting:
                self._queue.add(record.name)

    def notice(self, event: Event) -> None:
        """Follow the definitions. A listener of the store."""
        record = event.record
        if record.resource == CRDS:
            if event.type is EventType.DELETED:
                self._retire(record)
                return
            self.register(record.load())
            if record.deleting:
                self._queue.add(record.name)
        elif event.type is EventType.DELETED:
            crd = self._core.store.get(CRDS, "", record.resource.qualified)
            if crd is not None and crd.deleting:
                self._queue.add(crd.name)

    def _bring_up_to_date(self, kind: Kind) -> None:
        """Prune and default stored objects by a changed schema, as Kubernetes does on reading."""
        schema = kind.schema
        if schema is None:
            return

        def change(obj: Json) -> None:
            schema.prune(obj)
            schema.apply_defaults(obj)

        self._core.store.rewrite(resource_of(kind), change)

    def _retire(self, record: Record) -> None:
        name = record.name
        self._specs.pop(name, None)
        self._core.registry.remove(name)
        spec: Json = record.load()["spec"]
        resource = Resource(spec["group"], spec["names"]["plural"])
        self._core.hub.end(resource)
        self._core.store.drop(resource)

    def _attend(self, name: str) -> None:
        """Delete the objects of a definition that is being deleted, then let it go."""
        store = self._core.store
        record = store.get(CRDS, "", name)
        if record is None or not record.deleting:
            return
        crd = record.load()
        spec: Json = crd["spec"]
        resource = Resource(spec["group"], spec["names"]["plural"])
        kind = _storage_kind(kinds_from_crd(crd))
        if kind is not None:
            doomed = [found for found in store.records(resource) if not found.deleting]
            for found in doomed[:DELETIONS_PER_TURN]:
                self._writer.delete(kind, found.namespace, found.name, background_delete())
            if len(doomed) > DELETIONS_PER_TURN:
                self._queue.add(name)
                return
        if store.count(resource):
            _set_terminating(crd, format_seconds(self._core.clock.now()))
        else:
            metadata: Json = crd["metadata"]
            metadata["finalizers"] = [f for f in metadata["finalizers"] if f != FINALIZER]
        store.update(CRDS, crd, uid=record.uid)


def _storage_kind(kinds: tuple[Kind, ...]) -> Kind | None:
    for kind in kinds:
        if kind.storage:
            return kind
    return kinds[0] if kinds else None


def _set_terminating(crd: Json, now: str) -> None:
    conditions = crd["status"].setdefault("conditions", [])
    if any(one.get("type") == "Terminating" for one in conditions):
        return
    conditions.append(
        {
            "type": "Terminating",
            "status": "True",
            "lastTransitionTime": now,
            "reason": "InstanceDeletionPending",
            "message": "CustomResource deletion is in progress",
        }
    )
