"""What a URL's path names: which resource, object and subresource."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A path below ``/api/v1`` or ``/apis/<group>/<version>``.

    Attributes:
        group: "" for the core group.
        version: for example ``v1alpha1``.
        plural: the resource.
        namespace: None on a cluster-wide path; "" where the path's segment is empty, which for
            lists and watches means all namespaces.
        name: None on a collection.
        subresource: "" for the object itself.
    """

    group: str
    version: str
    plural: str
    namespace: str | None = None
    name: str | None = None
    subresource: str = ""


def parse_path(path: str) -> Target | None:
    """Split a resource path; None if it is not one.

    Slashes at the end count for nothing, those at the start do (k8s.io/apiserver
    ``pkg/endpoints/request/requestinfo.go``, splitPath).
    """
    parts = path.rstrip("/").removeprefix("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = None
    # namespaces/x/status and namespaces/x/finalize are subresources of the namespace itself.
    if (
        rest[0] == "namespaces"
        and len(rest) >= 3
        and not (group == "" and len(rest) == 3 and rest[2] in ("status", "finalize"))
    ):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 3 or not all(rest) or not version:
        return None
    rest += [""] * (3 - len(rest))
    return Target(group, version, rest[0], namespace, rest[1] or None, rest[2])
