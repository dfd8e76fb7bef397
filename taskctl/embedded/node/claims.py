"""PersistentVolumeClaims: each gets a directory, which goes when the claim does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from taskctl import beneath
from taskctl.backoff import Backoff
from taskctl.embedded.node import binding, removal
from taskctl.embedded.node.api import SPREAD, core_path
from taskctl.embedded.node.context import NodeContext
from taskctl.embedded.node.events import EventReason, Subject
from taskctl.embedded.node.model import Json
from taskctl.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound
from taskctl.kube.timing import Pauses

log = logging.getLogger(__name__)

_BACKOFF: Final = Backoff(0.1, 10.0, SPREAD)
# How often it is looked whether the last pod of a deleted claim has gone.
_IN_USE_RETRY_S: Final = 1.0


class WatchedObjects:
    """What a watch has shown of one kind, by UID.

    Args:
        on_change: called after each change.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.items: dict[str, Json] = {}
        self.synced = False
        self._listeners = [on_change]

    def listen(self, on_change: Callable[[], None]) -> None:
        """Have a further function called after each change."""
        self._listeners.append(on_change)

    def _on_change(self) -> None:
        for listener in self._listeners:
            listener()

    def find(self, namespace: str, name: str) -> Json | None:
        """Return the object of that name, or None. Costs O(objects)."""
        for item in self.items.values():
            meta = item["metadata"]
            if meta["name"] == name and meta.get("namespace") == namespace:
                return item
        return None

    def replace(self, items: list[Json]) -> None:
        """All objects there are."""
        self.items = {item["metadata"]["uid"]: item for item in items}
        self.synced = True
        self._on_change()

    def applied(self, item: Json) -> None:
        """An object is new or has changed."""
        self.items[item["metadata"]["uid"]] = item
        self._on_change()

    def deleted(self, item: Json) -> None:
        """An object is gone."""
        self.items.pop(item["metadata"]["uid"], None)
        self._on_change()


