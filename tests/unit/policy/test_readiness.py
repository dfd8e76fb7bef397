"""When is a Task ready?"""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.constants import Reason
from taskctl.policy.readiness import InputTask, ReadinessFacts, decide_readiness
from taskctl.policy.resources import ClusterResources
from taskctl.policy.runafter import Dependency, RunAfterRule
from taskctl.policy.verdicts import Never, Ready, Wait
from tests.unit.policy.build import view

FACTS = ReadinessFacts(worker_slots=4)


def after(*states: TaskState | None, when: str = "Success") -> ReadinessFacts:
    names = "abcdefgh"
    dependencies = tuple(Dependency(names[i], state) for i, state in enumerate(states))
    run_after = RunAfterRule(tasks=tuple(names[: len(states)]), when=when)
    return ReadinessFacts(worker_slots=4, after=run_after, dependencies=dependencies)


OK, BAD, STOPPED = TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED
OPEN, PASSED = TaskState.RUNNING, TaskState.SKIPPED


def test_plain_task_is_ready() -> None:
    assert decide_readiness(view(), FACTS) == Ready()


@pytest.mark.parametrize(
    ("spec", "facts", "reason", "words"),
    [
        ({"suspend": True}, FACTS, Reason.SUSPENDED, "spec.suspend"),
        ({}, ReadinessFacts(worker_slots=None), Reason.CLUSTER_NOT_FOUND, "'c'"),
        ({"slots": 5}, FACTS, Reason.SLOTS_EXCEED_WORKER, "5 slots"),
        (
            {"resources": {"requests": {"memory": "2Gi"}}},
            ReadinessFacts(
                worker_slots=4,
                resources=ClusterResources("c", {"requests": {"memory": "1Gi"}}),
            ),
            Reason.RESOURCES_EXCEED_WORKER,
            "spec.resources.requests.memory is 2Gi; workers of TaskCluster 'c' have 1Gi",
        ),
        (
            {"inputObject": "in"},
            ReadinessFacts(worker_slots=4, input_exists=False),
            Reason.INPUT_NOT_FOUND,
            "'in'",
        ),
    ],
)
def test_waits(spec: dict[str, Any], facts: ReadinessFacts, reason: Reason, words: str) -> None:
    verdict = decide_readiness(view(spec=spec), facts)
    assert isinstance(verdict, Wait)
    assert verdict.reason is reason
    assert words in verdict.message
    assert verdict.left_s is None


def test_cancel_beats_everything() -> None:
    verdict = decide_readiness(
        view(spec={"cancel": True, "suspend": True}), ReadinessFacts(worker_slots=None)
    )
    assert isinstance(verdict, Never)
    assert verdict.state is TaskState.CANCELLED


def test_back_off_ends() -> None:
    verdict = decide_readiness(view(), ReadinessFacts(worker_slots=4, backoff_left_s=5.0))
    assert isinstance(verdict, Wait)
    assert (verdict.reason, verdict.left_s) == (Reason.BACK_OFF, 5.0)


@pytest.mark.parametrize(
    ("when", "states", "expected"),
    [
        ("Success", [OK, OK], "ready"),
        ("Success", [OK, OPEN], "wait"),
        ("Success", [OK, None], "wait"),
        ("Success", [BAD, OPEN], "never"),
        ("Success", [STOPPED], "never"),
        ("Failure", [BAD, OK], "ready"),
        ("Failure", [STOPPED], "ready"),
        ("Failure", [BAD, OPEN], "wait"),
        ("Failure", [OK, OK], "skipped"),
        ("Failure", [OK, PASSED], "skipped"),
        ("Failure", [PASSED], "skipped"),
        ("Failure", [PASSED, BAD], "ready"),
        ("Failure", [PASSED, OPEN], "wait"),
        ("Success", [OK, PASSED], "skipped"),
        ("Success", [PASSED, OPEN], "wait"),  # the open one may fail, which counts more
        ("Success", [PASSED, BAD], "never"),
        ("Always", [OK, PASSED], "ready"),
        ("Failure", [OK, OPEN], "wait"),
        ("Always", [OK, BAD, STOPPED], "ready"),
        ("Always", [BAD, OPEN], "wait"),
        ("Failure", [], "ready"),
    ],
)
def test_dependencies(when: str, states: list[TaskState | None], expected: str) -> None:
    verdict = decide_readiness(view(), after(*states, when=when))
    kinds: dict[str, type] = {"ready": Ready, "wait": Wait, "never": Never, "skipped": Never}
    assert isinstance(verdict, kinds[expected])
    if isinstance(verdict, Never):
        end = (verdict.state, verdict.ending.reason)
        failed = (TaskState.FAILED, Reason.DEPENDENCY_FAILED)
        assert end == (failed if expected == "never" else (PASSED, Reason.SKIPPED))


