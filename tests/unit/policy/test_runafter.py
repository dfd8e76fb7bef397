"""What the tasks that a Task runs after make of it: names, groups, minSuccess."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.api.states import TaskState
from taskctl.constants import Reason
from taskctl.policy.runafter import (
    NO_GROUP,
    Dependency,
    GroupFacts,
    RunAfterRule,
    decide_run_after,
    parse_run_after,
    spare,
)
from taskctl.policy.verdicts import Never, Wait

OK, BAD, STOPPED = TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED
OPEN, PASSED = TaskState.RUNNING, TaskState.SKIPPED
STATES: list[TaskState | None] = [OK, BAD, STOPPED, PASSED, OPEN, None]
ENDS = [OK, BAD, STOPPED, PASSED]
WHENS = ["Success", "Failure", "Always"]


def word(verdict: Wait | Never | None) -> str:
    if verdict is None:
        return "ready"
    if isinstance(verdict, Wait):
        return "wait"
    return {Reason.DEPENDENCY_FAILED: "never", Reason.SKIPPED: "skipped"}[verdict.ending.reason]


def split(
    states: list[TaskState | None], in_group: int
) -> tuple[list[Dependency], GroupFacts, RunAfterRule]:
    """The first are members of a group, the rest have names."""
    names = [Dependency(f"n{n}", state) for n, state in enumerate(states[in_group:])]
    members = [state for state in states[:in_group] if state is not None]
    bad = [Dependency(f"m{n}", state) for n, state in enumerate(members) if state in (BAD, STOPPED)]
    group = GroupFacts(
        succeeded=members.count(OK),
        skipped=members.count(PASSED),
        open=tuple("m" for state in members if state is OPEN),
        open_count=members.count(OPEN),
        bad=tuple(bad),
        bad_count=len(bad),
    )
    after = RunAfterRule(
        tasks=tuple(one.name for one in names),
        group="g" if in_group else "",
        count=in_group,
    )
    return names, group, after


@given(
    states=st.lists(st.sampled_from(STATES), min_size=1, max_size=5),
    in_group=st.integers(0, 5),
    min_success=st.none() | st.integers(0, 5),
    when=st.sampled_from(WHENS),
)
def test_no_verdict_hangs_on_the_order(
    states: list[TaskState | None], in_group: int, min_success: int | None, when: str
) -> None:
    """What is said before all have ended is what is said in the end, whatever comes."""
    in_group = min(in_group, len(states))
    if min_success is not None:
        min_success = min(min_success, len(states))

    def decide(now: list[TaskState | None]) -> str:
        names, group, after = split(now, in_group)
        after = RunAfterRule(after.tasks, after.group, after.count, min_success, False, when)
        return word(decide_run_after(after, names, group))

    said = decide(states)
    options = [ENDS if state in (OPEN, None) else [state] for state in states]
    outcomes = {decide(list(ends)) for ends in itertools.product(*options)}
    assert "wait" not in outcomes
    if said != "wait":
        assert outcomes == {said}
    assert said == "never" or outcomes != {"never"}, "it could have been said at once"


@given(
    states=st.lists(st.sampled_from(ENDS), min_size=1, max_size=5),
    min_success=st.none() | st.integers(0, 5),
    when=st.sampled_from(WHENS),
)
def test_spare_is_how_many_may_fail(
    states: list[TaskState], min_success: int | None, when: str
) -> None:
    total = len(states)
    after = RunAfterRule(tuple("abcde"[:total]), "", 0, min_success, False, when)
    bad = sum(state in (BAD, STOPPED) for state in states)
    pending = [Dependency(str(n), state) for n, state in enumerate(states)]
    pending.append(Dependency("open", OPEN))
    early = decide_run_after(after, pending, NO_GROUP)
    assert (early is not None and not isinstance(early, Wait)) == (bad > spare(after, total + 1))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, 0),
        ({"tasks": ["a"]}, 0),
        ({"group": "g"}, 1),
        ({"group": "g", "count": 0}, 0),
        ({"group": "g", "count": 7}, 7),
        ({"group": "g", "count": 2, "minSuccess": 5}, 5),
        ({"group": "g", "minSuccess": 5, "tasks": ["a"]}, 4),
    ],
)
def test_members_expected(raw: dict[str, object], expected: int) -> None:
    assert parse_run_after({"runAfter": raw}).count == expected


def test_what_does_not_exist_is_named() -> None:
    after = RunAfterRule(("a", "b", "c"), "g", 10)
    found = [Dependency("a", OPEN), Dependency("b", None), Dependency("c", OK)]
    group = GroupFacts(succeeded=1, open=("m1",), open_count=1)
    verdict = decide_run_after(after, found, group)
    assert isinstance(verdict, Wait)
    assert verdict.message == (
        "Waits for 11 of 13 tasks: a, m1, b (does not exist yet). Waits for members of group g: "
        "2 of the 10 expected (runAfter.count) exist."
    )


def test_long_lists_stay_short() -> None:
    after = RunAfterRule(tuple(f"t{n}" for n in range(10_000)), "g", 10_000)
    found = [Dependency(name, None) for name in after.tasks]
    group = GroupFacts(open=("m",) * 6, open_count=10_000)
    verdict = decide_run_after(after, found, group)
    assert isinstance(verdict, Wait)
    assert "20000 of 20000" in verdict.message
    assert len(verdict.message) < 200


def test_who_takes_results_waits_for_them() -> None:
    after = parse_run_after(
        {
            "runAfter": {"tasks": ["a", "b"]},
            "inputFrom": [{"tasks": ["b", "c"]}, {"path": "/d", "task": "d"}],
        }
    )
    assert after.tasks == ("a", "b", "c", "d")
