"""``limits.descendants``: never overshot, and nothing that is set aside is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskctl.api.treestatus import MAX_SPAWNING
from taskctl.policy.graph import BadGraph, plan_graph
from taskctl.policy.limits import (
    Crowded,
    OverBudget,
    Reserved,
    decide_reservation,
    is_settled,
    settled_patch,
    spawning_parents,
)
from taskctl.policy.view import TaskView, parse_task
from tests.unit.policy.build import raw_task, written


def root_of(limit: int | None, **tree: Any) -> dict[str, Any]:
    spec = {} if limit is None else {"limits": {"descendants": limit}}
    return raw_task("root", spec=spec, status={"tree": tree} if tree else {})


def kid(name: str) -> dict[str, Any]:
    child = raw_task(name)
    child["metadata"]["uid"] = name
    return child


def ask(root: dict[str, Any], parent: str, existing: int, missing: int) -> Any:
    return decide_reservation(parse_task(root), parse_task(kid(parent)), existing, missing)


def test_without_a_limit_nothing_is_written() -> None:
    assert ask(root_of(None), "p", 0, 10**6) == Reserved(None)
    assert ask(root_of(0), "p", 5, 0) == Reserved(None)


def test_the_refusal_names_the_limit() -> None:
    decision = ask(root_of(5, descendants=3), "p", 0, 3)
    assert isinstance(decision, OverBudget)
    assert "limits.descendants allows 5" in decision.message
    assert "would make 6 of root task root" in decision.message


def test_tasks_of_the_root_count_from_the_beginning() -> None:
    root = root_of(3)
    root["spec"]["tasks"] = [{"name": "a"}, {"name": "b"}]
    assert isinstance(ask(root, "p", 0, 2), OverBudget)
    assert isinstance(ask(root, "p", 0, 1), Reserved)
    root["spec"]["limits"]["descendants"] = 1
    assert isinstance(plan_graph(parse_task(root)), BadGraph)


def test_not_too_many_parents_at_a_time() -> None:
    spawning = [{"task": f"p{n}", "children": 1} for n in range(MAX_SPAWNING)]
    root = root_of(10**6, descendants=MAX_SPAWNING, spawning=spawning)
    assert isinstance(ask(root, "other", 0, 1), Crowded)
    assert isinstance(ask(root, "p3", 1, 1), Reserved)


@given(
    limit=st.integers(0, 12),
    steps=st.lists(
        st.tuples(
            st.sampled_from("abc"),  # the parent
            st.integers(1, 5),  # its children 1 to n are asked for
            st.sampled_from(["all", "some", "none"]),  # then the agent dies, or not
            st.booleans(),  # the parent ends
        ),
        max_size=25,
    ),
)
def test_never_overshot_and_never_lost(limit: int, steps: list[tuple[str, int, str, bool]]) -> None:
    root = root_of(limit)
    children: dict[str, set[int]] = {parent: set() for parent in "abc"}

    def total() -> int:
        return sum(map(len, children.values()))

    def view() -> TaskView:
        return parse_task(root)

    for parent, count, how, ends in steps:
        wanted = set(range(count))
        missing = wanted - children[parent]
        decision = ask(root, parent, len(children[parent]), len(missing))
        if isinstance(decision, OverBudget):
            assert missing, "what exists is never refused"
        else:
            assert isinstance(decision, Reserved)
            if decision.patch is not None:
                root = written(root, decision.patch)
            made = {"all": len(missing), "some": len(missing) // 2, "none": 0}[how]
            children[parent] |= set(sorted(missing)[:made])
            if how == "all" and is_settled(view(), parent, len(children[parent])):
                patch = settled_patch(view(), {parent: len(children[parent])})
                root = root if patch is None else written(root, patch)
        if ends:
            patch = settled_patch(view(), {parent: len(children[parent])})
            root = root if patch is None else written(root, patch)
        assert total() <= (root["status"].get("tree") or {}).get("descendants", 0) <= limit or (
            total() == 0
        )
    patch = settled_patch(view(), {uid: len(children[uid]) for uid in spawning_parents(view())})
    root = root if patch is None else written(root, patch)
    tree = root["status"].get("tree") or {}
    assert tree.get("descendants", 0) == total()
    assert not tree.get("spawning")
