"""The three CustomResourceDefinitions, made from the models when asked for.

No data file is needed, so they are wherever taskctl is installed; ``crds/`` in the
repository holds the same for people who install with kubectl alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from taskctl.api.schema import KindInfo, PrinterColumn, Scale, build_crd
from taskctl.api.task import Task
from taskctl.api.taskcluster import TaskCluster
from taskctl.api.taskobject import TaskObject

_AGE = PrinterColumn("Age", "date", ".metadata.creationTimestamp")

KINDS: Final[tuple[KindInfo, ...]] = (
    KindInfo(
        model=Task,
        plural="tasks",
        short_names=("tk",),
        columns=(
            PrinterColumn("State", "string", ".status.state"),
            PrinterColumn("Reason", "string", ".status.reason"),
            PrinterColumn("Runs", "string", ".status.runs"),
            PrinterColumn("Cluster", "string", ".spec.clusterName", wide=True),
            PrinterColumn("Attempt", "integer", ".status.attempt", wide=True),
            PrinterColumn("Exit", "integer", ".status.exitCode", wide=True),
            PrinterColumn("Pod", "string", ".status.podName", wide=True),
            PrinterColumn("Key", "string", ".spec.lineage.key", wide=True),
            PrinterColumn("Root", "string", ".status.root", wide=True),
            PrinterColumn("Depth", "integer", ".status.depth", wide=True),
            PrinterColumn("Message", "string", ".status.message", wide=True),
            _AGE,
        ),
        selectable=(
            ".status.podName",
            ".status.state",
            ".spec.clusterName",
            ".spec.group",
            ".spec.lineage.rootUID",
            ".spec.lineage.parentUID",
        ),
        status_default={"state": "Pending"},
    ),
    KindInfo(
        model=TaskObject,
        plural="taskobjects",
        short_names=("tobj",),
        columns=(PrinterColumn("Size", "integer", ".ref.size"), _AGE),
        # Whether a file in the workspace is still needed.
        selectable=(".ref.sha256",),
    ),
    KindInfo(
        model=TaskCluster,
        plural="taskclusters",
        short_names=("tc",),
        columns=(
            PrinterColumn("Replicas", "integer", ".status.replicas"),
            PrinterColumn("Ready", "integer", ".status.ready"),
            PrinterColumn("Busy", "integer", ".status.busySlots"),
            PrinterColumn("Free", "integer", ".status.freeSlots"),
            PrinterColumn("Queue", "integer", ".status.queueLength"),
            PrinterColumn("Workers", "integer", ".status.workers", wide=True),
            _AGE,
        ),
        scale=Scale(".spec.replicas", ".status.workers", ".status.selector"),
        status_default={},
    ),
)


def load_all() -> list[dict[str, Any]]:
    """Build the CRDs of Task, TaskObject and TaskCluster, and return them as JSON values."""
    return [build_crd(info) for info in KINDS]


def to_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """Write documents as one YAML stream, keys in the order they have."""
    return yaml.dump_all(
        [dict(document) for document in documents],
        Dumper=_Dumper,
        sort_keys=False,
        width=100,
        allow_unicode=True,
    )


class _Dumper(yaml.SafeDumper):
    """Never writes anchors: a reader of a CRD should not have to follow them."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True for everything."""
        return True
