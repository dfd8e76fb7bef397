"""Which TaskCluster is meant when none is named, and the one that a local stack makes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from taskctl.constants import API_VERSION

DEFAULT_CLUSTER: Final = "default"
_SLOTS_MIN: Final = 4
_SLOTS_MAX: Final = 32


def choose_cluster(names: Iterable[str]) -> str | None:
    """Return which of a namespace's TaskClusters is meant: ``default``, else the only one.

    None: there is none, or one must be named.
    """
    known = sorted(names)
    if DEFAULT_CLUSTER in known:
        return DEFAULT_CLUSTER
    return known[0] if len(known) == 1 else None


def default_cluster(
    processors: int, namespace: str = "default", *, keep_files_s: int = 0
) -> dict[str, Any]:
    """Return the TaskCluster ``default`` for one machine: one worker, a slot per processor.

    Args:
        processors: of the machine; there are at least four slots, as most tasks also wait.
        namespace: where it is made.
        keep_files_s: how long logs outlive their Task, in seconds.
    """
    cleanup = {"cleanup": {"afterDeletionSeconds": keep_files_s}} if keep_files_s else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "TaskCluster",
        "metadata": {"name": DEFAULT_CLUSTER, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "slotsPerWorker": min(max(processors, _SLOTS_MIN), _SLOTS_MAX),
            "workspace": {"enable": True} | cleanup,
        },
    }
