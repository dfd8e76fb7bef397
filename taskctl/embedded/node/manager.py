"""Which pods are on this node: one worker for each, and what a former node left on disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

import orjson

from taskctl.backoff import Backoff
from taskctl.embedded.node import removal
from taskctl.embedded.node.api import SPREAD
from taskctl.embedded.node.context import NodeContext
from taskctl.embedded.node.model import Json, PodRef, node_of
from taskctl.embedded.node.scheduler import Scheduler
from taskctl.embedded.node.worker import PodWorker
from taskctl.kube.timing import Pauses

log = logging.getLogger(__name__)

_BACKOFF: Final = Backoff(1.0, 60.0, SPREAD)

_STOP_MARGIN_S: Final = 15.0


class PodManager:
    """Keeps one :class:`PodWorker` per pod of this node. Handles the watch of pods.

    Args:
        context: the node.
        scheduler: gets the pods that have no node.
        group: owns the workers' tasks.
    """

    def __init__(
        self, context: NodeContext, scheduler: Scheduler, group: asyncio.TaskGroup
    ) -> None:
        self._context = context
        self._scheduler = scheduler
        self._group = group
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops = False
        self._synced = False

    # --- what the watch says

    def replace(self, items: list[Json]) -> None:
        """All pods there are: what is not among them is killed and cleaned up."""
        uids = {item["metadata"]["uid"] for item in items}
        for uid, worker in self._workers.items():
            if uid not in uids:
                log.info("pod %s is not in the API any more", worker.ref)
                worker.vanish()
        for item in items:
            self.applied(item)
        self._synced = True

    def applied(self, item: Json) -> None:
        """A pod is new or has changed."""
        uid = item["metadata"]["uid"]
        node = node_of(item)
        if not node:
            self._scheduler.offer(item)
            return
        self._scheduler.withdraw(uid)
        if node == self._context.options.node_name and not self._stops:
            self._worker(PodRef.of(item)).update(item)

    def deleted(self, item: Json) -> None:
        """A pod is gone."""
        uid = item["metadata"]["uid"]
        self._scheduler.withdraw(uid)
        if uid in self._workers:
            self._workers[uid].vanish()

    # --- the node

    def adopt(self) -> None:
        """Take over the pods that are on disk. Blocking, a few small files per container."""
        for path in self._pod_directories():
            ref = _read_ref(path)
            if ref is None:
                log.warning("%s belongs to no pod; removing it", path)
                with contextlib.suppress(OSError):
                    removal.remove_tree(path)
                continue
            self._worker(ref)

    async def stop(self) -> None:
        """End all containers with grace and wait for it."""
        self._stops = True
        for worker in self._workers.values():
            worker.stop_with_node()
        if not self._tasks:
            return
        limit_s = self._context.options.grace_s + _STOP_MARGIN_S
        _, late = await asyncio.wait(self._tasks.values(), timeout=limit_s)
        for task in late:
            log.warning("%s has not ended within %.0f s", task.get_name(), limit_s)
            task.cancel()

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """Return the worker of the newest pod of this name."""
        found = [
            worker
            for worker in self._workers.values()
            if worker.ref.namespace == namespace and worker.ref.name == name
        ]
        return found[-1] if found else None

    def pods(self) -> list[Json] | None:
        """Return the pods of this node as last seen in the API; None before it was asked."""
        if not self._synced:
            return None
        return [worker.pod for worker in self._workers.values() if worker.pod is not None]

    def _worker(self, ref: PodRef) -> PodWorker:
        if ref.uid not in self._workers:
            worker = PodWorker(ref, self._context)
            worker.adopt()
            self._workers[ref.uid] = worker
            self._tasks[ref.uid] = self._group.create_task(self._run(ref.uid), name=f"pod {ref}")
        return self._workers[ref.uid]

    async def _run(self, uid: str) -> None:
        """Run a pod's worker; one that fails is replaced, as its containers are all on disk."""
        pauses = Pauses(_BACKOFF)
        try:
            while True:
                worker = self._workers[uid]
                try:
                    await worker.run()
                except Exception:
                    log.exception("the worker of pod %s failed; starting it again", worker.ref)
                    await asyncio.sleep(pauses.next_s())
                    self._workers[uid] = worker.successor()
                else:
                    return
        finally:
            self._workers.pop(uid, None)
            self._tasks.pop(uid, None)

    def _pod_directories(self) -> list[Path]:
        base = self._context.paths.pods
        if not base.is_dir():
            return []
        return [p for p in sorted(base.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _read_ref(directory: Path) -> PodRef | None:
    try:
        record = orjson.loads((directory / "pod.json").read_bytes())
        return PodRef(record["namespace"], record["name"], record["uid"])
    except (OSError, ValueError, KeyError):
        return None
