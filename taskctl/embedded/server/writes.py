"""Create, update, patch and delete: from a parsed body to a committed version.

Everything here is synchronous. Between reading an object and writing it nothing else can
happen, so a patch never meets a conflict that the client did not ask for by resourceVersion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from taskctl.clock import format_seconds
from taskctl.embedded.server import admission, apply, errors, fields, meta, patching
from taskctl.embedded.server.admission import Via
from taskctl.embedded.server.core import Core, resource_of, strategy_of
from taskctl.embedded.server.deletion import Propagation
from taskctl.embedded.server.errors import Json, Resource
from taskctl.embedded.server.fields import FieldError
from taskctl.embedded.server.kinds import Kind
from taskctl.embedded.server.pods import PodStrategy
from taskctl.embedded.server.records import Record
from taskctl.embedded.server.store import Written
from taskctl.embedded.server.targets import DeleteOptions, Target, WriteOptions

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


@dataclass(frozen=True, slots=True)
class _Update:
    """A change of one object.

    Attributes:
        kind: in the version of the request.
        old: the stored object.
        subresource: that is written to.
        options: of the request.
        via: how the new object came to be.
    """

    kind: Kind
    old: Record
    subresource: str
    options: WriteOptions
    via: Via


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
        admission.check_identity(kind, obj)
        metadata: Json = obj["metadata"]
        admission.check_namespace(metadata, namespace if kind.namespaced else None)
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        warnings = admission.prune(kind, obj, options.validation)
        tries = _NAME_TRIES if metadata.get("generateName") and not metadata.get("name") else 0
        if tries:
            metadata["name"] = meta.generate_name(metadata["generateName"])
        self._prepare_create(kind, obj)
        warnings += admission.finalizer_warnings(obj, None)
        # managedFields begin with the first apply; what a client sends of its own is dropped.
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
        strategy, schema = strategy_of(kind), kind.schema
        metadata: Json = obj["metadata"]
        admission.check_types(kind, obj)
        strategy.prepare_create(obj)
        if not kind.builtin and schema is not None:
            schema.apply_defaults(obj)
        found = meta.check(metadata, namespaced=kind.namespaced, rule=strategy.name_rule)
        admission.refuse(kind, obj, found)
        self._admit_namespace(kind, metadata)
        strategy.admit_create(obj, self._store, format_seconds(self._core.clock.now()))
        found = strategy.check_create(obj)
        if not kind.builtin and schema is not None:
            found += schema.validate(obj, None)
        admission.refuse(kind, obj, found)

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
        admission.check_identity(kind, obj)
        metadata: Json = obj["metadata"]
        admission.check_names(metadata, target)
        old = self._current(kind, target)
        if not metadata.get("resourceVersion") and strategy_of(kind).needs_revision:
            problem = fields.invalid(
                "metadata.resourceVersion", 0, "must be specified for an update"
            )
            # Named by its resource here, unlike in other refusals.
            raise errors.invalid(kind.group, kind.plural, old.name, [problem])
        if metadata.get("uid") and metadata["uid"] != old.uid:
            why = (
                f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object "
                f"meta: {old.uid}"
            )
            raise errors.conflict(old.resource, old.name, why)
        return self._update(_Update(kind, old, target.subresource, options, Via.BODY), obj)

    def patch(
        self, kind: Kind, target: Target, change: Callable[[Json], Json], options: WriteOptions
    ) -> Outcome:
        """Change an object by a function of its present state (PATCH, all but apply).

        Raises:
            errors.StatusError: refused.
        """
        old = self._current(kind, target)
        try:
            obj = change(_as_version(kind, old))
        except patching.PatchError as error:
            raise _patch_refused(error) from error
        if not isinstance(obj, dict):
            raise errors.StatusError(422, "Invalid", "the patch leaves no object behind")
        admission.check_identity(kind, obj)
        admission.check_names(obj["metadata"], target)
        return self._update(_Update(kind, old, target.subresource, options, Via.PATCH), obj)

    def server_side_apply(
        self, kind: Kind, target: Target, applied: Json, options: WriteOptions
    ) -> Outcome:
        """Apply a configuration (PATCH with ``application/apply-patch+yaml``).

        Raises:
            errors.StatusError: refused; 409 where fields belong to other managers.
        """
        if not applied.get("kind") or not applied.get("apiVersion"):
            found = f"{applied.get('apiVersion', '')}, Kind={applied.get('kind', '')}"
            raise errors.bad_request(f"invalid object type: /{found}")
        admission.check_identity(kind, applied)
        metadata: Json = applied["metadata"]
        admission.check_names(metadata, target)
        if metadata.get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        warnings = admission.prune(kind, applied, options.validation)
        resource = resource_of(kind)
        old = self._store.get(resource, target.namespace or "", target.name or "")
        if old is None and target.subresource:
            raise errors.not_found(resource, target.name or "")
        if old is None and (metadata.get("resourceVersion") or metadata.get("uid")):
            raise errors.conflict(resource, target.name or "")
        try:
            obj = apply.server_side_apply(
                _as_version(kind, old) if old else None,
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
            update = _Update(kind, old, target.subresource, options, Via.APPLY)
            outcome = self._update(update, obj)
            return Outcome(outcome.record, removed=outcome.removed, warnings=warnings)
        self._prepare_create(kind, obj)
        record = self._store.create(resource, obj, dry_run=options.dry_run)
        return Outcome(record, created=True, warnings=warnings)

    def _current(self, kind: Kind, target: Target) -> Record:
        return self._store.require(resource_of(kind), target.namespace or "", target.name or "")

    def _update(self, update: _Update, obj: Json) -> Outcome:
        """Check a changed object against the stored one and commit it."""
        kind, old, options = update.kind, update.old, update.options
        wanted = obj["metadata"].get("resourceVersion")
        if wanted and wanted != str(old.revision):
            raise errors.conflict(old.resource, old.name)
        before = _as_version(kind, old)
        part = admission.changed_part(kind, obj, before, update.subresource)
        warnings = admission.prune(kind, part, options.validation, update.via)
        metadata: Json = obj["metadata"]
        if not metadata.get("uid"):
            metadata["uid"] = old.uid
        found = meta.check_update(metadata, before["metadata"])
        if "generation" in before["metadata"]:
            metadata["generation"] = before["metadata"]["generation"]
        admission.check_types(kind, part)
        found += self._prepare_update(update, obj, before)
        admission.refuse(kind, obj, found)
        warnings += admission.finalizer_warnings(obj, before)
        if update.via is not Via.APPLY:
            apply.track_update(
                before,
                obj,
                kind=kind,
                manager=options.manager,
                now=self._core.clock.now(),
                subresource=update.subresource,
            )
        if not kind.storage:
            obj["apiVersion"] = old.api_version
        written = self._store.update(old.resource, obj, dry_run=options.dry_run)
        return Outcome(written.record, removed=written.removed, warnings=warnings)

    def _prepare_update(self, update: _Update, obj: Json, before: Json) -> list[FieldError]:
        """Undo what this path may not change, and return what is wrong with the rest."""
        kind = update.kind
        strategy, schema = strategy_of(kind), kind.schema
        if not kind.builtin and schema is not None:
            schema.apply_defaults(obj)
        if update.subresource == "status":
            strategy.prepare_status(obj, before)
            found = strategy.check_status(obj, before)
        elif update.subresource == "ephemeralcontainers" and isinstance(strategy, PodStrategy):
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
        deletion = options.deletion(grace_s, strategy.prepare_delete)
        return self._store.delete(resource, namespace, name, deletion, dry_run=options.dry_run)


def background_delete() -> DeleteOptions:
    """Return the options with which controllers of this server delete."""
    return DeleteOptions(propagation=Propagation.BACKGROUND)


def _as_version(kind: Kind, record: Record) -> Json:
    obj = record.load()
    obj["apiVersion"] = kind.api_version
    return obj


def _patch_refused(error: patching.PatchError) -> errors.StatusError:
    reason = {400: "BadRequest", 413: "RequestEntityTooLarge"}.get(error.status, "Invalid")
    return errors.StatusError(error.status, reason, str(error))
