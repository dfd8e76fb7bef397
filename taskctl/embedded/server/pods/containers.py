"""Containers of a pod: defaults and checks, above all those of ephemeral containers.

After Kubernetes ``pkg/apis/core/v1/defaults.go`` and
``pkg/apis/core/validation/validation.go``; the sentences are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from taskctl.embedded.server.pods import container_fields
from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.values import meta

NAMED_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")
_EPHEMERAL_FIELDS: Final = frozenset(
    {
        "name", "image", "command", "args", "workingDir", "env", "envFrom", "volumeMounts",
        "volumeDevices", "terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy",
        "securityContext", "stdin", "stdinOnce", "tty", "targetContainerName",
    }
)  # fmt: skip
_NOT_FOR_EPHEMERAL: Final = "cannot be set for an Ephemeral Container"
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES: Final = ("File", "FallbackToLogsOnError")


def set_defaults(container: Any) -> None:
    """Fill in one container, of whichever sort."""
    if not isinstance(container, dict):
        return
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = _pull_policy(container.get("image"))
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    resources = container.setdefault("resources", {})
    if isinstance(resources, dict) and isinstance(resources.get("limits"), dict):
        requests = resources.setdefault("requests", {})
        for name, amount in resources["limits"].items():
            requests.setdefault(name, amount)
    container_fields.set_defaults(container)


def _pull_policy(image: Any) -> str:
    if not isinstance(image, str):
        return "IfNotPresent"
    name, _, digest = image.partition("@")
    tag = name.rsplit("/", 1)[-1].partition(":")[2]
    return "Always" if not digest and tag in ("", "latest") else "IfNotPresent"


def semantic(value: Any) -> Any:
    """Return ``value`` without what Kubernetes takes for equal: nulls and empty collections."""
    if isinstance(value, dict):
        kept = {name: semantic(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, {}, [], "")} or None
    if isinstance(value, list):
        return [semantic(item) for item in value] or None
    return value


@dataclass(frozen=True, slots=True)
class VolumeNames:
    """The volumes that containers can use.

    Attributes:
        names: of all of them.
        claims: of those that are claims.
    """

    names: set[str]
    claims: set[str]

    @classmethod
    def of(cls, spec: Json, names: set[str] | None = None) -> VolumeNames:
        """Return those of a pod; ``names`` are the sound ones, None means all."""
        volumes = container_fields.items(spec.get("volumes"))
        if names is None:
            names = {str(one.get("name")) for one in volumes}
        claims = {
            str(one.get("name"))
            for one in volumes
            if "persistentVolumeClaim" in one or "ephemeral" in one
        }
        return cls(names, claims)


def check_containers(spec: Json, volumes: VolumeNames) -> list[FieldError]:
    """Check regular and init containers."""
    if not spec.get("containers"):
        return [fields.required("spec.containers")]
    found: list[FieldError] = []
    seen: set[str] = set()
    for name in ("containers", "initContainers"):
        listed = spec.get(name) or []
        if not isinstance(listed, list):
            return [fields.type_invalid(f"spec.{name}", listed, "must be a list")]
        for index, container in enumerate(listed):
            path = f"spec.{name}[{index}]"
            found += _check_common(container, path, volumes)
            if isinstance(container, dict):
                if container.get("name") in seen:
                    found.append(fields.duplicate(f"{path}.name", container["name"]))
                seen.add(str(container.get("name")))
    return found


def fresh(now: Any, before: list[Json] | None) -> list[Any]:
    """Return the entries of ``now`` that are not in ``before`` just as they are."""
    known = {str(entry.get("name")): entry for entry in before or ()}
    return [
        entry
        for entry in (now if isinstance(now, list) else ())
        if not isinstance(entry, dict) or known.get(str(entry.get("name"))) != entry
    ]


def check_ephemeral(spec: Json, before: list[Json]) -> list[FieldError]:
    """Check ephemeral containers (validateEphemeralContainers).

    Args:
        spec: of the pod.
        before: entries that were checked when they were written; a pod may have hundreds.
    """
    others = {
        c.get("name") for name in ("containers", "initContainers") for c in spec.get(name) or ()
    }
    seen = set(others)
    found: list[FieldError] = []
    listed = spec.get("ephemeralContainers") or []
    if not isinstance(listed, list):
        return [fields.type_invalid("spec.ephemeralContainers", listed, "must be a list")]
    volumes = VolumeNames.of(spec)
    unchecked = {id(entry) for entry in fresh(listed, before)}
    for index, container in enumerate(listed):
        path = f"spec.ephemeralContainers[{index}]"
        name = container.get("name") if isinstance(container, dict) else None
        if name in seen:
            found.append(fields.duplicate(f"{path}.name", name))
        seen.add(name)
        if id(container) not in unchecked:
            continue
        found += _check_common(container, path, volumes)
        if not isinstance(container, dict):
            continue
        target = container.get("targetContainerName")
        if target and target not in others:
            found.append(fields.missing(f"{path}.targetContainerName", target))
        found += [
            fields.forbidden(f"{path}.{key}", _NOT_FOR_EPHEMERAL)
            for key, value in container.items()
            if key not in _EPHEMERAL_FIELDS and value not in (None, {}, [], "")
        ]
        for number, mount in enumerate(container_fields.items(container.get("volumeMounts"))):
            found += [
                fields.forbidden(f"{path}.volumeMounts[{number}].{key}", _NOT_FOR_EPHEMERAL)
                for key in ("subPath", "subPathExpr")
                if mount.get(key)
            ]
    return found


def check_append_only(now: list[Json], before: list[Json]) -> list[FieldError]:
    """Check that every earlier ephemeral container is still there, and is still the same."""
    by_name = {entry.get("name"): entry for entry in now}
    found = []
    path = "spec.ephemeralContainers"
    for old in before:
        name = old.get("name")
        new = by_name.get(name)
        if new is None:
            message = f'existing ephemeral containers "{name}" may not be removed\n'
            found.append(fields.forbidden(path, message))
        elif new != old and semantic(new) != semantic(old):
            changed = sorted(
                k for k in {*new, *old} if semantic(new.get(k)) != semantic(old.get(k))
            )
            message = (
                f'existing ephemeral containers "{name}" may not be changed\n'
                f"changed: {', '.join(changed)}"
            )
            found.append(fields.forbidden(path, message))
    return found


def _check_common(container: Any, path: str, volumes: VolumeNames) -> list[FieldError]:
    """Check what all sorts of containers have in common (validateContainerCommon)."""
    if not isinstance(container, dict):
        return [fields.type_invalid(path, container, "must be an object")]
    found = _check_name(container.get("name"), f"{path}.name")
    image = container.get("image")
    if not image:
        found.append(fields.required(f"{path}.image"))
    elif not isinstance(image, str) or image != image.strip():
        message = "must not have leading or trailing whitespace"
        found.append(fields.invalid(f"{path}.image", image, message))
    for name, supported in (
        ("imagePullPolicy", _PULL_POLICIES),
        ("terminationMessagePolicy", _MESSAGE_POLICIES),
    ):
        if container.get(name) not in supported:
            found.append(fields.not_supported(f"{path}.{name}", container.get(name), supported))
    for name in ("command", "args"):
        value = container.get(name)
        if value is not None and (
            not isinstance(value, list) or not all(isinstance(word, str) for word in value)
        ):
            found.append(fields.type_invalid(f"{path}.{name}", value, "must be a list of strings"))
    return found + container_fields.check(container, path, volumes.names, volumes.claims)


def _check_name(name: Any, path: str) -> list[FieldError]:
    if not name or not isinstance(name, str):
        return [fields.required(path)]
    return [fields.invalid(path, name, problem) for problem in meta.label_problems(name)]
