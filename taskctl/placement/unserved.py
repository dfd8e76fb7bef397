"""Which queued Tasks are to say why they wait, as their TaskCluster has no ready worker.

Nothing is written for a healthy task: only a cluster without any worker that takes tasks, for
several seconds, has its queue looked at, a few tasks at a time, since there may be thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from taskctl.objectkey import ObjectKey
from taskctl.policy.task import SHOW_UNPLACED_AFTER_S

# Tasks told at a time, and the pause between: bounds the writes to 20 a second and cluster.
_AT_A_TIME: Final = 20
_PAUSE_S: Final = 1.0
# What keeps the workers from coming up may change its words (ErrImagePull, ImagePullBackOff).
_REPEAT_S: Final = 30.0


@dataclass(slots=True)
class _Silence:
    """What is remembered of a TaskCluster without ready workers.

    Attributes:
        since_s: when that was first seen (monotonic).
        told: UIDs of Tasks that were told, and the message.
        message: what is told now.
        changed_s: when that was last changed (monotonic).
        shown: the Tasks are to say it.
    """

    since_s: float
    told: dict[str, str] = field(default_factory=dict)
    message: str = ""
    changed_s: float = float("-inf")
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Telling:
    """What to do about a TaskCluster's queue.

    Attributes:
        uids: Tasks to look at, as what they should say has changed.
        again_s: count the workers again in so many seconds; None: an event will tell.
    """

    uids: Sequence[str] = ()
    again_s: float | None = None


class Unserved:
    """The TaskClusters that cannot serve their queues."""

    def __init__(self) -> None:
        self._clusters: dict[ObjectKey, _Silence] = {}

    def __len__(self) -> int:
        return len(self._clusters)

    def why(self, key: ObjectKey) -> str:
        """Return why a TaskCluster has had no ready worker for a while; empty: it has."""
        state = self._clusters.get(key)
        return state.message if state is not None and state.shown else ""

    def silent(self, key: ObjectKey, queued: Sequence[str], message: str, now_s: float) -> Telling:
        """Take note that a TaskCluster with a queue has no ready worker.

        Args:
            key: the TaskCluster.
            queued: UIDs of the Tasks in its queue.
            message: why it has none, for people.
            now_s: the time (monotonic).
        """
        state = self._clusters.setdefault(key, _Silence(now_s))
        wait_s = state.since_s + SHOW_UNPLACED_AFTER_S - now_s
        if wait_s > 0:
            return Telling(again_s=wait_s)
        if message != state.message and now_s >= state.changed_s + _REPEAT_S:
            state.message, state.changed_s = message, now_s
        state.shown = True
        untold = [uid for uid in queued if state.told.get(uid) != state.message]
        for uid in untold[:_AT_A_TIME]:
            state.told[uid] = state.message
        again_s = _PAUSE_S if len(untold) > _AT_A_TIME else SHOW_UNPLACED_AFTER_S
        return Telling(untold[:_AT_A_TIME], again_s)

    def served(self, key: ObjectKey) -> Telling:
        """It serves again, or nothing waits: what its Tasks were told is taken back."""
        state = self._clusters.get(key)
        if state is None:
            return Telling()
        state.shown = False
        uids = list(state.told)[:_AT_A_TIME]
        for uid in uids:
            del state.told[uid]
        if state.told:
            return Telling(uids, _PAUSE_S)
        del self._clusters[key]
        return Telling(uids)

    def forget(self, key: ObjectKey) -> None:
        """The TaskCluster is gone; its Tasks say so themselves."""
        self._clusters.pop(key, None)
