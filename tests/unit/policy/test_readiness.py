"""When is a Task ready?"""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.clock import format_micro
from taskctl.constants import Reason
from taskctl.policy.readiness import (
    Dependency,
    Never,
    ReadinessFacts,
    Ready,
    Wait,
    decide_readiness,
    settles,
)
from tests.unit.policy.build import NOW, at, view

FACTS = ReadinessFacts(worker_slots=4)


def after(*states: TaskState | None) -> ReadinessFacts:
    names = "abcdefgh"
    dependencies = tuple(Dependency(names[i], state) for i, state in enumerate(states))
    return ReadinessFacts(worker_slots=4, dependencies=dependencies)


OK, BAD, STOPPED = TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED
OPEN = TaskState.RUNNING


def test_plain_task_is_ready() -> None:
    assert decide_readiness(view(), FACTS, NOW) == Ready()


@pytest.mark.parametrize(
    ("spec", "facts", "reason", "words"),
    [
        ({"suspend": True}, FACTS, Reason.SUSPENDED, "spec.suspend"),
        ({}, ReadinessFacts(worker_slots=None), Reason.CLUSTER_NOT_FOUND, "'c'"),
        ({"slots": 5}, FACTS, Reason.SLOTS_EXCEED_WORKER, "5 slots"),
        (
            {"inputObject": "in"},
            ReadinessFacts(worker_slots=4, input_exists=False),
            Reason.INPUT_NOT_FOUND,
            "'in'",
        ),
    ],
)
def test_waits(spec: dict[str, Any], facts: ReadinessFacts, reason: Reason, words: str) -> None:
    verdict = decide_readiness(view(spec=spec), facts, NOW)
    assert isinstance(verdict, Wait)
    assert verdict.reason is reason
    assert words in verdict.message
    assert verdict.until is None


def test_cancel_beats_everything() -> None:
    verdict = decide_readiness(
        view(spec={"cancel": True, "suspend": True}), ReadinessFacts(worker_slots=None), NOW
    )
    assert isinstance(verdict, Never)
    assert verdict.state is TaskState.CANCELLED


def test_back_off_ends() -> None:
    waiting = view(status={"nextAttemptTime": format_micro(at(5))})
    verdict = decide_readiness(waiting, FACTS, NOW)
    assert isinstance(verdict, Wait)
    assert (verdict.reason, verdict.until) == (Reason.BACK_OFF, at(5))
    assert decide_readiness(waiting, FACTS, at(5)) == Ready()


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
        ("Failure", [OK, OK], "never"),
        ("Failure", [OK, OPEN], "wait"),
        ("Always", [OK, BAD, STOPPED], "ready"),
        ("Always", [BAD, OPEN], "wait"),
        ("Failure", [], "ready"),
    ],
)
def test_dependencies(when: str, states: list[TaskState | None], expected: str) -> None:
    verdict = decide_readiness(view(spec={"when": when}), after(*states), NOW)
    kinds: dict[str, type] = {"ready": Ready, "wait": Wait, "never": Never}
    assert isinstance(verdict, kinds[expected])
    if isinstance(verdict, Never):
        assert verdict.state is TaskState.FAILED
        assert verdict.ending.reason is Reason.DEPENDENCY_FAILED


def test_long_lists_are_cut() -> None:
    verdict = decide_readiness(view(), after(*[None] * 8), NOW)
    assert isinstance(verdict, Wait)
    assert "8 of 8" in verdict.message
    assert "3 more" in verdict.message


@pytest.mark.parametrize("when", ["Success", "Failure", "Always"])
@pytest.mark.parametrize("ended", [OK, BAD, STOPPED])
def test_settles_is_right(when: str, ended: TaskState) -> None:
    """What it says can wait for the last dependency really makes no difference before."""
    verdict = decide_readiness(view(spec={"when": when}), after(ended, OPEN), NOW)
    assert settles(when, ended) is not isinstance(verdict, Wait)
