"""The objects of one resource."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping

from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.storage.eventlog import EventLog
from taskctl.embedded.server.storage.records import FieldPath, Record


class Collection:
    """All objects of one resource, and their recent history."""

    def __init__(
        self,
        resource: Resource,
        field_paths: Mapping[str, FieldPath],
        log: EventLog,
        *,
        spec_finalizers: bool = False,
    ) -> None:
        self.resource = resource
        self._spec_finalizers = spec_finalizers
        self.field_paths = dict(field_paths)
        self.log = log
        self.by_namespace: dict[str, dict[str, Record]] = {}
        self.count = 0
        self._names: dict[str, list[str]] = {}

    def held_back(self, obj: Json) -> bool:
        """Tell whether finalizers keep a deleted object from going."""
        if obj["metadata"].get("finalizers"):
            return True
        return self._spec_finalizers and bool((obj.get("spec") or {}).get("finalizers"))

    def get(self, namespace: str, name: str) -> Record | None:
        """Return the object, or None."""
        names = self.by_namespace.get(namespace)
        return names.get(name) if names else None

    def put(self, record: Record) -> None:
        """Insert or replace an object."""
        names = self.by_namespace.setdefault(record.namespace, {})
        if record.name not in names:
            self.count += 1
            ordered = self._names.get(record.namespace)
            if ordered is not None:
                insort(ordered, record.name)
        names[record.name] = record

    def remove(self, record: Record) -> None:
        """Take an object out."""
        names = self.by_namespace[record.namespace]
        del names[record.name]
        self.count -= 1
        self._names.pop(record.namespace, None)
        if not names:
            del self.by_namespace[record.namespace]

    def ordered(self, namespace: str | None) -> Iterator[Record]:
        """Yield objects by (namespace, name); None means all namespaces."""
        spaces = sorted(self.by_namespace) if namespace is None else [namespace]
        for space in spaces:
            names = self.by_namespace.get(space)
            if not names:
                continue
            ordered = self._names.get(space)
            if ordered is None:
                ordered = self._names[space] = sorted(names)
            for name in ordered:
                yield names[name]
