"""Fields of containers, of whichever sort: defaults and checks.

After Kubernetes ``pkg/apis/core/v1/defaults.go`` and
``pkg/apis/core/validation/validation.go``; the sentences are theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.values import quantity

_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_PROBE_DEFAULTS: Final = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
# Go leaves these out where they are false.
_FLAGS: Final = ("stdin", "stdinOnce", "tty")
_SOURCES: Final = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")
_SOURCES_TEXT: Final = (
    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
)
_FIELD_PATHS: Final = frozenset(
    {
        "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
        "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP",
        "status.podIPs",
    }
)  # fmt: skip
_KEYED_PATH: Final = re.compile(r"metadata\.(labels|annotations)\['.+'\]")
_ENV_NAME: Final = re.compile(r"[\x20-\x3c\x3e-\x7e]+")
_ENV_NAME_TEXT: Final = (
    "a valid environment variable name must consist only of printable ASCII characters other "
    "than '='"
)

_STANDARD: Final = ("cpu", "memory", "ephemeral-storage")
_MAX_ID: Final = 2**31 - 1
_SECCOMP: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_PROPAGATIONS: Final = ("Bidirectional", "HostToContainer", "None")


def items(value: Any) -> list[Json]:
    """Return the objects in a list; whatever else stands there is refused elsewhere."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def set_defaults(container: Json) -> None:
    """Fill in what is deeper inside a container, and drop what Go leaves out."""
    for name in _FLAGS:
        if container.get(name) is False:
            del container[name]
    for mount in items(container.get("volumeMounts")):
        if mount.get("readOnly") is False:
            del mount["readOnly"]
    for entry in items(container.get("env")):
        _set_env_defaults(entry)
    for port in items(container.get("ports")):
        port.setdefault("protocol", "TCP")
    for name in _PROBES:
        probe = container.get(name)
        if isinstance(probe, dict):
            for field, value in _PROBE_DEFAULTS.items():
                probe[field] = probe.get(field) or value
            _set_http_defaults(probe)
    lifecycle = container.get("lifecycle")
    for hook in lifecycle.values() if isinstance(lifecycle, dict) else ():
        if isinstance(hook, dict):
            _set_http_defaults(hook)


def _set_env_defaults(entry: Json) -> None:
    if entry.get("value") == "":
        del entry["value"]
    value_from = entry.get("valueFrom")
    reference = value_from.get("fieldRef") if isinstance(value_from, dict) else None
    if isinstance(reference, dict):
        reference.setdefault("apiVersion", "v1")


def _set_http_defaults(handler: Json) -> None:
    http = handler.get("httpGet")
    if isinstance(http, dict):
        http["path"] = http.get("path") or "/"
        http["scheme"] = http.get("scheme") or "HTTP"


def check(container: Json, path: str, volumes: set[str], claims: set[str]) -> list[FieldError]:
    """Check the fields.

    Args:
        container: defaulted.
        path: where it lies.
        volumes: names of the pod's volumes.
        claims: those of them that are claims, the only ones that can be block devices.
    """
    found = _check_ports(container.get("ports"), path)
    found += _check_env(container.get("env"), path)
    for index, source in enumerate(items(container.get("envFrom"))):
        if not any(source.get(name) for name in ("configMapRef", "secretRef")):
            message = "must specify one of: `configMapRef` or `secretRef`"
            found.append(fields.invalid(f"{path}.envFrom", "", message))
        for name in ("configMapRef", "secretRef"):
            if isinstance(source.get(name), dict) and not source[name].get("name"):
                found.append(fields.required(f"{path}.envFrom[{index}].{name}.name"))
    found += _check_mounts(container.get("volumeMounts"), path, volumes)
    found += _check_devices(container.get("volumeDevices"), path, volumes, claims)
    for name in _PROBES:
        probe = container.get(name)
        if isinstance(probe, dict) and not any(one in probe for one in _HANDLERS):
            found.append(fields.required(f"{path}.{name}", "must specify a handler type"))
    found += _check_resources(container.get("resources") or {}, f"{path}.resources")
    context = container.get("securityContext")
    if isinstance(context, dict):
        found += check_security(context, f"{path}.securityContext")
    return found


def _check_ports(ports: Any, path: str) -> list[FieldError]:
    found = []
    seen: set[str] = set()
    for index, port in enumerate(items(ports)):
        where = f"{path}.ports[{index}]"
        name = port.get("name")
        if name and name in seen:
            found.append(fields.duplicate(f"{where}.name", name))
        seen.add(str(name))
        number = port.get("containerPort") or 0
        if number == 0:
            found.append(fields.required(f"{where}.containerPort"))
        elif not 1 <= number <= 65535:
            message = "must be between 1 and 65535, inclusive"
            found.append(fields.invalid(f"{where}.containerPort", number, message))
        if port["protocol"] not in ("TCP", "UDP", "SCTP"):
            supported = ("SCTP", "TCP", "UDP")
            found.append(fields.not_supported(f"{where}.protocol", port["protocol"], supported))
    return found


