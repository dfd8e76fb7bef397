"""The work queues of all reconcilers, and when a key comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskctl.controllers.metrics import Metrics
from taskctl.kube.controller import DONE, Result
from taskctl.kube.timing import Timing
from taskctl.kube.workqueue import WorkQueue
from taskctl.objectkey import ObjectKey

SHORTEST_LOOK_S: Final = 0.001


@dataclass(frozen=True, slots=True)
class Queues:
    """Keys to reconcile, by controller.

    Attributes:
        tasks: Tasks.
        clusters: TaskClusters.
        evidence: UIDs of worker pods that are going or have lost their TaskCluster.
        trees: UIDs of root Tasks.
        ttl: ended Tasks with a time to live.
        notify: UIDs of roots with receivers to be told.
        claims: workspaces' claims whose TaskCluster is gone.
    """

    tasks: WorkQueue[ObjectKey]
    clusters: WorkQueue[ObjectKey]
    evidence: WorkQueue[str]
    trees: WorkQueue[str]
    ttl: WorkQueue[ObjectKey]
    notify: WorkQueue[str]
    claims: WorkQueue[ObjectKey]

    @classmethod
    def new(cls, timing: Timing, metrics: Metrics) -> Queues:
        """Return empty queues that are counted in the metrics."""
        observe = metrics.queue
        return cls(
            tasks=WorkQueue("task", timing=timing, observer=observe("task")),
            clusters=WorkQueue("taskcluster", timing=timing, observer=observe("taskcluster")),
            evidence=WorkQueue("evidence", timing=timing, observer=observe("evidence")),
            trees=WorkQueue("tree", timing=timing, observer=observe("tree")),
            ttl=WorkQueue("ttl", timing=timing, observer=observe("ttl")),
            notify=WorkQueue("notify", timing=timing, observer=observe("notify")),
            claims=WorkQueue("claim", timing=timing, observer=observe("claim")),
        )


def look_again(*delays_s: float | None) -> Result:
    """Return the Result that asks for another look after the shortest of some delays.

    A delay is never below a millisecond: the rest that rounding may leave of one must not
    make a reconciler run in circles. None among them counts as no wish.
    """
    given = [delay for delay in delays_s if delay is not None]
    return Result(max(min(given), SHORTEST_LOOK_S)) if given else DONE
