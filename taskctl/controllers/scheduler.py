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
from taskctl.controllers.placements import Worker
from taskctl.controllers.world import World
from taskctl.policy.entry import Ticket, build_entry
from taskctl.policy.placement import Assignment, Snapshot, place
from taskctl.policy.view import TaskView
from taskctl.policy.workerpod import parse_frame, worker_prefix
from taskctl.policy.workers import cluster_max_tasks, cluster_slots, soft_limit

log = logging.getLogger(__name__)

COALESCE_S: Final = 0.003


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What a cycle has to know of a TaskCluster."""

    key: ObjectKey
    uid: str
    prefix: str
    slots: int
    max_tasks: int


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
            slots=cluster.slots,
            workers=world.ledger.worker_states(cluster.uid, cluster.prefix, cluster.max_tasks),
            now_s=world.now_s(),
        )
        decided = place(queue, snapshot)
        if not decided.assignments:
            return []
        world.pending.taken(key, [assignment.task.uid for assignment in decided.assignments])
        batches: dict[str, Batch] = {}
        for assignment in decided.assignments:
            self._assume(cluster, assignment, batches)
        for batch in batches.values():
            batch.worker.in_flight = True
            if len(batch.worker.names) >= soft_limit(cluster.max_tasks, cluster.slots):
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
            world.pending.hold(uid, world.now_s(), "", refused=False)
            world.queues.tasks.add(task_key)
            return
        batch = batches.get(worker.pod.uid)
        if batch is None:
            batch = batches[worker.pod.uid] = Batch(cluster.key, worker, [])
        batch.items.append(item)

    def _item(self, worker: Worker, view: TaskView) -> Item | None:
        frame = parse_frame(worker.raw)
        if frame is None:
            log.warning("worker %s has no task frame; it was not made by taskctl", worker.pod.name)
            return None
        placed = self._world.timing.clock.now()
        attempt = self._world.ledger.assume(worker, view, placed)
        if attempt is None:
            log.warning(
                "worker %s had attempt %d of %s before; not placed there again",
                worker.pod.name,
                view.next_attempt,
                view.name,
            )
            return None
        ticket = Ticket(attempt.number, self._world.nonce(), format_micro(placed))
        return Item(view.uid, attempt, build_entry(view, ticket, frame))


def _read_cluster(key: ObjectKey, raw: Mapping[str, Any]) -> _Cluster:
    return _Cluster(
        key=key,
        uid=raw["metadata"]["uid"],
        prefix=worker_prefix(raw),
        slots=cluster_slots(raw),
        max_tasks=cluster_max_tasks(raw),
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
