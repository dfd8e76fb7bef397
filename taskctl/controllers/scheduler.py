"""Places ready tasks: snapshot, decide, assume, write; undo what was not written.

A cycle follows every event that may matter (a task became ready, a slot became free, a
worker came up), a few milliseconds later, so that what happens together is placed together.
Each worker has one batch in flight at most; the queue gathers the next one meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.meta import ObjectKey
from taskctl.api.states import TaskState
from taskctl.clock import format_micro
from taskctl.controllers.binder import Batch, Binder, Item
from taskctl.controllers.pending import HoldKind
from taskctl.controllers.workerstate import Worker
from taskctl.controllers.world import World
from taskctl.placement.choice import Assignment, Snapshot, place
from taskctl.placement.fleet import cluster_max_tasks, cluster_slots, serial_of
from taskctl.placement.rest import after_batch
from taskctl.placement.rotation import ENTRY_LIMIT_BYTES, Rotation
from taskctl.policy.entry import Ticket, build_entry, json_bytes
from taskctl.policy.view import TaskView
from taskctl.policy.workerpod import parse_frame, worker_prefix

log = logging.getLogger(__name__)

COALESCE_S: Final = 0.003


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What a cycle has to know of a TaskCluster."""

    key: ObjectKey
    uid: str
    prefix: str
    rotation: Rotation


class Scheduler:
    """Hands ready tasks to workers.

    Args:
        world: caches, indexes, queues, client.
        binder: writes the batches.
        coalesce_s: pause between an event and the cycle it causes.
    """

    def __init__(self, world: World, binder: Binder, *, coalesce_s: float = COALESCE_S) -> None:
        self._world = world
        self._binder = binder
        self._coalesce_s = coalesce_s

    async def run(self) -> None:
        """Place tasks until cancelled."""
        self._world.leading = True
        async with asyncio.TaskGroup() as group:
            while True:
                await self._world.wakeups.event.wait()
                await self._world.timing.sleep(self._coalesce_s)
                for key in self._world.wakeups.take():
                    for batch in self.cycle(key):
                        name = f"bind-{batch.worker.pod.name}"
                        group.create_task(self._binder.bind(batch), name=name)

    def cycle(self, key: ObjectKey) -> list[Batch]:
        """Decide on the queue of one TaskCluster; what is returned is assumed and must be bound."""
        world = self._world
        queue = world.pending.queue(key)
        raw = world.stores.clusters.get(key)
        if queue is None or raw is None:
            return []
        cluster = _read_cluster(key, raw)
        snapshot = Snapshot(
            slots=cluster.rotation.slots,
            workers=world.ledger.worker_states(cluster.uid, cluster.prefix, cluster.rotation),
            now_s=world.now_s(),
        )
        decided = place(queue, snapshot)
        if not decided.assignments:
            return []
        world.pending.taken(key, [assignment.task.uid for assignment in decided.assignments])
        batches: dict[str, Batch] = {}
        for assignment in decided.assignments:
            self._assume(cluster, assignment, batches)
        queued = world.queued_per_worker(key, cluster.uid)
        for batch in batches.values():
            worker = batch.worker
            worker.in_flight = True
            worker.rest = after_batch(worker.rest, world.now_s())
            serial = serial_of(worker.pod.name, cluster.prefix)
            if cluster.rotation.nears_end(worker.wear(world.now_s(), queued), serial):
                world.queues.clusters.add(key)  # its replacement should be on its way
        return list(batches.values())

    def _assume(self, cluster: _Cluster, assignment: Assignment, batches: dict[str, Batch]) -> None:
        world = self._world
        uid = assignment.task.uid
        view = world.task_by_uid(uid)
        worker = world.ledger.worker(assignment.worker_uid)
        if view is None or worker is None:
            return  # the event that removed it has seen to the rest
        task_key = ObjectKey(view.namespace, view.name)
        if not _may_be_placed(view, cluster.key) or world.ledger.is_placed(uid, view.next_attempt):
            world.queues.tasks.add(task_key)
            return
        item = self._item(worker, view)
        if item is None:
            world.queues.tasks.add(task_key)
            return
        batch = batches.get(worker.pod.uid)
        if batch is None:
            batch = batches[worker.pod.uid] = Batch(cluster.key, worker, [])
        batch.items.append(item)

    def _item(self, worker: Worker, view: TaskView) -> Item | None:
        """Make the entry and assume it; None: it cannot be placed there, and is held back."""
        world = self._world
        frame = parse_frame(worker.raw)
        if frame is None:
            why = f"worker {worker.pod.name} has no task frame; it was not made by taskctl"
            self._hold(view, why, HoldKind.FAILED)
            return None
        placed = world.timing.clock.now()
        ticket = Ticket(view.next_attempt, world.nonce(), format_micro(placed))
        entry = build_entry(view, ticket, frame)
        size_bytes = json_bytes(entry)
        if size_bytes > ENTRY_LIMIT_BYTES:
            why = (
                f"it takes {size_bytes} bytes in the worker's pod, and may take "
                f"{ENTRY_LIMIT_BYTES}; shorten spec.env."
            )
            self._hold(view, why, HoldKind.INVALID)
            return None
        attempt = world.ledger.assume(worker, view, placed)
        if attempt is None:
            why = f"worker {worker.pod.name} had attempt {view.next_attempt} before"
            self._hold(view, why, HoldKind.FAILED)
            return None
        world.ledger.grow(worker, attempt, size_bytes)
        return Item(view.uid, attempt, entry)

    def _hold(self, view: TaskView, why: str, kind: HoldKind) -> None:
        log.warning("task %s is not placed: %s", view.name, why)
        self._world.pending.hold(view.uid, self._world.now_s(), why, kind)


def _read_cluster(key: ObjectKey, raw: Mapping[str, Any]) -> _Cluster:
    return _Cluster(
        key=key,
        uid=raw["metadata"]["uid"],
        prefix=worker_prefix(raw),
        rotation=Rotation(cluster_max_tasks(raw), cluster_slots(raw)),
    )


def _may_be_placed(view: TaskView, cluster: ObjectKey) -> bool:
    """Whether the Task, as it is now, still is what was queued."""
    return (
        not view.deleting
        and view.state in (TaskState.PENDING, TaskState.SCHEDULED)
        and not view.cancel
        and not view.suspend
        and view.cluster == cluster.name
    )
