"""What clients read to learn which kinds there are.

Aggregated discovery (``apidiscovery.k8s.io/v2``, what kubectl 1.27 and later ask for) and
the older documents. Forms from k8s.io/api ``apidiscovery/v2`` and k8s.io/apimachinery
``meta/v1`` (APIResourceList).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.kinds.registry import Registry
from taskctl.embedded.server.kinds.virtual import (
    BINDING,
    EVICTION,
    TOKEN_REQUEST,
    VIRTUAL_KINDS,
    VirtualKind,
)

JSON = dict[str, Any]

_VERBS: Final = (
    "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"
)  # fmt: skip
_READ_WRITE: Final = ("get", "patch", "update")


# subresource → (verbs, group, version, kind); an empty kind stands for the parent's.
_SUBRESOURCES: Final[dict[str, tuple[tuple[str, ...], str, str, str]]] = {
    "status": (_READ_WRITE, "", "", ""),
    "ephemeralcontainers": (_READ_WRITE, "", "", ""),
    "finalize": (("update",), "", "", ""),
    "log": (("get",), "", "", ""),
    "scale": (_READ_WRITE, "autoscaling", "v1", "Scale"),
    "attach": (("create", "get"), "", "v1", "PodAttachOptions"),
    "exec": (("create", "get"), "", "v1", "PodExecOptions"),
    "portforward": (("create", "get"), "", "v1", "PodPortForwardOptions"),
} | {
    name: (("create",), kind.group, kind.version, kind.kind)
    for name, kind in (("binding", BINDING), ("eviction", EVICTION), ("token", TOKEN_REQUEST))
}


def api_versions(host: str = "") -> JSON:
    """Return the answer to ``GET /api``."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    }


def _versions_by_group(registry: Registry) -> dict[str, list[str]]:
    """Return the named groups with their versions, preferred version first."""
    found: dict[str, dict[str, bool]] = {}
    for kind in registry.all():
        if kind.group:
            found.setdefault(kind.group, {}).setdefault(kind.version, True)
    for virtual in VIRTUAL_KINDS:
        if virtual.group:
            found.setdefault(virtual.group, {})[virtual.version] = True
    return {group: sorted(found[group], key=_priority) for group in sorted(found)}


def _priority(version: str) -> tuple[int, int, int]:
    """Sort v2, v1, v1beta2, v1beta1, v1alpha1 (k8s.io/apimachinery ``pkg/version``)."""
    digits, _, rest = version.removeprefix("v").partition("a" if "alpha" in version else "b")
    stage = 2 if "alpha" in version else 1 if "beta" in version else 0
    minor = "".join(one for one in rest if one.isdigit())
    return stage, -int(digits) if digits.isdigit() else 0, -int(minor or 0)


def _group(group: str, versions: Iterable[str]) -> JSON:
    listed = [{"groupVersion": f"{group}/{one}", "version": one} for one in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def api_group_list(registry: Registry) -> JSON:
    """Return the answer to ``GET /apis``."""
    groups = [_group(group, versions) for group, versions in _versions_by_group(registry).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(registry: Registry, group: str) -> JSON:
    """Return the answer to ``GET /apis/<group>``.

    Raises:
        KeyError: there is no such group.
    """
    versions = _versions_by_group(registry)[group]
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}


def api_resource_list(registry: Registry, group: str, version: str) -> JSON:
    """Return the answer to ``GET /apis/<group>/<version>`` or ``GET /api/v1``.

    Raises:
        KeyError: there is no such group and version.
    """
    resources: list[JSON] = []
    for kind in _kinds_in(registry, group, version):
        resources.append(_resource(kind))
        resources.extend(_subresource(kind, name) for name in sorted(kind.subresources))
    resources.extend(_virtual_resource(one) for one in _virtual_in(group, version))
    if not resources:
        raise KeyError(f"{group}/{version}")
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": sorted(resources, key=lambda one: str(one["name"])),
    }


def _kinds_in(registry: Registry, group: str, version: str) -> list[Kind]:
    return [one for one in registry.all() if (one.group, one.version) == (group, version)]


def _resource(kind: Kind) -> JSON:
    verbs = ["get", "list", "watch"] if kind.read_only else list(_VERBS)
    if kind.builtin and kind.kind == "Namespace":
        verbs.remove("deletecollection")
    out: JSON = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": verbs,
    }
    if kind.short_names:
        out["shortNames"] = list(kind.short_names)
    if kind.categories:
        out["categories"] = list(kind.categories)
    return out


def _subresource(kind: Kind, name: str) -> JSON:
    verbs, group, version, other = _SUBRESOURCES.get(name, (_READ_WRITE, "", "", ""))
    out: JSON = {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": other or kind.kind,
        "verbs": list(verbs),
    }
    if group:
        out["group"], out["version"] = group, version
    return out


def _virtual_in(group: str, version: str) -> list[VirtualKind]:
    return [one for one in VIRTUAL_KINDS if (one.group, one.version) == (group, version)]


def _virtual_resource(kind: VirtualKind) -> JSON:
    return {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": ["create"],
    }


def aggregated(registry: Registry, *, legacy: bool) -> JSON:
    """Return everything in one APIGroupDiscoveryList (v2).

    Args:
        registry: the kinds.
        legacy: the core group, for ``GET /api``; else the named groups, for ``GET /apis``.
    """
    if legacy:
        items = [_discovered(registry, "", ["v1"])]
    else:
        items = [
            _discovered(registry, group, versions)
            for group, versions in _versions_by_group(registry).items()
        ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _discovered(registry: Registry, group: str, versions: list[str]) -> JSON:
    return {
        "metadata": {"name": group} if group else {},
        "versions": [
            {
                "version": version,
                "resources": _discovered_resources(registry, group, version),
                "freshness": "Current",
            }
            for version in versions
        ],
    }


def _discovered_resources(registry: Registry, group: str, version: str) -> list[JSON]:
    found: list[JSON] = []
    for kind in _kinds_in(registry, group, version):
        plain = _resource(kind)
        out: JSON = {
            "resource": kind.plural,
            "responseKind": {"group": group, "version": version, "kind": kind.kind},
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "singularResource": kind.singular,
            "verbs": plain["verbs"],
        }
        for name in ("shortNames", "categories"):
            if name in plain:
                out[name] = plain[name]
        if kind.subresources:
            out["subresources"] = [
                _discovered_subresource(kind, name) for name in sorted(kind.subresources)
            ]
        found.append(out)
    found.extend(
        {
            "resource": one.plural,
            "responseKind": {"group": group, "version": version, "kind": one.kind},
            "scope": "Namespaced" if one.namespaced else "Cluster",
            "singularResource": one.singular,
            "verbs": ["create"],
        }
        for one in _virtual_in(group, version)
    )
    return sorted(found, key=lambda one: str(one["resource"]))


def _discovered_subresource(kind: Kind, name: str) -> JSON:
    verbs, group, version, other = _SUBRESOURCES.get(name, (_READ_WRITE, "", "", ""))
    response = (
        {"group": group, "version": version, "kind": other}
        if other
        else {"group": kind.group, "version": kind.version, "kind": kind.kind}
    )
    return {"subresource": name, "responseKind": response, "verbs": list(verbs)}
