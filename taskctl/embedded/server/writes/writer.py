"""Create, update, patch and delete: from a parsed body to a committed version.

Everything here is synchronous. Between reading an object and writing it nothing else can
happen, so a patch never meets a conflict that the client did not ask for by resourceVersion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from taskctl.clock import format_seconds
from taskctl.embedded.server.apply import ownership as apply
from taskctl.embedded.server.core import (
    Core,
    as_stored,
    as_version,
    resource_of,
    strategy_of,
)
from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.patch import formats as patching
from taskctl.embedded.server.pods.strategy import PodStrategy
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.requests.options import DeleteOptions, WriteOptions
from taskctl.embedded.server.requests.paths import Target
from taskctl.embedded.server.storage.deletion import Propagation
from taskctl.embedded.server.storage.records import Record
from taskctl.embedded.server.storage.store import Written
from taskctl.embedded.server.strategies.builtin import NamespaceStrategy
from taskctl.embedded.server.values import meta
from taskctl.embedded.server.writes import body_checks, scale
from taskctl.embedded.server.writes.body_checks import BODY, Origin, Via
from taskctl.embedded.server.writes.scale import Scaling

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
        origin: where the new object comes from.
    """

    kind: Kind
    old: Record
    subresource: str
    options: WriteOptions
    origin: Origin


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch, all but apply.

    Attributes:
        change: makes the new object from the present one.
        shown: returns the patch as refusals of it show it; None: they show the new object.
        faults: of the patch's text, for which it is refused.
    """

    change: Callable[[Json], Json]
    shown: Callable[[], str] | None = None
    faults: tuple[str, ...] = ()

    def prepared(self, present: Json, again: Callable[[Json], Json]) -> Patch:
        """Return a patch that has been computed already.

        Args:
            present: what it was computed from; is changed.
            again: computes it from something else, if another write comes in between.
        """
        revision = present["metadata"]["resourceVersion"]
        made: Json | patching.PatchError
        try:
            made = self.change(present)
        except patching.PatchError as error:
            made = error

        def change(obj: Json) -> Json:
            if obj["metadata"]["resourceVersion"] != revision:
                return again(obj)
            if isinstance(made, patching.PatchError):
                raise made
            return made

        return replace(self, change=change)


class Writer:
    """Carries out writes."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def present(self, kind: Kind, target: Target) -> Json | None:
        """Return a copy of an object as a patch of it begins with; None if there is none."""
        old = self._store.get(resource_of(kind), target.namespace or "", target.name or "")
        return as_version(kind, old) if old is not None else None

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
        body_checks.check_identity(kind, obj)
        metadata: Json = obj["metadata"]
        body_checks.check_namespace(metadata, namespace if kind.namespaced else None)
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        warnings = body_checks.prune(kind, obj, options.validation)
        tries = _NAME_TRIES if metadata.get("generateName") and not metadata.get("name") else 0
        if tries:
            metadata["name"] = meta.generate_name(metadata["generateName"])
        self._prepare_create(kind, obj)
        warnings += body_checks.finalizer_warnings(obj, None)
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
            stored = as_stored(kind, obj)
            return self._store.create(resource, stored, dry_run=options.dry_run)
        except errors.StatusError as error:
            if tries and error.reason == "AlreadyExists":
                raise errors.generate_name_exhausted(resource, metadata["name"]) from error
            raise

    def _prepare_create(self, kind: Kind, obj: Json) -> None:
        """Set defaults and check, up to the point where only the name may still be taken."""
        strategy, schema = strategy_of(kind), kind.schema
        metadata: Json = obj["metadata"]
        body_checks.check_types(kind, obj)
        strategy.prepare_create(obj)
        if not kind.builtin and schema is not None:
            schema.apply_defaults(obj)
        self._admit_namespace(kind, metadata)
        strategy.admit_create(obj, self._store, format_seconds(self._core.clock.now()))
        found = _check_metadata(kind, metadata)
        found += strategy.check_create(obj) + scale.check(kind, obj)
        if not kind.builtin and schema is not None:
            found += schema.validate(obj, None, found=found)
        body_checks.refuse(kind, obj, found)

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
        body_checks.check_identity(kind, obj)
        metadata: Json = obj["metadata"]
        body_checks.check_names(metadata, target)
        resource = resource_of(kind)
        old = self._store.get(resource, target.namespace or "", target.name or "")
        wanted = metadata.get("uid")
        if old is None and strategy_of(kind).creates_on_update and not target.subresource:
            if wanted:
                raise _uid_conflict(resource, target.name or "", wanted, "")
            metadata.pop("resourceVersion", None)
            return self.create(kind, target.namespace, obj, options)
        if old is None:
            raise errors.not_found(resource, target.name or "")
        if wanted and wanted != old.uid:
            raise _uid_conflict(resource, old.name, wanted, old.uid)
        return self._update(_Update(kind, old, target.subresource, options, BODY), obj)

    def patch(self, kind: Kind, target: Target, patch: Patch, options: WriteOptions) -> Outcome:
        """Change an object by a function of its present state (PATCH, all but apply).

        Raises:
            errors.StatusError: refused.
        """
        old = self._current(kind, target)
        origin = Origin(Via.PATCH, patch.shown)
        try:
            obj = patch.change(as_version(kind, old))
        except patching.PatchError as error:
            raise _patch_refused(error) from error
        if not isinstance(obj, dict):
            raise errors.StatusError(422, "Invalid", "the patch leaves no object behind")
        body_checks.check_identity(kind, obj, origin)
        if patch.faults:
            why = f"strict decoding error: {', '.join(patch.faults)}"
            raise origin.cannot_handle(kind, obj, why)
        body_checks.check_names(obj["metadata"], target)
        return self._update(_Update(kind, old, target.subresource, options, origin), obj)

    def rescale(
        self, kind: Kind, target: Target, scaling: Scaling, options: WriteOptions
    ) -> Outcome:
        """Change an object's replicas; the record in the outcome is that of the object.

        Raises:
            errors.StatusError: refused.
        """
        old = self._current(kind, target)
        try:
            obj, warnings = scaling.apply(kind, target, as_version(kind, old))
        except patching.PatchError as error:
            raise _patch_refused(error) from error
        outcome = self._update(_Update(kind, old, target.subresource, options, BODY), obj)
        return replace(outcome, warnings=[*warnings, *outcome.warnings])

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
        body_checks.check_identity(kind, applied)
        metadata: Json = applied["metadata"]
        if metadata.get("managedFields") is not None:
            raise errors.bad_request("metadata.managedFields must be nil")
        try:
            apply.check_typed(applied, kind)
        except patching.PatchError as error:
            raise _patch_refused(error) from error
        resource = resource_of(kind)
        old = self._store.get(resource, target.namespace or "", target.name or "")
        if old is None and target.subresource:
            raise errors.not_found(resource, target.name or "")
        body_checks.check_names(metadata, target, required=old is None)
        if old is None and metadata.get("uid"):
            why = (
                f"uid mismatch: the provided object specified uid {metadata['uid']}, and no "
                "existing object was found"
            )
            raise errors.conflict(resource, target.name or "", why)
        try:
            obj = apply.server_side_apply(
                as_version(kind, old) if old else None,
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
            origin = Origin(Via.APPLY)
            return self._update(_Update(kind, old, target.subresource, options, origin), obj)
        obj["metadata"].pop("resourceVersion", None)
        self._prepare_create(kind, obj)
        stored = as_stored(kind, obj)
        record = self._store.create(resource, stored, dry_run=options.dry_run)
        return Outcome(record, created=True)

    def _current(self, kind: Kind, target: Target) -> Record:
        return self._store.require(resource_of(kind), target.namespace or "", target.name or "")

    def _update(self, update: _Update, obj: Json) -> Outcome:
        """Check a changed object against the stored one and commit it."""
        kind, old, options = update.kind, update.old, update.options
        _check_revision(kind, old, obj["metadata"].get("resourceVersion") or "")
        before = as_version(kind, old)
        part = body_checks.changed_part(kind, obj, before, update.subresource)
        warnings = body_checks.prune(kind, part, options.validation, update.origin)
        metadata: Json = obj["metadata"]
        if not metadata.get("uid"):
            metadata["uid"] = old.uid
        found = meta.check_update(metadata, before["metadata"])
        if "generation" in before["metadata"]:
            metadata["generation"] = before["metadata"]["generation"]
        body_checks.check_types(kind, part, update.origin)
        found += self._prepare_update(update, obj, before)
        body_checks.refuse(kind, obj, found)
        warnings += body_checks.finalizer_warnings(obj, before)
        if update.origin.via is not Via.APPLY:
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
        stored = as_stored(kind, obj)
        written = self._store.update(old.resource, stored, dry_run=options.dry_run)
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
        elif update.subresource == "finalize" and isinstance(strategy, NamespaceStrategy):
            strategy.prepare_finalize(obj, before)
            found = strategy.check_finalize(obj)
        else:
            strategy.prepare_update(obj, before)
            found = strategy.check_update(obj, before)
        found += _check_metadata(kind, obj["metadata"])
        if not kind.builtin and schema is not None:
            found += schema.validate(obj, before, found=found)
        found += scale.check(kind, obj, status_only=update.subresource == "status")
        return found

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
        deletion = options.deletion(grace_s, strategy.prepare_delete, graceful=strategy.graceful)
        return self._store.delete(resource, namespace, name, deletion, dry_run=options.dry_run)


def _check_metadata(kind: Kind, metadata: Json) -> list[FieldError]:
    return meta.check(
        metadata,
        namespaced=kind.namespaced,
        rule=strategy_of(kind).name_rule,
        finalizers=kind.builtin and kind.kind != "CustomResourceDefinition",
    )


def background_delete() -> DeleteOptions:
    """Return the options with which controllers of this server delete."""
    return DeleteOptions(propagation=Propagation.BACKGROUND)


def _check_revision(kind: Kind, old: Record, wanted: str) -> None:
    """Compare the resourceVersion of a body with the stored one; none and 0 mean any.

    Raises:
        errors.StatusError: 409; 422, the kind wants one; 500, it is not a number.
    """
    if not wanted or wanted == "0":
        if strategy_of(kind).needs_revision:
            message = "must be specified for an update"
            problem = fields.invalid("metadata.resourceVersion", 0, message)
            # Named by its resource here, unlike in other refusals.
            raise errors.invalid(kind.group, kind.plural, old.name, [problem])
    elif not (wanted.isascii() and wanted.isdigit()):
        raise errors.unclassified(f'strconv.ParseUint: parsing "{wanted}": invalid syntax')
    elif wanted != str(old.revision):
        raise errors.conflict(old.resource, old.name)


def _uid_conflict(resource: Resource, name: str, wanted: str, found: str) -> errors.StatusError:
    why = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    return errors.conflict(resource, name, why)


def _patch_refused(error: patching.PatchError) -> errors.StatusError:
    if error.status == 500:
        return errors.unclassified(str(error))
    reason = {400: "BadRequest", 413: "RequestEntityTooLarge"}.get(error.status, "Invalid")
    details: Json | None = {} if reason == "Invalid" else None
    return errors.StatusError(error.status, reason, str(error), details=details)
