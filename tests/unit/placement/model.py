"""A world around the placement machine: objects, an API server's answers, agents, kubelets.

Everything happens when a test says so. What is true stands in ``tasks`` and ``pods``; what the
machine has been told of is behind by as much as the test likes (``caches``), as with watches.
"""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from taskctl.api.states import TaskState
from taskctl.clock import Moment
from taskctl.errors import Forbidden, Invalid, Throttled, Unavailable
from taskctl.objectkey import ObjectKey
from taskctl.placement import events as ev
from taskctl.placement.instructions import (
    Append,
    HandOver,
    Instruction,
    LookAtCluster,
    LookAtTask,
    ReadPod,
    WakeAt,
)
from taskctl.placement.machine import PlacementMachine
from taskctl.placement.pending import MAX_REFUSALS
from taskctl.placement.queue import PendingTask
from taskctl.policy.entry import EntryView, parse_entry
from taskctl.policy.handover import (
    Dismissal,
    Handover,
    build_record,
    class_of,
    parse_parked,
    parse_record,
    record_changes,
    record_name,
)
from taskctl.policy.readiness import ReadinessFacts
from taskctl.policy.resources import ClusterResources, requested
from taskctl.policy.task import HeldFacts, TaskFacts, TaskPlan, decide_task
from taskctl.policy.view import TaskView, parse_task
from taskctl.policy.workerpod import ANNOTATION_FRAME
from tests.unit.policy.build import NOW, merged, raw_cluster, raw_task

Object = dict[str, Any]
CLUSTER = ObjectKey("ns", "c")
SLOTS = 3
RESOURCES = {"requests": {"cpu": "2", "memory": "1Gi"}}
STANDBY = {"maxPerWorker": 4, "minPerWorker": 2, "max": 6, "idleSeconds": 60}
ENDED = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)


@dataclass
class Cache:
    """One kind of object as the machine knows it, and what is on its way there."""

    objects: dict[str, Object] = field(default_factory=dict)
    coming: list[tuple[str, Object | None]] = field(default_factory=list)


