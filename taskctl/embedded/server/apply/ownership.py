"""Server-side apply and the bookkeeping of who owns which field.

The course of an apply is that of sigs.k8s.io/structured-merge-diff ``merge/update.go`` inside
the managers of k8s.io/apimachinery ``pkg/util/managedfields/internal``. One thing differs: an
object that was never applied carries no managedFields (a real server tracks every object
from its creation), so plain writes cost nothing. At the first apply everything that is there
belongs to a manager ``before-first-apply``, as on servers that upgraded to this feature, save
what client-side ``kubectl apply`` says it set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from taskctl.clock import format_seconds
from taskctl.embedded.server.apply import typed
from taskctl.embedded.server.apply.field_sets import (
    FieldsError,
    FieldSet,
    Path,
    compare,
    field_set,
    format_path,
    from_fields_v1,
    merge,
    remove,
    report_order,
    to_fields_v1,
    with_named_fields,
)
from taskctl.embedded.server.kinds.builtin_schema import raw_schema
from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.kinds.structural_schema import StructuralSchema
from taskctl.embedded.server.patch.formats import PatchError
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.schema.nodes import SchemaNode, build
from taskctl.embedded.server.schema.walks import copy_json

JSON = dict[str, Any]

CONFLICT_REASON: Final = "FieldManagerConflict"
BEFORE_FIRST_APPLY: Final = "before-first-apply"
CLIENT_SIDE_APPLY: Final = "kubectl-client-side-apply"
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"

_APPLY: Final = "Apply"
_UPDATE: Final = "Update"
_ANCIENT: Final = "ancient-changes"
_MAX_UPDATE_MANAGERS: Final = 10
# No manager owns what identifies the object or what the server writes (stripmeta.go).
_UNOWNED: Final[FieldSet] = {
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName",
            "generation", "managedFields", "resourceVersion",
        )
    ),
}  # fmt: skip

_LAST_APPLIED_PATH: Final[Path] = ("f:metadata", "f:annotations", f"f:{LAST_APPLIED}")


class ApplyConflict(Exception):
    """Fields of the applied configuration belong to other managers.

    Attributes:
        causes: one per field: path such as ``.spec.replicas``, reason FieldManagerConflict.
    """

    def __init__(self, message: str, causes: tuple[FieldError, ...]) -> None:
        super().__init__(message)
        self.causes = causes


@dataclass(frozen=True, slots=True)
class _Manager:
    """Who wrote, how and through what; appliers keep one entry across versions."""

    name: str
    operation: str
    version: str
    subresource: str

    @classmethod
    def of(cls, name: str, operation: str, version: str, subresource: str) -> _Manager:
        shown = "" if operation == _APPLY else version
        return cls(name or "unknown", operation, shown, subresource)

    def __str__(self) -> str:
        text = json.dumps(self.name)
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.version}" if self.operation == _UPDATE else text


@dataclass(frozen=True, slots=True)
class _Owned:
    """What one manager owns."""

    fields: FieldSet
    version: str
    time: str = ""


@dataclass(slots=True)
class _Managers:
    """``metadata.managedFields``, decoded."""

    entries: dict[_Manager, _Owned] = field(default_factory=dict)

    @classmethod
    def decode(cls, raw: Iterable[JSON]) -> _Managers:
        out = cls()
        for one in raw:
            version, operation = one.get("apiVersion", ""), one.get("operation", "")
            if operation not in (_APPLY, _UPDATE):
                raise FieldsError("metadata.managedFields[].operation must be Apply or Update")
            who = _Manager.of(
                one.get("manager", ""), operation, version, one.get("subresource", "")
            )
            fields = from_fields_v1(one.get("fieldsV1") or {})
            out.entries[who] = _Owned(fields, version, one.get("time") or "")
        return out

    def encode(self) -> list[JSON]:
        def order(pair: tuple[_Manager, _Owned]) -> tuple[str, str, str, str, str]:
            who, entry = pair
            return who.operation, entry.time, who.name, entry.version, who.subresource

        out: list[JSON] = []
        for who, entry in sorted(self.entries.items(), key=order):
            one: JSON = {
                "manager": who.name,
                "operation": who.operation,
                "apiVersion": entry.version,
            }
            if entry.time:
                one["time"] = entry.time
            one |= {"fieldsType": "FieldsV1", "fieldsV1": to_fields_v1(entry.fields)}
            if who.subresource:
                one["subresource"] = who.subresource
            out.append(one)
        return out

    def set(self, who: _Manager, entry: _Owned) -> None:
        if entry.fields:
            self.entries[who] = entry
        else:
            self.entries.pop(who, None)

    def all_fields(self) -> FieldSet:
        found: FieldSet = set()
        for entry in self.entries.values():
            found |= entry.fields
        return found

    def cap(self) -> None:
        """Merge the oldest update entries, of which there may be ten (capmanagers.go)."""
        updates = sorted(
            (who for who in self.entries if who.operation == _UPDATE),
            key=lambda who: self.entries[who].time,
        )
        for who in updates[: max(0, len(updates) - _MAX_UPDATE_MANAGERS)]:
            entry = self.entries.pop(who)
            bucket = _Manager.of(_ANCIENT, _UPDATE, entry.version, "")
            before = self.entries.get(bucket)
            fields = entry.fields | before.fields if before else entry.fields
            self.entries[bucket] = _Owned(fields, entry.version, entry.time)


# --- schemas and scopes -----------------------------------------------------------------


def _root(kind: Kind) -> SchemaNode:
    """The schema that says how a kind merges: its own, with ObjectMeta in place."""
    schema = kind.schema
    if schema is None:
        return SchemaNode(raw={}, type="object", properties={"metadata": _object_meta()})
    return schema.root if kind.builtin else _custom_root(schema)


@lru_cache(maxsize=256)
def _custom_root(schema: StructuralSchema) -> SchemaNode:
    own = schema.root
    return replace(own, properties={**own.properties, "metadata": _object_meta()})


@lru_cache(maxsize=1)
def _object_meta() -> SchemaNode:
    raw = raw_schema("", "v1", "ConfigMap")
    if raw is None:
        raise KeyError("v1/ConfigMap is not among the built-in schemas")
    return build(raw["properties"]["metadata"])


def _scope(kind: Kind, subresource: str) -> Callable[[FieldSet], FieldSet]:
    """Return a filter: which fields a request to a subresource can write at all."""
    if subresource == "status":
        return lambda fields: {path for path in fields if path[:1] == ("f:status",)}
    if subresource == "ephemeralcontainers":
        prefix = ("f:spec", "f:ephemeralContainers")
        return lambda fields: {path for path in fields if path[:2] == prefix}
    if "status" in kind.subresources:
        return lambda fields: {path for path in fields if path[:1] != ("f:status",)}
    return lambda fields: fields


def _bare(obj: JSON) -> JSON:
    """The object without managedFields."""
    metadata = {k: v for k, v in (obj.get("metadata") or {}).items() if k != "managedFields"}
    return {**obj, "metadata": metadata}


def _recorded(obj: JSON | None) -> list[JSON]:
    found = ((obj or {}).get("metadata") or {}).get("managedFields") or []
    return [one for one in found if one]


# --- applying ---------------------------------------------------------------------------


def server_side_apply(
    live: JSON | None,
    applied: JSON,
    *,
    manager: str,
    force: bool,
    kind: Kind,
    now: datetime,
    subresource: str = "",
) -> JSON:
    """Merge an applied configuration into the live object.

    Args:
        live: the stored object in ``kind``'s version; None to create it.
        applied: the configuration, complete from this manager's point of view.
        manager: the field manager's name.
        force: take fields over from other managers.
        kind: of the object.
        now: recorded when something changes.
        subresource: for example ``status``; empty for the object itself.

    Returns:
        The new object, with managedFields. It equals ``live`` when nothing changes.

    Raises:
        ApplyConflict: fields belong to others and ``force`` is not given.
        PatchError: the configuration does not fit the schema.
    """
    try:
        return _Applying(kind, _Manager.of(manager, _APPLY, "", subresource), now, subresource).run(
            live, applied, force=force
        )
    except FieldsError as error:
        raise _untyped(kind, applied, [str(error)]) from error


def check_typed(applied: JSON, kind: Kind) -> None:
    """Check a configuration against the kind's schema.

    Raises:
        PatchError: 500, it does not fit.
    """
    found = typed.problems(applied, _root(kind))
    if found:
        raise _untyped(kind, applied, found)


def _untyped(kind: Kind, applied: JSON, found: list[str]) -> PatchError:
    metadata = applied.get("metadata") or {}
    who = f"{metadata.get('namespace') or ''}/{metadata.get('name') or ''}"
    what = f"{kind.group}/{kind.version}, Kind={kind.kind}"
    listed = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {one}" for one in found)
    return PatchError(f"failed to create typed patch object ({who}; {what}): {listed}", 500)


class _Applying:
    """One apply request."""

    def __init__(self, kind: Kind, who: _Manager, now: datetime, subresource: str) -> None:
        self._version = kind.api_version
        self._root = _root(kind)
        self._filter = _scope(kind, subresource)
        self._who = who
        self._now = now

    def run(self, live: JSON | None, applied: JSON, *, force: bool) -> JSON:
        before = _bare(live) if live is not None else {}
        managers = self._managers_before(live, before)
        config = _bare(copy_json(applied))
        owned = self._filter(field_set(config, self._root))
        last = managers.entries.get(self._who)
        merged = merge(before, config, self._root)
        managers.entries[self._who] = _Owned(owned, self._version, last.time if last else "")
        if last is not None and last.fields:
            merged = self._prune(merged, last.fields, managers)
        difference = compare(before, merged, self._root)
        conflicts = self._conflicts(managers, self._filter(difference.written))
        if conflicts and not force:
            conflicts = self._forgive_client_side(conflicts, before)
            if conflicts:
                raise _conflict(conflicts)
        _give_up(managers, self._who, self._filter(difference.written | difference.removed))
        if self._who.name == "kubectl":
            _refresh_last_applied(merged, applied)
        changed = live is None or merged != before
        entry = managers.entries[self._who]
        time = format_seconds(self._now) if changed or not entry.time else entry.time
        managers.set(self._who, _Owned(entry.fields - _UNOWNED, self._version, time))
        out: JSON = copy_json(merged)
        _record(out["metadata"], managers)
        return out

    def _managers_before(self, live: JSON | None, before: JSON) -> _Managers:
        recorded = _recorded(live)
        if recorded or live is None:
            return _Managers.decode(recorded)
        empty: JSON = {}
        there = self._filter(compare(empty, before, self._root).added) - _UNOWNED
        out = _Managers()
        config = self._last_applied(before)
        if config is not None:
            # kubectl moves what its client-side self owns to server-side apply, and removes
            # of that what the configuration lacks. So the two must be told apart here.
            mine = there & (field_set(config, self._root) | {_LAST_APPLIED_PATH})
            self._add_update_manager(out, CLIENT_SIDE_APPLY, mine)
            there -= mine
        self._add_update_manager(out, BEFORE_FIRST_APPLY, there)
        return out

    def _add_update_manager(self, managers: _Managers, name: str, fields: FieldSet) -> None:
        who = _Manager.of(name, _UPDATE, self._version, "")
        managers.set(who, _Owned(fields, self._version, format_seconds(self._now)))

    def _last_applied(self, before: JSON) -> JSON | None:
        """The configuration of the last client-side ``kubectl apply``, if there was one."""
        text = (before["metadata"].get("annotations") or {}).get(LAST_APPLIED)
        try:
            config = json.loads(text) if text else None
        except ValueError:
            return None
        if not isinstance(config, dict) or config.get("apiVersion") != self._version:
            return None
        return _bare(config)

    def _prune(self, merged: JSON, last: FieldSet, managers: _Managers) -> JSON:
        """Remove what this manager applied last time and now neither it nor others own."""
        root = self._root
        named = with_named_fields(last, root)
        pruned = remove(merged, named, root)
        everything = with_named_fields(field_set(merged, root), root)
        held = with_named_fields(managers.all_fields(), root)
        rest = with_named_fields(field_set(pruned, root), root)
        pruned = remove(merged, everything - (rest | held), root)
        rest = with_named_fields(field_set(pruned, root), root)
        left: JSON = remove(merged, (everything - rest) & named, root)
        return left

    def _conflicts(self, managers: _Managers, written: FieldSet) -> list[tuple[_Manager, Path]]:
        found: list[tuple[_Manager, Path]] = []
        for who, entry in managers.entries.items():
            if who != self._who:
                mine = sorted(entry.fields & written, key=report_order)
                found.extend((who, path) for path in mine)
        return found

    def _forgive_client_side(
        self, conflicts: list[tuple[_Manager, Path]], before: JSON
    ) -> list[tuple[_Manager, Path]]:
        """``kubectl apply --server-side`` takes over from ``kubectl apply`` without force.

        Fields that the last-applied annotation names, with the value they still have, are
        kubectl's own (lastappliedmanager.go).
        """
        if self._who.name != "kubectl":
            return conflicts
        config = self._last_applied(before)
        if config is None:
            return conflicts
        difference = compare(config, before, self._root)
        allowed = field_set(config, self._root) - difference.written - difference.removed
        return [one for one in conflicts if one[1] not in allowed]


def _record(metadata: JSON, managers: _Managers) -> None:
    if managers.entries:
        metadata["managedFields"] = managers.encode()


def _give_up(managers: _Managers, keeper: _Manager, lost: FieldSet) -> None:
    """Take fields that have changed or gone away from their other owners."""
    for who, entry in list(managers.entries.items()):
        if who != keeper:
            managers.set(who, replace(entry, fields=entry.fields - lost))


def _refresh_last_applied(merged: JSON, applied: JSON) -> None:
    """Keep the annotation of client-side apply true where it exists (lastappliedupdater.go)."""
    annotations = (merged.get("metadata") or {}).get("annotations") or {}
    if annotations.get(LAST_APPLIED):
        config = copy_json(applied)
        notes = (config.get("metadata") or {}).get("annotations") or {}
        notes.pop(LAST_APPLIED, None)
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        updated = {**annotations, LAST_APPLIED: text + "\n"}
        merged["metadata"] = {**merged["metadata"], "annotations": updated}


def _conflict(conflicts: list[tuple[_Manager, Path]]) -> ApplyConflict:
    causes = tuple(
        FieldError(format_path(path), CONFLICT_REASON, f"conflict with {who}")
        for who, path in conflicts
    )
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].path}"
        return ApplyConflict(text, causes)
    lines: list[str] = []
    for who in sorted({one[0] for one in conflicts}, key=str):
        lines.append(f"conflicts with {who}:")
        lines.extend(f"- {format_path(path)}" for other, path in conflicts if other == who)
    listed = "\n".join(lines)
    return ApplyConflict(f"Apply failed with {len(causes)} conflicts: {listed}", causes)


# --- other writes -----------------------------------------------------------------------


def track_update(
    old: JSON | None,
    new: JSON,
    *,
    kind: Kind,
    manager: str,
    now: datetime,
    subresource: str = "",
) -> None:
    """Adjust managedFields after a create, update or patch, in place.

    Does nothing unless the object was applied before. What the write changed goes to
    ``manager``; others lose it.

    Args:
        old: the stored object; None on create.
        new: the object to be stored.
        kind: of the object.
        manager: the field manager's name.
        now: recorded when something changes.
        subresource: that was written to.
    """
    metadata: JSON = new["metadata"]
    given = metadata.pop("managedFields", None)
    recorded = _recorded(old)
    if old is None or not recorded:
        return
    if given == [{}]:  # the documented way to reset
        return
    managers = _decode_given(given, recorded)
    before, root = _bare(old), _root(kind)
    if before == new:
        _record(metadata, managers)
        return
    difference = compare(before, new, root)
    who = _Manager.of(manager, _UPDATE, kind.api_version, subresource)
    reach = _scope(kind, subresource)
    written = reach(difference.written) - _UNOWNED
    _give_up(managers, who, written | reach(difference.removed))
    own = managers.entries.get(who)
    fields = ((own.fields if own else set()) - difference.removed) | written
    if written or (own is not None and fields != own.fields):
        managers.set(who, _Owned(fields, kind.api_version, format_seconds(now)))
        managers.cap()
    _record(metadata, managers)


def _decode_given(given: Any, recorded: list[JSON]) -> _Managers:
    """A client may edit managedFields; what cannot be read is ignored, as upstream."""
    if isinstance(given, list) and given and given != recorded:
        try:
            return _Managers.decode(given)
        except (FieldsError, AttributeError):
            pass
    return _Managers.decode(recorded)
