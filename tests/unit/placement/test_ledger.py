"""The ledger of placements: what pods' specs and Tasks' status come to together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from taskctl.clock import Moment
from taskctl.placement.attempts import AttemptId, OpenAttempt
from taskctl.placement.fleet import RetireReason
from taskctl.placement.ledger import Placements
from taskctl.placement.rest import Rest, after_batch
from taskctl.placement.rotation import RotationRule
from taskctl.placement.states import AttemptState, WorkerState
from taskctl.placement.workers import Worker
from taskctl.policy.entry import Ticket, build_entry, container_name
from taskctl.policy.view import TaskView, parse_task
from tests.unit.policy.build import NOW, raw_task, running


@dataclass
class Seen:
    """All that the ledger said has changed, added up."""

    looked_at: list[str] = field(default_factory=list)
    freed: int = 0
    idle: int = 0
    closed: list[str] = field(default_factory=list)


class Bench:
    """A ledger over a dict of Tasks."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.seen = Seen()
        self.tasks: dict[str, dict[str, Any]] = {}
        self.views: dict[str, TaskView] = {}
        self.ledger = Placements(self.views)

    @property
    def now(self) -> Moment:
        return Moment(NOW + timedelta(seconds=self.elapsed_s), self.elapsed_s)

    @property
    def listener(self) -> Seen:
        """What has changed up to now."""
        changes = self.ledger.take_changes()
        self.seen.looked_at += [task.name for task in changes.touched]
        self.seen.freed += sum(changes.slots.values())
        self.seen.idle += len(changes.idle)
        self.seen.closed += [pod.name for pod in changes.closed.values()]
        return self.seen

    def told(self, uid: str) -> None:
        raw = self.tasks.get(uid)
        if raw is None:
            self.views.pop(uid, None)
        else:
            self.views[uid] = parse_task(raw)
        self.ledger.on_task(uid, self.now)

    def task(self, name: str = "t", **parts: Any) -> None:
        raw = raw_task(name, **parts)
        self.tasks[raw["metadata"]["uid"]] = raw
        self.told(raw["metadata"]["uid"])

    def drop(self, name: str = "t") -> None:
        del self.tasks[f"uid-{name}"]
        self.told(f"uid-{name}")

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
        self.on_pod(raw)
        worker = self.ledger.worker(f"pod-{serial}")
        assert worker is not None
        return worker

    def on_pod(self, raw: Mapping[str, Any]) -> None:
        self.listener  # noqa: B018 - adds up what was before
        self.ledger.on_pod(raw, self.now)

    def assume(self, worker: Worker, name: str = "t", size_bytes: int = 0) -> OpenAttempt | None:
        view = parse_task(self.tasks[f"uid-{name}"])
        return self.ledger.assume(worker, view, size_bytes, self.now)

    def is_placed(self, uid: str, number: int) -> bool:
        return self.ledger.is_placed(AttemptId(uid, number))


NAME = container_name("uid-t", 1)
ROTATION = RotationRule(max_tasks=100, slots=4)


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
        assert bench.is_placed("uid-t", 1)


def test_life_of_an_attempt() -> None:
    bench = Bench()
    bench.task()
    worker = bench.pod()
    attempt = bench.assume(worker)
    assert attempt is not None
    assert str(attempt.state) == AttemptState.ASSUMED
    assert (worker.used, len(worker.names)) == (1, 1)
    bench.pod(placed=(("t", 1),))
    assert str(attempt.state) == AttemptState.PLACED
    bench.task(status=running(containerName=NAME))
    assert str(attempt.state) == AttemptState.CLAIMED
    assert not bench.is_placed("uid-t", 1)
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
    assert bench.is_placed("uid-t", 1)


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
    assert bench.is_placed("uid-t", 3)
    assert not bench.is_placed("uid-t", 2)


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
    assert bench.ledger.claimed(view, bench.now).gone
    assert bench.ledger.workers_of("uid-c") == []
    bench.ledger.on_pod_gone("pod-1")


