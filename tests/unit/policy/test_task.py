"""A Task's next step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.api.states import TaskState
from taskctl.policy.claim import ClaimEntry, ClaimRefused, decide_claim
from taskctl.policy.podview import ContainerReport, ContainerState
from taskctl.policy.readiness import ReadinessFacts
from taskctl.policy.runafter import Dependency, RunAfterRule
from taskctl.policy.task import (
    NOTHING,
    ClaimedAttempt,
    HeldFacts,
    PlacedAttempt,
    TaskFacts,
    TaskPlan,
    decide_task,
)
from taskctl.policy.view import parse_task
from tests.unit.policy.build import NOW, raw_task, running, written

READY = ReadinessFacts(worker_slots=4)


def placed(waited_s: float, **fields: Any) -> PlacedAttempt:
    return PlacedAttempt("w-1", "pod-1", "k", waited_s=waited_s, **fields)


def step(task: dict[str, Any], **facts: Any) -> TaskPlan:
    return decide_task(parse_task(task), TaskFacts(**{"readiness": READY} | facts), NOW)


def result(task: dict[str, Any], plan: TaskPlan) -> dict[str, Any]:
    assert plan.patch is not None
    status: dict[str, Any] = written(task, plan.patch)["status"]
    return status


@pytest.mark.parametrize("state", ["Succeeded", "Failed", "Cancelled"])
def test_ended_is_ended(state: str) -> None:
    assert step(raw_task(status={"state": state})) == NOTHING


def test_deleting_is_left_alone() -> None:
    assert step(raw_task(deletionTimestamp="2030-01-01T12:00:00Z")) == NOTHING


def test_ready_is_queued_without_a_write() -> None:
    assert step(raw_task()) == TaskPlan(queue=True)


def test_stale_reason_is_corrected_when_queued() -> None:
    task = raw_task(status={"reason": "ClusterNotFound", "message": "no cluster"})
    plan = step(task)
    assert plan.queue
    assert result(task, plan)["reason"] == "Queued"
    assert step(raw_task(status={"reason": "WorkerLost"})) == TaskPlan(queue=True)


# --- waiting ------------------------------------------------------------------------

NO_CLUSTER = ReadinessFacts(worker_slots=None)


def test_reason_to_wait_is_shown_once_it_lasts() -> None:
    early = step(raw_task(), readiness=NO_CLUSTER, age_s=1.0)
    assert early == TaskPlan(requeue_after_s=1.0, no_cluster=True)
    old = raw_task()
    plan = step(old, readiness=NO_CLUSTER)
    assert result(old, plan)["reason"] == "ClusterNotFound"
    assert not plan.queue
    shown = raw_task(status={"reason": "ClusterNotFound", "message": result(old, plan)["message"]})
    assert step(shown, readiness=NO_CLUSTER) == TaskPlan(no_cluster=True)


def test_back_off_is_waited_for_without_a_write() -> None:
    waits = ReadinessFacts(worker_slots=4, backoff_left_s=7.5)
    assert step(raw_task(), readiness=waits) == TaskPlan(requeue_after_s=7.5)


def test_cancelled_in_the_queue() -> None:
    task = raw_task(spec={"cancel": True})
    plan = step(task)
    assert result(task, plan)["state"] == "Cancelled"


def test_cancelled_after_placing_spends_the_attempt() -> None:
    task = raw_task(spec={"cancel": True})
    status = result(task, step(task, placed=placed(0.1)))
    assert (status["state"], status["attempt"]) == ("Cancelled", 1)


def test_dependency_failed() -> None:
    failed = (Dependency("a", TaskState.FAILED),)
    facts = ReadinessFacts(worker_slots=4, after=RunAfterRule(tasks=("a",)), dependencies=failed)
    task = raw_task()
    plan = step(task, readiness=facts)
    assert result(task, plan)["reason"] == "DependencyFailed"


def test_refused_by_the_api_server() -> None:
    task = raw_task()
    plan = step(task, refused="env: invalid")
    status = result(task, plan)
    assert (status["state"], status["reason"]) == ("Failed", "StartError")
    assert "env: invalid" in status["message"]


# --- ready, and not placed ----------------------------------------------------------

UNSERVED = "TaskCluster 'c': 0 of 1 workers are ready. c-1: ImagePullBackOff"


def test_no_ready_worker_is_shown_after_a_while() -> None:
    young = step(raw_task(), unserved=UNSERVED, age_s=3.0)
    assert young == TaskPlan(queue=True, requeue_after_s=2.0)
    task = raw_task()
    plan = step(task, unserved=UNSERVED)
    status = result(task, plan)
    assert plan.queue
    assert (status["state"], status["reason"]) == ("Pending", "NoReadyWorker")
    assert status["message"] == UNSERVED
    shown = raw_task(status=status)
    assert step(shown, unserved=UNSERVED) == TaskPlan(queue=True)
    served = result(shown, step(shown))
    assert (served["reason"], served["message"]) == ("Queued", "")


def test_what_is_forbidden_is_shown_at_once() -> None:
    task = raw_task(creationTimestamp="2030-01-01T11:59:59Z")
    held = HeldFacts("No: PodSecurity. Do this.", for_s=0.0, forbidden=True)
    status = result(task, step(task, held=held, unserved=UNSERVED))
    assert (status["reason"], status["message"]) == ("PlacementForbidden", held.message)
    assert step(raw_task(status=status), held=held).patch is None


def test_other_failures_to_place_are_shown_when_they_last() -> None:
    task = raw_task()
    assert step(task, held=HeldFacts("no answer", for_s=4.9)) == TaskPlan(queue=True)
    status = result(task, step(task, held=HeldFacts("no answer", for_s=5.0)))
    assert (status["reason"], status["message"]) == ("PlacementFailed", "no answer")


# --- placed -------------------------------------------------------------------------


def test_placed_a_moment_ago() -> None:
    waiting = "ErrImagePull: no such image"
    assert step(raw_task(), placed=placed(0.5, waiting=waiting)) == TaskPlan(requeue_after_s=1.5)


def test_waiting_for_a_busy_kubelet_is_not_worth_a_write() -> None:
    """Of a burst of healthy tasks each costs two writes, also those that are started last."""
    assert step(raw_task(), placed=placed(29.0)) == TaskPlan(requeue_after_s=1.0)
    assert result(raw_task(), step(raw_task(), placed=placed(30.0)))["state"] == "Scheduled"


def test_shown_as_scheduled_after_a_while() -> None:
    task = raw_task()
    plan = step(task, placed=placed(2.0, waiting="ImagePullBackOff: no such image"))
    status = result(task, plan)
    assert (status["state"], status["reason"]) == ("Scheduled", "WaitingToStart")
    assert status["message"] == "ImagePullBackOff: no such image"
    assert status["podName"] == "w-1"
    assert plan.requeue_after_s == 298.0
    again = raw_task(status=status)
    assert step(again, placed=placed(3.0, waiting=status["message"])).patch is None


def test_start_deadline() -> None:
    task = raw_task(spec={"startDeadlineSeconds": 10})
    plan = step(task, placed=placed(10, waiting="ErrImagePull"))
    status = result(task, plan)
    assert (status["state"], status["reason"]) == ("Failed", "StartDeadlineExceeded")
    assert "ErrImagePull" in status["message"]
    assert status["attempt"] == 1, "written off"


def test_container_that_ended_before_the_claim() -> None:
    task = raw_task()
    assert step(task, placed=placed(1.0, ended_for_s=2.0)).requeue_after_s == 1.0
    assert step(task, placed=placed(9.0, ended_for_s=2.0)).requeue_after_s == 3.0
    status = result(task, step(task, placed=placed(9.0, ended_for_s=5.0)))
    assert (status["state"], status["reason"]) == ("Pending", "ContainerLost")
    assert (status["attempt"], status["infraFailures"]) == (1, 1)


def test_suspended_after_placing_is_taken_back_uncharged() -> None:
    task = raw_task(spec={"suspend": True})
    status = result(task, step(task, placed=placed(0.1)))
    assert (status["state"], status["reason"], status["attempt"]) == ("Pending", "Suspended", 1)
    assert "infraFailures" not in status


# --- running ------------------------------------------------------------------------


def test_running_well() -> None:
    task = raw_task(status=running())
    assert step(task, worker=ClaimedAttempt(gone=False)) == NOTHING
    looking = ClaimedAttempt(gone=False, look_again_s=9.0)
    assert step(task, worker=looking) == TaskPlan(requeue_after_s=9.0)


def test_worker_lost() -> None:
    task = raw_task(status=running())
    plan = step(task, worker=ClaimedAttempt(gone=True, why="its pod is gone"))
    status = result(task, plan)
    assert (status["state"], status["reason"]) == ("Pending", "WorkerLost")
    assert (status["attempt"], status["infraFailures"]) == (1, 1)
    assert "its pod is gone" in status["message"]
    assert "podName" not in status
    assert status["attempts"][0]["podName"] == "w-1"


def test_container_lost() -> None:
    task = raw_task(status=running())
    assert step(task, worker=ClaimedAttempt(gone=False, ended_for_s=4.0)).requeue_after_s == 1.0
    plan = step(task, worker=ClaimedAttempt(gone=False, ended_for_s=5.0))
    assert result(task, plan)["reason"] == "ContainerLost"


def test_lost_while_being_cancelled() -> None:
    task = raw_task(spec={"cancel": True}, status=running())
    plan = step(task, worker=ClaimedAttempt(gone=True))
    assert result(task, plan)["state"] == "Cancelled"


def test_lost_too_often() -> None:
    task = raw_task(status=running(infraFailures=9))
    status = result(task, step(task, worker=ClaimedAttempt(gone=True)))
    assert (status["state"], status["reason"]) == ("Failed", "InfrastructureFailures")


# --- the fence and the controller together ------------------------------------------


@given(
    attempt=st.integers(0, 3),
    waited_s=st.floats(0, 400),
    ended_for_s=st.none() | st.floats(0, 20),
    cancel=st.booleans(),
    suspend=st.booleans(),
)
def test_what_is_written_off_cannot_be_claimed(
    attempt: int, waited_s: float, ended_for_s: float | None, cancel: bool, suspend: bool
) -> None:
    """Whenever the controller ends or returns a placed attempt, a late claim of it loses."""
    task = raw_task(spec={"cancel": cancel, "suspend": suspend}, status={"attempt": attempt})
    plan = step(task, placed=placed(waited_s, ended_for_s=ended_for_s))
    if plan.patch is None or plan.patch["state"] == "Scheduled":
        return
    after = written(task, plan.patch)
    after["spec"] = after["spec"] | {"cancel": False, "suspend": False}
    late = ClaimEntry("uid-t", attempt + 1, "k", "w-1", "pod-1", "")
    assert isinstance(decide_claim(after, late, NOW), ClaimRefused)


def test_how_the_container_ended_is_kept() -> None:
    """The exit code is for people: it proves no outcome."""
    ended = ContainerReport(ContainerState.TERMINATED, "Error", "", 3)
    task = raw_task(status=running())
    worker = ClaimedAttempt(gone=True, why="its pod has ended: Evicted", ended=ended)
    status = result(task, step(task, worker=worker))
    assert (status["state"], status["reason"]) == ("Pending", "WorkerLost")
    assert status["message"] == (
        "Worker w-1 is lost (its pod has ended: Evicted); the task ran there. "
        "The kubelet says of its container: Error, exit code 3."
    )
    assert status["attempts"][0]["exitCode"] == 3
    assert "exitCode" not in status


def test_an_invented_exit_code_is_not_kept() -> None:
    ended = ContainerReport(ContainerState.TERMINATED, "ContainerStatusUnknown", "gone")
    task = raw_task(status=running())
    status = result(task, step(task, worker=ClaimedAttempt(gone=False, ended_for_s=9, ended=ended)))
    assert status["reason"] == "ContainerLost"
    assert status["message"].endswith("container: ContainerStatusUnknown: gone.")
    assert "exitCode" not in status["attempts"][0]


# --- containers that end without a word ----------------------------------------------


def vanished(task: dict[str, Any], reason: str = "Error") -> dict[str, Any]:
    report = ContainerReport(ContainerState.TERMINATED, reason, "", 137)
    facts = ClaimedAttempt(gone=False, ended_for_s=60.0, ended=report)
    return result(task, step(task, worker=facts))


def test_a_container_that_vanishes_again_and_again_is_the_tasks_doing() -> None:
    status: dict[str, Any] = {}
    for attempt in (1, 2):
        past = {"attempts": status.get("attempts", []), "infraFailures": attempt - 1}
        status = vanished(raw_task(status=running(attempt) | past))
        assert (status["state"], status["reason"]) == ("Pending", "ContainerLost")
        assert status["infraFailures"] == attempt
    past = {"attempts": status["attempts"], "infraFailures": 2}
    status = vanished(raw_task(status=running(3) | past))
    assert (status["state"], status["reason"]) == ("Failed", "ContainerLost")
    assert "3 times" in status["message"]


def test_lost_workers_do_not_count_as_the_tasks_doing() -> None:
    past = [{"attempt": number, "reason": "WorkerLost"} for number in range(1, 6)]
    status = vanished(raw_task(status=running(6, attempts=past, infraFailures=5)))
    assert status["state"] == "Pending"


@pytest.mark.parametrize(("limit", "state"), [(0, "Failed"), (1, "Pending")])
def test_out_of_memory_is_charged(limit: int, state: str) -> None:
    task = raw_task(spec={"retry": {"limit": limit}}, status=running())
    status = vanished(task, "OOMKilled")
    assert (status["state"], status["failures"]) == (state, 1)
    assert "memory" in status["message"]
    assert status.get("infraFailures") is None
    reason = status["reason"] if state == "Failed" else status["attempts"][-1]["reason"]
    assert reason == "OOMKilled"


# --- the status keeps up with the spec ------------------------------------------------


@pytest.mark.parametrize("state", ["Pending", "Scheduled", "Running", "Succeeded", "Failed"])
def test_a_changed_spec_is_observed(state: str) -> None:
    condition = {"type": "Complete", "status": "False", "reason": "x", "observedGeneration": 2}
    task = raw_task(status={"state": state, "observedGeneration": 2, "conditions": [condition]})
    plan = step(task, worker=ClaimedAttempt(gone=False))
    status = result(task, plan)
    assert status["observedGeneration"] == 3
    assert [entry["observedGeneration"] for entry in status["conditions"]] == [3]
    assert step(raw_task(status=status), worker=ClaimedAttempt(gone=False)).patch is None
