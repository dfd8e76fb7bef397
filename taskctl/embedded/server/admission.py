"""Checks on a body that need nothing but the body, its kind and the request."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import orjson

from taskctl.embedded.server import errors, fields, meta
from taskctl.embedded.server.containers import fresh
from taskctl.embedded.server.deletion import FINALIZER_FOREGROUND, FINALIZER_ORPHAN
from taskctl.embedded.server.errors import Json
from taskctl.embedded.server.fields import FieldError, FieldReason
from taskctl.embedded.server.kinds import Kind
from taskctl.embedded.server.targets import FieldValidation, Target

_KNOWN_FINALIZERS: Final = frozenset({FINALIZER_ORPHAN, FINALIZER_FOREGROUND, "kubernetes"})


# Fields of JSONSchemaProps that hold any JSON.
_ANY_JSON: Final = frozenset({"default", "enum", "example"})


# Kinds whose strategies check more than JSON types themselves.
_CHECKED_ELSEWHERE: Final = frozenset(
    {"Pod", "CustomResourceDefinition", "PersistentVolumeClaim", "ConfigMap", "Secret"}
)


class Via(StrEnum):
    """How a body came to be; decides how its faults are reported."""

    BODY = "body"
    PATCH = "patch"
    APPLY = "apply"


def check_identity(kind: Kind, obj: Json) -> None:
    """Check apiVersion, kind and the shape of the metadata of a body.

    Built-in kinds may leave out the first two, custom resources may not, as on a Kubernetes
    server.

    Raises:
        errors.StatusError: 400; 422.
    """
    found_kind, found_version = obj.get("kind"), obj.get("apiVersion")
    if kind.builtin:
        _check_builtin(kind, obj)
    else:
        for name in ("Kind", "apiVersion"):
            if not obj.get(name[0].lower() + name[1:]):
                raise errors.bad_request(
                    f"the object provided is unrecognized (must be of type {kind.kind}): Object "
                    f"'{name}' is missing"
                )
        if found_version != kind.api_version:
            raise errors.bad_request(
                f"the API version in the data ({found_version}) does not match the expected API "
                f"version ({kind.api_version})"
            )
        if found_kind != kind.kind:
            problem = fields.invalid("kind", found_kind, f"must be {kind.kind}")
            metadata = obj.get("metadata")
            name = metadata.get("name", "") if isinstance(metadata, dict) else ""
            raise errors.invalid(kind.group, str(found_kind), str(name), [problem])
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    problems = meta.check_shape(metadata)
    if problems:
        raise _cannot_handle(kind, "; ".join(str(problem) for problem in problems))


def _check_builtin(kind: Kind, obj: Json) -> None:
    found_kind, found_version = obj.get("kind"), obj.get("apiVersion")
    if found_kind not in (None, "", kind.kind) or found_version not in (
        None,
        "",
        kind.api_version,
    ):
        shown = found_version or kind.api_version
        raise errors.bad_request(
            f'{found_kind} in version "{shown}" cannot be handled as a {kind.kind}: no kind '
            f'"{found_kind}" is registered for version "{shown}"'
        )
    obj["kind"], obj["apiVersion"] = kind.kind, kind.api_version


def _cannot_handle(kind: Kind, why: str) -> errors.StatusError:
    return errors.bad_request(
        f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}'
    )


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


def check_names(metadata: Json, target: Target) -> None:
    """Take name and namespace from the URL; the body may repeat them but not differ.

    Raises:
        errors.StatusError: 400.
    """
    name = metadata.get("name") or target.name
    if name != target.name:
        raise errors.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({target.name})"
        )
    metadata["name"] = name
    check_namespace(metadata, target.namespace)


def changed_part(kind: Kind, obj: Json, before: Json, subresource: str) -> Json:
    """Return what of a built-in object needs checking.

    A pod with a hundred containers is written twice per container; what the write cannot
    touch was checked when it was written.
    """
    if not kind.builtin or not subresource:
        return obj
    part: Json = {name: obj[name] for name in ("apiVersion", "kind", "metadata") if name in obj}
    if subresource == "status":
        if obj.get("status") is None:
            obj.pop("status", None)
        else:
            part["status"] = obj["status"]
        return part
    spec = obj.get("spec")
    listed = spec.get("ephemeralContainers") if isinstance(spec, dict) else None
    if not isinstance(listed, list):
        return obj
    new = fresh(listed, before["spec"].get("ephemeralContainers"))
    part["spec"] = {"containers": before["spec"]["containers"], "ephemeralContainers": new}
    return part


def prune(kind: Kind, part: Json, validation: FieldValidation, via: Via = Via.BODY) -> list[str]:
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
        if via is Via.PATCH:
            problem = fields.invalid("patch", orjson.dumps(part).decode(), why)
            raise errors.invalid("", "", "", [problem])
        raise _cannot_handle(kind, why)
    return dropped


def check_types(kind: Kind, part: Json) -> None:
    """Check a built-in object's JSON types, which its strategy relies on.

    Raises:
        errors.StatusError: 400 for a wrong type, as where decoding fails; else 422, unless the
            kind's strategy makes the check and words it as Kubernetes does.
    """
    schema = kind.schema
    if not kind.builtin or schema is None:
        return
    drop_nulls(part)
    found = schema.validate(part, None)
    wrong = [one for one in found if one.reason == FieldReason.TYPE_INVALID]
    if wrong:
        raise _cannot_handle(kind, "; ".join(str(one) for one in wrong))
    if kind.kind not in _CHECKED_ELSEWHERE:
        found = [one for one in found if not one.path.startswith("metadata.")]
        refuse(kind, part, found)


def drop_nulls(value: Any) -> None:
    """Take nulls out of a built-in object: to Kubernetes' typed decoding they say nothing.

    What a definition's schema says may be null on purpose is left alone.
    """
    if isinstance(value, dict):
        for name in [name for name, item in value.items() if item is None]:
            del value[name]
        for name, item in value.items():
            if name not in _ANY_JSON:
                drop_nulls(item)
    elif isinstance(value, list):
        for item in value:
            drop_nulls(item)


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
        and name not in _KNOWN_FINALIZERS
    ]