class ClaimBinder:
    """Binds claims and cleans up after them.

    ``claims``, ``volumes`` and ``classes`` (StorageClasses) are told by ObjectFeeds.

    Args:
        context: the node.
        pods: returns the pods of this node, to see which claims are in use; None when that is
            not known yet.
    """

    def __init__(self, context: NodeContext, pods: Callable[[], list[Json] | None]) -> None:
        self._context = context
        self._pods = pods
        self._wake = asyncio.Event()
        self.claims = WatchedObjects(self._wake.set)
        self.volumes = WatchedObjects(self._wake.set)
        self.classes = WatchedObjects(self._wake.set)
        self._told: set[str] = set()
        self._waiting: set[str] = set()

    async def run(self) -> None:
        """Bind and reclaim until cancelled."""
        pauses = Pauses(_BACKOFF)
        delay_s: float | None = None
        while True:
            try:
                async with asyncio.timeout(delay_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if not (self.claims.synced and self.volumes.synced and self.classes.synced):
                delay_s = None
                continue
            try:
                delay_s = await self._pass()
            except (Conflict, NotFound):
                delay_s = pauses.next_s()  # another client was faster; the watch brings the news
            except ApiError as error:
                delay_s = max(pauses.next_s(), error.retry_after_s)
                log.warning("claims: %s; next try in %.1f s", error, delay_s)
            except OSError as error:
                delay_s = pauses.next_s()
                log.error("claims: %s; next try in %.1f s", error, delay_s)
            else:
                pauses.reset()

    async def _pass(self) -> float | None:
        """Look at every claim and every volume; returns when to look again, in seconds."""
        self._told &= self.claims.items.keys()
        self._waiting &= self.claims.items.keys()
        for claim in list(self.claims.items.values()):
            if not binding.is_bound(claim) and not claim["metadata"].get("deletionTimestamp"):
                await self._bind(claim)
        delay_s = None
        for volume in list(self.volumes.items.values()):
            if self._is_orphan(volume):
                if self._in_use(volume):
                    delay_s = _IN_USE_RETRY_S
                else:
                    await self._reclaim(volume)
        return delay_s

    # --- binding

    async def _bind(self, claim: Json) -> None:
        meta = claim["metadata"]
        if self.waits_for_pod(claim) and not binding.is_awaited(claim):
            self._say_that_it_waits(claim)
            return
        volume = binding.match(claim, self.volumes.items.values())
        if volume is None and binding.may_provision(claim, self.classes.items.values()):
            volume = await self._provision(claim)
        if volume is None:
            self._explain(claim)
            return
        if (volume["spec"].get("claimRef") or {}).get("uid") != meta["uid"]:
            reserve: Json = {"spec": {"claimRef": binding.claim_ref(claim)}}
            path = core_path("persistentvolumes", name=volume["metadata"]["name"])
            volume = await self._context.api.patch(path, reserve)
        await self._write_phase(volume, "Bound")
        path = core_path("persistentvolumeclaims", meta["namespace"], meta["name"])
        await self._context.api.patch(
            path,
            {
                "metadata": {
                    "uid": meta["uid"],
                    "annotations": {binding.BIND_COMPLETED: "yes"},
                },
                "spec": {"volumeName": volume["metadata"]["name"]},
            },
        )
        status = {
            "phase": "Bound",
            "accessModes": volume["spec"].get("accessModes") or [],
            "capacity": volume["spec"].get("capacity") or {},
        }
        body: Json = {"metadata": {"uid": meta["uid"]}, "status": status}
        bound = await self._context.api.patch(f"{path}/status", body)
        self.claims.items[meta["uid"]] = bound

    async def _provision(self, claim: Json) -> Json:
        directory = self._directory_for(claim)
        await asyncio.to_thread(_make_directory, directory)
        volume = binding.new_volume(claim, str(directory))
        try:
            volume = await self._context.api.create(core_path("persistentvolumes"), volume)
        except AlreadyExists:
            name = volume["metadata"]["name"]
            volume = await self._context.api.get(core_path("persistentvolumes", name=name))
        self.volumes.items[volume["metadata"]["uid"]] = volume
        message = f"made directory {directory}"
        subject = _subject("PersistentVolumeClaim", claim)
        self._context.events.tell(subject, EventReason.PROVISIONING_SUCCEEDED, message)
        return volume

    def _directory_for(self, claim: Json) -> Path:
        """``<namespace>/<name>``, unless a volume that outlived its claim has it."""
        meta = claim["metadata"]
        plain: Path = self._context.paths.claims / meta["namespace"] / meta["name"]
        for volume in self.volumes.items.values():
            if _path_of(volume) == str(plain) and not binding.belongs_to(volume, claim):
                return plain.with_name(f"{meta['name']}-{meta['uid'][:8]}")
        return plain

    def _explain(self, claim: Json) -> None:
        uid = claim["metadata"]["uid"]
        if uid not in self._told:
            self._told.add(uid)
            self._context.events.warn(
                _subject("PersistentVolumeClaim", claim),
                EventReason.PROVISIONING_FAILED,
                binding.explanation(claim),
            )

    def _say_that_it_waits(self, claim: Json) -> None:
        uid = claim["metadata"]["uid"]
        if uid not in self._waiting:
            self._waiting.add(uid)
            subject = _subject("PersistentVolumeClaim", claim)
            reason = EventReason.WAIT_FOR_FIRST_CONSUMER
            self._context.events.tell(subject, reason, binding.WAITS_MESSAGE)

    def waits_for_pod(self, claim: Json) -> bool:
        """Whether the claim is bound only once a pod that uses it is placed."""
        return binding.waits_for_pod(claim, self.classes.items.values())

    def can_bind(self, claim: Json) -> bool:
        """Whether there is a volume for the claim, or can be one."""
        return binding.may_provision(claim, self.classes.items.values()) or (
            binding.match(claim, self.volumes.items.values()) is not None
        )

    # --- reclaiming

    def _is_orphan(self, volume: Json) -> bool:
        uid = (volume["spec"].get("claimRef") or {}).get("uid")
        released = (volume.get("status") or {}).get("phase") == "Released"
        keeps = volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete"
        return bool(uid) and uid not in self.claims.items and not (released and keeps)

    def _in_use(self, volume: Json) -> bool:
        ref = volume["spec"]["claimRef"]
        pods = self._pods()
        if pods is None:
            return True  # for all we know
        for pod in pods:
            if pod["metadata"].get("namespace") != ref["namespace"]:
                continue
            for entry in pod["spec"].get("volumes") or ():
                claim = entry.get("persistentVolumeClaim") or {}
                if claim.get("claimName") == ref["name"]:
                    return True
        return False

    async def _reclaim(self, volume: Json) -> None:
        meta = volume["metadata"]
        path = core_path("persistentvolumes", name=meta["name"])
        await self._write_phase(volume, "Released")
        if volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete":
            return
        # Only directories that this node has made are its to remove.
        if (meta.get("annotations") or {}).get(binding.PROVISIONED_BY) == binding.PROVISIONER:
            directory = Path(_path_of(volume))
            if directory.is_relative_to(self._context.paths.claims):
                await asyncio.to_thread(_remove_directory, directory, meta["uid"])
        await self._context.api.delete(path, meta["uid"])
        self.volumes.items.pop(meta["uid"], None)

    async def _write_phase(self, volume: Json, phase: str) -> None:
        if (volume.get("status") or {}).get("phase") == phase:
            return
        path = core_path("persistentvolumes", name=volume["metadata"]["name"], sub="status")
        body: Json = {"metadata": {"uid": volume["metadata"]["uid"]}, "status": {"phase": phase}}
        try:
            updated = await self._context.api.patch(path, body)
        except Invalid as error:
            raise Conflict(str(error), status=error.status) from error  # another of this name
        self.volumes.items[updated["metadata"]["uid"]] = updated


def _path_of(volume: Json) -> str:
    return str((volume["spec"].get("hostPath") or {}).get("path") or "")


def _subject(kind: str, item: Json) -> Subject:
    meta = item["metadata"]
    return Subject(kind, meta.get("namespace", ""), meta["name"], meta["uid"])


def _make_directory(path: Path) -> None:
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    beneath.set_mode(path, 0o777)


def _remove_directory(path: Path, uid: str) -> None:
    """Put the directory aside first: a new claim of the same name gets an empty one at once."""
    if path.is_dir():
        aside = path.with_name(f".removing-{uid}")
        path.rename(aside)
        path = aside
        removal.remove_tree(path)