def test_long_lists_are_cut() -> None:
    verdict = decide_readiness(view(), after(*[None] * 8))
    assert isinstance(verdict, Wait)
    assert "8 of 8" in verdict.message
    assert "3 more" in verdict.message


def test_cancelled_with_a_task_above() -> None:
    facts = ReadinessFacts(worker_slots=4, cancelled_with="root")
    verdict = decide_readiness(view(spec={"suspend": True}), facts)
    assert isinstance(verdict, Never)
    assert (verdict.state, verdict.ending.reason) == (TaskState.CANCELLED, Reason.CANCELLED)
    assert "root" in verdict.ending.message


@pytest.mark.parametrize(
    ("cycle", "words"),
    [
        (("a",), "after itself"),
        (("a", "b"), "a → b → a"),
        (tuple("abcdefgh"), "a → b → c → d → … → a"),
    ],
)
def test_a_cycle_is_named(cycle: tuple[str, ...], words: str) -> None:
    facts = ReadinessFacts(worker_slots=None, cycle=cycle)
    verdict = decide_readiness(view(), facts)
    assert isinstance(verdict, Never)
    assert (verdict.state, verdict.ending.reason) == (TaskState.FAILED, Reason.DEPENDENCY_CYCLE)
    assert words in verdict.ending.message


SKIPPED = TaskState.SKIPPED


@pytest.mark.parametrize(
    ("source", "exists", "expected", "words"),
    [
        # Whatever is there before the end may be of an attempt that fails.
        (InputTask("make", OPEN), True, Wait, "the output of Task 'make', which is Running"),
        (InputTask("make", OPEN), False, Wait, "which is Running"),
        (InputTask("make", TaskState.PENDING), True, Wait, "which is Pending"),
        (InputTask("make", OK, "make-output"), True, Ready, ""),
        (InputTask("make", OK, "make-output"), False, Wait, "There is no TaskObject"),
        (InputTask("make", OK, has_value=True), True, Ready, ""),
        (InputTask("make", OPEN, has_value=True), True, Wait, "which is Running"),
        (InputTask("make", BAD, has_value=True), True, Never, "which is Failed"),
        (InputTask("make", OK), True, Never, "has succeeded without one"),
        (InputTask("make", OK), False, Never, "has succeeded without one"),
        (InputTask("make", OK, "make-output-0123456789"), True, Never, "has succeeded without one"),
        (InputTask("make", BAD, "make-output"), True, Never, "which is Failed"),
        (InputTask("make", STOPPED), False, Never, "which is Cancelled"),
        (InputTask("make", SKIPPED), False, Never, "which was skipped"),
        (InputTask("t", OPEN), False, Never, "this Task itself"),
        (None, True, Ready, ""),
        (None, False, Wait, "There is no TaskObject"),
    ],
)
def test_an_input_that_is_an_output(
    source: InputTask | None, exists: bool, expected: type, words: str
) -> None:
    facts = ReadinessFacts(worker_slots=4, input_exists=exists, source=source)
    waiting = view(spec={"inputObject": "make-output"})
    assert waiting.name == "t"
    verdict = decide_readiness(waiting, facts)
    assert isinstance(verdict, expected)
    if isinstance(verdict, Wait):
        assert words in verdict.message
    if isinstance(verdict, Never):
        assert words in verdict.ending.message
        skipped = source is not None and source.state is SKIPPED
        assert verdict.state is (SKIPPED if skipped else TaskState.FAILED)
