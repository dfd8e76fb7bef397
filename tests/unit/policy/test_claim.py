"""The fence: exactly one container runs an attempt."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.policy.claim import AlreadyOurs, Claimed, ClaimEntry, ClaimRefused, decide_claim
from taskctl.policy.status import status_body
from tests.unit.policy.build import NOW, child, conditions, raw_task, running, written

ENTRY = ClaimEntry("uid-t", 1, "k", "w-1", "pod-1", "2030-01-01T11:59:59.000000Z")


def test_first_attempt_is_claimed() -> None:
    task = raw_task()
    decision = decide_claim(task, ENTRY, NOW)
    assert isinstance(decision, Claimed)
    status = written(task, decision.status_patch)["status"]
    assert status["state"] == "Running"
    assert status["reason"] == "Started"
    assert status["attempt"] == 1
    assert (status["podName"], status["podUID"], status["containerName"]) == ("w-1", "pod-1", "k")
    assert status["root"] == "t"
    assert status["depth"] == 0
    assert "parent" not in status
    assert status["times"] == {
        "created": "2030-01-01T11:00:00.000000Z",
        "placed": "2030-01-01T11:59:59.000000Z",
        "started": "2030-01-01T12:00:00.000000Z",
    }
    assert conditions(status) == {"Complete": "False"}
    assert status["observedGeneration"] == 3


def test_second_attempt_clears_what_the_first_left() -> None:
    left = {
        "attempt": 1,
        "failures": 1,
        "exitCode": 3,
        "signal": 9,
        "nextAttemptTime": "2030-01-01T11:59:58Z",
        "times": {"userCode": "x", "exited": "x", "observed": "x"},
        "outputObject": "old",
        "message": "it failed",
    }
    task = raw_task(status=left)
    decision = decide_claim(task, ClaimEntry("uid-t", 2, "k2", "w-1", "pod-1", ""), NOW)
    assert isinstance(decision, Claimed)
    status = written(task, decision.status_patch)["status"]
    assert status["attempt"] == 2
    assert status["failures"] == 1
    assert status["message"] == ""
    for gone in ("exitCode", "signal", "nextAttemptTime", "outputObject"):
        assert gone not in status
    assert set(status["times"]) == {"created", "started"}


def test_child_knows_its_family() -> None:
    task = child("t")
    decision = decide_claim(task, ENTRY, NOW)
    assert isinstance(decision, Claimed)
    patch = decision.status_patch
    assert (patch["root"], patch["parent"], patch["depth"]) == ("root", "root", 1)


def test_lost_answer_is_recognised() -> None:
    assert decide_claim(raw_task(status=running()), ENTRY, NOW) == AlreadyOurs()


def test_a_cancelled_run_of_ours_is_still_ours() -> None:
    task = raw_task(status=running(), spec={"cancel": True})
    assert decide_claim(task, ENTRY, NOW) == AlreadyOurs()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        pytest.param({"uid": "another"}, "made again", id="another incarnation"),
        pytest.param({"deletionTimestamp": "2030-01-01T12:00:00Z"}, "deleted", id="deleting"),
        pytest.param({"spec": {"cancel": True}}, "cancelled", id="cancelled"),
        pytest.param({"spec": {"suspend": True}}, "suspended", id="suspended"),
        pytest.param({"status": {"state": "Succeeded", "attempt": 1}}, "Succeeded", id="done"),
        pytest.param({"status": {"state": "Failed"}}, "Failed", id="failed"),
        pytest.param({"status": {"state": "Pending", "attempt": 1}}, "superseded", id="spent"),
        pytest.param({"status": {"state": "Scheduled", "attempt": 4}}, "superseded", id="old"),
        pytest.param({"status": running(podUID="pod-2")}, "Running", id="other pod"),
        pytest.param({"status": running(containerName="q")}, "Running", id="other container"),
        pytest.param({"status": running(attempt=2)}, "Running", id="later attempt"),
    ],
)
def test_refused(parts: dict[str, Any], words: str) -> None:
    decision = decide_claim(raw_task(**parts), ENTRY, NOW)
    assert isinstance(decision, ClaimRefused)
    assert words in decision.reason


def test_a_gap_in_attempts_is_refused() -> None:
    decision = decide_claim(raw_task(), ClaimEntry("uid-t", 3, "k", "w", "p", ""), NOW)
    assert isinstance(decision, ClaimRefused)


def test_body_is_guarded() -> None:
    body = status_body(raw_task(), {"state": "Running"})
    assert body["metadata"] == {"resourceVersion": "42", "uid": "uid-t"}


@given(
    claims=st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from(["pod-1", "pod-2", "pod-3"])), max_size=12
    )
)
def test_one_container_wins_each_attempt(claims: list[tuple[int, str]]) -> None:
    """Whatever order containers ask in, an attempt has one owner, and attempts only rise."""
    task = raw_task()
    owners: dict[int, str] = {}
    for attempt, pod in claims:
        entry = ClaimEntry("uid-t", attempt, f"k-{attempt}", pod, pod, "")
        decision = decide_claim(task, entry, NOW)
        if isinstance(decision, Claimed):
            assert attempt not in owners
            assert attempt == max(owners, default=0) + 1
            owners[attempt] = pod
            task = written(task, decision.status_patch)
            # The attempt ends; the next one may begin.
            if pod != "pod-3":
                task = written(task, {"state": "Pending"})
        elif isinstance(decision, AlreadyOurs):
            assert owners[attempt] == pod
