"""The ledger of placements: what pods' specs and Tasks' status come to together."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from taskctl.api.meta import ObjectKey
from taskctl.controllers.placements import Ledger
from taskctl.controllers.workerstate import Attempt, Worker
from taskctl.placement.fleet import RetireReason
from taskctl.placement.rest import Rest, after_batch
from taskctl.placement.rotation import Rotation
from taskctl.policy.entry import Ticket, build_entry, container_name
from taskctl.policy.view import parse_task
from tests.unit.policy.build import NOW, raw_task, running


@dataclass
class HandClock:
    """Moves when told to."""

    elapsed_s: float = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.elapsed_s)

    def monotonic_s(self) -> float:
        return self.elapsed_s


@dataclass
class Listener:
    looked_at: list[str] = field(default_factory=list)
    freed: int = 0
    idle: int = 0
    closed: list[str] = field(default_factory=list)

    def slots_changed(self, cluster_uid: str, *, freed: bool) -> None:
        self.freed += freed

    def worker_idle(self, cluster_uid: str) -> None:
        self.idle += 1

    def attempt_closed(self, worker: Worker) -> None:
        self.closed.append(worker.pod.name)

    def look_at(self, task: ObjectKey) -> None:
        self.looked_at.append(task.name)


class Bench:
    """A ledger over a dict of Tasks."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.listener = Listener()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.ledger = Ledger(self.listener, self._find, self.clock)

    def _find(self, uid: str) -> Any:
        raw = self.tasks.get(uid)
        return None if raw is None else parse_task(raw)

    def task(self, name: str = "t", **parts: Any) -> None:
        raw = raw_task(name, **parts)
        self.tasks[raw["metadata"]["uid"]] = raw
        self.ledger.on_task(raw["metadata"]["uid"])

    def drop(self, name: str = "t") -> None:
        del self.tasks[f"uid-{name}"]
        self.ledger.on_task(f"uid-{name}")

    def pod(
        self,
        serial: int = 1,
        placed: tuple[tuple[str, int], ...] = (),
        states: dict[str, Any] | None = None,
        **metadata: Any,
    ) -> Worker:
        entries = []
        for name, attempt in placed:
            ticket = Ticket(attempt, "n", "2030-01-01T12:00:00Z")
            entries.append(build_entry(parse_task(raw_task(name)), ticket, {}))
        statuses = [{"name": name, "state": state} for name, state in (states or {}).items()]
        raw = {
            "metadata": {
                "namespace": "ns",
                "name": f"w-{serial}",
                "uid": f"pod-{serial}",
                "labels": {"taskctl.dev/cluster-uid": "uid-c"},
            }
            | metadata,
            "spec": {"ephemeralContainers": entries},
            "status": {
                "phase": "Running",
                "containerStatuses": [{"name": "agent", "state": {"running": {}}}],
                "ephemeralContainerStatuses": statuses,
            },
        }
        self.ledger.on_pod(raw)
        worker = self.ledger.worker(f"pod-{serial}")
        assert worker is not None
        return worker

    def assume(self, worker: Worker, name: str = "t") -> Attempt | None:
        return self.ledger.assume(worker, parse_task(self.tasks[f"uid-{name}"]), NOW)


NAME = container_name("uid-t", 1)
ROTATION = Rotation(max_tasks=100, slots=4)


def test_pod_first_or_task_first_comes_to_the_same() -> None:
    for pod_first in (True, False):
        bench = Bench()
        if pod_first:
            worker = bench.pod(placed=(("t", 1),))
            assert (worker.used, worker.active) == (0, 0), "the Task is unknown yet"
            bench.task(spec={"slots": 2})
        else:
            bench.task(spec={"slots": 2})
            worker = bench.pod(placed=(("t", 1),))
        assert (worker.used, worker.active) == (2, 1)
        assert bench.ledger.is_placed("uid-t", 1)


def test_life_of_an_attempt() -> None:
    bench = Bench()
    bench.task()
    worker = bench.pod()
    attempt = bench.assume(worker)
    assert attempt is not None
    assert (worker.used, len(worker.names)) == (1, 1)
    bench.pod(placed=(("t", 1),))
    assert not attempt.assumed
    bench.task(status=running(containerName=NAME))
    assert attempt.claimed
    assert not bench.ledger.is_placed("uid-t", 1)
    freed = bench.listener.freed
    bench.task(status={"state": "Succeeded", "attempt": 1, "podUID": "pod-1"})
    assert (worker.used, worker.attempts, len(worker.names)) == (0, {}, 1)
    assert bench.listener.freed == freed + 1
    bench.pod(placed=(("t", 1),))
    assert worker.attempts == {}, "what is over stays over"


def test_undo() -> None:
    bench = Bench()
    bench.task()
    worker = bench.pod()
    attempt = bench.assume(worker)
    assert attempt is not None
    bench.ledger.undo(worker, attempt)
    assert (worker.used, worker.names, worker.attempts) == (0, set(), {})
    assert bench.listener.looked_at == ["t"]
    assert bench.assume(worker) is not None


