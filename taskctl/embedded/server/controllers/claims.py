"""A PersistentVolumeClaim stays while a pod uses it.

Kubernetes' ``pkg/controller/volume/pvcprotection``: without it, deleting a claim would pull the
volume from under running containers.
"""

from __future__ import annotations

from typing import Final

from taskctl.embedded.server.controllers.background import KeyWorker
from taskctl.embedded.server.core import Core
from taskctl.embedded.server.pods.strategy import PODS
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.storage.records import Event, EventType
from taskctl.embedded.server.strategies.builtin import CLAIM_FINALIZER

_CLAIMS: Final = Resource("", "persistentvolumeclaims")
_Key = tuple[str, str]


class ClaimProtection:
    """Lets deleted claims go once no pod uses them."""

    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._waiting: set[_Key] = set()
        self._queue: KeyWorker[_Key] = KeyWorker("claim protection", core.store, self._attend)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def scan(self) -> None:
        """Queue the claims that a stopped server was still deleting."""
        for record in self._store.records(_CLAIMS):
            if record.deleting:
                self._queue.add((record.namespace, record.name))

    def notice(self, event: Event) -> None:
        """Queue the claims that an event concerns. A listener of the store."""
        record = event.record
        if record.resource == _CLAIMS:
            key = (record.namespace, record.name)
            if event.type is EventType.DELETED:
                self._waiting.discard(key)
            elif record.deleting:
                self._queue.add(key)
        elif record.resource == PODS and self._waiting:
            for key in self._waiting:
                if key[0] == record.namespace:
                    self._queue.add(key)

    def _attend(self, key: _Key) -> None:
        record = self._store.get(_CLAIMS, *key)
        if record is None or not record.deleting:
            return
        if self._in_use(*key):
            self._waiting.add(key)
            return
        self._waiting.discard(key)
        obj = record.load()
        finalizers = obj["metadata"].get("finalizers") or []
        obj["metadata"]["finalizers"] = [name for name in finalizers if name != CLAIM_FINALIZER]
        self._store.update(_CLAIMS, obj, uid=record.uid)

    def _in_use(self, namespace: str, name: str) -> bool:
        for record in self._store.records(PODS, namespace):
            if record.fields.get("status.phase") in ("Succeeded", "Failed"):
                continue
            spec: Json = record.load().get("spec") or {}
            if not spec.get("nodeName"):
                # As upstream: no scheduler places it while the claim is being deleted, and no
                # node starts it then. Each would wait for the other.
                continue
            for volume in spec.get("volumes") or ():
                claim = volume.get("persistentVolumeClaim") or {}
                if claim.get("claimName") == name:
                    return True
        return False
