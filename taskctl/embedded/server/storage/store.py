"""Versioned objects in memory, as etcd and the registry layer of Kubernetes keep them.

Pure and synchronous: no I/O of its own (a :class:`Journal` writes through), no kinds, no HTTP.
One revision counter for everything; a write checks, journals, applies, and only then tells the
listeners, so no client ever sees what is not on disk. No operation's cost depends on how many
objects there are, except lists.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import orjson

from taskctl.clock import Clock, format_seconds
from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.storage.collection import Collection
from taskctl.embedded.server.storage.deletion import (
    Deletion,
    check_preconditions,
    mark_deleted,
    set_propagation,
)
from taskctl.embedded.server.storage.eventlog import EventLog, HistoryTotal, LogLimits, Past
from taskctl.embedded.server.storage.journal import Journal, MemoryJournal
from taskctl.embedded.server.storage.records import (
    GRACE,
    SERVER_FIELDS,
    Event,
    EventType,
    FieldPath,
    Record,
    load_record,
    make_record,
)
from taskctl.embedded.server.storage.unsaved import Unsaved

# etcd's default --max-request-bytes: the largest object Kubernetes can store.
OBJECT_LIMIT_BYTES: Final = 1_572_864


@dataclass(frozen=True, slots=True)
class Written:
    """What a write led to.

    Attributes:
        record: the object after it; if ``removed``, as it would have been stored.
        changed: False if the write made no difference: no revision, no event.
        removed: the object is gone.
    """

    record: Record
    changed: bool = True
    removed: bool = False


class Store:
    """The objects. Every method raises :class:`errors.StatusError` where it refuses."""

    def __init__(
        self,
        clock: Clock,
        *,
        journal: Journal | None = None,
        limits: LogLimits | None = None,
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._clock = clock
        self._journal: Journal = journal or MemoryJournal()
        self._limits = limits or LogLimits()
        self._history = HistoryTotal(self._limits)
        self._new_uid = new_uid
        self._head = 0
        self._collections: dict[Resource, Collection] = {}
        self._by_uid: dict[str, Record] = {}
        self._dependents: dict[str, dict[str, Record]] = {}
        self._listeners: list[Callable[[Event], None]] = []
        self._batch: list[Event] | None = None
        self._unsaved = Unsaved(self._journal, self._tell)

    # --- set-up ---------------------------------------------------------------------

    @property
    def head(self) -> int:
        """The newest revision."""
        return self._head

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` after every committed change, in order. It must not raise."""
        self._listeners.append(listener)

    def open(
        self,
        resource: Resource,
        field_paths: Mapping[str, FieldPath],
        *,
        spec_finalizers: bool = False,
    ) -> Collection:
        """Make a collection known, or change which fields can be selected by.

        Args:
            resource: the collection.
            field_paths: selectable fields: dotted name → path in the object.
            spec_finalizers: ``spec.finalizers`` holds objects back too, as in namespaces.
        """
        collection = self._collections.get(resource)
        if collection is None:
            log = EventLog(self._limits, self._head, self._history)
            collection = Collection(resource, field_paths, log, spec_finalizers=spec_finalizers)
            self._collections[resource] = collection
        elif collection.field_paths != dict(field_paths):
            collection.field_paths = dict(field_paths)
            self.rewrite(resource, lambda obj: None)
        return collection

    def drop(self, resource: Resource) -> None:
        """Forget an empty collection.

        Raises:
            ValueError: the collection still holds objects.
        """
        collection = self._collections.get(resource)
        if collection is None:
            return
        if collection.count:
            raise ValueError(f"{resource.qualified} still holds {collection.count} objects")
        collection.log.close()
        del self._collections[resource]

    def restore(
        self, rows: Iterable[tuple[Resource, bytes]], floors: Mapping[Resource, int]
    ) -> None:
        """Fill the collections (which must be open) from what the journal kept.

        Args:
            rows: objects.
            floors: per collection, the revision of the last deletion in it. Unlike changes,
                deletions leave nothing else to know them by.
        """
        newest: dict[Resource, int] = dict(floors)
        for resource, raw in rows:
            collection = self._collections[resource]
            record = load_record(resource, raw, collection.field_paths)
            collection.put(record)
            self._index(record)
            newest[resource] = max(newest.get(resource, 0), record.revision)
        self._head = max(newest.values(), default=0)
        for resource, revision in newest.items():
            if resource in self._collections:
                # Nothing happened in this collection after `revision`, so a watch from there
                # on misses nothing, although the events themselves are gone.
                self._collections[resource].log.floor = revision

    # --- reading --------------------------------------------------------------------

    def get(self, resource: Resource, namespace: str, name: str) -> Record | None:
        """Return the object, or None."""
        collection = self._collections.get(resource)
        return collection.get(namespace, name) if collection else None

    def require(self, resource: Resource, namespace: str, name: str) -> Record:
        """Return the object.

        Raises:
            errors.StatusError: 404.
        """
        record = self.get(resource, namespace, name)
        if record is None:
            raise errors.not_found(resource, name)
        return record

    def by_uid(self, uid: str) -> Record | None:
        """Return the object with this UID, or None."""
        return self._by_uid.get(uid)

    def dependents(self, uid: str) -> list[Record]:
        """Return the objects that name ``uid`` as an owner."""
        return list(self._dependents.get(uid, {}).values())

    def has_dependents(self, uid: str) -> bool:
        """Tell whether any object names ``uid`` as an owner."""
        return bool(self._dependents.get(uid))

    def resources(self) -> list[Resource]:
        """Return the open collections."""
        return list(self._collections)

    def count(self, resource: Resource, namespace: str | None = None) -> int:
        """Return the number of objects in a collection, or in one of its namespaces."""
        collection = self._collections.get(resource)
        if collection is None:
            return 0
        if namespace is None:
            return collection.count
        return len(collection.by_namespace.get(namespace, ()))

    def records(self, resource: Resource, namespace: str | None = None) -> list[Record]:
        """Return the objects by (namespace, name); ``namespace=None`` means all of them."""
        collection = self._collections.get(resource)
        return list(collection.ordered(namespace)) if collection else []

    def records_at(self, resource: Resource, namespace: str | None, revision: int) -> list[Record]:
        """Return the objects as they were at ``revision``.

        Raises:
            errors.StatusError: 410, the history does not reach that far back; 504, the revision
                has not been made yet.
        """
        if revision > self._head:
            raise errors.future_revision(revision, self._head)
        collection = self._collections[resource]
        if revision < collection.log.floor:
            raise errors.expired_list()
        return collection.log.rewound(collection.ordered(namespace), namespace, revision)

    def events_since(self, resource: Resource, revision: int) -> list[Past]:
        """Return the changes after ``revision``, oldest first, without their texts.

        Raises:
            errors.StatusError: 410, the history does not reach that far back; 504, the revision
                has not been made yet.
        """
        if revision > self._head:
            raise errors.future_revision(revision, self._head)
        log = self._collections[resource].log
        if revision < log.floor:
            raise errors.expired_watch(revision, log.floor)
        return log.since(revision)

    # --- writing --------------------------------------------------------------------

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make several writes one transaction; listeners hear of them after its commit.

        Must not be left by ``await``. An exception inside does not undo what was written before
        it: the writes are committed, then the exception continues. Where the commit fails, they are
        stored with the next write that can be.
        """
        if self._batch is not None:
            yield
            return
        self._unsaved.save()
        self._batch = []
        self._journal.begin()
        try:
            yield
        finally:
            events, self._batch = self._batch, None
            try:
                self._journal.commit()
            except BaseException:
                self._journal.rollback()
                for event in events:
                    self._unsaved.add(event)
                raise
            for event in events:
                self._tell(event)

    def create(self, resource: Resource, obj: Json, *, dry_run: bool = False) -> Record:
        """Add an object; stamps uid, creationTimestamp and resourceVersion into ``obj``.

        With ``dry_run`` everything is checked and nothing stored, here as in the other writes;
        the record returned then has no revision of its own.

        Raises:
            errors.StatusError: 409, the name is taken; 413, the object is too big.
        """
        collection = self._collections[resource]
        meta: Json = obj["metadata"]
        if collection.get(meta.get("namespace") or "", meta["name"]) is not None:
            raise errors.already_exists(resource, meta["name"])
        meta["uid"] = self._new_uid()
        meta["creationTimestamp"] = format_seconds(self._clock.now())
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(name, None)
        record = self._make(collection, obj)
        if not dry_run:
            self._commit(collection, EventType.ADDED, record, None)
        return record

    def update(
        self,
        resource: Resource,
        obj: Json,
        *,
        revision: int | None = None,
        uid: str | None = None,
        dry_run: bool = False,
    ) -> Written:
        """Replace an object; removes it if it was only waiting for its last finalizer.

        Args:
            resource: the collection.
            obj: the whole new object. Fields of its metadata that belong to the server are
                taken over from the stored one.
            revision: refuse if the object has another resourceVersion.
            uid: refuse if the object has another UID.
            dry_run: check, but store nothing.

        Raises:
            errors.StatusError: 404; 409, a precondition failed; 413, the object is too big.
        """
        collection = self._collections[resource]
        meta: Json = obj["metadata"]
        old = self.require(resource, meta.get("namespace") or "", meta["name"])
        if uid is not None and uid != old.uid:
            raise errors.conflict(resource, old.name, _uid_mismatch(uid, old.uid))
        if revision is not None and revision != old.revision:
            raise errors.conflict(resource, old.name)
        for name in SERVER_FIELDS:
            if name in old.server_fields:
                meta[name] = old.server_fields[name]
            else:
                meta.pop(name, None)
        if _same(obj, old):
            return Written(old, changed=False)
        if old.deleting and not collection.held_back(obj) and not meta.get(GRACE):
            return self._remove(collection, old, obj, dry_run=dry_run)
        record = self._make(collection, obj, old)
        if not dry_run:
            self._commit(collection, EventType.MODIFIED, record, old)
        return Written(record)

    def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        deletion: Deletion | None = None,
        *,
        dry_run: bool = False,
    ) -> Written:
        """Delete an object, or mark it and let finalizers or its grace period finish the work.

        Asking again is allowed: it can shorten the grace period, never lengthen it.

        Raises:
            errors.StatusError: 404; 409, a precondition failed.
        """
        deletion = deletion or Deletion()
        collection = self._collections[resource]
        old = self.require(resource, namespace, name)
        check_preconditions(old, deletion)
        obj = old.load()
        meta: Json = obj["metadata"]
        set_propagation(meta, deletion.propagation)
        at_once = deletion.grace_s <= 0 and not collection.held_back(obj)
        if at_once and not deletion.graceful:
            return self._remove(collection, old, obj, dry_run=dry_run)
        marked = mark_deleted(meta, deletion.grace_s, self._clock.now())
        if not marked and _same(obj, old):
            return self._remove(collection, old, obj, dry_run=dry_run) if at_once else _as_is(old)
        if deletion.prepare is not None:
            deletion.prepare(obj)
        record = self._make(collection, obj, old)
        if dry_run:
            return Written(record, removed=at_once)
        with self.batch():  # a crash must not leave the mark alone
            self._commit(collection, EventType.MODIFIED, record, old)
            if at_once:
                return self._remove(collection, record, obj, dry_run=False)
        return Written(record)

    def rewrite(self, resource: Resource, change: Callable[[Json], None]) -> None:
        """Change how objects are stored without making new versions of them.

        For what Kubernetes computes on every read: defaults and pruning by the newest schema.
        """
        collection = self._collections[resource]
        for old in list(collection.ordered(None)):
            obj = old.load()
            change(obj)
            record = make_record(resource, obj, collection.field_paths, old.revision)
            if self._batch is None:
                event = Event(EventType.MODIFIED, old.revision, record, old, 0.0)
                self._unsaved.add(event, tell=False)
            else:
                self._journal.put(record)
            self._unindex(old)
            collection.put(record)
            self._index(record)
        collection.log.texts_changed()
        if self._batch is None:
            with suppress(errors.StorageError):  # the next write tries it again
                self._unsaved.save()

    def compact(self, revision: int | None = None) -> None:
        """Forget history up to ``revision`` (default: all of it), as etcd does every 5 minutes."""
        until = self._head if revision is None else min(revision, self._head)
        for collection in self._collections.values():
            collection.log.compact(until)

    def expire_history(self) -> None:
        """Forget what is too old, also where nothing happens any more."""
        for collection in self._collections.values():
            collection.log.expire(self._clock.monotonic_s())

    @property
    def history_bytes(self) -> int:
        """Memory that the history takes."""
        return self._history.size_bytes

    # --- inside ---------------------------------------------------------------------

    def _make(self, collection: Collection, obj: Json, old: Record | None = None) -> Record:
        record = make_record(collection.resource, obj, collection.field_paths, self._head + 1, old)
        if len(record.raw) > OBJECT_LIMIT_BYTES:
            raise errors.too_large(OBJECT_LIMIT_BYTES)
        return record

    def _remove(self, collection: Collection, old: Record, obj: Json, *, dry_run: bool) -> Written:
        """Remove an object: watchers see its last stored state, the writer what it asked for."""
        if not dry_run:
            gone = make_record(
                collection.resource, old.load(), collection.field_paths, self._head + 1, old
            )
            self._commit(collection, EventType.DELETED, gone, old)
        answer = make_record(collection.resource, obj, collection.field_paths, old.revision)
        return Written(answer, removed=True)

    def _commit(
        self, collection: Collection, kind: EventType, record: Record, old: Record | None
    ) -> None:
        alone = self._batch is None
        if alone:
            self._unsaved.save()
            self._journal.begin()
        try:
            if kind is EventType.DELETED:
                self._journal.remove(record)
            else:
                self._journal.put(record)
            if alone:
                self._journal.commit()
        except BaseException:
            if alone:
                self._journal.rollback()
            raise
        self._head = record.revision
        if old is not None:
            self._unindex(old)
        if kind is EventType.DELETED:
            collection.remove(record)
        else:
            collection.put(record)
            self._index(record)
        event = Event(kind, record.revision, record, old, self._clock.monotonic_s())
        collection.log.append(event)
        if self._batch is not None:
            self._batch.append(event)
        else:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _index(self, record: Record) -> None:
        self._by_uid[record.uid] = record
        for owner in record.owners:
            self._dependents.setdefault(owner, {})[record.uid] = record

    def _unindex(self, record: Record) -> None:
        self._by_uid.pop(record.uid, None)
        for owner in record.owners:
            children = self._dependents.get(owner)
            if children is not None:
                children.pop(record.uid, None)
                if not children:
                    del self._dependents[owner]


def _as_is(old: Record) -> Written:
    return Written(old, changed=False)


def _same(obj: Json, old: Record) -> bool:
    """Tell whether ``obj`` is what ``old`` holds, whatever the order of its keys.

    Compares texts: Python takes ``1``, ``1.0`` and ``True`` for equal.
    """
    obj["metadata"]["resourceVersion"] = str(old.revision)
    raw = orjson.dumps(obj)
    if raw == old.raw:
        return True
    if len(raw) != len(old.raw):
        return False
    in_order = orjson.OPT_SORT_KEYS
    return orjson.dumps(obj, option=in_order) == orjson.dumps(old.load(), option=in_order)


def _uid_mismatch(wanted: str, found: str) -> str:
    return f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
