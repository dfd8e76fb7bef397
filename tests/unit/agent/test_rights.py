"""A child gets nothing that its tree was not given."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.constants import LABEL_ROOT_UID
from tests.unit.agent.conftest import World
from tests.unit.agent.fakes import Peer


async def attached(world: World, **spec: Any) -> Peer:
    """Run a root; returns its user process."""
    _, _, told = await world.running(**spec)
    return await world.attached(told)


def put_object(world: World, name: str, root_uid: str = "", value: Any = "secret") -> None:
    labels = {LABEL_ROOT_UID: root_uid} if root_uid else {}
    world.api.put(TASKOBJECTS, {"metadata": {"name": name, "labels": labels}, "value": value})


async def run_child(world: World, name: str) -> Peer:
    """Run a task that is there already; returns its user process."""
    task = world.api.see(TASKS, name)
    task["status"] = {"state": "Pending"}
    init, _ = await world.init(world.place(world.api.put(TASKS, task), nonce="n1"), nonce="n1")
    return await world.attached(await init.good("next"))


@pytest.mark.parametrize("root_uid", ["", "another tree"])
async def test_objects_of_others_are_no_input(world: World, root_uid: str) -> None:
    parent = await attached(world)
    put_object(world, "theirs", root_uid)
    specs = [{"key": "a"}, {"key": "b", "input_object": "theirs"}]
    code, message = await parent.refused("spawn", tasks=specs)
    assert code == "bad_request"
    assert message.startswith("tasks[1].input_object: TaskObject theirs")
    assert world.api.names(TASKS) == ["job"], "all or nothing"


@pytest.mark.parametrize("root_uid", ["", "another tree"])
async def test_object_that_comes_later_is_checked_when_it_is_used(
    world: World, root_uid: str
) -> None:
    parent = await attached(world)
    await parent.good("spawn", tasks=[{"key": "k", "name": "x", "input_object": "theirs"}])
    put_object(world, "theirs", root_uid)
    child = await run_child(world, "x")
    for wanted in ("value", "json"):
        code, message = await child.refused("input", format=wanted)
        assert code == "rejected"
        assert "theirs" in message
        assert "secret" not in message


async def test_objects_of_the_own_tree(world: World) -> None:
    parent = await attached(world)
    root_uid = world.api.see(TASKS, "job")["metadata"]["uid"]
    put_object(world, "ours", root_uid, value=1)
    await parent.good("spawn", tasks=[{"key": "k", "name": "x", "input_object": "ours"}])
    child = await run_child(world, "x")
    assert (await child.good("input", format="value"))["value"] == 1
    await child.good("spawn", tasks=[{"key": "k", "name": "y", "input_object": "ours"}])
    grandchild = await run_child(world, "y")
    assert (await grandchild.good("input", format="value"))["value"] == 1


async def test_what_the_root_was_given_by_name(world: World) -> None:
    """Whoever created the root had rights of his own; it goes down the tree, by name."""
    put_object(world, "given", value=2)
    put_object(world, "not given")
    parent = await attached(world, inputObject="given")
    assert (await parent.good("input", format="value"))["value"] == 2
    await parent.good("spawn", tasks=[{"key": "k", "name": "x"}])  # without it
    child = await run_child(world, "x")
    await child.good("spawn", tasks=[{"key": "k", "name": "y", "input_object": "given"}])
    grandchild = await run_child(world, "y")
    assert (await grandchild.good("input", format="value"))["value"] == 2
    code, _ = await grandchild.refused("spawn", tasks=[{"key": "k", "input_object": "not given"}])
    assert code == "bad_request"


async def test_another_root_of_that_name_gives_nothing(world: World) -> None:
    parent = await attached(world, inputObject="given")
    await parent.good("spawn", tasks=[{"key": "k", "name": "x", "input_object": "given"}])
    root = world.api.see(TASKS, "job")
    world.api.remove(TASKS, "job")
    root["metadata"]["uid"] = "made again"
    world.api.put(TASKS, root)
    put_object(world, "given")
    child = await run_child(world, "x")
    assert (await child.refused("input", format="value"))[0] == "rejected"


async def test_a_thousand_children_with_one_object_cost_one_read(world: World) -> None:
    parent = await attached(world)
    root_uid = world.api.see(TASKS, "job")["metadata"]["uid"]
    put_object(world, "ours", root_uid)
    before = world.api.count("get", "taskobjects")
    specs = [{"key": f"k{n}", "input_object": "ours"} for n in range(100)]
    await parent.good("spawn", tasks=specs)
    assert world.api.count("get", "taskobjects") == before + 1


async def test_reading_child_of_a_reading_parent(world: World) -> None:
    parent = await attached(world, readOnlyWorkspace=True)
    spec = {"key": "k", "overrides": {"readOnlyWorkspace": False}}
    code, message = await parent.refused("spawn", tasks=[spec])
    assert code == "bad_request"
    assert message.startswith("tasks[0].overrides.readOnlyWorkspace: ")
    for overrides in ({}, {"readOnlyWorkspace": None}, {"readOnlyWorkspace": True}):
        name = f"x{len(world.api.names(TASKS))}"
        await parent.good("spawn", tasks=[{"key": name, "name": name, "overrides": overrides}])
        assert world.api.see(TASKS, name)["spec"]["readOnlyWorkspace"] is True


async def test_writing_parent_may_have_reading_and_writing_children(world: World) -> None:
    parent = await attached(world)
    for value in (True, False):
        spec = {"key": str(value), "overrides": {"readOnlyWorkspace": value}}
        await parent.good("spawn", tasks=[spec])
