"""Which fields of a pod have no effect on the local node (pure): told in an Event, not silently."""

from __future__ import annotations

from typing import Final

from taskctl.embedded.node.model import Json, Kind, containers_of

_CONTAINER_FIELDS: Final = (
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "stdin",
    "tty",
    "volumeDevices",
)
_EPHEMERAL_FIELDS: Final = ("stdin", "tty", "targetContainerName", "volumeDevices")
_SECURITY_FIELDS: Final = (
    "runAsUser",
    "runAsGroup",
    "fsGroup",
    "supplementalGroups",
    "seLinuxOptions",
    "seccompProfile",
    "appArmorProfile",
    "sysctls",
)
_POD_FIELDS: Final = (
    "dnsConfig",
    "hostAliases",
    "overhead",
    "runtimeClassName",
    "shareProcessNamespace",
    "topologySpreadConstraints",
)


def ignored_fields(pod: Json) -> tuple[str, ...]:
    """Return the paths of set fields that the local node does not apply, sorted."""
    spec = pod["spec"]
    found = {f"spec.{name}" for name in _POD_FIELDS if spec.get(name)}
    found |= _security("spec.securityContext", spec.get("securityContext"))
    affinity = spec.get("affinity") or {}
    found |= {f"spec.affinity.{k}" for k in ("podAffinity", "podAntiAffinity") if affinity.get(k)}
    for volume in spec.get("volumes") or ():
        empty = volume.get("emptyDir") or {}
        found |= {f"spec.volumes[].emptyDir.{k}" for k in ("medium", "sizeLimit") if empty.get(k)}
    for kind, container in containers_of(pod, Kind.INIT, Kind.REGULAR):
        prefix = f"spec.{kind.value}[]"
        found |= {f"{prefix}.{name}" for name in _CONTAINER_FIELDS if container.get(name)}
        found |= _security(f"{prefix}.securityContext", container.get("securityContext"))
        if (container.get("resources") or {}).get("limits"):
            found.add(f"{prefix}.resources.limits")
    for kind, container in containers_of(pod, Kind.EPHEMERAL):
        prefix = f"spec.{kind.value}[]"
        found |= {f"{prefix}.{name}" for name in _EPHEMERAL_FIELDS if container.get(name)}
        found |= _security(f"{prefix}.securityContext", container.get("securityContext"))
    return tuple(sorted(found))


def _security(prefix: str, context: Json | None) -> set[str]:
    return {f"{prefix}.{name}" for name in _SECURITY_FIELDS if (context or {}).get(name)}
