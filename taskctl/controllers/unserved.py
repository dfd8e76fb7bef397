"""Has queued Tasks say why they wait, where their TaskCluster has no ready worker.

Nothing is written for a healthy task: only a cluster without any worker that takes tasks, for
several seconds, has its queue looked at, a few tasks at a time, since there may be thousands.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from taskctl.api.meta import ObjectKey
from taskctl.controllers.world import World
from taskctl.policy.task import SHOW_UNPLACED_AFTER_S

# Tasks told at a time, and the pause between: bounds the writes to 20 a second and cluster.
_AT_A_TIME: Final = 20
_PAUSE_S: Final = 1.0
# What keeps the workers from coming up may change its words (ErrImagePull, ImagePullBackOff).
_REPEAT_S: Final = 30.0


@dataclass(slots=True)
class _Cluster:
    """What is remembered of a TaskCluster without ready workers.

    Attributes:
        since_s: when that was first seen (monotonic).
        told: UIDs of Tasks that were told, and the message.
        message: what is told now.
        changed_s: when that was last changed (monotonic).
    """

    since_s: float
    told: dict[str, str] = field(default_factory=dict)
    message: str = ""
    changed_s: float = float("-inf")


class Unserved:
    """The TaskClusters that cannot serve their queues.

    Args:
        world: caches, indexes, queues, client.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._clusters: dict[ObjectKey, _Cluster] = {}

    def look(self, key: ObjectKey, *, ready: int, message: str) -> float | None:
        """Take note of a TaskCluster's state; return when to look again, in seconds.

        Args:
            key: the TaskCluster.
            ready: workers that take tasks.
            message: why there are no more, for people.
        """
        queue = self._world.pending.queue(key)
        if ready > 0 or queue is None:
            return self._over(key)
        now_s = self._world.now_s()
        state = self._clusters.setdefault(key, _Cluster(now_s))
        wait_s = state.since_s + SHOW_UNPLACED_AFTER_S - now_s
        if wait_s > 0:
            return wait_s
        if message != state.message and now_s >= state.changed_s + _REPEAT_S:
            state.message, state.changed_s = message, now_s
        self._world.unserved[key] = state.message
        untold = [uid for uid in queue.uids() if state.told.get(uid) != state.message]
        for uid in untold[:_AT_A_TIME]:
            state.told[uid] = state.message
            self._look_at(uid)
        return _PAUSE_S if len(untold) > _AT_A_TIME else SHOW_UNPLACED_AFTER_S

    def _over(self, key: ObjectKey) -> float | None:
        """It serves again: what its Tasks were told is taken back, where they still wait."""
        self._world.unserved.pop(key, None)
        state = self._clusters.get(key)
        if state is None:
            return None
        for uid in list(state.told)[:_AT_A_TIME]:
            del state.told[uid]
            self._look_at(uid)
        if state.told:
            return _PAUSE_S
        del self._clusters[key]
        return None

    def forget(self, key: ObjectKey) -> None:
        """The TaskCluster is gone; its Tasks say so themselves."""
        self._world.unserved.pop(key, None)
        self._clusters.pop(key, None)

    def _look_at(self, uid: str) -> None:
        task = self._world.stores.tasks.get_by_uid(uid)
        if task is not None:
            self._world.queues.tasks.add(ObjectKey.of(task))
