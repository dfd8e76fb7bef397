"""Asks for the access modes of claims that a TaskCluster names, and that no watch shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from taskctl.controllers.cachedapi import CachedApi
from taskctl.errors import NotFound
from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import PVCS
from taskctl.objectkey import ObjectKey
from taskctl.policy.colocation import Sharing, named_claims, sharing_of
from taskctl.policy.workspace import plan_workspace

# A claim that is not there yet may come at any moment. The modes of one that is there cannot be
# changed, but another of its name may take its place.
_LOOK_S: Final = 10.0
_RECHECK_S: Final = 300.0


@dataclass(slots=True)
class _Known:
    """Access modes by name of the claim (None: it is not there), and when that was seen."""

    modes: dict[str, tuple[Sequence[str] | None, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SharedClaims:
    """What the claims of a TaskCluster's workers allow.

    Attributes:
        sharing: whether their workers may be on several nodes.
        look_again_s: when to ask again, in seconds; None: there is nothing to ask.
    """

    sharing: Sharing = Sharing.NOTHING
    look_again_s: float | None = None


class SharedClaimsReader:
    """Knows what the claims of TaskClusters allow.

    Args:
        api: the API server and its caches.
    """

    def __init__(self, api: CachedApi) -> None:
        self._api = api
        self._known: dict[str, _Known] = {}

    def forget(self, uid: str) -> None:
        """Forget a TaskCluster that is gone."""
        self._known.pop(uid, None)

    async def read(self, cluster: KubeObject) -> SharedClaims:
        """Return what the claims of a TaskCluster allow together.

        Raises:
            ApiError: the API server refused, or did not answer. Guessing would replace workers.
        """
        metadata = cluster["metadata"]
        own = plan_workspace(cluster).claim
        found: list[Sequence[str] | None] = []
        if own is not None:
            found.append(own["spec"]["accessModes"])
        names = named_claims(cluster)
        if not names:
            self.forget(metadata["uid"])
            return SharedClaims(sharing_of(found))
        known = self._known.setdefault(metadata["uid"], _Known())
        for gone in set(known.modes).difference(names):
            del known.modes[gone]
        again_s = _RECHECK_S
        for name in names:
            modes, due_s = await self._modes(known, ObjectKey(metadata["namespace"], name))
            found.append(modes)
            again_s = min(again_s, due_s)
        return SharedClaims(sharing_of(found), again_s)

    async def _modes(self, known: _Known, key: ObjectKey) -> tuple[Sequence[str] | None, float]:
        """Return the modes of a claim, and in how many seconds to ask again."""
        now_s = self._api.now_s()
        modes, at_s = known.modes.get(key.name, (None, float("-inf")))
        wait_s = at_s + (_LOOK_S if modes is None else _RECHECK_S) - now_s
        if wait_s > 0:
            return modes, wait_s
        claim = self._api.caches.claims.get(key)
        if claim is None:
            try:
                claim = await self._api.client.get(PVCS, key.name, key.namespace)
            except NotFound:
                claim = None
        if claim is not None:
            modes = tuple(claim["spec"].get("accessModes") or ())
        # One that has gone keeps what it allowed: workers that run need not be replaced for it.
        known.modes[key.name] = (modes, now_s)
        return modes, _LOOK_S if modes is None else _RECHECK_S
