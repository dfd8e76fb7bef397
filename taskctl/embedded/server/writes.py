"""Create, update, patch and delete: from a parsed body to a committed version.

Everything here is synchronous. Between reading an object and writing it nothing else can
happen, so a patch never meets a conflict that the client did not ask for by resourceVersion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from taskctl.clock import format_seconds
from taskctl.embedded.server import apply, errors, fields, meta, patching
from taskctl.embedded.server.core import Core, resource_of, strategy_of
from taskctl.embedded.server.errors import Json, Resource
from taskctl.embedded.server.fields import FieldError
from taskctl.embedded.server.kinds import Kind
from taskctl.embedded.server.pods import PodStrategy
from taskctl.embedded.server.records import Record
from taskctl.embedded.server.store import Propagation, Written
from taskctl.embedded.server.targets import (
    DeleteOptions,
    FieldValidation,
    Target,
    WriteOptions,
)

NAMESPACES: Final = Resource("", "namespaces")
_CRDS: Final = Resource("apiextensions.k8s.io", "customresourcedefinitions")
_NAME_TRIES: Final = 8  # as k8s.io/apiserver names.SimpleNameGenerator's callers


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write answers.

    Attributes:
        record: the object after it.
        created: 201 instead of 200.
        removed: the object is gone.
        warnings: for ``Warning`` headers.
    """

    record: Record
    created: bool = False
    removed: bool = False
    warnings: list[str] = field(default_factory=list)


