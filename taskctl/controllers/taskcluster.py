"""Reconciles TaskClusters: the claim of the workspace, the workers, the status."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from taskctl.api.conditions import ConditionUpdate
from taskctl.api.resources import TASKCLUSTERS
from taskctl.controllers.access import AccessKeeper
from taskctl.controllers.ages import Ages
from taskctl.controllers.autoscale import Autoscaler, WantedWorkers
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.claims import ClaimKeeper, ClaimStanding
from taskctl.controllers.colocation import SharedClaimsReader
from taskctl.controllers.news import News
from taskctl.controllers.placer import Placer
from taskctl.controllers.podlevel import PodLevel
from taskctl.controllers.queues import Queues, look_again
from taskctl.controllers.runclusters import RunEnds
from taskctl.controllers.troubles import TroubledObject, Troubles
from taskctl.controllers.workerfacts import NodeSight, age_keys, worker_facts, worker_problem
from taskctl.controllers.writes import create_owned, in_parallel, namespace_goes
from taskctl.errors import ApiError, BadRequest, Conflict, Forbidden, Invalid, NotFound
from taskctl.kube.controller import DONE, Result
from taskctl.kube.interface import DeleteOptions, KubeObject
from taskctl.kube.resources import PODS
from taskctl.objectkey import ObjectKey
from taskctl.placement.events import ClusterCounted, FleetPlanned
from taskctl.placement.fleet import (
    ClusterFacts,
    RetireReason,
    WorkersPlan,
    cluster_max_tasks,
    cluster_slots,
    creation_backoff_s,
    plan_workers,
    serial_of,
)
from taskctl.placement.machine import COUNT_PERIOD_S
from taskctl.placement.scaling import cluster_size, scale_rule
from taskctl.placement.workers import Worker
from taskctl.policy.clusterspec import LAST_APPLIED, spec_problem
from taskctl.policy.clusterstatus import (
    ClusterCounts,
    decide_cluster_status,
    ready_condition,
    unserved_message,
    workspace_condition,
)
from taskctl.policy.colocation import Sharing
from taskctl.policy.nodes import MOVING_MESSAGE
from taskctl.policy.podlevel import POD_RESOURCES_MESSAGE, on_the_agent, pod_resources
from taskctl.policy.podview import PodView, tells_nothing
from taskctl.policy.workeraccess import WorkerAccess
from taskctl.policy.workerpod import (
    build_worker,
    template_hash,
    worker_prefix,
    worker_template,
)
from taskctl.policy.workersettings import DEFAULT_WORKERS, WorkerSettings
from taskctl.policy.workspace import WorkspaceVolume, plan_workspace

log = logging.getLogger(__name__)

# Pods created or deleted in one pass.
_PER_PASS: Final = 64
# The TaskCluster itself is about to be deleted with its namespace.
_NAMESPACE_LOOK_S: Final = 5.0


class ClusterEvent(StrEnum):
    """Reasons of Events on TaskClusters."""

    WORKER_CREATED = "WorkerCreated"
    WORKER_RETIRED = "WorkerRetired"
    POD_RESOURCES = "PodResourcesNotApplied"
    WORKER_FAILED = "WorkerFailed"
    WORKER_REFUSED = "WorkerRefused"
    NAME_TAKEN = "NameTaken"
    SCALED = "Scaled"


@dataclass(slots=True)
class _ClusterMemory:
    """What is remembered of a TaskCluster between passes; losing it does no harm.

    Attributes:
        ages: of its workers, and of the silence of their nodes.
        failures: workers that failed, or could not be created, in a row.
        dead: UIDs of the dead pods that are counted in.
        create_after_s: no creation before then (monotonic).
        refusal: why the last creation was refused: a sentence; empty: it was not.
        serial_floor: numbers up to here have been used, some by pods of strangers.
        status_at_s: when the status was last written (monotonic).
        judged: generation and last applied manifest that ``invalid`` is about.
        invalid: what of the spec is not understood: a sentence; empty: nothing.
        autoscaler: how many workers were needed recently.
        moving: others are created when the last worker has left its node.
        sharing: what the claims of the workers allow, as far as it was asked; None: not yet.
    """

    ages: Ages
    failures: int = 0
    dead: set[str] = field(default_factory=set)
    create_after_s: float = float("-inf")
    refusal: str = ""
    serial_floor: int = 0
    status_at_s: float = float("-inf")
    judged: tuple[Any, Any] = (None, None)
    invalid: str = ""
    autoscaler: Autoscaler = field(default_factory=Autoscaler)
    moving: bool = False
    sharing: Sharing | None = None


class TaskClusterReconciler:
    """Brings one TaskCluster's workers, claim and status to what its spec asks for.

    Args:
        api: the API server and its caches.
        queues: keys to reconcile.
        news: tells people.
        placer: the placement machine.
        access: whether to give workers their account and rights.
        workers: what all workers have in common.
    """

    def __init__(
        self,
        api: CachedApi,
        queues: Queues,
        news: News,
        placer: Placer,
        *,
        access: WorkerAccess = WorkerAccess.MANAGE,
        workers: WorkerSettings = DEFAULT_WORKERS,
    ) -> None:
        self._api = api
        self._queues = queues
        self._news = news
        self._placer = placer
        self._access = AccessKeeper(api.client, api.timing.clock, access)
        self._claims = ClaimKeeper(api, queues)
        self._runs = RunEnds(api)
        self._shared = SharedClaimsReader(api)
        self._troubles = Troubles(api)
        self._pod_level = PodLevel(api)
        self._node_sight = NodeSight(api, news)
        self._workers = workers
        self._memories: dict[str, _ClusterMemory] = {}

    def forget(self, cluster: KubeObject) -> None:
        """Forget a TaskCluster that is gone."""
        uid = cluster["metadata"]["uid"]
        self._memories.pop(uid, None)
        self._access.forget(uid)
        self._claims.forget(uid)
        self._shared.forget(uid)
        self._runs.forget(uid)
        self._troubles.forget(uid)
        self._node_sight.forget(uid)

    async def reconcile(self, key: ObjectKey) -> Result:
        """Bring the TaskCluster of that name a step further.

        Raises:
            Conflict: it has changed meanwhile.
            ApiError: the API server refused, or did not answer.
        """
        try:
            return await self._reconcile(key)
        except Forbidden as error:
            if not namespace_goes(error):
                raise
            log.debug("%s: %s", key, error)
            return look_again(_NAMESPACE_LOOK_S)

    async def _reconcile(self, key: ObjectKey) -> Result:
        cluster = self._api.caches.clusters.get(key)
        if cluster is None:
            return DONE
        memory = self._memory(cluster["metadata"]["uid"])
        deleting = bool(cluster["metadata"].get("deletionTimestamp"))
        workspace, standing = plan_workspace(cluster), ClaimStanding()
        modes_s: float | None = None
        _judge_spec(cluster, memory)
        if deleting:
            await self._claims.record_end(cluster)
        elif not memory.invalid:
            standing = await self._claims.ensure(cluster, workspace)
            shared = await self._shared.read(cluster)
            memory.sharing, modes_s = shared.sharing, shared.look_again_s
        uid = cluster["metadata"]["uid"]
        workers = self._placer.machine.workers_of(uid)
        self._count_failures(cluster, workers, memory)
        wanted = self._wanted(cluster, workers, memory)
        facts = self._facts(cluster, memory, standing, wanted.replicas, deleting=deleting)
        queued = self._placer.machine.queued_per_worker(key, uid)
        now_s = self._api.now_s()
        self._node_sight.look(cluster)
        nodes = self._api.caches.nodes
        used = [worker_facts(one, memory.ages, now_s, queued, nodes) for one in workers]
        memory.ages.keep({key for worker in workers for key in age_keys(worker.pod)})
        plan = plan_workers(facts, used)
        memory.moving = plan.moving
        again_s: float | None = None
        if deleting or not memory.invalid:
            try:
                done_s = await self._carry_out(cluster, plan, memory, standing)
            except ApiError as error:
                # The status must not stay behind the spec because something else goes wrong.
                with contextlib.suppress(ApiError):
                    if not namespace_goes(error):
                        await self._status(cluster, facts, workspace, memory, standing)
                raise
            again_s = min((s for s in (plan.look_again_s, done_s) if s is not None), default=None)
        status_s = await self._status(cluster, facts, workspace, memory, standing)
        return look_again(again_s, status_s, modes_s, standing.look_again_s, wanted.look_again_s)

    def _memory(self, uid: str) -> _ClusterMemory:
        memory = self._memories.get(uid)
        if memory is None:
            memory = self._memories[uid] = _ClusterMemory(Ages(self._api.timing.clock))
        return memory

    def _now(self) -> datetime:
        return self._api.timing.clock.now()

    # --- workers ------------------------------------------------------------------------

    def _wanted(
        self, cluster: KubeObject, workers: Sequence[Worker], memory: _ClusterMemory
    ) -> WantedWorkers:
        """Return how many workers there are to be: as many as needed, or a fixed number."""
        left_s = self._runs.workers_left_s(cluster)
        if left_s == 0:
            return WantedWorkers(0)
        rule = scale_rule(cluster)
        if rule is None:
            memory.autoscaler = Autoscaler()
            replicas = cluster["spec"].get("replicas")
            return WantedWorkers(1 if replicas is None else int(replicas), left_s)
        queued = self._placer.machine.queued_sizes(ObjectKey.of(cluster))
        wanted = memory.autoscaler.wanted(
            rule, cluster_size(cluster), workers, queued, self._api.now_s()
        )
        before = (cluster.get("status") or {}).get("replicas")
        if before is not None and before != wanted.replicas:
            message = (
                f"Scaling from {before} to {wanted.replicas} workers: {sum(queued.values())} tasks "
                f"wait for a slot, {sum(worker.active for worker in workers)} run."
            )
            self._news.note(cluster, ClusterEvent.SCALED, message)
        times_s = [time_s for time_s in (wanted.look_again_s, left_s) if time_s is not None]
        return replace(wanted, look_again_s=min(times_s, default=None))

    def _facts(
        self,
        cluster: KubeObject,
        memory: _ClusterMemory,
        standing: ClaimStanding,
        replicas: int,
        *,
        deleting: bool,
    ) -> ClusterFacts:
        spec = cluster["spec"]
        recorded = (cluster.get("status") or {}).get("workerSerial") or 0
        return ClusterFacts(
            prefix=worker_prefix(cluster),
            replicas=replicas,
            slots=cluster_slots(cluster),
            max_tasks=cluster_max_tasks(cluster),
            max_age_s=(spec.get("rotation") or {}).get("maxAgeSeconds"),
            template=template_hash(worker_template(cluster, self._workers, memory.sharing)),
            last_serial=max(recorded, memory.serial_floor),
            deleting=deleting,
            create_in_s=max(memory.create_after_s - self._api.now_s(), 0.0),
            held=standing.facts.held,
            claim_uid=standing.uid,
            together=memory.sharing is Sharing.ONE_NODE,
        )

    async def _carry_out(
        self,
        cluster: KubeObject,
        plan: WorkersPlan,
        memory: _ClusterMemory,
        standing: ClaimStanding,
    ) -> float | None:
        """Retire first, so that nothing is placed on what goes; then delete and create."""
        planned = FleetPlanned(cluster["metadata"]["uid"], plan.retiring, plan.worn)
        self._placer.tell(planned)
        # A batch may have been on its way since the plan was made.
        unused = [pod for pod in plan.delete if pod.dead or self._is_idle(pod)]
        await in_parallel(
            [self._delete(cluster, pod, plan.retiring.get(pod.uid)) for pod in unused[:_PER_PASS]]
        )
        names = plan.create[:_PER_PASS]
        if names and not await self._create_all(cluster, names, memory, standing.uid):
            return creation_backoff_s(memory.failures)
        unfinished = len(unused) > _PER_PASS or len(plan.create) > _PER_PASS
        return 0.0 if unfinished else None

    def _is_idle(self, pod: PodView) -> bool:
        worker = self._placer.machine.worker(pod.uid)
        return worker is not None and worker.active == 0 and not worker.in_flight

    def _count_failures(
        self, cluster: KubeObject, workers: Sequence[Worker], memory: _ClusterMemory
    ) -> None:
        """Each dead pod postpones the next creation, ever longer while none comes up.

        Not one that ended because it was deleted.
        """
        pods = [worker.pod for worker in workers]
        dead = {pod.uid: pod for pod in pods if pod.dead and pod.deletion is None}
        for uid, pod in dead.items():
            if uid in memory.dead:
                continue
            memory.failures += 1
            delay_s = creation_backoff_s(memory.failures)
            memory.create_after_s = self._api.now_s() + delay_s
            message = f"Worker {pod.name} has ended: {pod.problem}"
            self._news.warn(cluster, ClusterEvent.WORKER_FAILED, message)
        memory.dead = set(dead)

    async def _delete(self, cluster: KubeObject, pod: PodView, reason: RetireReason | None) -> None:
        try:
            await self._api.client.delete(
                PODS, pod.name, pod.namespace, options=DeleteOptions(uid=pod.uid)
            )
        except (NotFound, Conflict):
            return  # it is gone already, or made again under the same name
        if reason is not None:
            message = f"Deleted worker {pod.name} ({reason})."
            self._news.note(cluster, ClusterEvent.WORKER_RETIRED, message)

    async def _create_all(
        self, cluster: KubeObject, names: Sequence[str], memory: _ClusterMemory, claim_uid: str
    ) -> bool:
        """Create workers; if they are refused, say why, and have the next try wait."""
        try:
            memory.refusal = await self._access.ensure(cluster)
            if not memory.refusal:
                await in_parallel(
                    [self._create(cluster, name, memory, claim_uid) for name in names]
                )
                return True
        except (BadRequest, Forbidden, Invalid) as error:
            if namespace_goes(error):
                raise
            self._access.forget(cluster["metadata"]["uid"])
            memory.refusal = f"A worker could not be created: {error}"
        memory.failures += 1
        delay_s = creation_backoff_s(memory.failures)
        memory.create_after_s = self._api.now_s() + delay_s
        self._news.warn(cluster, ClusterEvent.WORKER_REFUSED, memory.refusal)
        return False

    async def _create(
        self, cluster: KubeObject, name: str, memory: _ClusterMemory, claim_uid: str
    ) -> None:
        manifest = build_worker(cluster, name, self._workers, claim_uid, memory.sharing)
        if pod_resources(manifest) is not None and not await self._pod_level.keeps(manifest):
            manifest = on_the_agent(manifest)
            self._news.warn(cluster, ClusterEvent.POD_RESOURCES, POD_RESOURCES_MESSAGE)
        created = await create_owned(self._api.client, PODS, manifest, self._api.caches.pods)
        memory.serial_floor = max(memory.serial_floor, serial_of(name, worker_prefix(cluster)))
        if created is None:
            message = f"Pod {name} exists and is not a worker of this TaskCluster; skipped."
            self._news.warn(cluster, ClusterEvent.NAME_TAKEN, message)
            self._queues.clusters.add(ObjectKey.of(cluster))
            return
        self._news.note(cluster, ClusterEvent.WORKER_CREATED, f"Created worker {name}.")

    # --- status -------------------------------------------------------------------------

    async def _status(
        self,
        decided: KubeObject,
        facts: ClusterFacts,
        workspace: WorkspaceVolume,
        memory: _ClusterMemory,
        standing: ClaimStanding,
    ) -> float | None:
        """Write the status where it is not true, once a second at most.

        Args:
            decided: the TaskCluster as it was when the workers were planned: where its spec has
                changed since, the next pass knows what to say of it.
            facts: made from it.
            workspace: likewise.
            memory: of it.
            standing: of its claim.
        """
        key = ObjectKey.of(decided)
        cluster = self._api.caches.clusters.get(key)
        if cluster is None or _version(cluster) != _version(decided):
            return None
        wait_s = memory.status_at_s + COUNT_PERIOD_S - self._api.now_s()
        if wait_s > 0:
            return wait_s
        words, troubles_s = await self._words(cluster, facts, standing)
        standing = standing.with_words(words)
        counts = self._counts(key, cluster, facts, standing, words)
        if counts.ready >= counts.wanted:
            memory.failures, memory.create_after_s, memory.refusal = 0, float("-inf"), ""
        generation = cluster["metadata"].get("generation") or 0
        conditions: list[ConditionUpdate] = [
            ready_condition(counts, generation, memory.refusal, invalid=memory.invalid),
            workspace_condition(workspace, standing.facts, generation),
        ]
        patch = decide_cluster_status(cluster, counts, conditions, self._now())
        if patch is not None:
            memory.status_at_s = self._api.now_s()
            await self._api.write_status(TASKCLUSTERS, cluster, patch)
        why = unserved_message(key.name, counts, conditions[0].message)
        self._placer.tell(ClusterCounted(key, counts.ready, why))
        return troubles_s

    async def _words(
        self, cluster: KubeObject, facts: ClusterFacts, standing: ClaimStanding
    ) -> tuple[Mapping[str, str], float | None]:
        """Return what Events say is wrong, by UID, and when to look again, in seconds."""
        metadata = cluster["metadata"]
        workers = self._placer.machine.workers_of(metadata["uid"])
        if facts.held or sum(worker.accepting for worker in workers) >= facts.replicas:
            self._troubles.forget(metadata["uid"])
            return {}, None
        unbound = standing.claim is not None and standing.facts.phase != "Bound"
        subjects = [TroubledObject(standing.uid, normal=True)] if unbound else []
        subjects += [
            TroubledObject(w.pod.uid) for w in _coming(workers) if tells_nothing(w.pod.problem)
        ]
        return await self._troubles.look(metadata["uid"], metadata["namespace"], subjects)

    def _counts(
        self,
        key: ObjectKey,
        cluster: KubeObject,
        facts: ClusterFacts,
        standing: ClaimStanding,
        words: Mapping[str, str],
    ) -> ClusterCounts:
        workers = self._placer.machine.workers_of(cluster["metadata"]["uid"])
        ready = [worker for worker in workers if worker.accepting]
        serials = [serial_of(worker.pod.name, facts.prefix) for worker in workers]
        memory = self._memory(cluster["metadata"]["uid"])
        problems = sorted(
            f"{one.pod.name}: {worker_problem(one, words, memory.ages)}"
            for one in _coming(workers)
            if one.pod.problem
        )
        if memory.moving:
            problems.insert(0, MOVING_MESSAGE)
        if standing.facts.words:
            claim = (standing.claim or {})["metadata"]["name"]
            problems.insert(0, f"PersistentVolumeClaim {claim!r}: {standing.facts.words}")
        return ClusterCounts(
            wanted=facts.replicas,
            workers=len(workers),
            ready=len(ready),
            busy_slots=sum(worker.used for worker in workers),
            free_slots=sum(max(facts.slots - worker.used, 0) for worker in ready),
            queue_length=self._placer.machine.queue_length(key),
            last_serial=max([facts.last_serial, *serials]),
            problems=[standing.facts.message] if facts.held else problems,
        )


def _version(cluster: KubeObject) -> tuple[str, int]:
    metadata = cluster["metadata"]
    return metadata["uid"], int(metadata.get("generation") or 0)


def _coming(workers: Sequence[Worker]) -> list[Worker]:
    """Those whose pods serve, or are to come up."""
    return [one for one in workers if not one.pod.dead and one.pod.deletion is None]


def _judge_spec(cluster: KubeObject, memory: _ClusterMemory) -> None:
    """See whether the spec is understood; once for each that is written, as it takes a while."""
    metadata = cluster["metadata"]
    judged = (metadata.get("generation"), (metadata.get("annotations") or {}).get(LAST_APPLIED))
    if memory.judged != judged or not metadata.get("generation"):
        memory.judged, memory.invalid = judged, spec_problem(cluster)
