"""When which TaskCluster's queue is to be looked at."""

from __future__ import annotations

import heapq
import math

from taskctl.objectkey import ObjectKey


class Agenda:
    """Times and TaskClusters; the same pair counts once."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, ObjectKey]] = []
        self._soon: dict[ObjectKey, float] = {}
        self._by: dict[ObjectKey, float] = {}

    def __len__(self) -> int:
        return len(self._heap) + len(self._soon) + len(self._by)

    @property
    def next_s(self) -> float:
        """When the next look is due (monotonic); infinity: none is."""
        later = self._heap[0][0] if self._heap else math.inf
        return min((later, *self._soon.values(), *self._by.values()))

    def soon(self, cluster: ObjectKey, at_s: float) -> None:
        """Look at a queue once at ``at_s``, however often this is said before then."""
        self._soon.setdefault(cluster, at_s)

    def at(self, cluster: ObjectKey, at_s: float) -> None:
        """Look at a queue at ``at_s`` as well."""
        heapq.heappush(self._heap, (at_s, cluster))

    def by(self, cluster: ObjectKey, at_s: float) -> None:
        """Look at a queue at ``at_s`` at the latest; the earliest such wish counts."""
        self._by[cluster] = min(at_s, self._by.get(cluster, at_s))

    def take(self, now_s: float) -> list[ObjectKey]:
        """Return what is due, once each and in the order in which it was wished for."""
        due = {cluster: None for cluster, at_s in self._soon.items() if at_s <= now_s}
        for cluster in due:
            del self._soon[cluster]
        for cluster in [one for one, at_s in self._by.items() if at_s <= now_s]:
            del self._by[cluster]
            due.setdefault(cluster)
        while self._heap and self._heap[0][0] <= now_s:
            due.setdefault(heapq.heappop(self._heap)[1], None)
        return list(due)
