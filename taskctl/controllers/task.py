"""Reconciles Tasks: load the facts, ask the policy, carry out its plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.api.states import TaskState
from taskctl.constants import (
    ANNOTATION_STOP_REASON,
    ANNOTATION_STOPPED_BY,
    FIELD_MANAGER,
    LABEL_OUTPUT_OF,
    Reason,
)
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.graph import GraphStarter
from taskctl.controllers.indexes import TaskIndexes
from taskctl.controllers.joins import Joins
from taskctl.controllers.placer import Placer
from taskctl.controllers.queues import Queues, look_again
from taskctl.controllers.runclusters import RunClusterMaker
from taskctl.errors import NotFound
from taskctl.kube.controller import DONE, Result
from taskctl.kube.interface import ListOptions, PatchOptions
from taskctl.kube.resources import PODS
from taskctl.objectkey import ObjectKey
from taskctl.placement.events import TaskReady, TaskUnready
from taskctl.placement.fleet import cluster_slots
from taskctl.placement.pending import MAX_REFUSALS
from taskctl.placement.queue import PendingTask
from taskctl.policy.lineage import OUTPUT_SUFFIX
from taskctl.policy.readiness import InputTask, ReadinessFacts, unfit_for_cluster
from taskctl.policy.resources import OPEN_WORKERS, cluster_resources, requested
from taskctl.policy.runafter import Dependency
from taskctl.policy.runcluster import run_of
from taskctl.policy.runclusterrule import RunClusters
from taskctl.policy.task import HeldFacts, TaskFacts, decide_task
from taskctl.policy.view import TaskView, parse_task

# Our view of the pods was behind: the watch should bring the pod before that.
_STALE_POD_LOOK_S = 1.0
_STALE_INPUT_LOOK_S = 1.0
_CANCEL = PatchOptions(idempotent=True, field_manager=FIELD_MANAGER)


class TaskReconciler:
    """Brings one Task a step further.

    Args:
        api: the API server and its caches.
        queues: keys to reconcile.
        indexes: what is known of Tasks.
        placer: the placement machine.
        run_clusters: which TaskClusters are made for single runs.
    """

    def __init__(
        self,
        api: CachedApi,
        queues: Queues,
        indexes: TaskIndexes,
        placer: Placer,
        *,
        run_clusters: RunClusters = RunClusters.PLAIN,
    ) -> None:
        self._api = api
        self._caches = api.caches
        self._queues = queues
        self._indexes = indexes
        self._placer = placer
        self._runs = RunClusterMaker(api, run_clusters)
        self._graphs = GraphStarter(api, queues.trees)
        self.joins = Joins(api.caches.tasks, indexes.waiting, indexes.cycles, queues.tasks)

    async def reconcile(self, key: ObjectKey) -> Result:
        """Decide on the Task of that name and carry the decision out.

        Raises:
            Conflict: the Task has changed meanwhile.
            ApiError: the API server refused, or did not answer.
        """
        task = self._caches.tasks.get(key)
        if task is None:
            return DONE  # the event handler has cleared up
        view = self._caches.filled(parse_task(task))
        facts = self._facts(view)
        if facts.worker is not None and facts.worker.gone and not await self._surely_gone(view):
            return Result(_STALE_POD_LOOK_S)
        if await self._input_is_late(view, facts.readiness):
            return Result(_STALE_INPUT_LOOK_S)
        plan = decide_task(view, facts, self._api.timing.clock.now())
        if plan.no_cluster:
            facts = await self._make_cluster(view, facts)
            plan = decide_task(view, facts, self._api.timing.clock.now())
            task = self._caches.tasks.get(key) or task
        self._note_waiting(key, view, facts)
        if plan.cancel:
            await self._cancel(view, facts.readiness)
        if plan.queue and view.is_graph:
            return await self._graphs.start(task, view)
        if not plan.queue:
            self._placer.tell(TaskUnready(view.uid))
        if plan.patch is not None:
            if await self._api.write_status(TASKS, task, plan.patch) is None:
                return DONE
            if _ends(plan.patch):
                self._tell_cycle(view, facts.readiness.cycle)
        if plan.queue:
            cluster = ObjectKey(view.namespace, view.cluster)
            self._placer.tell(TaskReady(self._pending_task(view), key, cluster))
        return look_again(plan.requeue_after_s)

    async def _make_cluster(self, view: TaskView, facts: TaskFacts) -> TaskFacts:
        """Make the TaskCluster of the Task's run, if it waits for that; return what is so now."""
        made = await self._runs.make(view)
        if made is None:
            return facts
        self._queues.tasks.add_after(ObjectKey(view.namespace, view.name), made.look_again_s)
        return replace(facts, readiness=replace(facts.readiness, no_cluster=made.problem))

    # --- facts --------------------------------------------------------------------------

    def _facts(self, view: TaskView) -> TaskFacts:
        machine, indexes = self._placer.machine, self._indexes
        if view.state.terminal:
            return TaskFacts(readiness=ReadinessFacts(worker_slots=None))
        if view.state is TaskState.RUNNING:
            cancelled_with, stopped_with = indexes.families.cancelled_with(view)
            none = ReadinessFacts(
                worker_slots=None,
                cancelled_with=cancelled_with,
                stopped_with=stopped_with,
                timed_out=indexes.families.timed_out(view),
            )
            worker = None if view.is_graph else machine.claimed(view, self._api.moment())
            return TaskFacts(readiness=none, worker=worker, jitter=self._api.timing.random())
        return TaskFacts(
            readiness=self._readiness(view),
            placed=machine.placed(view, self._api.moment()),
            refused=self._refused(view),
            held=self._held(view),
            unserved=machine.unserved(ObjectKey(view.namespace, view.cluster)),
            age_s=indexes.arrivals.age_s(view),
        )

    def _readiness(self, view: TaskView) -> ReadinessFacts:
        stores = self._caches
        cluster = stores.clusters.get(ObjectKey(view.namespace, view.cluster))
        if cluster is not None and "cluster" in view.own_spec and run_of(cluster) != view.uid:
            cluster = None  # a TaskCluster of another owner has the name
        input_key, source = _input_key(view), self._source(view)
        cancelled_with, stopped_with = self._indexes.families.cancelled_with(view)
        after = self.joins.after(view)
        return ReadinessFacts(
            worker_slots=None if cluster is None else cluster_slots(cluster),
            allowed_images=None if cluster is None else cluster["spec"].get("allowedImages"),
            resources=OPEN_WORKERS if cluster is None else cluster_resources(cluster),
            input_exists=input_key is None
            or input_key in stores.objects
            or (source is not None and source.has_value),
            after=after,
            dependencies=self.joins.dependencies(view, after),
            group=self.joins.tally(view, after).facts(without=view.uid),
            cycle=self.joins.cycle(view, after),
            suspended_with=self._indexes.families.suspended_with(view),
            cancelled_with=cancelled_with,
            stopped_with=stopped_with,
            timed_out=self._indexes.families.timed_out(view),
            backoff_left_s=self._indexes.backoffs.left_s(view),
            source=source,
        )

    def _source(self, view: TaskView) -> InputTask | None:
        """Return the Task that makes, or will make, the Task's input; None if none does."""
        key, stores = _input_key(view), self._caches
        if key is None:
            return None
        found = stores.objects.get(key)
        maker = "" if found is None else _maker(found)
        if found is not None and not maker:
            return None  # an object of another owner
        # Without that Task the object is to come, or is the output of one that is gone.
        named = _source_key(key)
        raw = stores.tasks.get_by_uid(maker) if maker else None
        if raw is None and named is not None:
            raw = stores.tasks.get(named)
        if raw is None:
            return None
        status = raw.get("status") or {}
        return InputTask(
            raw["metadata"]["name"],
            state_of(raw),
            output_object=status.get("outputObject") or "",
            # Its agent reads the value from that status.
            has_value=found is None and status.get("output") is not None,
        )

    def _refused(self, view: TaskView) -> str:
        hold = self._placer.machine.held(view.uid)
        return hold.message if hold is not None and hold.refusals >= MAX_REFUSALS else ""

    def _held(self, view: TaskView) -> HeldFacts | None:
        hold = self._placer.machine.held(view.uid)
        if hold is None:
            return None
        for_s = self._api.now_s() - hold.since_s
        return HeldFacts(hold.message, for_s, forbidden=hold.forbidden)

    async def _surely_gone(self, view: TaskView) -> bool:
        """Ask the API server before a worker that the cache lacks is taken for lost."""
        if self._placer.machine.worker(view.pod_uid) is not None:
            return True  # the pod is there, and says itself that it is dead
        if not view.pod_name:
            return True
        try:
            pod = await self._api.client.get(PODS, view.pod_name, view.namespace)
        except NotFound:
            return True
        if pod["metadata"].get("uid") != view.pod_uid:
            return True
        self._caches.pods.observe(pod)
        return False

    async def _input_is_late(self, view: TaskView, known: ReadinessFacts) -> bool:
        """Ask the API server before a Task fails because its input was never made.

        Tasks and TaskObjects are watched apart: the end of the Task that made the object may be
        known before the object is. All that it made is there once its end is.
        """
        source = known.source
        if known.input_exists or source is None or source.state is not TaskState.SUCCEEDED:
            return False
        only = ListOptions(field_selector=f"metadata.name={view.input_object}", limit=1)
        page = await self._api.client.list(TASKOBJECTS, view.namespace, options=only)
        return bool(page.items)

    # --- effects ------------------------------------------------------------------------

    async def _cancel(self, view: TaskView, why: ReadinessFacts) -> None:
        """Set ``spec.cancel`` of a Task that runs and whose ancestor was cancelled, or tree ended.

        Its agent watches nothing else. The reason is written with it, as the agent tells the end.
        """
        metadata: dict[str, Any] = {"uid": view.uid, "resourceVersion": view.resource_version}
        if why.timed_out:
            metadata["annotations"] = {ANNOTATION_STOP_REASON: Reason.TREE_TIMEOUT.value}
        elif why.stopped_with:
            metadata["annotations"] = {ANNOTATION_STOPPED_BY: why.stopped_with}
        body = {"metadata": metadata, "spec": {"cancel": True}}
        try:
            stored = await self._api.client.patch(
                TASKS, view.name, view.namespace, body, options=_CANCEL
            )
        except NotFound:
            return
        self._caches.tasks.observe(stored)

    def _tell_cycle(self, view: TaskView, cycle: tuple[str, ...]) -> None:
        """Have the other members of a cycle looked at, which may wait for further tasks."""
        for name in cycle[1:]:
            self._queues.tasks.add(ObjectKey(view.namespace, name))

    def _note_waiting(self, key: ObjectKey, view: TaskView, facts: TaskFacts) -> None:
        """Register for the events that may set the Task free.

        The tasks it runs after stay registered until it has begun, so that their time to
        live cannot remove them before.
        """
        if view.deleting or view.state not in (TaskState.PENDING, TaskState.SCHEDULED):
            self._indexes.waiting.clear(key)
            return
        readiness = facts.readiness
        # With another spec the TaskCluster may have more slots, or the defaults that are missing.
        no_cluster = (
            readiness.worker_slots is None or unfit_for_cluster(view, readiness) is not None
        )
        waits = self.joins.waits_for(view, readiness)
        source = _expected_source(view, readiness)
        if source is not None:  # as if it ran after that one
            source_key = ObjectKey(view.namespace, source.name)
            over = source.state is not None and source.state.terminal
            waits = replace(
                waits,
                tasks=waits.tasks if over else (*waits.tasks, source_key),
                named=(*waits.named, source_key),
                source=source_key,
            )
        self._indexes.waiting.set(
            key,
            replace(
                waits,
                cluster=ObjectKey(view.namespace, view.cluster) if no_cluster else None,
                input_object=None if readiness.input_exists else _input_key(view),
            ),
        )

    def _pending_task(self, view: TaskView) -> PendingTask:
        arrivals = self._indexes.arrivals
        root = self._caches.relative(view, view.root_uid) or view
        parent = self._caches.relative(view, view.parent_uid)
        return PendingTask(
            uid=view.uid,
            created=(view.created, arrivals.order(view.uid)),
            root_uid=view.root_uid,
            root_created=(root.created, arrivals.order(root.uid)),
            priority=view.priority,
            slots=view.slots,
            amount=requested(view.spec),
            image=str(view.spec.get("image", "")),
            parent_worker="" if parent is None else parent.pod_uid,
        )