def test_undo_does_not_believe_itself_against_the_pod() -> None:
    bench = Bench()
    bench.task()
    worker = bench.pod()
    attempt = bench.assume(worker)
    assert attempt is not None
    bench.pod(placed=(("t", 1),))
    bench.ledger.undo(worker, attempt)
    assert bench.ledger.is_placed("uid-t", 1)


def test_a_container_name_is_used_once_per_pod() -> None:
    bench = Bench()
    bench.task()
    worker = bench.pod(placed=(("t", 1),))
    assert bench.assume(worker) is None


def test_the_same_attempt_on_two_workers() -> None:
    """Both hold a slot until the claim decides; then one does."""
    bench = Bench()
    bench.task()
    first, second = bench.pod(1, (("t", 1),)), bench.pod(2, (("t", 1),))
    assert (first.used, second.used) == (1, 1)
    bench.task(status=running(podUID="pod-2", containerName=NAME))
    assert (first.used, second.used) == (0, 1)


def test_old_attempts_are_closed() -> None:
    bench = Bench()
    bench.task(status={"state": "Pending", "attempt": 2})
    worker = bench.pod(placed=(("t", 1), ("t", 2), ("t", 3)))
    assert worker.used == 1
    assert bench.ledger.is_placed("uid-t", 3)
    assert not bench.ledger.is_placed("uid-t", 2)


def test_container_of_a_deleted_task_holds_its_slot_until_it_ends() -> None:
    bench = Bench()
    bench.task(status=running(containerName=NAME))
    worker = bench.pod(placed=(("t", 1),), states={NAME: {"running": {}}})
    bench.drop()
    assert worker.used == 1
    bench.pod(placed=(("t", 1),), states={NAME: {"terminated": {"exitCode": 0}}})
    assert (worker.used, worker.active) == (0, 0)


def test_gone_worker() -> None:
    bench = Bench()
    bench.task(status=running(containerName=NAME))
    bench.pod(placed=(("t", 1),))
    view = parse_task(bench.tasks["uid-t"])
    assert bench.ledger.runs_well(view)
    bench.ledger.on_pod_gone("pod-1")
    assert bench.listener.looked_at == ["t"]
    assert bench.ledger.worker_facts(view).gone
    assert bench.ledger.workers_of("uid-c") == []
    bench.ledger.on_pod_gone("pod-1")


def test_ended_container_is_noticed_once() -> None:
    bench = Bench()
    bench.task(status=running(containerName=NAME))
    for _ in range(3):
        bench.pod(placed=(("t", 1),), states={NAME: {"terminated": {"exitCode": 0}}})
        bench.clock.elapsed_s += 1
    assert bench.listener.looked_at == ["t"]
    facts = bench.ledger.worker_facts(parse_task(bench.tasks["uid-t"]))
    assert (facts.gone, facts.ended_for_s) == (False, 3.0)


def test_kubelets_words_reach_the_task() -> None:
    bench = Bench()
    bench.task()
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    bench.pod(placed=(("t", 1),), states={NAME: waiting})
    facts = bench.ledger.placed_facts(parse_task(bench.tasks["uid-t"]))
    assert facts is not None
    assert facts.waiting == "ErrImagePull: not found"
    assert bench.listener.looked_at == ["t"]


def test_dying_worker_is_no_place_to_wait() -> None:
    bench = Bench()
    bench.task()
    bench.pod(placed=(("t", 1),))
    bench.pod(placed=(("t", 1),), deletionTimestamp="2030-01-01T12:00:30Z")
    assert not bench.ledger.is_placed("uid-t", 1)
    assert bench.listener.looked_at == ["t"]


def test_silent_node_is_no_place_to_wait_either() -> None:
    """The attempt may be placed again: whoever claims it first runs it."""
    bench = Bench()
    bench.task()
    worker = bench.pod(placed=(("t", 1),))
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": "2030-01-01T12:00:00Z"}
    bench.ledger.on_pod({**worker.raw, "status": worker.raw["status"] | {"conditions": [unready]}})
    assert not bench.ledger.is_placed("uid-t", 1)
    assert not worker.accepting
    assert bench.listener.looked_at == ["t"]
    bench.pod(placed=(("t", 1),))
    assert bench.ledger.is_placed("uid-t", 1)


def test_death_of_a_dying_worker_is_noticed() -> None:
    bench = Bench()
    bench.task(status=running(containerName=NAME))
    deleted: dict[str, Any] = {
        "deletionTimestamp": "2030-01-01T12:00:30Z",
        "deletionGracePeriodSeconds": 30,
    }
    worker = bench.pod(placed=(("t", 1),), **deleted)
    assert bench.listener.looked_at == ["t"]
    view = parse_task(bench.tasks["uid-t"])
    assert bench.ledger.worker_facts(view).look_again_s == 60.0
    bench.ledger.on_pod({**worker.raw, "status": {"phase": "Failed"}})
    assert bench.listener.looked_at == ["t", "t"]
    assert bench.ledger.worker_facts(view).gone


