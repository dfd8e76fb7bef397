"""A container's environment and arguments, worked out as the kubelet does (pure).

Rules: ``envFrom`` first, in order; then ``env``, in order; a later name wins. ``$(NAME)`` in a
value refers to what is defined before it, in command and args to the finished environment; an
unknown name stays as it is written; ``$$`` is a literal ``$``
(kubernetes/third_party/forked/golang/expansion).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from taskctl.embedded.node.model import Json
from taskctl.quantity import divide

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")
# Kubernetes 1.34, relaxed variable names: printable ASCII without "=".
_NAME = re.compile(r"^[ -<>-~]+$")
_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")


class EnvError(Exception):
    """A variable cannot be worked out; the container waits with ``CreateContainerConfigError``."""


@dataclass(frozen=True, slots=True)
class EnvSources:
    """The objects that a container's environment refers to.

    Attributes:
        config_maps: name → ConfigMap; a name that is not in it does not exist.
        secrets: name → data, decoded.
        host_ip: the node's address.
        pod_ip: the pod's address.
        allocatable: the node's resources, what an unset limit means.
    """

    config_maps: Mapping[str, Json] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    host_ip: str = "127.0.0.1"
    pod_ip: str = "127.0.0.1"
    allocatable: Mapping[str, str] = field(default_factory=dict)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` and ``$$`` in a text."""

    def replacement(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return variables.get(match[1], match[0])

    return _REFERENCE.sub(replacement, text)


def references(container: Json) -> tuple[set[str], set[str]]:
    """Return the names of the ConfigMaps and of the Secrets that the environment refers to."""
    maps: set[str] = set()
    secrets: set[str] = set()
    for entry in container.get("envFrom") or ():
        if ref := entry.get("configMapRef"):
            maps.add(ref.get("name", ""))
        if ref := entry.get("secretRef"):
            secrets.add(ref.get("name", ""))
    for entry in container.get("env") or ():
        source = entry.get("valueFrom") or {}
        if ref := source.get("configMapKeyRef"):
            maps.add(ref.get("name", ""))
        if ref := source.get("secretKeyRef"):
            secrets.add(ref.get("name", ""))
    return maps, secrets


def build_env(
    pod: Json, container: Json, *, base: Mapping[str, str], sources: EnvSources
) -> dict[str, str]:
    """Return the container's environment.

    Args:
        pod: the pod.
        container: one of its containers.
        base: what the node itself gives: the default PATH, the API server's address.
        sources: objects referred to.

    Raises:
        EnvError: a required object or key is missing, or a reference is not supported.
    """
    result = dict(base)
    for entry in container.get("envFrom") or ():
        result.update(_env_from(entry, sources))
    for entry in container.get("env") or ():
        name = entry["name"]
        if entry.get("valueFrom"):
            value = _value_from(pod, container, entry["valueFrom"], sources)
            if value is None:
                continue
        else:
            value = expand(entry.get("value") or "", result)
        result[name] = value
    for name, value in result.items():
        if "\0" in value or "\0" in name:
            raise EnvError(f"environment variable {name!r} holds a NUL character; remove it")
    return result


def field_value(pod: Json, path: str, *, sources: EnvSources) -> str:
    """Return the field of the pod that a ``fieldRef`` names.

    Raises:
        EnvError: the field is not one of those Kubernetes offers.
    """
    meta, spec = pod["metadata"], pod["spec"]
    if match := _SUBSCRIPT.match(path):
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(meta.get(path.removeprefix("metadata.")) or {})
    simple = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta.get("namespace", "default"),
        "metadata.uid": meta["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": sources.host_ip,
        "status.hostIPs": sources.host_ip,
        "status.podIP": sources.pod_ip,
        "status.podIPs": sources.pod_ip,
    }
    if path not in simple:
        raise EnvError(f"fieldRef {path!r} is not supported; use one of {', '.join(simple)}")
    return str(simple[path])


def format_map(values: Mapping[str, str]) -> str:
    """Write labels or annotations as the downward API does: one ``key="value"`` a line."""
    lines = []
    for key in sorted(values):
        escaped = values[key].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines.append(f'{key}="{escaped}"')
    return "\n".join(lines)


def resource_value(pod: Json, container: Json, ref: Json, *, sources: EnvSources) -> str:
    """Return what a ``resourceFieldRef`` says; an unset limit is what the node has.

    Raises:
        EnvError: the resource is unknown or a quantity is malformed.
    """
    wanted = ref.get("containerName") or container.get("name")
    named = [c for c in pod["spec"].get("containers") or () if c["name"] == wanted]
    resources = (named[0] if named else container).get("resources") or {}
    side, _, resource = str(ref.get("resource", "")).partition(".")
    if side not in ("limits", "requests") or resource not in _RESOURCES:
        raise EnvError(f"resourceFieldRef {ref.get('resource')!r}: write limits.cpu, for example")
    value = (resources.get(side) or {}).get(resource)
    if value is None:
        value = "0" if side == "requests" else sources.allocatable.get(resource, "0")
    try:
        return divide(str(value), str(ref.get("divisor") or "1"))
    except ValueError as error:
        raise EnvError(f"resourceFieldRef {ref.get('resource')!r}: {error}") from error


def _env_from(entry: Json, sources: EnvSources) -> dict[str, str]:
    prefix = entry.get("prefix") or ""
    if ref := entry.get("configMapRef"):
        found = sources.config_maps.get(ref.get("name", ""))
        data = (found.get("data") or {}) if found is not None else None
        kind = "configmap"
    elif ref := entry.get("secretRef"):
        secret = sources.secrets.get(ref.get("name", ""))
        data = None if secret is None else {k: _text(v) for k, v in secret.items()}
        kind = "secret"
    else:
        return {}
    if data is None:
        if ref.get("optional"):
            return {}
        raise EnvError(f'{kind} "{ref.get("name", "")}" not found')
    return {prefix + k: str(v) for k, v in data.items() if _NAME.match(prefix + k)}


def _value_from(pod: Json, container: Json, source: Json, sources: EnvSources) -> str | None:
    if ref := source.get("fieldRef"):
        return field_value(pod, ref["fieldPath"], sources=sources)
    if ref := source.get("resourceFieldRef"):
        return resource_value(pod, container, ref, sources=sources)
    if ref := source.get("configMapKeyRef"):
        found = sources.config_maps.get(ref.get("name", ""))
        data = None if found is None else found.get("data") or {}
        return _pick(ref, data, "configmap", "ConfigMap")
    if ref := source.get("secretKeyRef"):
        secret = sources.secrets.get(ref.get("name", ""))
        values = None if secret is None else {k: _text(v) for k, v in secret.items()}
        return _pick(ref, values, "secret", "Secret")
    raise EnvError(f"valueFrom {', '.join(source)!r} is not supported by the local node")


def _pick(ref: Json, data: Mapping[str, str] | None, kind: str, title: str) -> str | None:
    name, key = ref.get("name", ""), ref.get("key", "")
    if data is not None and key in data:
        return data[key]
    if ref.get("optional"):
        return None
    if data is None:
        raise EnvError(f'{kind} "{name}" not found')
    raise EnvError(f"couldn't find key {key} in {title} {name}")


def _text(value: bytes) -> str:
    # A Secret may hold bytes that are not UTF-8; an environment may, too.
    return value.decode("utf-8", "surrogateescape")
