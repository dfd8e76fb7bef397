"""Wiring: which kinds are watched, how an event becomes keys, who reconciles them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.meta import ObjectKey
from taskctl.api.states import TaskState
from taskctl.client.base import Client, KubeObject
from taskctl.client.resources import PODS, PVCS, TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.client.timing import SYSTEM_TIMING, Timing
from taskctl.constants import DEFAULT_IMAGE, LABEL_MANAGED_BY, LABEL_OUTPUT_OF
from taskctl.controllers.binder import Binder
from taskctl.controllers.claims import ClaimReconciler
from taskctl.controllers.evidence import EvidenceReconciler
from taskctl.controllers.scheduler import COALESCE_S, Scheduler
from taskctl.controllers.task import TaskReconciler, state_of
from taskctl.controllers.taskcluster import TaskClusterReconciler
from taskctl.controllers.tree import TreeReconciler
from taskctl.controllers.ttl import TtlReconciler
from taskctl.controllers.worker import WorkerEvents
from taskctl.controllers.world import Queues, Stores, World
from taskctl.policy.status import with_generation
from taskctl.policy.taskevents import decide_event
from taskctl.policy.view import parse_task
from taskctl.policy.workeraccess import WorkerAccess
from taskctl.policy.workspace import cluster_name_of
from taskctl.runtime.controller import Controller, ControllerOptions
from taskctl.runtime.events import EventRecorder
from taskctl.runtime.informer import Informer, InformerOptions
from taskctl.runtime.manager import Manager
from taskctl.runtime.metrics import Metrics
from taskctl.runtime.workqueue import WorkQueue

COMPONENT: Final = "taskctl-controller"
_MANAGED: Final = InformerOptions(label_selector=f"{LABEL_MANAGED_BY}=taskctl")
_WAITS: Final = frozenset({TaskState.PENDING, TaskState.SCHEDULED})


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """How the controllers work.

    Attributes:
        namespace: the one to serve; None: all.
        workers: Tasks reconciled at a time.
        coalesce_s: pause between an event and the placing it causes, in seconds.
        host: who we are, for Events.
        access: whether to give workers their account and rights.
        worker_image: image of workers whose TaskCluster names none.
        timing: clock, sleep and chance.
    """

    namespace: str | None = None
    workers: int = 16
    coalesce_s: float = COALESCE_S
    host: str = ""
    access: WorkerAccess = WorkerAccess.MANAGE
    worker_image: str = DEFAULT_IMAGE
    timing: Timing = SYSTEM_TIMING


@dataclass(frozen=True, slots=True)
class Informers:
    """What is watched."""

    tasks: Informer
    objects: Informer
    clusters: Informer
    pods: Informer
    claims: Informer

    def all(self) -> tuple[Informer, ...]:
        """Return all of them; pods and clusters first, as tasks refer to them."""
        return (self.clusters, self.pods, self.claims, self.objects, self.tasks)


class Controllers:
    """All of taskctl's control loops over one client.

    Args:
        client: the API server.
        metrics: where queues and reconciles are counted.
        options: how to work.
    """

    def __init__(
        self, client: Client, metrics: Metrics, options: SetupOptions = SetupOptions()
    ) -> None:
        self._options = options
        self._metrics = metrics
        timing = options.timing
        self.informers = _informers(client, options)
        self.recorder = EventRecorder(
            client, COMPONENT, options.host, timing=timing, dropped=metrics.on_event_dropped
        )
        self.world = World(
            client,
            Stores(
                tasks=self.informers.tasks.store,
                objects=self.informers.objects.store,
                clusters=self.informers.clusters.store,
                pods=self.informers.pods.store,
                claims=self.informers.claims.store,
            ),
            self._queues(timing),
            self.recorder,
            timing=timing,
        )
        self.tasks = TaskReconciler(self.world)
        self.clusters = TaskClusterReconciler(self.world, options.access, options.worker_image)
        self.trees = TreeReconciler(self.world)
        self.ttl = TtlReconciler(self.world)
        self.claims = ClaimReconciler(self.world)
        self.workers = WorkerEvents(self.world)
        self.evidence = EvidenceReconciler(self.world)
        self.scheduler = Scheduler(self.world, Binder(self.world), coalesce_s=options.coalesce_s)
        self._connect()

    def add_to(self, manager: Manager) -> None:
        """Have a manager run everything."""
        for informer in self.informers.all():
            manager.add_informer(informer)
        for controller in self.controllers():
            manager.add_controller(controller)
        manager.add_background("events", self.recorder.run)
        manager.add_background("scheduler", self.scheduler.run, after_sync=True)
        manager.add_at_end("events", self._flush_events)

    def controllers(self) -> list[Controller[Any]]:
        """Return the loops over the queues."""
        options = ControllerOptions(
            observer=self._metrics.on_reconcile, timing=self._options.timing
        )
        queues, workers = self.world.queues, self._options.workers
        return [
            Controller("task", queues.tasks, self.tasks.reconcile, workers, options=options),
            Controller("taskcluster", queues.clusters, self.clusters.reconcile, 4, options=options),
            Controller("evidence", queues.evidence, self.evidence.reconcile, 4, options=options),
            Controller("tree", queues.trees, self.trees.reconcile, 4, options=options),
            Controller("ttl", queues.ttl, self.ttl.reconcile, 4, options=options),
            Controller("claim", queues.claims, self.claims.reconcile, 2, options=options),
        ]

    def _queues(self, timing: Timing) -> Queues:
        observe = self._metrics.queue
        return Queues(
            tasks=WorkQueue("task", timing=timing, observer=observe("task")),
            clusters=WorkQueue("taskcluster", timing=timing, observer=observe("taskcluster")),
            evidence=WorkQueue("evidence", timing=timing, observer=observe("evidence")),
            trees=WorkQueue("tree", timing=timing, observer=observe("tree")),
            ttl=WorkQueue("ttl", timing=timing, observer=observe("ttl")),
            claims=WorkQueue("claim", timing=timing, observer=observe("claim")),
        )

    async def _flush_events(self) -> None:
        await self.recorder.flush(timeout_s=2.0)

    # --- events to keys -----------------------------------------------------------------

    def _connect(self) -> None:
        self.informers.clusters.add_handler(self._on_cluster)
        self.informers.pods.add_handler(self._on_pod)
        self.informers.claims.add_handler(self._on_claim)
        self.informers.objects.add_handler(self._on_object)
        self.informers.tasks.add_handler(self._on_task)

    def _on_task(self, old: KubeObject | None, new: KubeObject | None) -> None:
        obj = new if new is not None else old
        if obj is None:
            return
        world = self.world
        key, uid = ObjectKey.of(obj), obj["metadata"]["uid"]
        world.arrivals.on_task(old, new)
        for cancelled in world.families.on_task(old, new):
            world.queues.tasks.add(cancelled)
        world.ledger.on_task(uid)
        self.trees.on_task(old, new)
        self.ttl.on_task(old, new)
        before = None if old is None else state_of(old)
        after = None if new is None else state_of(new)
        if before is not after:
            self._tell_waiting(key, before, after)
            if after is None or after.terminal:
                self.claims.on_task_over(obj)
        if world.leading and old is not None and new is not None:
            warning = decide_event(old.get("status") or {}, new.get("status") or {})
            if warning is not None:
                world.warn(new, warning.reason, warning.message)
        if after not in _WAITS:
            world.pending.discard(uid)
            world.pending.release(uid)
            world.waiting.clear(key)
            world.backoffs.drop(uid)
        if new is None:
            awaited = world.waiting.is_awaited(key)
            world.cycles.deleted(key.namespace, key.name, awaited=awaited)
        elif after in _WAITS or self._needs_look(new, after):
            world.queues.tasks.add(key)

    def _needs_look(self, task: KubeObject, state: TaskState | None) -> bool:
        """Whether a Running Task's worker needs looking into, or a status lags behind its spec."""
        view = parse_task(task)
        ails = state is TaskState.RUNNING and not self.world.ledger.runs_well(view)
        return ails or with_generation(view, None) is not None

    def _tell_waiting(
        self, key: ObjectKey, before: TaskState | None, after: TaskState | None
    ) -> None:
        world = self.world
        if not world.waiting.is_awaited(key):
            return
        if after is not None and after.terminal:
            waiters = world.waiting.task_ended(key, after)
        elif before is not None and (before.terminal or after is None):
            waiters = world.waiting.task_reopened(key)
        else:
            return
        for waiter in list(waiters):
            world.queues.tasks.add(waiter)

    def _on_object(self, old: KubeObject | None, new: KubeObject | None) -> None:
        if old is None and new is not None:
            for waiter in self.world.waiting.for_input(ObjectKey.of(new)):
                self.world.queues.tasks.add(waiter)

    def _on_cluster(self, old: KubeObject | None, new: KubeObject | None) -> None:
        obj = new if new is not None else old
        if obj is None:
            return
        world, key = self.world, ObjectKey.of(obj)
        self.claims.on_cluster(old, new)
        if new is None:
            self.clusters.forget(obj)
            for worker in world.ledger.workers_of(obj["metadata"]["uid"]):
                world.queues.evidence.add(worker.pod.uid)
        else:
            world.queues.clusters.add(key)
            world.wakeups.wake(key)
        if old is None or new is None or _generation(old) != _generation(new):
            for waiter in world.waiting.for_cluster(key):
                world.queues.tasks.add(waiter)
            for task in self._queued_for(key):
                world.queues.tasks.add(task)

    def _queued_for(self, cluster: ObjectKey) -> list[ObjectKey]:
        """The Tasks queued for a TaskCluster that has changed: a rare event, so O(queue)."""
        queue = self.world.pending.queue(cluster)
        if queue is None:
            return []
        found = (self.world.stores.tasks.get_by_uid(uid) for uid in queue.uids())
        return [ObjectKey.of(task) for task in found if task is not None]

    def _on_pod(self, old: KubeObject | None, new: KubeObject | None) -> None:
        first_list = not self.informers.pods.synced.is_set()
        self.workers.on_pod(old, new, first_list=first_list)

    def _on_claim(self, old: KubeObject | None, new: KubeObject | None) -> None:
        obj = new if new is not None else old
        if obj is None:
            return
        self.claims.on_claim(old, new)
        name = cluster_name_of(obj["metadata"]["name"])
        if name:
            self.world.queues.clusters.add(ObjectKey(obj["metadata"]["namespace"], name))


def _informers(client: Client, options: SetupOptions) -> Informers:
    namespace, timing = options.namespace, options.timing
    return Informers(
        tasks=Informer(client, TASKS, namespace, timing=timing),
        # Only whether they exist matters here; their values may be large.
        objects=Informer(
            client,
            TASKOBJECTS,
            namespace,
            options=InformerOptions(metadata_only=True),
            transform=_bare,
            timing=timing,
        ),
        clusters=Informer(client, TASKCLUSTERS, namespace, timing=timing),
        pods=Informer(client, PODS, namespace, options=_MANAGED, timing=timing),
        claims=Informer(client, PVCS, namespace, options=_MANAGED, timing=timing),
    )


def _bare(obj: KubeObject) -> KubeObject:
    """Keep what names an object and orders its versions, and which Task it is the output of."""
    metadata: Mapping[str, Any] = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion")
    bare = {field: metadata[field] for field in kept if field in metadata}
    maker = (metadata.get("labels") or {}).get(LABEL_OUTPUT_OF)
    if maker:
        bare["labels"] = {LABEL_OUTPUT_OF: maker}
    return {"metadata": bare}


def _generation(obj: KubeObject) -> int:
    return int(obj["metadata"].get("generation") or 0)
