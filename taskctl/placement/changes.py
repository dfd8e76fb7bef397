"""What has come of an event, between the ledger that finds it and the machine that acts on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskctl.objectkey import ObjectKey
from taskctl.placement.parked import ParkedNews
from taskctl.policy.podview import PodView


@dataclass(slots=True)
class Changes:
    """What has come of an event, for the machine to act on.

    Attributes:
        touched: Tasks of which something about the placement has changed, in order.
        closed: workers of which an attempt is accounted for, by UID.
        slots: TaskClusters, by UID, whose slots were taken or became free; whether some became
            free.
        idle: TaskClusters, by UID, of which a retiring worker has nothing open any more.
        started: UIDs of Tasks of which an attempt was claimed, and the UIDs of their TaskClusters.
        parked: of parked containers that have come up or ended: UID of the TaskCluster, class, and
            which of these it is.
    """

    touched: dict[ObjectKey, None] = field(default_factory=dict)
    closed: dict[str, PodView] = field(default_factory=dict)
    slots: dict[str, bool] = field(default_factory=dict)
    idle: dict[str, None] = field(default_factory=dict)
    started: list[tuple[str, str]] = field(default_factory=list)
    parked: list[tuple[str, str, ParkedNews]] = field(default_factory=list)

    def slots_changed(self, cluster_uid: str, *, freed: bool) -> None:
        """Take note that slots were taken or, with ``freed``, may be free."""
        self.slots[cluster_uid] = freed or self.slots.get(cluster_uid, False)
