"""When an ended Task is removed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.constants import Reason
from taskctl.policy.status import Ending, terminal_patch
from taskctl.policy.ttl import AWAITED_LOOK_S, Keep, LookAgain, Remove, decide_ttl
from taskctl.policy.view import TaskView, parse_task
from tests.unit.policy.build import NOW, at, child, raw_task, written

TTL = {"ttlSecondsAfterFinished": {"success": 10, "failure": 100}}


def ended(task: dict[str, Any], state: TaskState, ago_s: float) -> TaskView:
    view = parse_task(task)
    patch = terminal_patch(view, state, Ending(Reason.COMPLETED, ""), at(-ago_s), leaf=True)
    return parse_task(written(task, patch))


def age_s(moment: datetime) -> float:
    return (NOW - moment).total_seconds()


def decide(view: TaskView, root: TaskView | None = None, *, awaited: bool = False) -> Any:
    return decide_ttl(view, root or view, awaited=awaited, age_s=age_s)


@pytest.mark.parametrize(
    ("state", "ago_s", "expected"),
    [
        (TaskState.SUCCEEDED, 10, Remove()),
        (TaskState.SUCCEEDED, 4, LookAgain(6.0)),
        (TaskState.FAILED, 10, LookAgain(90.0)),
        (TaskState.FAILED, 100, Remove()),
        (TaskState.CANCELLED, 100, Remove()),
    ],
)
def test_by_outcome(state: TaskState, ago_s: float, expected: Any) -> None:
    assert decide(ended(raw_task(spec=TTL), state, ago_s)) == expected


def test_none_given() -> None:
    assert decide(ended(raw_task(), TaskState.SUCCEEDED, 999)) == Keep()
    only_failures = raw_task(spec={"ttlSecondsAfterFinished": {"failure": 1}})
    assert decide(ended(only_failures, TaskState.SUCCEEDED, 999)) == Keep()


def test_zero_means_at_once() -> None:
    at_once = raw_task(spec={"ttlSecondsAfterFinished": {"success": 0}})
    assert decide(ended(at_once, TaskState.SUCCEEDED, 0)) == Remove()


def test_not_ended() -> None:
    assert decide(parse_task(raw_task(spec=TTL))) == Keep()


def test_root_with_an_active_tree_stays() -> None:
    root = raw_task(spec=TTL, status={"state": "Succeeded"})
    assert decide(parse_task(root)) == Keep(for_tree=True)


def test_member_stays_until_the_tree_is_complete() -> None:
    member = ended(child("t", spec=TTL), TaskState.SUCCEEDED, 50)
    active = parse_task(raw_task("root", status={"state": "Running"}))
    assert decide(member, active) == Keep(for_tree=True)
    complete = ended(raw_task("root"), TaskState.SUCCEEDED, 3)
    assert decide(member, complete) == LookAgain(7.0)
    assert decide_ttl(member, None, awaited=False, age_s=age_s) == Remove()


def test_awaited_stays() -> None:
    view = ended(raw_task(spec=TTL), TaskState.SUCCEEDED, 50)
    assert decide(view, awaited=True) == LookAgain(AWAITED_LOOK_S)
