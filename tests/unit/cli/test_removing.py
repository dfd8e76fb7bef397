from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.cli.removing import prunable
from taskctl.testing.builders import EPOCH, TaskBuilder, task, taskcluster
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient
from tests.unit.cli.test_query import complete

NOW = EPOCH + timedelta(hours=1)


def ended(name: str, at: datetime = EPOCH, *, good: bool = True) -> dict[str, Any]:
    state = TaskState.SUCCEEDED if good else TaskState.FAILED
    builder: TaskBuilder = task(name).state(state).times(created=EPOCH, exited=at, observed=at)
    return complete(builder, good=good)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["a"], {"b", "c"}),
        (["task/a", "tasks/b", "a"], {"c"}),
        (["taskcluster/c", "tc/c"], {"a", "b"}),
        (["task.taskctl.dev/a", "taskcluster.taskctl.dev/c"], {"b"}),
    ],
)
def test_delete(run: Run, client: FakeClient, names: list[str], left: set[str]) -> None:
    client.put(task("a").build(), task("b").running("c-1").build(), taskcluster("c").build())
    result = run("delete", *names)
    assert result.exit_code == 0
    assert {name for _, name in client.objects} == left
    assert result.stdout.count(" deleted\n") == 3 - len(left)
    # Another object of that name, made meanwhile, would be refused.
    assert all(call[3].startswith("uid-") for call in client.calls if call[0] == "delete")


def test_delete_of_what_is_not_there(run: Run, client: FakeClient) -> None:
    client.put(task("b").build())
    assert run("delete", "ghost", "b").exit_code == 3
    assert client.kind("Task")
    assert run("delete", "--ignore-not-found", "ghost", "b").exit_code == 0
    assert not client.kind("Task")
    for wrong in ("pod/x", "task/", "A"):
        assert run("delete", wrong).exit_code == 2
    assert run("delete").exit_code == 2


def test_prune_takes_whole_trees_that_have_ended(run: Run, client: FakeClient) -> None:
    running = task("running").running("c-1").build()
    growing = task("growing").state(TaskState.SUCCEEDED).build()  # no condition Complete
    behind = ended("behind")
    late = task("late").child_of(behind).running("c-1").build()
    done = ended("done")
    kid = task("kid").child_of(done).state(TaskState.SUCCEEDED).build()
    client.put(running, growing, behind, late, done, kid, ended("bad", good=False))
    assert run("prune", "--dry-run").stdout.splitlines() == [
        "task.taskctl.dev/bad would be deleted",
        "task.taskctl.dev/done would be deleted",
    ]
    assert len(client.kind("Task")) == 7
    assert run("prune", "--keep-failed").stdout == "task.taskctl.dev/done deleted\n"
    assert run("prune").stdout == "task.taskctl.dev/bad deleted\n"
    assert "nothing to prune" in run("prune").stderr
    assert run("prune", "--older-than", "soon").exit_code == 2


def test_the_age_of_a_tree_is_that_of_its_last_end() -> None:
    root = ended("root")
    kid = task("kid").child_of(root).state(TaskState.SUCCEEDED)
    kid = kid.times(created=EPOCH, observed=EPOCH + timedelta(minutes=50))
    tasks = [root, kid.build(), ended("old")]

    def names(age_s: float) -> list[str]:
        found = prunable(tasks, NOW, age_s=age_s, keep_failed=False)
        return [task["metadata"]["name"] for task in found]

    assert names(0) == names(600) == ["root", "old"] or names(600) == ["old", "root"]
    assert names(601) == names(3600) == ["old"]
    assert names(3601) == []
