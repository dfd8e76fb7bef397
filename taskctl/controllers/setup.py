"""Wiring: which kinds are watched, how an event becomes keys, who reconciles them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.constants import (
    LABEL_CLUSTER_UID,
    LABEL_MANAGED_BY,
    LABEL_OUTPUT_OF,
)
from taskctl.controllers.cachedapi import CachedApi, Caches
from taskctl.controllers.claims import ClaimReconciler
from taskctl.controllers.evidence import EvidenceReconciler
from taskctl.controllers.history import HistorySettings
from taskctl.controllers.indexes import TaskChange, TaskIndexes
from taskctl.controllers.metrics import Metrics
from taskctl.controllers.news import News
from taskctl.controllers.notify import NOTIFY_WORKERS, NotifyReconciler
from taskctl.controllers.placer import Placer
from taskctl.controllers.poster import HttpPoster, Poster
from taskctl.controllers.queues import Queues
from taskctl.controllers.task import TaskReconciler
from taskctl.controllers.taskcluster import TaskClusterReconciler
from taskctl.controllers.taskmetrics import TaskMetrics
from taskctl.controllers.tracing import SpanSink, TaskTracing
from taskctl.controllers.tree import TreeReconciler
from taskctl.controllers.ttl import TtlReconciler
from taskctl.controllers.workerfacts import NodeNews, bare_node
from taskctl.kube.controller import Controller, ControllerOptions
from taskctl.kube.events import EventRecorder
from taskctl.kube.informer import Informer, InformerOptions
from taskctl.kube.interface import Client, KubeObject
from taskctl.kube.manager import Manager
from taskctl.kube.resources import LEASES, NODES, PODS, PVCS
from taskctl.kube.timing import SYSTEM_TIMING, Timing
from taskctl.objectkey import ObjectKey
from taskctl.placement.events import (
    ClusterGone,
    ClusterSeen,
    PodGone,
    PodSeen,
    RecordGone,
    RecordSeen,
    TaskGone,
    TaskSeen,
)
from taskctl.placement.machine import COALESCE_S
from taskctl.policy.handover import record_pod_uid
from taskctl.policy.hostlist import AllowedHost
from taskctl.policy.runclusterrule import RunClusters
from taskctl.policy.status import with_generation
from taskctl.policy.taskevents import decide_event
from taskctl.policy.treeevents import decide_tree_events
from taskctl.policy.workeraccess import WorkerAccess
from taskctl.policy.workersettings import DEFAULT_WORKERS, WorkerSettings
from taskctl.policy.workspace import cluster_name_of

COMPONENT: Final = "taskctl-controller"
_MANAGED: Final = InformerOptions(label_selector=f"{LABEL_MANAGED_BY}=taskctl")


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """How the controllers work.

    Attributes:
        namespace: the one to serve; None: all.
        workers: Tasks reconciled at a time.
        coalesce_s: pause between an event and the placing it causes, in seconds.
        host: who we are, for Events.
        access: whether to give workers their account and rights.
        run_clusters: which TaskClusters to make for single runs.
        notify_allow: hosts that receivers of notifications may be on.
        poster: sends notifications; None: over HTTP.
        worker_settings: what all workers have in common.
        spans: takes the spans of Tasks that end; None: there are no traces.
        history: where to keep a history of Tasks; None: nowhere.
        timing: clock, sleep and chance.
    """

    namespace: str | None = None
    workers: int = 16
    coalesce_s: float = COALESCE_S
    host: str = ""
    access: WorkerAccess = WorkerAccess.MANAGE
    run_clusters: RunClusters = RunClusters.PLAIN
    notify_allow: tuple[AllowedHost, ...] = ()
    poster: Poster | None = None
    worker_settings: WorkerSettings = DEFAULT_WORKERS
    spans: SpanSink | None = None
    history: HistorySettings | None = None
    timing: Timing = SYSTEM_TIMING


@dataclass(frozen=True, slots=True)
class Informers:
    """What is watched."""

    tasks: Informer
    objects: Informer
    clusters: Informer
    pods: Informer
    claims: Informer
    records: Informer
    nodes: Informer | None

    def all(self) -> tuple[Informer, ...]:
        """Return all of them; nodes, pods and clusters first, as tasks refer to them."""
        first = () if self.nodes is None else (self.nodes,)
        rest = (self.clusters, self.pods, self.records, self.claims, self.objects, self.tasks)
        return (*first, *rest)


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
        caches = Caches(
            tasks=self.informers.tasks.store,
            objects=self.informers.objects.store,
            clusters=self.informers.clusters.store,
            pods=self.informers.pods.store,
            claims=self.informers.claims.store,
            records=self.informers.records.store,
            **_node_caches(self.informers.nodes),
        )
        self.api = api = CachedApi(client, caches, timing)
        self.queues = queues = Queues.new(timing, metrics)
        self.news = news = News(self.recorder)
        self.indexes = TaskIndexes(caches, timing.clock)
        self.placer = Placer(api, queues, news, coalesce_s=options.coalesce_s)
        self.task_metrics = TaskMetrics(
            metrics, self.placer.machine, lambda: self.news.leading, timing.clock
        )
        self.tracing = None
        if options.spans is not None:
            self.tracing = TaskTracing(options.spans, lambda: self.news.leading, timing.clock)
        self.tasks = TaskReconciler(
            api, queues, self.indexes, self.placer, run_clusters=options.run_clusters
        )
        self.clusters = TaskClusterReconciler(
            api,
            queues,
            news,
            self.placer,
            access=options.access,
            workers=options.worker_settings,
        )
        self.history = None
        if options.history is not None:
            self.history = options.history.recorder(self.informers.tasks, caches.clusters, timing)
        traces = options.spans is not None
        self.trees = TreeReconciler(api, queues.trees, self.indexes.ages, traces=traces)
        self.notify = NotifyReconciler(
            api,
            queues.notify,
            self.indexes.ages,
            options.notify_allow,
            options.poster or HttpPoster(),
        )
        self.ttl = TtlReconciler(api, queues.ttl, self.indexes)
        self.claims = ClaimReconciler(api, queues, news)
        self.evidence = EvidenceReconciler(api, queues, self.placer.machine)
        self._connect()

    def add_to(self, manager: Manager) -> None:
        """Have a manager run everything."""
        for informer in self.informers.all():
            manager.add_informer(informer)
        for controller in self.controllers():
            manager.add_controller(controller)
        manager.add_background("events", self.recorder.run)
        manager.add_background("placer", self.placer.run, after_sync=True)
        manager.add_at_end("events", self._flush_events)
        if self.history is not None:
            manager.add_background("history", self.history.run)
            manager.add_at_end("history", self.history.close)

    def controllers(self) -> list[Controller[Any]]:
        """Return the loops over the queues."""
        options = ControllerOptions(
            observer=self._metrics.on_reconcile, timing=self._options.timing
        )
        queues, workers = self.queues, self._options.workers
        return [
            Controller("task", queues.tasks, self.tasks.reconcile, workers, options=options),
            Controller("taskcluster", queues.clusters, self.clusters.reconcile, 4, options=options),
            Controller("evidence", queues.evidence, self.evidence.reconcile, 4, options=options),
            Controller("tree", queues.trees, self.trees.reconcile, 4, options=options),
            Controller(
                "notify", queues.notify, self.notify.reconcile, NOTIFY_WORKERS, options=options
            ),
            Controller("ttl", queues.ttl, self.ttl.reconcile, 4, options=options),
            Controller("claim", queues.claims, self.claims.reconcile, 2, options=options),
        ]

    async def _flush_events(self) -> None:
        await self.recorder.flush(timeout_s=2.0)

    # --- events to keys -----------------------------------------------------------------

    def _connect(self) -> None:
        if self.informers.nodes is not None:
            self.informers.nodes.add_handler(NodeNews(self.api, self.queues).on_node)
        self.informers.clusters.add_handler(self._on_cluster)
        self.informers.pods.add_handler(self._on_pod)
        self.informers.records.add_handler(self._on_record)
        self.informers.claims.add_handler(self._on_claim)
        self.informers.objects.add_handler(self._on_object)
        self.informers.tasks.add_handler(self._on_task)

    def _on_task(self, old: KubeObject | None, new: KubeObject | None) -> None:
        """Tell everybody of a Task that came, changed or went.

        First those who know what others ask for when their key comes up: the indexes, the
        machine, the counters. Then people. The Task's own key is last; keys are worked on when
        this has returned, so their order among each other does not matter.
        """
        change = TaskChange.of(old, new)
        if change is None:
            return
        for touched in self.indexes.on_task(change):
            self.queues.tasks.add(touched)
        view = change.view
        if view is not None and "cluster" in view.own_spec:  # its end is that of the workers, too
            self.queues.clusters.add(ObjectKey(view.namespace, view.cluster))
        self.placer.tell(TaskGone(change.uid) if view is None else TaskSeen(view))
        self.task_metrics.on_task(change.old_view, view)
        if self.tracing is not None:
            self.tracing.on_task(change.old_view, view)
        if self.history is not None:
            self.history.on_task(old, new)
        self.trees.on_task(old, new)
        self.notify.on_task(old, new)
        self.ttl.on_task(old, new)
        if change.before is not change.after and (view is None or view.state.terminal):
            self.claims.on_task_over(new or old or {})
        if old is not None and new is not None:
            warning = decide_event(old.get("status") or {}, new.get("status") or {})
            if warning is not None:
                self.news.warn_seen(new, warning.reason, warning.message)
            if view is not None and view.is_root:
                for told in decide_tree_events(change.old_view or view, view):
                    tell = self.news.warn_seen if told.warning else self.news.note_seen
                    tell(new, told.reason, told.message)
        if view is not None and not change.waits and with_generation(view, None) is not None:
            self.queues.tasks.add(change.key)  # its status lags behind its spec

    def _on_object(self, old: KubeObject | None, new: KubeObject | None) -> None:
        if old is None and new is not None:
            for waiter in self.indexes.waiting.for_input(ObjectKey.of(new)):
                self.queues.tasks.add(waiter)

    def _on_cluster(self, old: KubeObject | None, new: KubeObject | None) -> None:
        obj = new if new is not None else old
        if obj is None:
            return
        key = ObjectKey.of(obj)
        self.claims.on_cluster(old, new)
        self.task_metrics.on_cluster(key, exists=new is not None)
        if new is None:
            self.clusters.forget(obj)
            self.placer.tell(ClusterGone(key, obj["metadata"]["uid"]))
        else:
            self.placer.tell(ClusterSeen(new))
        if old is None or new is None or _generation(old) != _generation(new):
            for waiter in self.indexes.waiting.for_cluster(key):
                self.queues.tasks.add(waiter)

    def _on_pod(self, old: KubeObject | None, new: KubeObject | None) -> None:
        self.task_metrics.on_pod(old, new)
        if new is not None:
            first_list = not self.informers.pods.synced.is_set()
            self.placer.tell(PodSeen(new, first_list=first_list))
        elif old is not None:
            labels = old["metadata"].get("labels") or {}
            self.placer.tell(PodGone(old["metadata"]["uid"], labels.get(LABEL_CLUSTER_UID, "")))

    def _on_record(self, old: KubeObject | None, new: KubeObject | None) -> None:
        if new is not None:
            self.placer.tell(RecordSeen(new))
        elif old is not None:
            self.placer.tell(RecordGone(record_pod_uid(old)))

    def _on_claim(self, old: KubeObject | None, new: KubeObject | None) -> None:
        obj = new if new is not None else old
        if obj is None:
            return
        self.claims.on_claim(old, new)
        name = cluster_name_of(obj["metadata"]["name"])
        if name:
            self.queues.clusters.add(ObjectKey(obj["metadata"]["namespace"], name))


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
        records=Informer(client, LEASES, namespace, options=_MANAGED, timing=timing),
        # Nodes are in no namespace: rights for a single one do not include them.
        nodes=None
        if namespace is not None
        else Informer(
            client,
            NODES,
            None,
            # A role of an older version does not include them.
            options=InformerOptions(optional=True),
            transform=bare_node,
            timing=timing,
        ),
    )


def _node_caches(nodes: Informer | None) -> dict[str, Any]:
    if nodes is None:
        return {}
    return {"nodes": nodes.store, "nodes_refusal": lambda: nodes.refusal}


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
