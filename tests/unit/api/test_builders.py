from __future__ import annotations

from datetime import timedelta

import pytest

from taskctl.api.task import Task
from taskctl.api.taskcluster import TaskCluster
from taskctl.api.taskobject import TaskObject
from taskctl.policy.view import parse_task
from taskctl.testing.builders import EPOCH, task, taskcluster, taskobject


def test_what_is_built_is_valid() -> None:
    Task.from_json(task().command("sh", "-c", "x").running("c-1").build())
    TaskObject.from_json(taskobject().data(a="1").ref("p", "a" * 64, 1).build())
    TaskCluster.from_json(taskcluster().replicas(2).slots(1).workspace().build())


def test_builders_do_not_change() -> None:
    base = task("a")
    varied = base.spec(priority=5).labels({"x": "y"}).deleting()
    assert "priority" not in base.build()["spec"]
    assert varied.build()["metadata"]["labels"] == {"x": "y"}
    built = base.build()
    built["spec"]["image"] = "changed"
    assert base.build()["spec"]["image"] == "busybox"
    assert "image" not in base.spec(image=None).build()["spec"]


def test_children_hang_as_the_agent_hangs_them() -> None:
    root = task("root").namespace("n").build()
    child = task("child").child_of(root, key="k").build()
    grandchild = parse_task(task("grandchild").child_of(child).build())
    assert (grandchild.root_name, grandchild.root_uid) == ("root", "uid-root")
    assert (grandchild.parent_name, grandchild.depth) == ("child", 2)
    assert grandchild.is_root is False


def test_times_add_up() -> None:
    built = task().times(created=EPOCH).times(exited=EPOCH + timedelta(seconds=1)).build()
    assert built["status"]["times"] == {
        "created": "2026-01-01T00:00:00.000000Z",
        "exited": "2026-01-01T00:00:01.000000Z",
    }


@pytest.mark.parametrize("content", ["data", "value", "ref"])
def test_a_taskobject_has_one_content(content: str) -> None:
    builder = taskobject().data(a="b").value(None).ref("p", "a" * 64, 1)
    made = {"data": builder.data(), "value": builder.value(1), "ref": builder.ref("q", "b", 2)}
    assert {"data", "value", "ref"} & set(made[content].build()) == {content}