class Writer:
    """Carries out writes."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    # --- create ---------------------------------------------------------------------

    def create(
        self, kind: Kind, namespace: str | None, obj: Json, options: WriteOptions
    ) -> Outcome:
        """Create an object.

        Args:
            kind: of the object.
            namespace: from the URL; None for cluster-scoped kinds.
            obj: the body; is changed.
            options: of the request.

        Raises:
            errors.StatusError: refused.
        """
        _check_identity(kind, obj)
        metadata: Json = obj["metadata"]
        _check_namespace(metadata, namespace if kind.namespaced else None)
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        warnings = _prune(kind, obj, obj, options.validation)
        tries = _NAME_TRIES if metadata.get("generateName") and not metadata.get("name") else 0
        if tries:
            metadata["name"] = meta.generate_name(metadata["generateName"])
        self._prepare_create(kind, obj)
        apply.track_update(
            None, obj, kind=kind, manager=options.manager, now=self._core.clock.now()
        )
        record = self._create_named(kind, obj, options, tries)
        return Outcome(record, created=True, warnings=warnings)

    def _create_named(self, kind: Kind, obj: Json, options: WriteOptions, tries: int) -> Record:
        resource, metadata = resource_of(kind), obj["metadata"]
        for _ in range(max(0, tries - 1)):
            if self._store.get(resource, metadata.get("namespace", ""), metadata["name"]) is None:
                break
            metadata["name"] = meta.generate_name(metadata["generateName"])
        try:
            return self._store.create(resource, obj, dry_run=options.dry_run)
        except errors.StatusError as error:
            if tries and error.reason == "AlreadyExists":
                raise errors.generate_name_exhausted(resource, metadata["name"]) from error
            raise

    def _prepare_create(self, kind: Kind, obj: Json) -> None:
        """Set defaults and check, up to the point where only the name may still be taken."""
        strategy = strategy_of(kind)
        metadata: Json = obj["metadata"]
        schema = kind.schema
        if kind.builtin and schema is not None:
            _refuse(kind, obj, schema.validate(obj, None))
        strategy.prepare_create(obj)
        if not kind.builtin and schema is not None:
            schema.apply_defaults(obj)
        found = meta.check(metadata, namespaced=kind.namespaced, rule=strategy.name_rule)
        _refuse(kind, obj, found)
        self._admit_namespace(kind, metadata)
        strategy.admit_create(obj, self._store, format_seconds(self._core.clock.now()))
        found = strategy.check_create(obj)
        if not kind.builtin and schema is not None:
            found += schema.validate(obj, None)
        _refuse(kind, obj, found)

    def _admit_namespace(self, kind: Kind, metadata: Json) -> None:
        """Refuse new objects where the namespace, or the kind, is missing or on its way out."""
        if not kind.builtin:
            crd = self._store.get(_CRDS, "", resource_of(kind).qualified)
            if crd is not None and crd.deleting:
                raise errors.StatusError(
                    405,
                    "MethodNotAllowed",
                    "create not allowed while custom resource definition is terminating",
                )
        if not kind.namespaced:
            return
        name = metadata["namespace"]
        namespace = self._store.get(NAMESPACES, "", name)
        if namespace is None:
            raise errors.not_found(NAMESPACES, name)
        if namespace.deleting:
            why = f"unable to create new content in namespace {name} because it is being terminated"
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {name} is being terminated",
                "field": "metadata.namespace",
            }
            raise errors.forbidden(
                resource_of(kind), metadata.get("name") or "", why, causes=[cause]
            )

    # --- update ---------------------------------------------------------------------

    def replace(self, kind: Kind, target: Target, obj: Json, options: WriteOptions) -> Outcome:
        """Replace an object or one of its subresources (PUT).

        Raises:
            errors.StatusError: refused.
        """
        _check_identity(kind, obj)
        metadata: Json = obj["metadata"]
        _check_namespace(metadata, target.namespace)
        name = metadata.setdefault("name", target.name)
        if name != target.name:
            raise errors.bad_request(
                f"the name of the object ({name}) does not match the name on the URL "
                f"({target.name})"
            )
        old = self._current(kind, target)
        if not metadata.get("resourceVersion") and strategy_of(kind).needs_revision:
            path = "metadata.resourceVersion"
            _refuse(kind, obj, [fields.invalid(path, 0, "must be specified for an update")])
        if metadata.get("uid") and metadata["uid"] != old.uid:
            why = (
                f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object "
                f"meta: {old.uid}"
            )
            raise errors.conflict(old.resource, old.name, why)
        return self._update(kind, old, obj, target.subresource, options)

    def patch(
        self,
        kind: Kind,
        target: Target,
        change: Callable[[Json], Json],
        options: WriteOptions,
    ) -> Outcome:
        """Change an object by a function of its present state (PATCH, all but apply).

        Raises:
            errors.StatusError: refused.
        """
        old = self._current(kind, target)
        try:
            obj = change(self._as_version(kind, old))
        except patching.PatchError as error:
            raise _patch_refused(error) from error
        if not isinstance(obj, dict):
            raise errors.StatusError(422, "Invalid", "the patch leaves no object behind")
        _check_identity(kind, obj)
        return self._update(kind, old, obj, target.subresource, options)

    def server_side_apply(
        self, kind: Kind, target: Target, applied: Json, options: WriteOptions
    ) -> Outcome:
        """Apply a configuration (PATCH with ``application/apply-patch+yaml``).

        Raises:
            errors.StatusError: refused; 409 where fields belong to other managers.
        """
        _check_identity(kind, applied)
        metadata: Json = applied["metadata"]
        _check_namespace(metadata, target.namespace)
        if metadata.setdefault("name", target.name) != target.name:
            raise errors.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL "
                f"({target.name})"
            )
        if metadata.get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        warnings = _prune(kind, applied, applied, options.validation)
        old = self._store.get(resource_of(kind), target.namespace or "", target.name or "")
        if old is None and target.subresource:
            raise errors.not_found(resource_of(kind), target.name or "")
        if old is None and metadata.get("resourceVersion"):
            raise errors.conflict(resource_of(kind), target.name or "")
        try:
            obj = apply.server_side_apply(
                self._as_version(kind, old) if old else None,
                applied,
                manager=options.manager,
                force=options.force,
                kind=kind,
                now=self._core.clock.now(),
                subresource=target.subresource,
            )
        except apply.ApplyConflict as error:
            raise errors.apply_conflict(str(error), error.causes) from error
        except patching.PatchError as error:
            raise _patch_refused(error) from error
        if old is not None:
            outcome = self._update(kind, old, obj, target.subresource, options, tracked=True)
            return Outcome(outcome.record, removed=outcome.removed, warnings=warnings)
        self._prepare_create(kind, obj)
        record = self._store.create(resource_of(kind), obj, dry_run=options.dry_run)
        return Outcome(record, created=True, warnings=warnings)

    def _current(self, kind: Kind, target: Target) -> Record:
        return self._store.require(resource_of(kind), target.namespace or "", target.name or "")

    @staticmethod
    def _as_version(kind: Kind, record: Record) -> Json:
        obj = record.load()
        obj["apiVersion"] = kind.api_version
        return obj

    def _update(
        self,
        kind: Kind,
        old: Record,
        obj: Json,
        subresource: str,
        options: WriteOptions,
        *,
        tracked: bool = False,
    ) -> Outcome:
        """Check a changed object against the stored one and commit it."""
        wanted = obj["metadata"].get("resourceVersion")
        if wanted and wanted != str(old.revision):
            raise errors.conflict(old.resource, old.name)
        before = self._as_version(kind, old)
        warnings = _prune(
            kind, obj, _changed_part(kind, obj, before, subresource), options.validation
        )
        metadata: Json = obj["metadata"]
        if not metadata.get("uid"):
            metadata["uid"] = old.uid
        found = meta.check_update(metadata, before["metadata"])
        if "generation" in before["metadata"]:
            metadata["generation"] = before["metadata"]["generation"]
        found += self._prepare_update(kind, obj, before, subresource)
        _refuse(kind, obj, found)
        if not tracked:
            apply.track_update(
                before,
                obj,
                kind=kind,
                manager=options.manager,
                now=self._core.clock.now(),
                subresource=subresource,
            )
        obj["apiVersion"] = old.api_version if not kind.storage else kind.api_version
        written = self._store.update(old.resource, obj, dry_run=options.dry_run)
        return Outcome(written.record, removed=written.removed, warnings=warnings)

    def _prepare_update(
        self, kind: Kind, obj: Json, before: Json, subresource: str
    ) -> list[FieldError]:
        strategy, schema = strategy_of(kind), kind.schema
        if kind.builtin and schema is not None:
            part = _changed_part(kind, obj, before, subresource)
            _refuse(kind, obj, schema.validate(part, None))
        elif schema is not None:
            schema.apply_defaults(obj)
        if subresource == "status":
            strategy.prepare_status(obj, before)
            found = strategy.check_status(obj, before)
        elif subresource == "ephemeralcontainers" and isinstance(strategy, PodStrategy):
            strategy.prepare_ephemeral(obj, before)
            found = strategy.check_ephemeral(obj, before)
        else:
            strategy.prepare_update(obj, before)
            found = strategy.check_update(obj, before)
        if not kind.builtin and schema is not None:
            found += schema.validate(obj, before)
        return found + meta.check(
            obj["metadata"], namespaced=kind.namespaced, rule=strategy.name_rule
        )

    # --- delete ---------------------------------------------------------------------

    def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> Written:
        """Delete an object.

        Raises:
            errors.StatusError: refused.
        """
        resource = resource_of(kind)
        record = self._store.require(resource, namespace, name)
        strategy = strategy_of(kind)
        strategy.admit_delete(record)
        grace_s = strategy.grace_s(record.load(), options.grace_s)
        deletion = options.deletion(grace_s)
        return self._store.delete(resource, namespace, name, deletion, dry_run=options.dry_run)


def background_delete() -> DeleteOptions:
    """Return the options with which controllers of this server delete."""
    return DeleteOptions(propagation=Propagation.BACKGROUND)


def _check_identity(kind: Kind, obj: Json) -> None:
    """Check apiVersion, kind and the shape of the metadata of a body."""
    found_kind, found_version = obj.get("kind"), obj.get("apiVersion")
    if found_kind is None:
        obj["kind"] = kind.kind
    elif found_kind != kind.kind:
        raise errors.bad_request(
            f'{found_kind} in version "{found_version}" cannot be handled as a {kind.kind}: '
            f'no kind "{found_kind}" is served under this path; it serves {kind.kind}'
        )
    if found_version is None:
        obj["apiVersion"] = kind.api_version
    elif found_version != kind.api_version:
        raise errors.bad_request(
            f"the API version in the data ({found_version}) does not match the expected API "
            f"version ({kind.api_version})"
        )
    metadata = obj.setdefault("metadata", {})
    if metadata is None:
        metadata = obj["metadata"] = {}
    problems = meta.check_shape(metadata)
    if problems:
        name = metadata.get("name", "") if isinstance(metadata, dict) else ""
        raise errors.invalid(kind.group, kind.kind, str(name), problems)


def _check_namespace(metadata: Json, namespace: str | None) -> None:
    given = metadata.get("namespace")
    if namespace is None:
        if not given:
            metadata.pop("namespace", None)
        return
    if given and given != namespace:
        raise errors.bad_request(
            f"the namespace of the provided object does not match the namespace sent on the "
            f"request: {given} is not {namespace}"
        )
    metadata["namespace"] = namespace


def _changed_part(kind: Kind, obj: Json, before: Json, subresource: str) -> Json:
    """Return what of a built-in object needs checking.

    A pod with a hundred containers is written twice per container; what the write cannot
    touch was checked when it was written.
    """
    if not kind.builtin or not subresource:
        return obj
    part: Json = {name: obj[name] for name in ("apiVersion", "kind", "metadata") if name in obj}
    if subresource == "status":
        if "status" in obj:
            part["status"] = obj["status"]
        return part
    known = {str(e.get("name")): e for e in before["spec"].get("ephemeralContainers") or ()}
    spec = obj.get("spec")
    listed = spec.get("ephemeralContainers") if isinstance(spec, dict) else None
    if not isinstance(listed, list):
        return obj
    fresh = [e for e in listed if not isinstance(e, dict) or known.get(str(e.get("name"))) != e]
    part["spec"] = {"containers": before["spec"]["containers"], "ephemeralContainers": fresh}
    return part


def _prune(kind: Kind, obj: Json, part: Json, validation: FieldValidation) -> list[str]:
    """Drop unknown fields; say so as asked."""
    schema = kind.schema
    if schema is None:
        return []
    dropped = schema.prune(part)
    if not dropped or validation is FieldValidation.IGNORE:
        return []
    if validation is FieldValidation.STRICT:
        raise errors.bad_request(
            f'{obj.get("kind")} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"strict decoding error: {', '.join(dropped)}"
        )
    return dropped


def _refuse(kind: Kind, obj: Json, found: list[FieldError]) -> None:
    if found:
        name = obj["metadata"].get("name") or obj["metadata"].get("generateName") or ""
        raise errors.invalid(kind.group, kind.kind, name, found)


def _patch_refused(error: patching.PatchError) -> errors.StatusError:
    reason = {400: "BadRequest", 413: "RequestEntityTooLarge"}.get(error.status, "Invalid")
    return errors.StatusError(error.status, reason, str(error))
