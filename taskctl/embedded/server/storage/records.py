"""Immutable versions of objects, and the events between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

import orjson

from taskctl.embedded.server.refusals.errors import Json, Resource

T = TypeVar("T")

FieldPath = tuple[str, ...]
GRACE: Final = "deletionGracePeriodSeconds"
SERVER_FIELDS: Final = ("uid", "creationTimestamp", "deletionTimestamp", GRACE)


class EventType(StrEnum):
    """What happened to an object, in the words of the watch protocol."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Record:
    """One version of one object.

    The JSON text is the truth and is what clients get; no code holds the parsed form, so none
    can change it by mistake, and :meth:`load` is cheaper than a deep copy.

    Attributes:
        resource: the collection.
        namespace: "" for cluster-scoped objects.
        name: the object's name.
        uid: the object's identity.
        revision: the write that made this version (``metadata.resourceVersion``).
        api_version: as stored, for example ``taskctl.dev/v1alpha1``.
        raw: the object as JSON.
        labels: ``metadata.labels``.
        fields: values of the selectable fields by dotted path; absent ones are "".
        owners: UIDs in ``metadata.ownerReferences``.
        server_fields: what of the metadata belongs to the server and outlives every update.
    """

    resource: Resource
    namespace: str
    name: str
    uid: str
    revision: int
    api_version: str
    raw: bytes
    labels: Mapping[str, str]
    fields: Mapping[str, str]
    owners: tuple[str, ...]
    server_fields: Mapping[str, Any]

    @property
    def deleting(self) -> bool:
        """True if ``metadata.deletionTimestamp`` is set."""
        return "deletionTimestamp" in self.server_fields

    @property
    def sort_key(self) -> tuple[str, str]:
        """Lists are in this order, as they are in etcd."""
        return (self.namespace, self.name)

    def load(self) -> Json:
        """Parse the object into a fresh dict, which the caller may change."""
        loaded: Json = orjson.loads(self.raw)
        return loaded


@dataclass(eq=False, slots=True)
class Event:
    """A change of one object.

    Attributes:
        type: what happened.
        revision: the revision of the change.
        record: the object after it; for DELETED its last state, stamped with ``revision``.
        previous: the object before it; None for ADDED.
        at_s: monotonic time of the change, seconds.
        encodings: watch lines already made from this event, by form; shared by all watchers.
    """

    type: EventType
    revision: int
    record: Record
    previous: Record | None
    at_s: float
    encodings: dict[object, bytes] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """JSON held in memory because of this event: both versions, and the lines made of it."""
        held = len(self.record.raw) + sum(map(len, self.encodings.values()))
        return held if self.previous is None else held + len(self.previous.raw)


def make_record(
    resource: Resource,
    obj: Json,
    field_paths: Mapping[str, FieldPath],
    revision: int,
    like: Record | None = None,
) -> Record:
    """Freeze ``obj`` as the version that ``revision`` made; stamps ``metadata.resourceVersion``.

    The text begins with the type, so that it can be cut off without parsing (:func:`type_head`).

    Args:
        resource: the collection.
        obj: the object.
        field_paths: of the selectable fields.
        revision: of the write.
        like: the version before, with which the new one shares what has not changed.
    """
    meta: Json = obj["metadata"]
    meta["resourceVersion"] = str(revision)
    owners = meta.get("ownerReferences")
    made = Record(
        resource=resource,
        namespace=meta.get("namespace") or "",
        name=meta["name"],
        uid=meta["uid"],
        revision=revision,
        api_version=obj["apiVersion"],
        raw=_exact(orjson.dumps({"kind": obj["kind"], "apiVersion": obj["apiVersion"], **obj})),
        labels=meta.get("labels") or {},
        fields=_extract(obj, field_paths.items()),
        owners=tuple(ref.get("uid", "") for ref in owners) if owners else (),
        server_fields={name: meta[name] for name in SERVER_FIELDS if name in meta},
    )
    return made if like is None else _sharing(made, like)


def _exact(text: bytes) -> bytes:
    """Copy a text that is kept: orjson leaves the block that it wrote into at its full length.

    A text of 1.2 kB would hold 8 kB for as long as its object lives.
    """
    return bytes(memoryview(text))


def _sharing(made: Record, like: Record) -> Record:
    """Use the objects of an earlier version wherever they say the same."""
    return Record(
        resource=like.resource,
        namespace=_same(made.namespace, like.namespace),
        name=_same(made.name, like.name),
        uid=_same(made.uid, like.uid),
        revision=made.revision,
        api_version=_same(made.api_version, like.api_version),
        raw=made.raw,
        labels=_same(made.labels, like.labels),
        fields=_same(made.fields, like.fields),
        owners=_same(made.owners, like.owners),
        server_fields=_same(made.server_fields, like.server_fields),
    )


def _same(new: T, old: T) -> T:
    return old if new == old else new


def type_head(kind: str, api_version: str) -> bytes:
    """Return how the text of a stored object of this type begins."""
    return orjson.dumps({"kind": kind, "apiVersion": api_version})[:-1] + b","


def load_record(resource: Resource, raw: bytes, field_paths: Mapping[str, FieldPath]) -> Record:
    """Rebuild a record from its stored JSON."""
    obj: Json = orjson.loads(raw)
    meta: Json = obj["metadata"]
    return make_record(resource, obj, field_paths, int(meta["resourceVersion"]))


def _extract(obj: Json, paths: Iterable[tuple[str, FieldPath]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for dotted, path in paths:
        value: Any = obj
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
            if value is None:
                break
        values[dotted] = _text(value)
    return values


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
