"""The history that the controller of a local stack keeps (docs/history.md).

It knows of every transition anyway (docs/decisions/0045-who-keeps-history.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from taskctl.history.files import LOCAL_DIRECTORY, HistoryFiles, HistoryLimits
from taskctl.history.recorder import Recorder, RecorderWorld
from taskctl.history.workspaces import workspace_of
from taskctl.kube.informer import Informer
from taskctl.kube.store import Store
from taskctl.kube.timing import Timing
from taskctl.objectkey import ObjectKey
from taskctl.policy.runcluster import cluster_of_task

_CLUSTERS_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """Where to keep a history, and how much of it.

    Attributes:
        root: the data directory of the stack.
        limits: size and age.
        below: the history's directory, relative to it.
    """

    root: Path
    limits: HistoryLimits = field(default_factory=HistoryLimits)
    below: str = LOCAL_DIRECTORY

    def recorder(self, tasks: Informer, clusters: Store, timing: Timing) -> Recorder:
        """Return a recorder; the caller tells it of what ``tasks`` tells, and runs it."""

        # Of a namespace that is deleted, the TaskCluster may go before its Tasks.
        gone: dict[ObjectKey, Mapping[str, str] | None] = {}

        def of_cluster(task: Mapping[str, Any]) -> Mapping[str, str] | None:
            key = ObjectKey(task["metadata"]["namespace"], cluster_of_task(task))
            cluster = clusters.get(key)
            if cluster is None:
                return gone.get(key)
            if key not in gone and len(gone) >= _CLUSTERS_REMEMBERED:
                gone.pop(next(iter(gone)))
            gone[key] = workspace_of(cluster)
            return gone[key]

        around = RecorderWorld(tasks.synced, of_cluster, timing.clock, timing.sleep)
        return Recorder(
            lambda: HistoryFiles(self.root, self.below, self.limits, timing.clock), around
        )