def _check_env(env: Any, path: str) -> list[FieldError]:
    found = []
    for index, entry in enumerate(items(env)):
        where = f"{path}.env[{index}]"
        name = entry.get("name") or ""
        if not name:
            found.append(fields.required(f"{where}.name"))
        elif not _ENV_NAME.fullmatch(name):
            found.append(fields.invalid(f"{where}.name", name, _ENV_NAME_TEXT))
        if isinstance(entry.get("valueFrom"), dict):
            found += _check_value_from(entry, f"{where}.valueFrom")
    return found


def _check_value_from(entry: Json, path: str) -> list[FieldError]:
    given: Json = entry["valueFrom"]
    named = [name for name in _SOURCES if isinstance(given.get(name), dict)]
    found = []
    if not named:
        found.append(fields.invalid(path, "", _SOURCES_TEXT))
    elif entry.get("value"):
        message = "may not be specified when `value` is not empty"
        found.append(fields.invalid(path, "", message))
    elif len(named) > 1:
        message = "may not have more than one field specified at a time"
        found.append(fields.invalid(path, "", message))
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in named:
            found += [
                fields.required(f"{path}.{name}.{key}")
                for key in ("name", "key")
                if not given[name].get(key)
            ]
    if "fieldRef" in named:
        where, field = f"{path}.fieldRef.fieldPath", given["fieldRef"].get("fieldPath") or ""
        if not field:
            found.append(fields.required(where))
        elif field not in _FIELD_PATHS and not _KEYED_PATH.fullmatch(field):
            message = f"error converting fieldPath: field label not supported: {field}"
            found.append(fields.invalid(where, field, message))
    return found


def _check_mounts(mounts: Any, path: str, volumes: set[str]) -> list[FieldError]:
    seen: set[str] = set()
    found = []
    for index, mount in enumerate(items(mounts)):
        where = f"{path}.volumeMounts[{index}]"
        name, at = mount.get("name"), mount.get("mountPath")
        if not name:
            found.append(fields.required(f"{where}.name"))
        elif name not in volumes:
            found.append(fields.missing(f"{where}.name", name))
        if not at:
            found.append(fields.required(f"{where}.mountPath"))
        elif at in seen:
            found.append(fields.invalid(f"{where}.mountPath", at, "must be unique"))
        seen.add(str(at))
        propagation = mount.get("mountPropagation")
        if propagation is not None and propagation not in _PROPAGATIONS:
            spot = f"{path}.volumeMounts.mountPropagation"  # without index upstream
            found.append(fields.not_supported(spot, propagation, _PROPAGATIONS))
    return found


def _check_devices(
    devices: Any, path: str, volumes: set[str], claims: set[str]
) -> list[FieldError]:
    found = []
    for index, device in enumerate(items(devices)):
        where = f"{path}.volumeDevices[{index}]"
        name = device.get("name")
        if not name:
            found.append(fields.required(f"{where}.name"))
        elif name not in volumes:
            found.append(fields.missing(f"{where}.name", name))
        elif name not in claims:
            message = (
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block "
                "mode"
            )
            found.append(fields.invalid(f"{where}.name", name, message))
        if not device.get("devicePath"):
            found.append(fields.required(f"{where}.devicePath"))
    return found


def _check_resources(resources: Json, path: str) -> list[FieldError]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    found = list(_check_amounts(limits, f"{path}.limits"))
    found += _check_amounts(requests, f"{path}.requests")
    if found:
        return found
    for name, amount in requests.items():
        limit = limits.get(name)
        if limit is not None and _number(amount) > _number(limit):
            message = f"must be less than or equal to {name} limit of {limit}"
            found.append(fields.invalid(f"{path}.requests", str(amount), message))
    return found


def _check_amounts(amounts: Json, path: str) -> Iterator[FieldError]:
    for name, amount in amounts.items():
        where = f"{path}[{name}]"
        if "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
            for message in (
                "must be a standard resource type or fully qualified",
                "must be a standard resource for containers",
            ):
                yield fields.invalid(where, name, message)
        elif _number(amount) < 0:
            message = "must be greater than or equal to 0"
            yield fields.invalid(where, str(amount), message)


def _number(amount: Any) -> Decimal:
    return quantity.parse(str(amount))  # the schema has let only quantities through


def check_security(context: Json, path: str) -> list[FieldError]:
    """Check a security context, of a container or a pod."""
    found = []
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        number = context.get(name)
        if number is not None and not 0 <= number <= _MAX_ID:
            message = f"must be between 0 and {_MAX_ID}, inclusive"
            found.append(fields.invalid(f"{path}.{name}", number, message))
    profile = context.get("seccompProfile")
    if isinstance(profile, dict) and profile.get("type") not in _SECCOMP:
        where = f"{path}.seccompProfile.type"
        found.append(fields.not_supported(where, profile.get("type", ""), _SECCOMP))
    if context.get("privileged") and context.get("allowPrivilegeEscalation") is False:
        message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        found.append(fields.invalid(path, context, message))
    return found
