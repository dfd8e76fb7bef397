"""Checks on a body that need nothing but the body, its kind and the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.pods.containers import fresh
from taskctl.embedded.server.protobuf import shapes
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError, FieldReason
from taskctl.embedded.server.requests.options import FieldValidation
from taskctl.embedded.server.requests.paths import Target
from taskctl.embedded.server.values import json_numbers, meta
from taskctl.embedded.server.values.meta import KNOWN_FINALIZERS

# Kinds whose strategies check more than JSON types themselves.
_CHECKED_ELSEWHERE: Final = frozenset(
    {
        "Pod", "CustomResourceDefinition", "PersistentVolumeClaim", "ConfigMap", "Secret",
        "Event", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding",
    }
)  # fmt: skip


class Via(StrEnum):
    """How an object came to be; decides how its faults are reported."""

    BODY = "body"
    PATCH = "patch"
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object that is to be stored comes from.

    Attributes:
        via: the kind of request.
        shown: for a strategic merge patch, returns the patch as refusals of it show it.
    """

    via: Via = Via.BODY
    shown: Callable[[], str] | None = None

    def cannot_handle(self, kind: Kind, obj: Json, why: str) -> errors.StatusError:
        """Return the refusal of an object that cannot be decoded."""
        if self.via is not Via.PATCH:
            return errors.bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}'
            )
        text = self.shown() if self.shown is not None else orjson.dumps(obj).decode()
        return errors.invalid("", "", "", [fields.invalid("patch", text, why)])


BODY: Final = Origin()


def check_identity(kind: Kind, obj: Json, origin: Origin = BODY) -> None:
    """Check apiVersion, kind and the shape of the metadata of a body.

    Built-in kinds may leave out the first two, custom resources may not, as on a Kubernetes
    server.

    Raises:
        errors.StatusError: 400; 422.
    """
    if kind.builtin:
        _check_builtin(kind, obj, origin)
    else:
        _check_custom(kind, obj, origin)
        json_numbers.settle(obj)
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    problems = meta.check_shape(metadata)
    if problems:
        raise origin.cannot_handle(kind, obj, "; ".join(str(problem) for problem in problems))


def _check_custom(kind: Kind, obj: Json, origin: Origin) -> None:
    patched = origin.via is Via.PATCH
    for name in ("Kind", "apiVersion"):
        if not obj.get(name[0].lower() + name[1:]):
            why = f"Object '{name}' is missing"
            if patched:
                why += f" in '{orjson.dumps(obj).decode()}'"
                raise origin.cannot_handle(kind, obj, why)
            raise errors.bad_request(
                f"the object provided is unrecognized (must be of type {kind.kind}): {why}"
            )
    metadata = obj.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    found_kind, found_version = str(obj["kind"]), str(obj["apiVersion"])
    if found_version != kind.api_version:
        if patched:
            problem = fields.invalid("apiVersion", found_version, f"must be {kind.api_version}")
            group = found_version.rpartition("/")[0]
            raise errors.invalid(group, found_kind, name, [problem])
        raise errors.bad_request(
            f"the API version in the data ({found_version}) does not match the expected API "
            f"version ({kind.api_version})"
        )
    if found_kind != kind.kind:
        problem = fields.invalid("kind", found_kind, f"must be {kind.kind}")
        raise errors.invalid(kind.group, found_kind, name, [problem])


def _check_builtin(kind: Kind, obj: Json, origin: Origin) -> None:
    found_kind, found_version = obj.get("kind"), obj.get("apiVersion")
    if found_kind not in (None, "", kind.kind) or found_version not in (
        None,
        "",
        kind.api_version,
    ):
        shown = found_version or kind.api_version
        why = f'no kind "{found_kind}" is registered for version "{shown}"'
        if origin.via is Via.PATCH:
            raise origin.cannot_handle(kind, obj, why)
        raise errors.bad_request(
            f'{found_kind} in version "{shown}" cannot be handled as a {kind.kind}: {why}'
        )
    obj["kind"], obj["apiVersion"] = kind.kind, kind.api_version


def check_namespace(metadata: Json, namespace: str | None) -> None:
    """Take the namespace from the URL; the body may repeat it but not differ.

    Raises:
        errors.StatusError: 400.
    """
    given = metadata.get("namespace")
    if namespace is None:
        if not given:
            metadata.pop("namespace", None)
        return
    if given and given != namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace


