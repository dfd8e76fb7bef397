"""The machine alone, driven by chance: whatever happens in whatever order, its book is right."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from taskctl.api.states import TaskState
from taskctl.clock import Moment
from taskctl.controllers.autoscale import Autoscaler
from taskctl.placement import events as ev
from taskctl.placement.attempts import AttemptId
from taskctl.placement.choice import MAX_BATCH, Snapshot, place
from taskctl.placement.cluster import parse_cluster
from taskctl.placement.fleet import RetireReason
from taskctl.placement.instructions import Append, HandOver
from taskctl.placement.queue import Size
from taskctl.placement.scaling import ScaleRule
from taskctl.placement.standby import SHARE_DIVISOR
from taskctl.placement.states import AttemptState, ParkedState, WorkerState
from taskctl.placement.workers import Worker
from taskctl.policy.handover import Dismissal, Handover, parse_record
from taskctl.policy.resources import NOTHING, Amount, capacity_of
from taskctl.policy.view import parse_task
from tests.unit.placement.model import CLUSTER, ENDED, RESOURCES, SLOTS, STANDBY, ModelWorld

PICK = st.integers(min_value=0, max_value=10_000)
ANSWERS = st.sampled_from(
    ["ok", "ok", "ok", "lost", "away", "refused", "forbidden", "throttled", "large"]
)
WAITS = (TaskState.PENDING, TaskState.SCHEDULED)


# A worker has 2 CPUs and 1 GiB: few of these fit together, whatever slots are free.
REQUESTS = st.sampled_from(
    [{}, {}, {"memory": "512Mi"}, {"memory": "700Mi", "cpu": "500m"}, {"cpu": "1500m"}]
)
SIZE = Size(SLOTS, capacity_of(RESOURCES))


def total(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, NOTHING)


def picked(items: list[Any], pick: int) -> Any:
    return items[pick % len(items)]


class MachineLife(RuleBasedStateMachine):
    """Rules are what may happen; invariants hold after each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ModelWorld()
        self.asked = True

    @initialize(
        pods=st.integers(0, 3),
        tasks=st.integers(0, 12),
        stocked=st.booleans(),
        standby=st.sampled_from([STANDBY, {}, {"idleSeconds": 5}]),
    )
    def begin(self, pods: int, tasks: int, stocked: bool, standby: Mapping[str, Any]) -> None:
        self.world.cluster["spec"]["standby"] = dict(standby)
        self.asked = standby is STANDBY
        self.world.tell(ev.ClusterSeen(self.world.cluster))
        for _ in range(pods):
            self.world.create_pod()
        if pods and stocked:
            self.world.create_task(1)
            for _ in range(20):
                self.world.quiet_round()
        for number in range(tasks):
            self.world.create_task(1 + number % 5 // 3)

    # --- people -------------------------------------------------------------------------

    @rule(slots=st.integers(min_value=1, max_value=SLOTS), count=st.integers(1, 4), asks=REQUESTS)
    def create_tasks(self, slots: int, count: int, asks: dict[str, str]) -> None:
        for _ in range(count):
            self.world.create_task(slots, priority=slots % 2, requests=asks)

    @precondition(lambda self: self.world.tasks)
    @rule(pick=PICK, change=st.sampled_from(["cancel", "suspend", "resume", "delete"]))
    def change_task(self, pick: int, change: str) -> None:
        uid = picked(sorted(self.world.tasks), pick)
        if change == "delete":
            self.world.remove_task(uid)
            return
        task = copy.deepcopy(self.world.tasks[uid])
        task["spec"]["cancel" if change == "cancel" else "suspend"] = change != "resume"
        self.world.put_task(task)

    # --- workers ------------------------------------------------------------------------

    @precondition(lambda self: len(self.world.pods) < 5)
    @rule()
    def new_worker(self) -> None:
        self.world.create_pod()

    @precondition(lambda self: self.world.pods)
    @rule(pick=PICK, how=st.sampled_from(["agent", "back", "silent", "delete", "fail", "gone"]))
    def trouble_worker(self, pick: int, how: str) -> None:
        uid = picked(sorted(self.world.pods), pick)
        pod = copy.deepcopy(self.world.pods[uid])
        if how in ("agent", "back"):
            pod["status"].pop("conditions", None)
            self.world.pods[uid] = pod
            self.world.set_agent(uid, runs=how == "back")
            return
        if how == "gone":
            self.world.remove_pod(uid)
            return
        if how == "silent":
            stamp = "2030-01-01T12:00:00Z"
            unready = {"type": "Ready", "status": "Unknown", "lastTransitionTime": stamp}
            pod["status"]["conditions"] = [unready]
        elif how == "delete":
            pod["metadata"]["deletionTimestamp"] = "2030-01-01T12:00:30Z"
            pod["metadata"]["deletionGracePeriodSeconds"] = 30
        else:
            pod["status"]["phase"] = "Failed"
        # Its attempts may go elsewhere while it still holds them.
        self.world.excused.add(uid)
        self.world.put_pod(pod)

    @rule(
        picks=st.lists(PICK, max_size=2), worn=st.booleans(), reason=st.sampled_from(RetireReason)
    )
    def plan_fleet(self, picks: list[int], worn: bool, reason: RetireReason) -> None:
        uids = sorted(self.world.pods)
        chosen = {picked(uids, pick) for pick in picks} if uids else set()
        plan = ev.FleetPlanned(
            "uid-c", dict.fromkeys(chosen, reason), frozenset(chosen if worn else ())
        )
        self.world.tell(plan)

    # --- kubelets and agents ------------------------------------------------------------

    def running_pods(self) -> list[str]:
        pods = self.world.pods.items()
        return sorted(uid for uid, pod in pods if pod["status"]["phase"] == "Running")

    @precondition(lambda self: self.running_pods())
    @rule(pick=PICK, which=PICK, what=st.sampled_from(["start", "claim", "claim", "finish", "die"]))
    def container_acts(self, pick: int, which: int, what: str) -> None:
        pod_uid = picked(self.running_pods(), pick)
        entries = self.world.entries(pod_uid)
        if not entries:
            return
        entry = picked(entries, which)
        state = self.world.container_states(pod_uid).get(entry.container)
        if what in ("start", "claim") and state is None:
            self.world.set_container(pod_uid, entry.container, {"running": {}})
            state = "running"
        if what == "claim" and state == "running":
            self.world.claim(pod_uid, entry)
        elif what == "finish" and self.world.runs_here(pod_uid, entry):
            failed = which % 3 == 0
            after = {"state": "Pending", "failures": 1} if failed else {"state": "Succeeded"}
            self.world.set_status(entry.task_uid, after)
        if what in ("finish", "die") and state is not None:
            ended = {"exitCode": 0, "reason": "Completed"}
            self.world.set_container(pod_uid, entry.container, {"terminated": ended})

    @precondition(lambda self: any(self.world.parked(uid) for uid in self.running_pods()))
    @rule(
        pick=PICK,
        which=PICK,
        what=st.sampled_from(["start", "start all", "bind", "claim", "claim", "finish", "die"]),
    )
    def parked_container_acts(self, pick: int, which: int, what: str) -> None:
        world = self.world
        pod_uid = picked([uid for uid in self.running_pods() if world.parked(uid)], pick)
        name = picked(world.parked(pod_uid), which)
        if what == "start all":
            for one in world.parked(pod_uid):
                if one not in world.container_states(pod_uid):
                    world.set_container(pod_uid, one, {"running": {}})
            return
        state = world.container_states(pod_uid).get(name)
        if what in ("start", "claim") and state is None:
            world.set_container(pod_uid, name, {"running": {}})
            state = "running"
        if what in ("bind", "claim") and state == "running":
            told = world.bind(pod_uid, name)
            entry = world.entry_of(pod_uid, name)
            if what == "claim" and entry is not None and not world.runs_here(pod_uid, entry):
                world.claim(pod_uid, entry)
            elif isinstance(told, Dismissal):
                what = "die"
        entry = world.entry_of(pod_uid, name)
        if what == "finish" and entry is not None and world.runs_here(pod_uid, entry):
            after = {"state": "Pending", "failures": 1} if which % 3 else {"state": "Succeeded"}
            world.set_status(entry.task_uid, after)
            what = "die"
        if what == "die" and state is not None:
            ended = {"exitCode": 0, "reason": "Completed"}
            world.set_container(pod_uid, name, {"terminated": ended})

    @precondition(lambda self: self.asked)
    @rule(most=st.sampled_from([0, 1, 4]))
    def change_standby(self, most: int) -> None:
        self.world.cluster["spec"]["standby"]["maxPerWorker"] = most
        self.world.cluster["metadata"]["generation"] += 1
        self.world.tell(ev.ClusterSeen(self.world.cluster))

    # --- the API server -----------------------------------------------------------------

    @precondition(lambda self: self.world.in_flight)
    @rule(pick=PICK, how=ANSWERS)
    def answer(self, pick: int, how: str) -> None:
        self.world.answer(picked(self.world.in_flight, pick), how)

    @rule(number=st.integers(min_value=0, max_value=30), jitter=st.floats(0, 0.99))
    def answer_of_old(self, number: int, jitter: float) -> None:
        """An answer to what was answered before changes nothing."""
        if any(request.batch == number for request in self.world.in_flight):
            return
        self.world.tell(ev.BatchStored(number))
        self.world.tell(ev.BatchPodRead(number, frozenset(), jitter))

    # --- watches ------------------------------------------------------------------------

    @precondition(lambda self: self.world.task_cache.coming)
    @rule(count=st.integers(1, 6))
    def deliver_tasks(self, count: int) -> None:
        for _ in range(min(count, len(self.world.task_cache.coming))):
            self.world.deliver_task()

    @precondition(lambda self: self.world.pod_cache.coming)
    @rule(count=st.integers(1, 6))
    def deliver_pods(self, count: int) -> None:
        for _ in range(min(count, len(self.world.pod_cache.coming))):
            self.world.deliver_pod()

    @precondition(lambda self: self.world.record_cache.coming)
    @rule(count=st.integers(1, 6))
    def deliver_records(self, count: int) -> None:
        for _ in range(min(count, len(self.world.record_cache.coming))):
            self.world.deliver_record()

    @rule(pick=PICK)
    def deliver_again(self, pick: int) -> None:
        """A watch that broke lists everything once more."""
        world = self.world
        if world.task_cache.objects:
            task = picked(list(world.task_cache.objects.values()), pick)
            world.tell(ev.TaskSeen(parse_task(task)))
        if world.pod_cache.objects:
            world.tell(ev.PodSeen(picked(list(world.pod_cache.objects.values()), pick)))
        if world.record_cache.objects:
            records = list(world.record_cache.objects.values())
            world.tell(ev.RecordSeen(picked(records, pick)))
        world.tell(ev.ClusterSeen(world.cluster))

    # --- the controller -----------------------------------------------------------------

    @precondition(lambda self: self.world.due_looks())
    @rule(count=st.integers(1, 8))
    def reconcile(self, count: int) -> None:
        for key in self.world.due_looks()[:count]:
            self.world.reconcile(key)

    @rule(deliver=st.booleans(), answers=st.lists(ANSWERS, min_size=1, max_size=5))
    def controller_works(self, deliver: bool, answers: list[str]) -> None:
        """Some events at once, up to the next writes, of which some are answered."""
        world = self.world
        while deliver and world.task_cache.coming:
            world.deliver_task()
        while deliver and world.pod_cache.coming:
            world.deliver_pod()
        while deliver and world.record_cache.coming:
            world.deliver_record()
        for key in world.due_looks():
            world.reconcile(key)
        if world.wake_s is not None:
            self.time_comes()
        for how in answers:
            if world.in_flight:
                world.answer(world.in_flight[0], how)

    @rule(answers=st.lists(ANSWERS, min_size=1, max_size=5))
    def controller_works_on(self, answers: list[str]) -> None:
        """The same once more: chance should choose it more often than a rare accident."""
        self.controller_works(True, answers)

    @precondition(lambda self: any(self.world.parked(uid) for uid in self.running_pods()))
    @rule(
        count=st.integers(1, 3),
        asks=REQUESTS,
        how=ANSWERS,
        then=st.sampled_from(["bind", "claim", "die", ""]),
    )
    def tasks_are_handed_over(self, count: int, asks: dict[str, str], how: str, then: str) -> None:
        """From their creation to the agents' part: chance alone hardly gets there."""
        self.create_tasks(1, count, asks)
        for _ in range(3):
            self.controller_works(True, [how, "ok"])
        for uid in self.running_pods():
            for name in self.world.parked(uid) if then else ():
                if self.world.container_states(uid).get(name) != "running":
                    continue
                self.world.bind(uid, name)
                entry = self.world.entry_of(uid, name)
                if then == "claim" and entry is not None:
                    self.world.claim(uid, entry)
                elif then == "die" and entry is not None:
                    ended = {"exitCode": 137, "reason": "Error"}
                    self.world.set_container(uid, name, {"terminated": ended})

    @rule(seconds=st.sampled_from([0.001, 0.003, 0.05, 0.5, 1.5, 6.0, 40.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now_s += seconds

    @precondition(lambda self: self.world.wake_s is not None)
    @rule()
    def timer_rings(self) -> None:
        self.time_comes()

    def time_comes(self) -> None:
        wake_s, self.world.wake_s = self.world.wake_s, None
        assert wake_s is not None
        self.world.now_s = max(self.world.now_s, wake_s)
        self.world.tell(ev.TimeCame())

    @rule(arrive=st.sampled_from(["none", "before", "after"]))
    def kill_controller(self, arrive: str) -> None:
        """At any moment; its writes under way arrive, or do not, or arrive late."""
        writes = [r for r in self.world.in_flight if isinstance(r, Append | HandOver)]
        if arrive == "before":
            for write in writes:
                self.world.arrive(write)
        # What was taken back stands in the record until the next write; its agent may be faster.
        for worker in self.workers():
            record = self.world.records.get(worker.pod.uid)
            for name, entry in (parse_record(record) if record else {}).items():
                if isinstance(entry, Handover) and name not in worker.attempts:
                    self.world.excused.add(worker.pod.uid)
        self.world.start()
        if arrive == "after":
            for write in writes:
                self.world.excused.add(write.pod_uid)
                self.world.arrive(write)

    # --- invariants ---------------------------------------------------------------------

    def workers(self) -> list[Worker]:
        return self.world.machine.workers_of("uid-c")

    @invariant()
    def live_is_counted_by_tree(self) -> None:
        """What limits.liveTasks is measured by: attempts that take slots, by root."""
        placements = self.world.machine._placements
        counted = Counter(
            attempt.root_uid
            for worker in placements.workers()
            for attempt in worker.attempts.values()
            if attempt.live and attempt.root_uid
        )
        assert placements._live == counted

    @invariant()
    def sums_are_right(self) -> None:
        for worker in self.workers():
            taken = [attempt for attempt in worker.attempts.values() if attempt.open]
            assert worker.active == len(taken)
            assert worker.used == sum(attempt.slots for attempt in taken)
            assert worker.committed == total(attempt.taken for attempt in taken)
            assert set(worker.attempts) <= worker.names
            assert worker.unreported <= worker.names
            assert worker.size_bytes > 0

    @invariant()
    def slots_are_never_exceeded(self) -> None:
        for worker in self.workers():
            if worker.pod.uid in self.world.excused:
                continue
            # The container of a deleted Task holds its slots from when it is seen to run; nothing
            # runs in one that has ended.
            known = sum(
                attempt.slots
                for attempt in worker.attempts.values()
                if attempt.open
                and attempt.ended_at_s is None
                and attempt.id.task_uid in self.world.task_cache.objects
            )
            assert known <= SLOTS

    @invariant()
    def memory_and_cpu_are_never_exceeded(self) -> None:
        for worker in self.workers():
            if worker.pod.uid in self.world.excused:
                continue
            assert worker.capacity == capacity_of(RESOURCES)
            known = total(
                attempt.taken
                for attempt in worker.attempts.values()
                if attempt.open and attempt.id.task_uid in self.world.task_cache.objects
            )
            assert known.within(worker.capacity)

    @invariant()
    def no_attempt_is_on_two_workers(self) -> None:
        where = Counter(
            attempt.id
            for worker in self.workers()
            if worker.alive and worker.pod.uid not in self.world.excused
            for attempt in worker.attempts.values()
            if attempt.open
        )
        assert [attempt for attempt, count in where.items() if count > 1] == []

    @invariant()
    def what_is_parked_unasked_is_a_share_of_the_budget(self) -> None:
        share = 30 // SHARE_DIVISOR
        for worker in () if self.asked else self.workers():
            if worker.pod.uid not in self.world.excused:
                assert len(worker.spare()) + worker.unused <= share

    @invariant()
    def an_attempt_is_claimed_once(self) -> None:
        assert max(Counter(self.world.claims).values(), default=1) == 1

    @invariant()
    def one_small_batch_per_worker(self) -> None:
        in_flight = self.world.in_flight
        pods = [request.pod_uid for request in in_flight if not isinstance(request, HandOver)]
        assert len(pods) == len(set(pods))
        writes = [request for request in self.world.in_flight if isinstance(request, Append)]
        assert all(1 <= len(write.entries) <= MAX_BATCH for write in writes)
        for worker in self.workers():
            assert worker.in_flight == (worker.pod.uid in pods)
        records = [request.pod_uid for request in in_flight if isinstance(request, HandOver)]
        assert len(records) == len(set(records))
        for worker in self.workers():
            assert worker.record_in_flight == (worker.pod.uid in records)

    @invariant()
    def a_parked_container_is_given_one_attempt(self) -> None:
        for worker in self.workers():
            assert set(worker.parked) <= worker.names
            assert len(worker.spare()) <= 2 * max(STANDBY["maxPerWorker"], 4)
            for parked in worker.parked.values():
                attempt = worker.attempts.get(parked.container)
                assert not (parked.spare and attempt is not None)
                if parked.state is ParkedState.GIVEN:
                    assert attempt is not None
                    assert not attempt.claimed

    @invariant()
    def who_works_and_who_waits_is_counted_as_need(self) -> None:
        machine, workers = self.world.machine, self.workers()
        queue = machine._pending.queue(CLUSTER)
        tasks = [] if queue is None else [queue.get(uid) for uid in queue.uids()]
        sizes = machine.queued_sizes(CLUSTER)
        assert dict(sizes) == Counter(task.size for task in tasks if task is not None)
        rule = ScaleRule(least=0, most=1000, idle_s=0.0)
        wanted = Autoscaler().wanted(rule, SIZE, workers, sizes, self.world.now_s).replicas
        works = [w for w in workers if w.active and w.alive and w.retiring is None]
        assert wanted >= max(len(works), bool(tasks))

    @invariant()
    def what_does_not_serve_is_given_nothing(self) -> None:
        for worker in self.workers():
            assert worker.accepting == (worker.state in (WorkerState.SERVING, WorkerState.WORN))
            assert worker.state is not WorkerState.GONE or not worker.alive

    @invariant()
    def whoever_waits_will_be_looked_at(self) -> None:
        """Queued and a wake-up is due; or looked at later; or placed; or told to wait."""
        world, machine = self.world, self.world.machine
        pending = machine._pending
        queue = pending.queue(CLUSTER)
        for uid, raw in world.task_cache.objects.items():
            view = parse_task(raw)
            if view.state not in WAITS or view.suspend or view.cancel:
                continue
            looked_at = any(key.name == view.name for key in world.looks)
            queued = queue is not None and uid in queue
            placed = machine.placed(view, world.now) is not None
            stale = uid not in world.tasks or world.tasks[uid] != raw
            assert looked_at or queued or placed or stale, f"{uid} is forgotten"
        if queue is not None and machine._agenda.next_s == math.inf:
            # No look is due: also when all pauses are over, nothing could be placed.
            cluster = parse_cluster(world.cluster)
            later = Moment(world.now.wall, world.now_s + 3600)
            candidates = machine._placements.candidates(
                cluster.uid, cluster.prefix, cluster.rotation, later
            )
            snapshot = Snapshot(cluster.rotation.slots, candidates, later.monotonic_s)
            assert place(copy.deepcopy(queue), snapshot).assignments == []

    @invariant()
    def what_is_assumed_is_on_its_way(self) -> None:
        batches = self.world.machine._batches._batches.values()
        on_the_way = {i.attempt.container for b in batches for i in (*b.sent, *b.queued)}
        writing = self.world.machine._stock._writing.values()
        on_the_way |= {name for write in writing for name in write.changes}
        on_the_way |= {name for worker in self.workers() for name in worker.record_wanted}
        for worker in self.workers():
            for name, attempt in worker.attempts.items():
                assert attempt.in_spec or name in on_the_way, f"{name} is assumed for ever"

    @invariant()
    def a_new_machine_comes_to_the_same(self) -> None:
        """All but what is assumed stands in the objects."""
        world = self.world
        fresh = world.new_machine()
        fresh.handle(ev.ClusterSeen(world.cluster), world.now)
        for pod in world.pod_cache.objects.values():
            fresh.handle(ev.PodSeen(pod, first_list=True), world.now)
        for record in world.record_cache.objects.values():
            fresh.handle(ev.RecordSeen(record), world.now)
        for task in world.task_cache.objects.values():
            fresh.handle(ev.TaskSeen(parse_task(task)), world.now)
        workers = {worker.pod.uid: worker for worker in self.workers()}
        assert set(workers) == set(world.pod_cache.objects)
        for uid, worker in workers.items():
            twin = fresh.worker(uid)
            assert twin is not None
            # What the watch has not brought, the answers to our own writes may have.
            shown = {c["name"] for c in world.pod_cache.objects[uid]["spec"]["ephemeralContainers"]}
            settled = shown - self.unsettled(worker)
            assert book(world, worker, settled) == book(world, twin, settled)
            assert twin.names == shown <= worker.names

    def unsettled(self, worker: Worker) -> set[str]:
        """Containers of which the record is behind, or what is known of it."""
        world, uid = self.world, worker.pod.uid
        writing = [w for w in world.machine._stock._writing.values() if w.worker is worker]
        # What ended without having begun is taken back in a moment; a new machine does so at once.
        ended = {name for name, one in worker.attempts.items() if one.ended_at_s is not None}
        names = (
            ended
            | set(worker.record_wanted)
            | {name for write in writing for name in write.changes}
        )
        truth, known = world.records.get(uid), world.record_cache.objects.get(uid)
        # Also what was written before the pod, and the record with it, was removed.
        coming = [record for one, record in world.record_cache.coming if one == uid]
        if truth != known or coming:
            for record in (truth, known, *coming):
                names |= set(parse_record(record) if record else ())
        return names

    def teardown(self) -> None:
        """When the troubles end, everything ends well."""
        world = self.world
        for uid in list(world.pods):
            world.remove_pod(uid)
        for task in list(world.tasks.values()):
            task = copy.deepcopy(task)
            task["spec"].pop("suspend", None)
            world.put_task(task)
        world.create_pod()
        world.create_pod()
        for _ in range(400):
            if all(parse_task(task).state in ENDED for task in world.tasks.values()):
                break
            if len(world.pods[min(world.pods)]["spec"]["ephemeralContainers"]) > 25:
                world.create_pod()
            world.quiet_round()
        states = {
            uid: task["status"]
            for uid, task in world.tasks.items()
            if parse_task(task).state not in ENDED
        }
        assert all(parse_task(task).state in ENDED for task in world.tasks.values()), states
        while (
            world.task_cache.coming
            or world.pod_cache.coming
            or world.record_cache.coming
            or world.in_flight
        ):
            self.world.drain()
        assert world.machine.waiting() == 0
        assert world.machine.open_attempts() == 0


def book(
    world: ModelWorld, worker: Worker, shown: set[str]
) -> dict[str, tuple[AttemptId, AttemptState, int, Amount, bool]]:
    """What is noted of the attempts in a worker's spec whose Tasks exist.

    Of a deleted Task no object says how many slots it took, nor whether it had ended before.
    """
    return {
        name: (attempt.id, attempt.state, attempt.slots, attempt.amount, attempt.open)
        for name, attempt in worker.attempts.items()
        if name in shown and attempt.id.task_uid in world.task_cache.objects
    }


# Some ten seconds on a quiet machine.
TestMachineLife = pytest.mark.slow(pytest.mark.timeout(300)(MachineLife.TestCase))
TestMachineLife.settings = settings(
    max_examples=80,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
