"""Asks the Events why a TaskCluster's workers do not come up.

A kubelet that cannot mount a volume says ContainerCreating or PodInitializing of the containers,
and why in an Event; of a claim that gets no volume, too, only an Event tells. They are asked for
only while workers are missing, a few objects at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from taskctl.controllers.cachedapi import CachedApi
from taskctl.errors import ApiError, Forbidden
from taskctl.kube.interface import ListOptions
from taskctl.kube.resources import EVENTS
from taskctl.policy.eventwords import newest_words

log = logging.getLogger(__name__)

# A worker needs a moment to start; the first Event of a failed mount comes with the first try.
_AFTER_S: Final = 2.0
_EVERY_S: Final = 5.0
_EVERY_FORBIDDEN_S: Final = 300.0
_AT_A_TIME: Final = 3
_MAX_EVENTS: Final = 100


@dataclass(frozen=True, slots=True)
class TroubledObject:
    """An object whose Events may say what is wrong.

    Attributes:
        uid: of the object.
        normal: Events that are not warnings tell it too.
    """

    uid: str
    normal: bool = False


@dataclass(slots=True)
class _Asked:
    """What is remembered of a TaskCluster without all its workers.

    Attributes:
        next_s: when to ask next (monotonic).
        words: what was found, by UID of the object.
    """

    next_s: float
    words: dict[str, str] = field(default_factory=dict)


class Troubles:
    """The TaskClusters whose workers do not come up.

    Args:
        api: the API server and its caches.
    """

    def __init__(self, api: CachedApi) -> None:
        self._api = api
        self._clusters: dict[str, _Asked] = {}

    def forget(self, uid: str) -> None:
        """Forget a TaskCluster that is gone, or has its workers."""
        self._clusters.pop(uid, None)

    async def look(
        self, uid: str, namespace: str, subjects: Sequence[TroubledObject]
    ) -> tuple[Mapping[str, str], float]:
        """Return what is wrong, by UID of the object, and when to look again, in seconds.

        Args:
            uid: of the TaskCluster.
            namespace: its namespace.
            subjects: what to ask about; the first few are.
        """
        now_s = self._api.now_s()
        state = self._clusters.setdefault(uid, _Asked(now_s + _AFTER_S))
        if now_s >= state.next_s:
            asked = subjects[:_AT_A_TIME]
            state.next_s = now_s + _EVERY_S
            try:
                state.words = {one.uid: await self._ask(namespace, one) for one in asked}
            except Forbidden as error:
                # Rights of an earlier version. What the objects themselves say must do.
                log.info("Events in %s cannot be read: %s", namespace, error)
                state.next_s = now_s + _EVERY_FORBIDDEN_S
            except ApiError as error:
                log.debug("Events in %s: %s", namespace, error)
        return state.words, max(state.next_s - now_s, 0.0)

    async def _ask(self, namespace: str, subject: TroubledObject) -> str:
        selector = f"involvedObject.uid={subject.uid}"
        options = ListOptions(field_selector=selector, limit=_MAX_EVENTS)
        page = await self._api.client.list(EVENTS, namespace, options=options)
        return newest_words(page.items, subject.uid, normal=subject.normal)