def test_worker_serves_a_while_after_it_is_up_or_when_it_has_claimed() -> None:
    bench = Bench()
    worker = bench.pod()
    assert worker.serves_in_s(0.0) == 3.0
    bench.clock.elapsed_s = 2.0
    bench.pod()
    assert worker.serves_in_s(2.0) == 1.0
    bench.pod(placed=(("t", 1),))
    bench.task(status=running(containerName=NAME))
    assert worker.serves_in_s(2.0) == 0.0


def test_pace_and_size() -> None:
    bench = Bench()
    worker = bench.pod()
    bare = worker.size_bytes
    assert 100 < bare < 2000
    attempts = []
    for number in range(4):
        bench.task(f"t{number}")
        attempt = bench.assume(worker, f"t{number}")
        assert attempt is not None
        bench.ledger.grow(worker, attempt, 1000)
        attempts.append(attempt)
    wear = worker.wear(0.0, queued=50)
    assert (wear.entries, wear.expected, wear.size_bytes) == (4, 12, bare + 4 * 1800)
    assert worker.wear(60.0).expected == 1
    bench.ledger.undo(worker, attempts[0])
    bench.ledger.undo(worker, attempts[0])
    assert worker.size_bytes == bare + 3 * 1800


def test_a_worker_rests_a_relist_after_all_it_was_given_has_started() -> None:
    bench = Bench()
    bench.task()
    worker = bench.pod()
    assert worker.rest == Rest(1.0), "it has come up just now"
    bench.clock.elapsed_s = 5.0
    bench.assume(worker)
    worker.rest = after_batch(worker.rest, 5.0)
    bench.clock.elapsed_s = 5.1
    bench.pod(placed=(("t", 1),), states={NAME: {"waiting": {"reason": "ContainerCreating"}}})
    assert worker.rest == Rest(7.0)
    bench.clock.elapsed_s = 5.5
    bench.pod(placed=(("t", 1),), states={NAME: {"running": {}}})
    assert worker.rest == Rest(6.5)


def test_a_worker_takes_its_next_batch_when_the_one_before_has_started() -> None:
    bench = Bench()
    bench.task()
    worker = bench.pod()
    bench.assume(worker)
    worker.cool_until_s, worker.gather_until_s = 0.05, 0.4
    assert [worker.takes_batch(now_s) for now_s in (0.0, 0.1, 0.39, 0.4)] == [False] * 3 + [True]
    freed = bench.listener.freed
    bench.pod(placed=(("t", 1),), states={NAME: {"waiting": {"reason": "ContainerCreating"}}})
    assert (worker.takes_batch(0.1), bench.listener.freed) == (False, freed)
    bench.pod(placed=(("t", 1),), states={NAME: {"running": {}}})
    assert worker.takes_batch(0.1), "its kubelet has nothing left to do there"
    assert bench.listener.freed == freed + 1, "the scheduler has to look again"
    worker.in_flight = True
    assert not worker.takes_batch(9.0)


def test_attempts_that_are_over_are_told() -> None:
    bench = Bench()
    bench.task()
    bench.pod(placed=(("t", 1),))
    assert bench.listener.closed == []
    bench.task(status={"state": "Cancelled", "attempt": 1})
    assert bench.listener.closed == ["w-1"]


def test_retiring_worker_tells_when_it_is_idle() -> None:
    bench = Bench()
    bench.task()
    bench.pod(placed=(("t", 1),))
    bench.ledger.set_retiring("pod-1", RetireReason.WORN)
    (state,) = bench.ledger.worker_states("uid-c", "w", ROTATION)
    assert not state.accepting
    bench.task(status={"state": "Cancelled", "attempt": 1})
    assert bench.listener.idle == 1


def test_strange_containers_count_but_are_not_ours() -> None:
    bench = Bench()
    worker = bench.pod()
    raw = dict(worker.raw)
    raw["spec"] = {"ephemeralContainers": [{"name": "debugger-x", "image": "busybox"}]}
    bench.ledger.on_pod(raw)
    assert (len(worker.names), worker.attempts) == (1, {})


def test_who_waits_for_children_takes_no_slot() -> None:
    bench = Bench()
    name = container_name("uid-t", 1)
    bench.task(spec={"slots": 2}, status=running(containerName=name))
    worker = bench.pod(placed=(("t", 1),))
    assert (worker.used, worker.active) == (2, 1)
    freed = bench.listener.freed
    bench.task(
        spec={"slots": 2},
        status=running(containerName=name, waitingSince="2030-01-01T12:00:00.000000Z"),
    )
    assert (worker.used, worker.active) == (0, 1)
    assert bench.listener.freed == freed + 1
    bench.task("other")
    bench.assume(worker, "other")
    bench.task(spec={"slots": 2}, status=running(containerName=name))
    assert (worker.used, worker.active) == (3, 2), "who resumes does not ask"