def test_ended_container_is_noticed_once() -> None:
    bench = Bench()
    bench.task(status=running(containerName=NAME))
    for _ in range(3):
        bench.pod(placed=(("t", 1),), states={NAME: {"terminated": {"exitCode": 0}}})
        bench.elapsed_s += 1
    assert bench.listener.looked_at == ["t"]
    facts = bench.ledger.claimed(parse_task(bench.tasks["uid-t"]), bench.now)
    assert (facts.gone, facts.ended_for_s) == (False, 3.0)


def test_kubelets_words_reach_the_task() -> None:
    bench = Bench()
    bench.task()
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    bench.pod(placed=(("t", 1),), states={NAME: waiting})
    facts = bench.ledger.placed(parse_task(bench.tasks["uid-t"]), bench.now)
    assert facts is not None
    assert facts.waiting == "ErrImagePull: not found"
    assert bench.listener.looked_at == ["t"]


def test_dying_worker_is_no_place_to_wait() -> None:
    bench = Bench()
    bench.task()
    bench.pod(placed=(("t", 1),))
    bench.pod(placed=(("t", 1),), deletionTimestamp="2030-01-01T12:00:30Z")
    assert not bench.is_placed("uid-t", 1)
    assert bench.listener.looked_at == ["t"]


def test_silent_node_is_no_place_to_wait_either() -> None:
    """The attempt may be placed again: whoever claims it first runs it."""
    bench = Bench()
    bench.task()
    worker = bench.pod(placed=(("t", 1),))
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": "2030-01-01T12:00:00Z"}
    bench.on_pod({**worker.raw, "status": worker.raw["status"] | {"conditions": [unready]}})
    assert not bench.is_placed("uid-t", 1)
    assert not worker.accepting
    assert bench.listener.looked_at == ["t"]
    bench.pod(placed=(("t", 1),))
    assert bench.is_placed("uid-t", 1)


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
    assert bench.ledger.claimed(view, bench.now).look_again_s == 60.0
    bench.on_pod({**worker.raw, "status": {"phase": "Failed"}})
    assert bench.listener.looked_at == ["t", "t"]
    assert bench.ledger.claimed(view, bench.now).gone


def test_worker_serves_a_while_after_it_is_up_or_when_it_has_claimed() -> None:
    bench = Bench()
    worker = bench.pod()
    assert worker.serves_in_s(0.0) == 3.0
    bench.elapsed_s = 2.0
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
        attempt = bench.assume(worker, f"t{number}", 1000)
        assert attempt is not None
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
    bench.elapsed_s = 5.0
    bench.assume(worker)
    worker.rest = after_batch(worker.rest, 5.0)
    bench.elapsed_s = 5.1
    bench.pod(placed=(("t", 1),), states={NAME: {"waiting": {"reason": "ContainerCreating"}}})
    assert worker.rest == Rest(7.0)
    bench.elapsed_s = 5.5
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
    worker = bench.pod(placed=(("t", 1),))
    bench.ledger.set_retiring("pod-1", RetireReason.WORN, worn=True)
    assert worker.state is WorkerState.RETIRING
    (state,) = bench.ledger.candidates("uid-c", "w", ROTATION, bench.now)
    assert not state.accepting
    bench.task(status={"state": "Cancelled", "attempt": 1})
    assert bench.listener.idle == 1


def test_strange_containers_count_but_are_not_ours() -> None:
    bench = Bench()
    worker = bench.pod()
    raw = dict(worker.raw)
    raw["spec"] = {"ephemeralContainers": [{"name": "debugger-x", "image": "busybox"}]}
    bench.on_pod(raw)
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


def test_a_retiring_worker_is_idle_also_when_the_last_attempt_took_no_slot() -> None:
    bench = Bench()
    waits = running(containerName=NAME, waitingSince="2030-01-01T12:00:00.000000Z")
    bench.task(status=waits)
    worker = bench.pod(placed=(("t", 1),))
    assert (worker.used, worker.active) == (0, 1)
    bench.ledger.set_retiring("pod-1", RetireReason.WORN, worn=True)
    bench.task(status={"state": "Cancelled", "attempt": 1})
    assert (bench.listener.idle, worker.active) == (1, 0)