def state_of(raw: Mapping[str, Any]) -> TaskState:
    """Return a raw Task's state; a word this version does not know counts as Pending."""
    try:
        return TaskState((raw.get("status") or {}).get("state") or TaskState.PENDING)
    except ValueError:
        return TaskState.PENDING


def _input_key(view: TaskView) -> ObjectKey | None:
    return ObjectKey(view.namespace, view.input_object) if view.input_object else None


def _source_key(output: ObjectKey) -> ObjectKey | None:
    """Return the key of the Task whose output would have that name; None: of no Task."""
    name = output.name.removesuffix(OUTPUT_SUFFIX)
    return None if name == output.name else ObjectKey(output.namespace, name)


def _expected_source(view: TaskView, readiness: ReadinessFacts) -> Dependency | None:
    """Return the Task that makes the input as something to wait for, also if it is to come."""
    if readiness.source is not None:
        return Dependency(readiness.source.name, readiness.source.state)
    key = _input_key(view)
    named = None if key is None or readiness.input_exists else _source_key(key)
    return None if named is None else Dependency(named.name, None)


def _maker(task_object: Mapping[str, Any]) -> str:
    """Return the UID of the Task whose output a TaskObject is, or an empty text."""
    labels = task_object["metadata"].get("labels") or {}
    return str(labels.get(LABEL_OUTPUT_OF) or "")


def _ends(patch: Mapping[str, Any]) -> bool:
    state = patch.get("state")
    return state is not None and TaskState(state).terminal