def check_names(metadata: Json, target: Target, *, required: bool = True) -> None:
    """Compare name and namespace with those of the URL; only the namespace may be left out.

    Args:
        metadata: of the body; gets the namespace.
        target: what the URL names.
        required: the body must have a name.

    Raises:
        errors.StatusError: 400.
    """
    name = metadata.get("name")
    if not name and required:
        raise errors.bad_request(
            f"the name of the object ({target.name} based on URL) was undeterminable: name must "
            "be provided"
        )
    name = name or target.name
    if name != target.name:
        raise errors.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({target.name})"
        )
    metadata["name"] = name
    check_namespace(metadata, target.namespace)


def changed_part(kind: Kind, obj: Json, before: Json, subresource: str) -> Json:
    """Return what of a built-in object needs checking.

    A pod with a hundred containers is written twice per container; what the write cannot
    touch was checked when it was written, and needs it again only if the client sends
    something else there.
    """
    if not kind.builtin or not subresource:
        return obj
    part: Json = {name: obj[name] for name in ("apiVersion", "kind", "metadata") if name in obj}
    if subresource == "status":
        if obj.get("status") is None:
            obj.pop("status", None)
        else:
            part["status"] = obj["status"]
        return part if _without(obj, "status") == _without(before, "status") else obj
    spec = obj.get("spec")
    listed = spec.get("ephemeralContainers") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(listed, list):
        return obj
    name = "ephemeralContainers"
    if _without(obj, "spec") != _without(before, "spec") or (
        {**spec, name: None} != {**before["spec"], name: None}
    ):
        return obj
    new = fresh(listed, before["spec"].get("ephemeralContainers"))
    part["spec"] = {"containers": before["spec"]["containers"], "ephemeralContainers": new}
    return part


def _without(obj: Json, name: str) -> Json:
    return {key: value for key, value in obj.items() if key not in (name, "metadata")}


def prune(kind: Kind, part: Json, validation: FieldValidation, origin: Origin = BODY) -> list[str]:
    """Drop unknown fields, and say so as asked.

    Returns:
        Warnings.

    Raises:
        errors.StatusError: 400, or 422 after a patch: there are some, and the client is strict.
    """
    schema = kind.schema
    if schema is None:
        return []
    dropped = schema.prune(part)
    if not dropped or validation is FieldValidation.IGNORE:
        return []
    if validation is FieldValidation.STRICT:
        why = f"strict decoding error: {', '.join(dropped)}"
        raise origin.cannot_handle(kind, part, why)
    return dropped


def check_types(kind: Kind, part: Json, origin: Origin = BODY) -> None:
    """Check a built-in object's JSON types, which its strategy relies on.

    Raises:
        errors.StatusError: 400 (422 after a patch) for a wrong type, as where decoding fails;
            else 422, unless the kind's strategy makes the check and words it as Kubernetes does.
    """
    schema = kind.schema
    if not kind.builtin or schema is None:
        return
    undecodable = schema.settle(part)
    if undecodable is None and kind.kind == "CustomResourceDefinition":
        # Of the schemas in it, the kind's own schema says nothing.
        undecodable = shapes.check(part, kind.api_version, kind.kind)
    if undecodable is not None:
        raise origin.cannot_handle(kind, part, str(undecodable))
    found = schema.validate(part, None)
    wrong = [one for one in found if one.reason == FieldReason.TYPE_INVALID]
    if wrong:
        raise origin.cannot_handle(kind, part, "; ".join(str(one) for one in wrong))
    if kind.kind not in _CHECKED_ELSEWHERE:
        found = [one for one in found if not one.path.startswith("metadata.")]
        refuse(kind, part, found)


def refuse(kind: Kind, obj: Json, found: list[FieldError]) -> None:
    """Raise if anything was found.

    Raises:
        errors.StatusError: 422.
    """
    if found:
        name = obj["metadata"].get("name") or obj["metadata"].get("generateName") or ""
        raise errors.invalid(kind.group, kind.kind, name, found)


def finalizer_warnings(obj: Json, before: Json | None) -> list[str]:
    """Warn of new finalizers without a domain."""
    names = obj["metadata"].get("finalizers")
    if not names:
        return []
    known = (before or {}).get("metadata", {}).get("finalizers") or ()
    return [
        f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name to avoid '
        "accidental conflicts with other finalizer writers"
        for name in names
        if "/" not in name
        and "." not in name
        and name not in known
        and name not in KNOWN_FINALIZERS
    ]
