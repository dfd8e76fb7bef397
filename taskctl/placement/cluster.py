"""A TaskCluster as the placing of tasks sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskctl.objectkey import ObjectKey
from taskctl.placement.fleet import cluster_max_tasks, cluster_slots
from taskctl.placement.rotation import RotationRule
from taskctl.placement.standby import OFF, StandbyRule, standby_rule
from taskctl.policy.taskdefaults import defaults_of
from taskctl.policy.workerpod import worker_prefix


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A TaskCluster as the placing of tasks sees it.

    Attributes:
        key: its key.
        uid: its UID.
        generation: of its spec.
        prefix: what worker names begin with, without the dash.
        rotation: slots of a worker, and when it is worn out.
        standby: how many containers are parked ahead.
        defaults: ``spec.taskDefaults``.
        allowed_images: ``spec.allowedImages``; None: all.
    """

    key: ObjectKey
    uid: str
    generation: int
    prefix: str
    rotation: RotationRule
    standby: StandbyRule = OFF
    defaults: Mapping[str, Any] = field(default_factory=dict)
    allowed_images: Sequence[str] | None = None


def parse_cluster(raw: Mapping[str, Any]) -> ClusterView:
    """Return the view of a raw TaskCluster."""
    deleting = bool(raw["metadata"].get("deletionTimestamp"))
    rotation = RotationRule(cluster_max_tasks(raw), cluster_slots(raw))
    return ClusterView(
        key=ObjectKey.of(raw),
        uid=raw["metadata"]["uid"],
        generation=int(raw["metadata"].get("generation") or 0),
        prefix=worker_prefix(raw),
        rotation=rotation,
        defaults=defaults_of(raw),
        allowed_images=raw["spec"].get("allowedImages"),
        standby=OFF if deleting else standby_rule(raw["spec"], rotation),
    )
