"""Which fields of a pod have no effect on the local node (pure): told in an Event, not silently.

Not told: what holds anyway. Containers get no new privileges; the network is the host's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from taskctl.embedded.node.model import ContainerKind, Json, containers_of

_POD_FIELDS: Final = (
    "dnsConfig",
    "hostAliases",
    "hostIPC",
    "hostPID",
    "overhead",
    "resourceClaims",
    "runtimeClassName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "topologySpreadConstraints",
)
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
    "allowPrivilegeEscalation",
    "appArmorProfile",
    "seLinuxOptions",
    "supplementalGroups",
    "sysctls",
)
# The restricted profile, as taskctl's own pods have it too: an Event for each would tell nothing.
_COMMON_FIELDS: Final = ("fsGroup", "runAsGroup", "runAsNonRoot", "runAsUser")
# Applied where an image is unpacked.
_USER_FIELDS: Final = ("runAsGroup", "runAsNonRoot", "runAsUser", "supplementalGroups")


@dataclass(frozen=True, slots=True)
class Ignored:
    """Fields without effect, as their paths, sorted.

    Attributes:
        own: told of each pod.
        common: with their values; told once while the node runs.
    """

    own: tuple[str, ...] = ()
    common: tuple[str, ...] = ()


def ignored_fields(pod: Json, in_images: Collection[str] = ()) -> Ignored:
    """Return the set fields that the local node does not apply.

    Args:
        pod: the pod.
        in_images: names of its containers that run in an unpacked image, and so as its user.
    """
    spec = pod["spec"]
    own = {f"spec.{name}" for name in _POD_FIELDS if spec.get(name)}
    if spec.get("hostUsers") is False:
        own.add("spec.hostUsers")
    affinity = spec.get("affinity") or {}
    own |= {f"spec.affinity.{k}" for k in ("podAffinity", "podAntiAffinity") if affinity.get(k)}
    for volume in spec.get("volumes") or ():
        empty = volume.get("emptyDir") or {}
        own |= {f"spec.volumes[].emptyDir.{k}" for k in ("medium", "sizeLimit") if empty.get(k)}
    whole = spec.get("securityContext") or {}
    everywhere = all(container["name"] in in_images for _, container in containers_of(pod))
    contexts = [("spec.securityContext", _without_users(whole) if everywhere else whole)]
    for kind, container in containers_of(
        pod, ContainerKind.INIT, ContainerKind.REGULAR, ContainerKind.EPHEMERAL
    ):
        prefix = f"spec.{kind.value}[]"
        own |= {f"{prefix}.{name}" for name in _of_container(kind, container)}
        own_context = container.get("securityContext") or {}
        if container["name"] in in_images:
            own_context = _without_users(own_context)
        contexts.append((f"{prefix}.securityContext", own_context))
    common: set[str] = set()
    for prefix, context in contexts:
        own |= {f"{prefix}.{name}" for name in _of_security(context)}
        common |= {f"{prefix}.{name}" for name in _common(context)}
    return Ignored(tuple(sorted(own)), tuple(sorted(common)))


def not_yet_told(ignored: Ignored, by_pod: set[str], by_node: set[str]) -> tuple[str, ...]:
    """Return what is news, and note it as told.

    Args:
        ignored: of a pod.
        by_pod: what was told of this pod.
        by_node: common fields that were told of any pod.
    """
    news = (set(ignored.own) - by_pod) | (set(ignored.common) - by_node)
    by_pod.update(ignored.own)
    by_node.update(ignored.common)
    return tuple(sorted(news))


def _of_container(kind: ContainerKind, container: Json) -> set[str]:
    names = _EPHEMERAL_FIELDS if kind is ContainerKind.EPHEMERAL else _CONTAINER_FIELDS
    found = {name for name in names if container.get(name)}
    found |= {
        f"resources.{name}"
        for name in ("limits", "claims")
        if (container.get("resources") or {}).get(name)
    }
    for mount in container.get("volumeMounts") or ():
        if mount.get("mountPropagation") not in (None, "None"):
            found.add("volumeMounts[].mountPropagation")
        if mount.get("recursiveReadOnly") == "Enabled":
            found.add("volumeMounts[].recursiveReadOnly")
    return found


def _of_security(context: Json) -> set[str]:
    found = {name for name in _SECURITY_FIELDS if context.get(name)}
    if context.get("procMount") not in (None, "Default"):
        found.add("procMount")
    if (context.get("seccompProfile") or {}).get("type") == "Localhost":
        found.add("seccompProfile")
    return found


def _without_users(context: Json) -> Json:
    return {name: value for name, value in context.items() if name not in _USER_FIELDS}


def _common(context: Json) -> set[str]:
    return {f"{name}={context[name]}" for name in _COMMON_FIELDS if context.get(name)}
