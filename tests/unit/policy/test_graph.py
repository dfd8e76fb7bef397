"""A root's list of tasks: what is refused, and the Tasks that it becomes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.api.graphcheck import complaint, fill
from taskctl.api.states import TaskState
from taskctl.api.task import Task
from taskctl.constants import Reason
from taskctl.policy.graph import BadGraph, decide_graph_end, plan_graph
from taskctl.policy.view import TaskView, parse_task
from tests.unit.policy.build import view

EMPTY = {"apiVersion": "taskctl.dev/v1alpha1", "kind": "Task", "metadata": {"name": "t"}}
STEP: dict[str, Any] = {"image": "i", "command": ["true"]}


def root(**spec: Any) -> TaskView:
    return view(spec={"clusterName": "c", "command": None, "image": None, **spec})


def steps(**after: list[str]) -> list[dict[str, Any]]:
    return [{"name": name, **STEP, "runAfter": names} for name, names in after.items()]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"tasks": steps(a=["b"])}, "tasks[0].runAfter: b names no task of this root; there are a"),
        ({"tasks": steps(a=["a"])}, "tasks: runAfter has a circle: a → a"),
        ({"tasks": steps(x=[], a=["x", "b"], b=["c"], c=["a"])}, "circle: a → b → c → a"),
        ({"tasks": [*steps(a=[]), *steps(a=[])]}, "tasks[1].name: a is the name of tasks[0]"),
        ({"tasks": steps(a=[], b=["a", "a"])}, "tasks[1].runAfter: names a task twice"),
        (
            {"tasks": [{"name": "a", **STEP, "args": ["x", "{{params.p}}"]}]},
            "tasks[0].args[1]: {{params.p}} names no parameter; spec.params has none",
        ),
        (
            {"image": "{{params.p}}", "tasks": [{"name": "a", **STEP}]},
            "image: {{params.p}} names no parameter",
        ),
        (
            {"tasks": [{"name": "a", **STEP, "env": [{"name": "E", "value": "{{ params.p"}]}]},
            "tasks[0].env[0].value: a placeholder has no end",
        ),
        (
            {"params": [{"name": "p"}], "tasks": steps(a=[])},
            "params[0]: p has no value; set value (taskctl submit -p p=VALUE)",
        ),
        (
            {"tasks": [{"name": "a", **STEP, "runAfter": [], "minSuccess": 1}]},
            "tasks[0].minSuccess: is larger",
        ),
        (
            {"tasks": [{"name": "a", **STEP, "inputFrom": [{"tasks": ["b"]}]}]},
            "tasks[0].inputFrom[0].tasks: b names no task of this root",
        ),
        (
            {"tasks": [*steps(b=["a"]), {"name": "a", **STEP, "inputFrom": [{"task": "b"}]}]},
            "circle: b → a → b",
        ),
        (
            {"tasks": [{"name": "a", **STEP, "inputFrom": [{"group": "g"}]}]},
            "tasks[0].inputFrom[0].group: set runAfterGroup to g too",
        ),
        (
            {"tasks": [{"name": "a", **STEP, "count": 3}]},
            "tasks[0].count: says how many members of runAfterGroup",
        ),
        (
            {"tasks": [{"name": "a", **STEP, "input": None, "inputObject": "x"}]},
            "tasks[0].input: there is inputObject too",
        ),
        (
            {
                "inputFrom": [{"group": "g"}],
                "runAfter": {"group": "g"},
                "tasks": [{"name": "a", **STEP}],
            },
            "inputFrom[0].group: groups are those of this tree",
        ),
    ],
)
def test_what_can_never_run_is_refused_by_its_path(spec: dict[str, Any], words: str) -> None:
    assert words in (complaint(spec) or "")
    plan = plan_graph(root(**spec))
    assert isinstance(plan, BadGraph)
    assert plan.message.startswith("spec.")
    assert words in plan.message


def test_inputs_and_groups_of_tasks() -> None:
    graph = root(
        **STEP,
        input={"of": "root"},
        params=[{"name": "p", "default": "1"}],
        tasks=[
            {"name": "a", "group": "g"},
            {"name": "b", "input": {"x": ["{{params.p}}"]}, "group": "g"},
            {
                "name": "sum",
                "runAfter": ["a"],
                "runAfterGroup": "g",
                "count": 7,
                "minSuccess": 5,
                "subtree": True,
                "input": 3,
                "inputFrom": [
                    {"path": "/all", "group": "g"},
                    {"path": "/b", "task": "b"},
                    {"path": "/ab", "tasks": ["b", "a"]},
                ],
            },
            {"name": "only", "inputFrom": [{"tasks": ["sum"]}]},
        ],
    )
    spec = {field: value for field, value in graph.spec.items() if value is not None}
    Task.from_json({**EMPTY, "spec": spec})
    plan = plan_graph(graph)
    assert not isinstance(plan, BadGraph)
    a, b, total, only = (manifest["spec"] for manifest in plan)
    assert a["input"] == {"of": "root"}
    assert b["input"] == {"x": ["1"]}
    assert total["input"] == 3
    assert total["runAfter"] == {
        "tasks": ["t-a", "t-b"],
        "group": "g",
        "count": 7,
        "minSuccess": 5,
        "subtree": True,
    }
    assert total["inputFrom"] == [
        {"path": "/all", "group": "g"},
        {"path": "/b", "task": "t-b"},
        {"path": "/ab", "tasks": ["t-b", "t-a"]},
    ]
    assert only["inputFrom"] == [{"tasks": ["t-sum"]}]
    assert only["runAfter"] == {"tasks": ["t-sum"]}
    assert "input" not in only, "the root's belongs to those that say nothing of theirs"
    for manifest in plan:
        for field in ("runAfterGroup", "count"):
            assert field not in manifest["spec"]
        Task.from_json(manifest)


def test_what_is_left_out_comes_from_the_root() -> None:
    graph = root(
        image="base:{{params.tag}}",
        command=["sh", "-c"],
        args=["echo {{params.tag}} {{other}}"],
        env=[{"name": "E", "value": "root"}, {"name": "F", "value": "{{params.tag}}"}],
        retry={"limit": 2},
        timeoutSeconds=9,
        ttlSecondsAfterFinished={"success": 1},
        input={"tag": ["{{params.tag}}", 3]},
        params=[{"name": "tag", "default": "1", "value": "2"}, {"name": "E", "default": "param"}],
        tasks=[
            {"name": "plain"},
            {
                "name": "own",
                "image": "own",
                "command": ["make", "{{ params.tag }}"],
                "env": [{"name": "E", "value": "own"}],
                "runAfter": ["plain"],
                "when": "Always",
                "retry": {"limit": 0},
                "inputObject": "in-{{params.tag}}",
                "group": "g",
            },
        ],
    )
    plan = plan_graph(graph)
    assert not isinstance(plan, BadGraph)
    plain, own = plan
    assert plain["metadata"]["name"] == "t-plain"
    assert plain["metadata"]["ownerReferences"][0]["uid"] == graph.uid
    spec = plain["spec"]
    assert (spec["image"], spec["command"]) == ("base:2", ["sh", "-c"])
    assert spec["args"] == ["echo 2 {{other}}"]
    assert {entry["name"]: entry["value"] for entry in spec["env"]} == {
        "tag": "2",
        "E": "root",
        "F": "2",
    }
    assert (spec["retry"], spec["timeoutSeconds"]) == ({"limit": 2}, 9)
    assert spec["input"] == {"tag": ["2", 3]}
    assert "runAfter" not in spec
    assert own["spec"]["command"] == ["make", "2"]
    assert "args" not in own["spec"], "the root's belong to the root's command"
    assert {"name": "E", "value": "own"} in own["spec"]["env"]
    assert own["spec"]["runAfter"] == {"tasks": ["t-plain"]}
    assert (own["spec"]["when"], own["spec"]["retry"]) == ("Always", {"limit": 0})
    assert own["spec"]["inputObject"] == "in-2"
    assert "input" not in own["spec"]
    assert own["metadata"]["labels"]["taskctl.dev/group"] == "g"
    for manifest in plan:
        Task.from_json(manifest)
        member = parse_task({**manifest, "metadata": {**manifest["metadata"], "uid": "u"}})
        assert (member.root_uid, member.parent_uid, member.depth) == (graph.uid, graph.uid, 1)


def test_a_value_is_filled_in_once() -> None:
    values = {"a": "{{params.b}}", "b": "$(rm -rf /) \\1"}
    assert fill("{{params.a}} {{params.b}}", values) == "{{params.b}} $(rm -rf /) \\1"


@given(
    edges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25),
    size=st.integers(1, 10),
)
def test_circles_are_found_and_nothing_else(edges: list[tuple[int, int]], size: int) -> None:
    after: dict[str, list[str]] = {f"n{n}": [] for n in range(size)}
    for low, high in edges:
        name, below = f"n{low % size}", f"n{high % size}"
        if below not in after[name]:
            after[name].append(below)
    left = {name: set(names) for name, names in after.items()}
    while free := [name for name, names in left.items() if not names]:
        for name in free:
            del left[name]
        for names in left.values():
            names.difference_update(free)
    found = complaint({"tasks": steps(**after)})
    assert (found is not None) == bool(left)
    if found is not None:
        circle = found.split("circle: ")[1].split(";")[0].split(" → ")
        assert circle[0] == circle[-1]
        assert all(b in after[a] for a, b in itertools.pairwise(circle))


def test_a_long_chain_is_no_recursion() -> None:
    names = [f"n{n}" for n in range(5000)]
    tasks = [
        {"name": name, **STEP, "runAfter": names[n + 1 : n + 2]} for n, name in enumerate(names)
    ]
    assert complaint({"tasks": tasks}) is None


@pytest.mark.parametrize(
    ("spec", "failed", "cancelled", "state", "reason"),
    [
        ({}, 0, 0, TaskState.SUCCEEDED, Reason.COMPLETED),
        ({}, 1, 0, TaskState.FAILED, Reason.TREE_FAILED),
        ({}, 0, 1, TaskState.FAILED, Reason.TREE_FAILED),
        ({"cancel": True}, 1, 1, TaskState.CANCELLED, Reason.CANCELLED),
    ],
)
def test_how_it_ends(
    spec: dict[str, Any], failed: int, cancelled: int, state: TaskState, reason: Reason
) -> None:
    end = decide_graph_end(root(**spec), 4, failed, cancelled, ["build"])
    assert (end.state, end.ending.reason) == (state, reason)
    assert ("build" in end.ending.message) == (state is TaskState.FAILED)
