"""The oracle finds each thing that must not be; no cluster needed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.oracle import NOTE, Witness, find_problems
from tests.embedded.world import Object


def task(name: str, **status: Any) -> Object:
    body = {"state": "Succeeded", "reason": "Completed", "attempt": 1, "exitCode": 0} | status
    return {
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": {"command": ["sh", "-c", NOTE]},
        "status": body,
    }


def witness(*tasks: Object) -> Witness:
    seen = Witness()
    for one in tasks:
        seen.on_change(None, one | {"status": {}})
        seen.on_change(None, one)
    return seen


GOOD = task("a", attempt=2, attempts=[{"attempt": 1}])
RUNS = ["uid-a 1", "uid-a 2"]


def test_nothing_to_complain_of() -> None:
    assert find_problems([GOOD], RUNS, witness(GOOD), {"a"}) == []
    assert find_problems([GOOD], RUNS[1:], witness(GOOD), {"a"}) == [], "1 never began"
    gone = task("b")
    assert find_problems([GOOD], [*RUNS, "uid-b 1"], witness(GOOD, gone), {"a"}, {"b"}) == []


@pytest.mark.parametrize(
    ("tasks", "runs", "names", "complaint"),
    [
        ([GOOD], RUNS, {"a", "b"}, "tasks are"),
        ([GOOD, task("b")], [*RUNS, "uid-b 1"], {"a"}, "tasks are"),
        ([], [], set(), "a has vanished"),
        ([GOOD], [*RUNS, "uid-a 2"], {"a"}, "attempt 2 of a ran 2 times"),
        ([GOOD], [*RUNS, "uid-a 3"], {"a"}, "not on record"),
        ([GOOD], RUNS[:1], {"a"}, "without a run"),
        ([GOOD], [*RUNS, "uid-x 1"], {"a"}, "a run of no task"),
        ([GOOD], [*RUNS, " 1"], {"a"}, "a run of no task"),
        ([task("a", attempt=2)], RUNS, {"a"}, "attempts [] on record, not [1]"),
        ([task("a", state="Running")], RUNS[:1], {"a"}, "did not end once"),
        ([task("a", state="Failed", attempt=1)], RUNS[:1], {"a"}, "did not end once"),
    ],
)
def test_each_fault_is_found(
    tasks: list[Object], runs: list[str], names: set[str], complaint: str
) -> None:
    seen = witness(GOOD, *(one for one in tasks if one["metadata"]["name"] != "a"))
    problems = find_problems(tasks, runs, seen, names)
    assert any(complaint in problem for problem in problems), problems


def test_an_ending_that_is_taken_back() -> None:
    seen = witness(GOOD)
    seen.on_change(GOOD, task("a", state="Pending", reason="BackOff"))
    seen.on_change(GOOD, GOOD)
    assert any("did not end once" in p for p in find_problems([GOOD], RUNS, seen, {"a"}))
