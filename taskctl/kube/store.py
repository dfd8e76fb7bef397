"""The cache that an informer feeds and reconcilers read.

Objects in it are shared: read them, never change them. Every change costs O(1) in the
number of objects, handlers included.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from taskctl.kube.interface import EventType, KubeObject
from taskctl.objectkey import ObjectKey

log = logging.getLogger(__name__)

Handler = Callable[[KubeObject | None, KubeObject | None], None]
Transform = Callable[[KubeObject], KubeObject]


class _Entry:
    """One object, with what was worked out about it when it came in."""

    __slots__ = ("obj", "uid", "version")

    def __init__(self, obj: KubeObject, uid: str, version: int) -> None:
        self.obj = obj
        self.uid = uid
        self.version = version


class Store:
    """Objects of one kind by key and by UID.

    Handlers are called in order and at once with ``(old, new)``: ``(None, new)`` for an
    object that appears, ``(old, None)`` for one that goes, and both, one after the other,
    for one that was replaced by another of the same name. They must not block or await;
    the usual one adds a key to a queue. An error in a handler is logged, no more.

    Older versions never overwrite newer ones. Versions are compared as numbers, which
    Kubernetes began to promise only lately (KEP-5504) and every server has always kept.

    Args:
        name: for the log.
        transform: applied to each object before it is kept; may change it in place.
    """

    def __init__(self, name: str, transform: Transform | None = None) -> None:
        self.name = name
        self._transform = transform
        self._entries: dict[ObjectKey, _Entry] = {}
        self._by_uid: dict[str, ObjectKey] = {}
        self._handlers: list[Handler] = []
        self._version = 0

    # --- reading ------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[KubeObject]:
        """Go over a copy, so that the store may change meanwhile."""
        return iter(self.objects())

    @property
    def resource_version(self) -> int:
        """The version up to which this store has seen everything."""
        return self._version

    def get(self, key: ObjectKey) -> KubeObject | None:
        """Return an object, or None."""
        entry = self._entries.get(key)
        return None if entry is None else entry.obj

    def get_by_uid(self, uid: str) -> KubeObject | None:
        """Return an object by its UID, or None."""
        key = self._by_uid.get(uid)
        return None if key is None else self._entries[key].obj

    def objects(self) -> list[KubeObject]:
        """Return all objects, in order of arrival. Costs O(n)."""
        return [entry.obj for entry in self._entries.values()]

    def keys(self) -> list[ObjectKey]:
        """Return all keys, in order of arrival. Costs O(n)."""
        return [*self._entries]

    # --- set-up -------------------------------------------------------------------------

    def add_handler(self, handler: Handler) -> None:
        """Call ``handler(old, new)`` on every change from now on; the present objects are
        announced to it first, as new.
        """
        self._handlers.append(handler)
        for obj in self.objects():
            self._call(handler, None, obj)

    # --- writing ------------------------------------------------------------------------

    def apply(self, event: EventType, obj: KubeObject) -> bool:
        """Take in a watch event; return whether it was news.

        An event older than what is stored, which comes of :meth:`observe`, is dropped.
        """
        version = version_of(obj)
        if version > self._version:
            self._version = version
        if event is EventType.BOOKMARK:
            return False
        key = ObjectKey.of(obj)
        entry = self._entries.get(key)
        if entry is not None and 0 < version < entry.version:
            return False
        if event is EventType.DELETED:
            # The same version as an object observed meanwhile: another incarnation of it.
            if entry is None or entry.uid != _uid(obj):
                return False
            self._remove(key, entry)
            return True
        if entry is not None and version == entry.version and version > 0:
            return False
        self._put(key, entry, obj, version)
        return True

    def observe(self, obj: KubeObject) -> bool:
        """Take in the answer to a write of our own, if it is newer than what is stored.

        So a reconciler sees its own write at once and not only when the watch brings it.
        An answer that the watch has overtaken is dropped; above all one to a write that
        came before a deletion the store already knows of.

        Returns:
            Whether it was news.
        """
        version = version_of(obj)
        metadata = obj.get("metadata") or {}
        if version == 0 or "name" not in metadata:
            return False  # a Status, or an object that was never stored
        key = ObjectKey.of(obj)
        entry = self._entries.get(key)
        if version <= (self._version if entry is None else entry.version):
            return False
        self._put(key, entry, obj, version)
        return True

    def replace(self, objects: Iterable[KubeObject], version: str, *, trust: bool = False) -> None:
        """Put a complete list in place of everything, announcing the differences.

        Args:
            objects: the list.
            version: the list's resourceVersion.
            trust: the list is right even where the store knows newer versions, because
                the server's history has gone back (its data was restored or thrown away).
        """
        list_version = parse_version(version)
        if trust:
            self._version = 0
        seen: set[ObjectKey] = set()
        for obj in objects:
            key = ObjectKey.of(obj)
            seen.add(key)
            entry = self._entries.get(key)
            own_version = version_of(obj)
            if entry is not None and not trust:
                if entry.version > list_version > 0:
                    continue  # our own write, made after the list was taken
                if own_version == entry.version > 0 and _uid(obj) == entry.uid:
                    continue
            self._put(key, entry, obj, own_version)
        for key in [key for key in self._entries if key not in seen]:
            entry = self._entries[key]
            if trust or entry.version <= list_version or list_version == 0:
                self._remove(key, entry)
        self._version = max(self._version, list_version)

    # --- below --------------------------------------------------------------------------

    def _put(self, key: ObjectKey, entry: _Entry | None, obj: KubeObject, version: int) -> None:
        metadata = obj["metadata"]
        metadata.pop("managedFields", None)  # a quarter of an object, and of no use here
        if self._transform is not None:
            obj = self._transform(obj)
        uid = metadata.get("uid") or ""
        if entry is not None and entry.uid != uid:
            self._remove(key, entry)
            entry = None
        if entry is None:
            entry = _Entry(obj, uid, version)
            self._entries[key] = entry
            self._by_uid[uid] = key
            old = None
        else:
            old = entry.obj
            entry.obj = obj
            entry.version = version
        for handler in self._handlers:
            self._call(handler, old, obj)

    def _remove(self, key: ObjectKey, entry: _Entry) -> None:
        del self._entries[key]
        if self._by_uid.get(entry.uid) == key:
            del self._by_uid[entry.uid]
        for handler in self._handlers:
            self._call(handler, entry.obj, None)

    def _call(self, handler: Handler, old: KubeObject | None, new: KubeObject | None) -> None:
        try:
            handler(old, new)
        except Exception:  # an odd object must not stop the informer
            subject = new if new is not None else old
            where = "?" if subject is None else ObjectKey.of(subject)
            log.exception("store %s: a handler failed on %s", self.name, where)


def parse_version(text: str) -> int:
    """Return a resourceVersion as a number; 0 where it is none, which compares as oldest."""
    return int(text) if text.isdecimal() else 0


def version_of(obj: KubeObject) -> int:
    """Return an object's resourceVersion as a number; 0 where it has none."""
    metadata: Any = obj.get("metadata")
    if not metadata:
        return 0
    text = metadata.get("resourceVersion")
    return int(text) if text and text.isdecimal() else 0


def keep_metadata(obj: KubeObject) -> KubeObject:
    """Transform that keeps ``apiVersion``, ``kind`` and ``metadata`` only."""
    return {
        "apiVersion": obj.get("apiVersion", ""),
        "kind": obj.get("kind", ""),
        "metadata": obj["metadata"],
    }


def _uid(obj: KubeObject) -> str:
    return obj["metadata"].get("uid") or ""


__all__ = [
    "Handler",
    "ObjectKey",
    "Store",
    "Transform",
    "keep_metadata",
    "parse_version",
    "version_of",
]