class ModelWorld:
    """See the module."""

    def __init__(self, coalesce_s: float = 0.003) -> None:
        self.now_s = 1000.0
        self.cluster = raw_cluster(
            "c",
            slotsPerWorker=SLOTS,
            rotation={"maxTasks": 30},
            standby=dict(STANDBY),
            template={"resources": RESOURCES},
        )
        self.tasks: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.task_cache = Cache()
        self.pod_cache = Cache()
        self.records: dict[str, Object] = {}  # by pod UID
        self.record_cache = Cache()
        # By pod UID and container: what an agent has bound its parked containers to.
        self.bound: dict[tuple[str, str], Handover | Dismissal] = {}
        self.serials = itertools.count(1)
        self.versions = itertools.count(1)
        self.nonces = itertools.count(1)
        self.claims: list[tuple[str, int]] = []
        # Attempts that may be in two pods without a fault: a controller died in the middle of a
        # write, or a node fell silent.
        self.excused: set[str] = set()
        self._coalesce_s = coalesce_s
        self.start()

    # --- the machine --------------------------------------------------------------------

    def start(self) -> None:
        """A new controller: it lists everything, then it may act."""
        self.machine = self.new_machine()
        self.wake_s: float | None = None
        self.in_flight: list[Append | HandOver | ReadPod] = []
        self.looks: dict[ObjectKey, float] = {}
        self.cluster_looks = 0
        for cache, truth in (
            (self.pod_cache, self.pods),
            (self.record_cache, self.records),
            (self.task_cache, self.tasks),
        ):
            cache.coming.clear()
            cache.objects = copy.deepcopy(truth)
        self.tell(ev.ClusterSeen(self.cluster))
        for pod in self.pod_cache.objects.values():
            self.tell(ev.PodSeen(pod, first_list=True))
        for record in self.record_cache.objects.values():
            self.tell(ev.RecordSeen(record))
        for task in self.task_cache.objects.values():
            self.tell(ev.TaskSeen(parse_task(task)))
        self.tell(ev.Led())

    def new_machine(self) -> PlacementMachine:
        return PlacementMachine(
            lambda: f"{next(self.nonces):012x}{0:020x}", coalesce_s=self._coalesce_s
        )

    @property
    def now(self) -> Moment:
        return Moment(NOW + timedelta(seconds=self.now_s - 1000.0), self.now_s)

    def tell(self, event: ev.Event) -> None:
        for instruction in self.machine.handle(event, self.now):
            self.carry_out(instruction)

    def carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case WakeAt(at_s):
                self.wake_s = at_s
            case Append() | HandOver() | ReadPod():
                self.in_flight.append(instruction)
            case LookAtTask(task, after_s):
                self.looks[task] = min(self.looks.get(task, 1e18), self.now_s + after_s)
            case LookAtCluster():
                self.cluster_looks += 1
            case _:
                pass

    # --- what is true -------------------------------------------------------------------

    def put_task(self, task: Object) -> None:
        uid = task["metadata"]["uid"]
        task["metadata"]["resourceVersion"] = str(next(self.versions))
        self.tasks[uid] = task
        self.task_cache.coming.append((uid, copy.deepcopy(task)))

    def put_pod(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self.pods[uid] = pod
        self.pod_cache.coming.append((uid, copy.deepcopy(pod)))

    def remove_task(self, uid: str) -> None:
        del self.tasks[uid]
        self.task_cache.coming.append((uid, None))

    def remove_pod(self, uid: str) -> None:
        del self.pods[uid]
        self.pod_cache.coming.append((uid, None))
        if self.records.pop(uid, None) is not None:
            self.record_cache.coming.append((uid, None))

    def put_record(self, pod_uid: str, record: Object) -> None:
        self.records[pod_uid] = record
        self.record_cache.coming.append((pod_uid, copy.deepcopy(record)))

    def create_task(self, slots: int, priority: int = 0, requests: Object | None = None) -> str:
        name = f"t{next(self.serials)}"
        spec: Object = {"slots": slots, "priority": priority}
        if requests:
            spec["resources"] = {"requests": requests}
        self.put_task(raw_task(name, spec=spec))
        return f"uid-{name}"

    def create_pod(self) -> str:
        serial = next(self.serials)
        metadata = {
            "namespace": "ns",
            "name": f"c-{serial}",
            "uid": f"pod-{serial}",
            "labels": {"taskctl.dev/cluster-uid": "uid-c"},
            "annotations": {
                ANNOTATION_FRAME: json.dumps({"volumeMounts": [], "resources": RESOURCES})
            },
        }
        status = {"phase": "Running", "ephemeralContainerStatuses": []}
        self.put_pod({"metadata": metadata, "spec": {"ephemeralContainers": []}, "status": status})
        self.set_agent(f"pod-{serial}", runs=True)
        return f"pod-{serial}"

    def set_agent(self, uid: str, *, runs: bool) -> None:
        pod = copy.deepcopy(self.pods[uid])
        state = {"running": {}} if runs else {"waiting": {"reason": "CrashLoopBackOff"}}
        pod["status"]["containerStatuses"] = [{"name": "agent", "state": state}]
        self.put_pod(pod)

    def entries(self, pod_uid: str) -> list[EntryView]:
        found = (parse_entry(c) for c in self.pods[pod_uid]["spec"]["ephemeralContainers"])
        return [entry for entry in found if entry is not None]

    def container_states(self, pod_uid: str) -> dict[str, str]:
        statuses = self.pods[pod_uid]["status"]["ephemeralContainerStatuses"]
        return {entry["name"]: next(iter(entry["state"])) for entry in statuses}

    def set_container(self, pod_uid: str, name: str, state: Object) -> None:
        pod = copy.deepcopy(self.pods[pod_uid])
        kept = [e for e in pod["status"]["ephemeralContainerStatuses"] if e["name"] != name]
        pod["status"]["ephemeralContainerStatuses"] = [*kept, {"name": name, "state": state}]
        self.put_pod(pod)

    def set_status(self, uid: str, patch: Object) -> None:
        task = copy.deepcopy(self.tasks[uid])
        task["status"] = merged(task["status"], patch)
        self.put_task(task)

    def parked(self, pod_uid: str) -> list[str]:
        """Names of the containers that were parked in a pod."""
        found = (parse_parked(c) for c in self.pods[pod_uid]["spec"]["ephemeralContainers"])
        return [view.container for view in found if view is not None]

    # --- agents -------------------------------------------------------------------------

    def bind(self, pod_uid: str, container: str) -> Handover | Dismissal | None:
        """What an agent does with a parked container: it is bound to what it is told first."""
        key = (pod_uid, container)
        if key not in self.bound and pod_uid in self.records:
            told = parse_record(self.records[pod_uid]).get(container)
            if told is not None:
                self.bound[key] = told
        return self.bound.get(key)

    def entry_of(self, pod_uid: str, container: str) -> EntryView | None:
        """The entry of a parked container as if it had been made for what it is bound to."""
        told = self.bound.get((pod_uid, container))
        if not isinstance(told, Handover):
            return None
        return EntryView(container, told.task_name, told.task_uid, told.attempt, None, "")

    def claim(self, pod_uid: str, entry: EntryView) -> bool:
        """What an agent does: swap the status for exactly this attempt and pod, or lose."""
        task = self.tasks.get(entry.task_uid)
        if task is None:
            return False
        view = parse_task(task)
        fits = view.attempt == entry.attempt - 1 and not view.cancel and not view.suspend
        if not fits or view.state not in (TaskState.PENDING, TaskState.SCHEDULED):
            return False
        self.claims.append((entry.task_uid, entry.attempt))
        patch = {
            "state": "Running",
            "attempt": entry.attempt,
            "podName": self.pods[pod_uid]["metadata"]["name"],
            "podUID": pod_uid,
            "containerName": entry.container,
        }
        self.set_status(entry.task_uid, patch)
        return True

    def runs_here(self, pod_uid: str, entry: EntryView) -> bool:
        task = self.tasks.get(entry.task_uid)
        if task is None:
            return False
        status = task["status"]
        here = status.get("podUID") == pod_uid and status.get("attempt") == entry.attempt
        here = here and status.get("containerName") == entry.container
        return bool(here and status["state"] == "Running")

    # --- the API server -----------------------------------------------------------------

    def apply(self, append: Append) -> bool:
        """Take in a patch; False where the pod is another one, or a name is taken."""
        pod = self.pods.get(append.pod_uid)
        if pod is None:
            return False
        present = {entry["name"]: entry for entry in pod["spec"]["ephemeralContainers"]}
        for entry in append.entries:
            if entry["name"] in present and present[entry["name"]] != entry:
                return False
        pod = copy.deepcopy(pod)
        new = [dict(entry) for entry in append.entries if entry["name"] not in present]
        pod["spec"]["ephemeralContainers"] += new
        self.put_pod(pod)
        return True

    def apply_record(self, request: HandOver) -> bool:
        """Take in a change of a record; False where its pod is gone, and the record with it."""
        if request.pod_uid not in self.pods:
            return False
        record = self.records.get(request.pod_uid)
        if record is None:
            record = build_record(
                request.pod, request.pod_uid, request.cluster_uid, request.changes
            )
            assert record["metadata"]["name"] == record_name(request.pod.name, request.pod_uid)
        else:
            record = merged(record, record_changes(request.changes))
        self.put_record(request.pod_uid, record)
        return True

    def arrive(self, write: Append | HandOver) -> bool:
        """Take in a write; False where it is refused."""
        return self.apply_record(write) if isinstance(write, HandOver) else self.apply(write)

    def answer(self, request: Append | HandOver | ReadPod, how: str, jitter: float = 0.5) -> None:
        """Answer a request: ``ok``, ``lost`` (done, no answer), ``away``, ``refused`` …"""
        self.in_flight.remove(request)
        number = request.batch
        if isinstance(request, ReadPod):
            pod = self.pods.get(request.pod_uid)
            names = None
            if pod is not None:
                names = frozenset(e["name"] for e in pod["spec"]["ephemeralContainers"])
            self.tell(ev.BatchPodRead(number, names, jitter))
            return
        done = how in ("ok", "lost") and self.arrive(request)
        if how == "ok" and done:
            self.tell(ev.BatchStored(number))
            return
        errors = {
            "ok": Invalid("pods is invalid: metadata.uid", status=422),
            "lost": Unavailable("no answer"),
            "away": Unavailable("no answer"),
            "refused": Invalid("ephemeralContainers[0] is invalid", status=422),
            "forbidden": Forbidden("admission webhook x denied the request", status=403),
            "throttled": Throttled("too many requests", status=429, retry_after_s=1.0),
            "large": Invalid("etcdserver: request is too large", status=500),
        }
        self.tell(ev.BatchRefused(number, errors[how], jitter))

    # --- watches ------------------------------------------------------------------------

    def deliver_task(self) -> None:
        uid, task = self.task_cache.coming.pop(0)
        if task is None:
            self.task_cache.objects.pop(uid, None)
            self.tell(ev.TaskGone(uid))
        else:
            self.task_cache.objects[uid] = task
            self.tell(ev.TaskSeen(parse_task(task)))

    def deliver_pod(self) -> None:
        uid, pod = self.pod_cache.coming.pop(0)
        if pod is None:
            self.pod_cache.objects.pop(uid, None)
            self.tell(ev.PodGone(uid, "uid-c"))
        else:
            self.pod_cache.objects[uid] = pod
            self.tell(ev.PodSeen(pod))

    def deliver_record(self) -> None:
        uid, record = self.record_cache.coming.pop(0)
        if record is None:
            self.record_cache.objects.pop(uid, None)
            self.tell(ev.RecordGone(uid))
        else:
            self.record_cache.objects[uid] = record
            self.tell(ev.RecordSeen(record))

    # --- reconcilers --------------------------------------------------------------------

    def due_looks(self) -> list[ObjectKey]:
        return [key for key, at_s in self.looks.items() if at_s <= self.now_s]

    def reconcile(self, key: ObjectKey) -> None:
        """What the Task's reconciler does: the policy decides on what the cache holds."""
        del self.looks[key]
        uid = f"uid-{key.name}"
        cached = self.task_cache.objects.get(uid)
        if cached is None:
            return
        view = parse_task(cached)
        plan = decide_task(view, self.facts(view), self.now.wall)
        if not plan.queue:
            self.tell(ev.TaskUnready(uid))
        if plan.patch is not None and not self.write(cached, plan):
            self.looks[key] = self.now_s  # a conflict: again, when the watch has caught up
            return
        if plan.queue:
            pending = PendingTask(
                uid=uid,
                created=(view.created, 0),
                root_uid=uid,
                root_created=(view.created, 0),
                priority=view.priority,
                slots=view.slots,
                amount=requested(view.spec),
                container_class=class_of(view.spec).fingerprint,
            )
            self.tell(ev.TaskReady(pending, key, CLUSTER))
        if plan.requeue_after_s is not None:
            at_s = self.now_s + max(plan.requeue_after_s, 0.001)
            self.looks[key] = min(self.looks.get(key, at_s), at_s)

    def write(self, cached: Object, plan: TaskPlan) -> bool:
        uid = cached["metadata"]["uid"]
        task = self.tasks.get(uid)
        if task is None:
            return True
        if task["metadata"]["resourceVersion"] != cached["metadata"]["resourceVersion"]:
            return False
        assert plan.patch is not None
        self.set_status(uid, dict(plan.patch))
        return True

    def facts(self, view: TaskView) -> TaskFacts:
        none = ReadinessFacts(
            worker_slots=SLOTS, resources=ClusterResources(CLUSTER.name, RESOURCES)
        )
        if view.state is TaskState.RUNNING:
            return TaskFacts(readiness=none, worker=self.machine.claimed(view, self.now))
        hold = self.machine.held(view.uid)
        held = None
        if hold is not None:
            held = HeldFacts(hold.message, self.now_s - hold.since_s, forbidden=hold.forbidden)
        refused = hold is not None and hold.refusals >= MAX_REFUSALS
        return TaskFacts(
            readiness=none,
            placed=self.machine.placed(view, self.now),
            refused=hold.message if hold is not None and refused else "",
            held=held,
            unserved=self.machine.unserved(CLUSTER),
        )

    # --- quiet times --------------------------------------------------------------------

    def drain(self) -> None:
        """Answer and deliver everything."""
        while self.in_flight:
            self.answer(self.in_flight[0], "ok")
        while self.task_cache.coming:
            self.deliver_task()
        while self.pod_cache.coming:
            self.deliver_pod()
        while self.record_cache.coming:
            self.deliver_record()

    def quiet_round(self) -> None:
        """Half a second without any trouble."""
        self.drain()
        for key in self.due_looks():
            self.reconcile(key)
        if self.wake_s is not None and self.wake_s <= self.now_s:
            self.wake_s = None
            self.tell(ev.TimeCame())
        self.drain()
        for pod_uid in list(self.pods):
            for entry in self.entries(pod_uid):
                if entry.container not in self.container_states(pod_uid):
                    self.set_container(pod_uid, entry.container, {"running": {}})
                if self.runs_here(pod_uid, entry):
                    self.set_status(entry.task_uid, {"state": "Succeeded"})
                else:
                    self.claim(pod_uid, entry)
            for name in self.parked(pod_uid):
                self.quiet_parked(pod_uid, name)
        self.now_s += 0.5

    def quiet_parked(self, pod_uid: str, name: str) -> None:
        state = self.container_states(pod_uid).get(name)
        if state is None:
            self.set_container(pod_uid, name, {"running": {}})
        elif state == "running":
            told, ends = self.bind(pod_uid, name), True
            entry = self.entry_of(pod_uid, name)
            if told is None:
                ends = False
            elif entry is not None and self.runs_here(pod_uid, entry):
                self.set_status(entry.task_uid, {"state": "Succeeded"})
            elif entry is not None and self.claim(pod_uid, entry):
                ends = False
            if ends:
                ended = {"exitCode": 0, "reason": "Completed"}
                self.set_container(pod_uid, name, {"terminated": ended})
