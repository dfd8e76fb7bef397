"""Must the workers of a TaskCluster be on one node, because they share a volume of one node?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from taskctl.policy.variables import expanded

# https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes
_MANY_NODES: Final = frozenset({"ReadWriteMany", "ReadOnlyMany"})


class Sharing(StrEnum):
    """What the claims that the workers share allow."""

    NOTHING = "nothing"  # there is no claim that they share
    ONE_NODE = "one node"  # one of the claims can be mounted on one node only
    MANY_NODES = "many nodes"


def sharing_of(modes: Iterable[Sequence[str] | None]) -> Sharing:
    """Return what claims allow together.

    Args:
        modes: ``spec.accessModes`` of each; None: the claim is not there yet. That one counts as of
            one node: if it comes to be such a claim, workers that wait for it on several nodes
            could never start all.
    """
    found = list(modes)
    if not found:
        return Sharing.NOTHING
    many = all(each is not None and not _MANY_NODES.isdisjoint(each) for each in found)
    return Sharing.MANY_NODES if many else Sharing.ONE_NODE


def named_claims(cluster: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the claims that the spec of a raw TaskCluster names, each once.

    These are `workspace.claimName` and the further volumes. An `ephemeral` volume is a claim for
    each worker, so it binds none to the others.
    """
    spec = expanded(cluster)
    workspace = spec.get("workspace") or {}
    names: dict[str, None] = {}
    if workspace.get("enable") is not False and workspace.get("claimName"):
        names[str(workspace["claimName"])] = None
    for volume in spec.get("volumes") or ():
        source = volume.get("persistentVolumeClaim") or {}
        if source.get("claimName"):
            names[str(source["claimName"])] = None
    return tuple(names)
