"""Counters and conditions of a root."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskctl.api.states import TaskState
from taskctl.policy.tree import TreeChange, TreeCounts, decide_tree
from taskctl.policy.view import parse_task
from tests.unit.policy.build import NOW, at, conditions, raw_task, running, written

ENDED = {"state": "Succeeded", "reason": "Completed", "attempt": 1}


def change(task: dict[str, Any], counts: TreeCounts) -> TreeChange | None:
    return decide_tree(parse_task(task), counts, NOW)


def settled(task: dict[str, Any], counts: TreeCounts) -> dict[str, Any]:
    decision = change(task, counts)
    assert decision is not None
    after = written(task, decision.patch)
    assert decide_tree(parse_task(after), counts, at(60)) is None, "writing once is enough"
    return after


def test_root_without_children_needs_nothing_while_it_runs() -> None:
    assert change(raw_task(status=running()), TreeCounts()) is None


def test_leaf_root_is_completed() -> None:
    task = raw_task(status=ENDED)
    decision = change(task, TreeCounts())
    assert decision is not None
    assert decision.urgent
    status = settled(task, TreeCounts())["status"]
    assert conditions(status) == {"Complete": "True", "Succeeded": "True"}
    assert "descendants" not in status


def test_counters_of_a_running_root() -> None:
    counts = TreeCounts(pending=2, running=1, succeeded=3)
    task = raw_task(status=running())
    decision = change(task, counts)
    assert decision is not None
    assert not decision.urgent
    assert decision.patch == {
        "descendants": {
            "total": 6,
            "pending": 2,
            "running": 1,
            "succeeded": 3,
            "failed": 0,
            "cancelled": 0,
            "skipped": 0,
        }
    }


def test_tree_goes_on_after_its_root() -> None:
    task = raw_task(status=ENDED)
    status = settled(task, TreeCounts(running=1))["status"]
    assert conditions(status) == {"Complete": "False"}
    assert status["conditions"][0]["reason"] == "TreeActive"


def test_tree_succeeds_only_as_a_whole() -> None:
    task = raw_task(status=ENDED)
    good = settled(task, TreeCounts(succeeded=4))["status"]
    assert conditions(good) == {"Complete": "True", "Succeeded": "True"}
    bad = settled(task, TreeCounts(succeeded=3, failed=1))["status"]
    assert conditions(bad) == {"Complete": "True", "Succeeded": "False"}
    assert "1 failed" in bad["conditions"][1]["message"]
    stopped = settled(task, TreeCounts(cancelled=1))["status"]
    assert conditions(stopped)["Succeeded"] == "False"


def test_what_the_tree_itself_stopped_does_it_no_harm() -> None:
    task = raw_task(status=ENDED)
    counts = TreeCounts(succeeded=1)
    counts.add(TaskState.CANCELLED, 2, stopped=True)
    status = settled(task, counts)["status"]
    assert conditions(status) == {"Complete": "True", "Succeeded": "True"}
    assert status["descendants"]["stopped"] == 2
    assert "2 were stopped" in status["conditions"][1]["message"]
    counts.add(TaskState.CANCELLED)
    assert conditions(settled(task, counts)["status"])["Succeeded"] == "False"


def test_failed_root() -> None:
    task = raw_task(status={"state": "Failed", "reason": "NonZeroExit", "message": "exit 3"})
    status = settled(task, TreeCounts(succeeded=2))["status"]
    succeeded = status["conditions"][1]
    assert (succeeded["status"], succeeded["reason"]) == ("False", "NonZeroExit")
    assert succeeded["message"] == "exit 3"


def test_removed_members_still_count_once_the_tree_is_complete() -> None:
    complete = settled(raw_task(status=ENDED), TreeCounts(succeeded=5))
    assert change(complete, TreeCounts(succeeded=2)) is None
    assert change(complete, TreeCounts()) is None


def test_a_new_descendant_reopens_the_tree() -> None:
    complete = settled(raw_task(status=ENDED), TreeCounts(succeeded=5))
    decision = change(complete, TreeCounts(succeeded=5, pending=1))
    assert decision is not None
    assert decision.urgent
    after = written(complete, decision.patch)["status"]
    assert conditions(after) == {"Complete": "False"}


def test_a_retried_root_is_open_again() -> None:
    complete = settled(raw_task(status=ENDED), TreeCounts())
    reopened = written(complete, {"state": "Pending"})
    status = settled(reopened, TreeCounts())["status"]
    assert conditions(status) == {"Complete": "False"}


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([None, *TaskState])),
        max_size=60,
    )
)
def test_counting_events_equals_counting_objects(
    events: list[tuple[int, TaskState | None]],
) -> None:
    counts, world = TreeCounts(), dict[int, TaskState]()
    for task, state in events:
        if task in world:
            counts.add(world.pop(task), -1)
        if state is not None:
            counts.add(state)
            world[task] = state
    assert counts.total == len(world)
    assert counts.active == sum(not state.terminal for state in world.values())
