"""Volumes of a pod: what each kind of source must say.

After ``validateVolumeSource`` in Kubernetes ``pkg/apis/core/validation/validation.go``; the
sentences are theirs. Of the sources, those that a local node can offer are checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.values import meta

_TOKEN_MIN_S: Final = 600
_HOST_PATH_TYPES: Final = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate",
    "Socket",
)  # fmt: skip


def check_volumes(spec: Json) -> tuple[list[FieldError], set[str]]:
    """Check names and sources.

    Returns:
        What is wrong, and the names of the volumes that can be mounted.
    """
    found: list[FieldError] = []
    good: set[str] = set()
    volumes = spec.get("volumes") or []
    if not isinstance(volumes, list):
        return [fields.type_invalid("spec.volumes", volumes, "must be a list")], good
    for index, volume in enumerate(volumes):
        path = f"spec.volumes[{index}]"
        if not isinstance(volume, dict):
            found.append(fields.type_invalid(path, volume, "must be an object"))
            continue
        faults = _check_source(volume, path)
        name = volume.get("name")
        if not name or not isinstance(name, str):
            faults.append(fields.required(f"{path}.name"))
        else:
            problems = meta.label_problems(name)
            faults += [fields.invalid(f"{path}.name", name, one) for one in problems]
            if name in good:
                faults.append(fields.duplicate(f"{path}.name", name))
        found += faults
        if not faults:
            good.add(str(name))
    return found, good


def _check_source(volume: Json, path: str) -> list[FieldError]:
    sources = [name for name in volume if name != "name"]
    found: list[FieldError] = []
    for place, name in enumerate(sorted(sources, key=_order)):
        where = f"{path}.{name}"
        if place:
            found.append(fields.forbidden(where, "may not specify more than 1 volume type"))
            continue
        check, source = _SOURCES.get(name), volume[name]
        if check is not None and isinstance(source, dict):
            found += check(source, where)
    return found


def _order(name: str) -> int:
    """The order in which Kubernetes looks at sources: of two, the second is the one too many."""
    known = list(_SOURCES)
    return known.index(name) if name in known else len(known)


def _check_host_path(source: Json, path: str) -> list[FieldError]:
    where = source.get("path") or ""
    if not where:
        return [fields.required(f"{path}.path")]
    found = []
    if ".." in str(where).split("/"):
        found.append(fields.invalid(f"{path}.path", where, "must not contain '..'"))
    kind = source.get("type") or ""
    if kind not in _HOST_PATH_TYPES:
        found.append(fields.not_supported(f"{path}.type", kind, _HOST_PATH_TYPES))
    return found


def _check_nfs(source: Json, path: str) -> list[FieldError]:
    found = [
        fields.required(f"{path}.{name}") for name in ("server", "path") if not source.get(name)
    ]
    where = source.get("path") or ""
    if where and not str(where).startswith("/"):
        found.append(fields.invalid(f"{path}.path", where, "must be an absolute path"))
    return found


def _requires(name: str) -> Callable[[Json, str], list[FieldError]]:
    def check(source: Json, path: str) -> list[FieldError]:
        found = [] if source.get(name) else [fields.required(f"{path}.{name}")]
        return found + _check_items(source.get("items"), f"{path}.items", "key")

    return check


def _check_items(items: Any, path: str, key: str) -> list[FieldError]:
    found = []
    for index, item in enumerate(items or ()):
        where = f"{path}[{index}]"
        if not item.get(key):
            found.append(fields.required(f"{where}.{key}"))
        found += _check_local(item.get("path"), f"{where}.path")
    return found


def _check_local(text: Any, path: str) -> list[FieldError]:
    if not text:
        return [fields.required(path)]
    found = []
    if str(text).startswith("/"):
        found.append(fields.invalid(path, text, "must be a relative path"))
    if ".." in str(text).split("/"):
        found.append(fields.invalid(path, text, "must not contain '..'"))
    return found


def _check_downward(source: Json, path: str) -> list[FieldError]:
    found = []
    for index, item in enumerate(source.get("items") or ()):
        where = f"{path}.items[{index}]"
        found += _check_local(item.get("path"), f"{where}.path")
        if not item.get("fieldRef") and not item.get("resourceFieldRef"):
            message = "one of fieldRef and resourceFieldRef is required"
            found.append(fields.required(f"{where}.fieldRef", message))
    return found


def _check_projected(source: Json, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for index, one in enumerate(source.get("sources") or ()):
        where = f"{path}.sources[{index}]"
        for name in ("secret", "configMap"):
            if isinstance(one.get(name), dict):
                found += _requires("name")(one[name], f"{where}.{name}")
        if isinstance(one.get("downwardAPI"), dict):
            found += _check_downward(one["downwardAPI"], f"{where}.downwardAPI")
        token = one.get("serviceAccountToken")
        if isinstance(token, dict):
            found += _check_token(token, f"{where}.serviceAccountToken", path)
    return found


def _check_token(token: Json, path: str, volume_path: str) -> list[FieldError]:
    where = f"{path}.expirationSeconds"
    seconds = token.get("expirationSeconds", _TOKEN_MIN_S)
    found = []
    if seconds < _TOKEN_MIN_S:
        message = "may not specify a duration less than 10 minutes"
        found.append(fields.invalid(where, seconds, message))
    elif seconds > 1 << 32:
        message = "may not specify a duration larger than 2^32 seconds"
        found.append(fields.invalid(where, seconds, message))
    if not token.get("path"):
        found.append(fields.required(f"{volume_path}.path"))  # named so upstream
    return found


_SOURCES: Final[dict[str, Callable[[Json, str], list[FieldError]]]] = {
    "emptyDir": lambda source, path: [],
    "hostPath": _check_host_path,
    "secret": _requires("secretName"),
    "nfs": _check_nfs,
    "persistentVolumeClaim": _requires("claimName"),
    "configMap": _requires("name"),
    "downwardAPI": _check_downward,
    "projected": _check_projected,
}
