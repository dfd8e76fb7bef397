"""Results of other tasks as parts of an input: ``spec.inputFrom``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskctl.agent import sources
from taskctl.agent.workspace import Workspace
from taskctl.api.resources import TASKOBJECTS, TASKS
from tests.unit.agent.conftest import World
from tests.unit.agent.fakes import Peer
from tests.unit.agent.test_results import end, succeed


async def reader(world: World, *children: str, **spec: Any) -> Peer:
    """Return the connection of a running child whose siblings are the other children."""
    _, _, told = await world.running("root")
    peer = await world.attached(told)
    overrides = {"inputFrom": spec.pop("inputFrom"), **spec.pop("overrides", {})}
    specs: list[Any] = [{"key": name, "name": name} for name in children]
    await peer.good(
        "spawn", tasks=[*specs, {"key": "r", "name": "reader", "overrides": overrides, **spec}]
    )
    init, _ = await world.init(world.place(world.api.see(TASKS, "reader")))
    return await world.attached(await init.good("next"))


async def test_results_come_part_by_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_VALUES", 2)
    entries = [{"path": "/all", "tasks": ["a", "b", "c"]}, {"path": "/one", "task": "a"}]
    peer = await reader(world, "a", "b", "c", inputFrom=entries, value={"n": 1})
    for name in "ac":
        succeed(world, name, name)
    end(world, "b", "Failed")
    answer = await peer.good("input", format="value")
    assert answer["value"] == {"n": 1}
    assert answer["sources"] == [{"path": "/all", "count": 3}, {"path": "/one", "count": None}]
    first = await peer.good("sources", source=0, start=0)
    rest = await peer.good("sources", source=0, start=2)
    assert first["values"] + rest["values"] == [{"value": "a"}, {"value": None}, {"value": "c"}]
    assert (await peer.good("sources", source=1))["values"] == [{"value": "a"}]
    code, text = await peer.refused("sources", source=2)
    assert (code, text) == ("bad_request", "source: is 2; spec.inputFrom has 2 entries")


async def test_an_input_as_text_is_composed(world: World) -> None:
    entries = [{"path": "/all", "tasks": ["a", "b"]}, {"path": "/deep/one", "task": "a"}]
    peer = await reader(world, "a", "b", inputFrom=entries, value={"n": 1})
    succeed(world, "a", {"x": 1})
    end(world, "b")
    answer = await peer.good("input", format="json")
    assert answer["json"] == '{"n":1,"all":[{"x":1},null],"deep":{"one":{"x":1}}}'
    assert (await peer.good("input", format="text", key="all"))["text"] == '[{"x":1},null]'


async def test_the_whole_input_may_be_a_result(world: World) -> None:
    peer = await reader(world, "a", inputFrom=[{"task": "a"}])
    succeed(world, "a", [1, 2])
    assert (await peer.good("input", format="json"))["json"] == "[1,2]"


async def test_only_the_last_attempt_counts(world: World) -> None:
    peer = await reader(world, "a", inputFrom=[{"task": "a"}])
    succeed(world, "a", "first")
    end(world, "a", attempt=2, outputObject="a-output")
    code, text = await peer.refused("sources", source=0)
    assert code == "rejected"
    assert "not the output of its last attempt" in text


@pytest.mark.parametrize("state", ["Pending", "Running"])
async def test_what_has_not_ended_is_named(world: World, state: str) -> None:
    peer = await reader(world, "a", inputFrom=[{"task": "a"}])
    end(world, "a", state)
    code, text = await peer.refused("input", format="json")
    assert code == "rejected"
    assert text == f"inputFrom: task a is {state}; it has no result yet"


async def test_many_results_cost_few_requests(world: World) -> None:
    names = [f"n{number}" for number in range(250)]
    peer = await reader(world, *names, inputFrom=[{"path": "/all", "tasks": names}])
    for number, name in enumerate(names):
        succeed(world, name, number)
    before = len(world.api.calls)
    values: list[Any] = []
    while len(values) < len(names):
        values += (await peer.good("sources", source=0, start=len(values)))["values"]
    assert values == [{"value": number} for number in range(250)]
    assert len(world.api.calls) - before < 15
    text = (await peer.good("input", format="text", key="all"))["text"]
    assert json.loads(text) == list(range(250))


async def test_a_task_that_runs_again_between_two_parts(world: World) -> None:
    names = [f"n{number}" for number in range(30)]
    peer = await reader(world, *names, inputFrom=[{"path": "/all", "tasks": names}])
    for name in names:
        succeed(world, name, 1)
    assert len((await peer.good("sources", source=0))["values"]) == 30
    world.api.remove(TASKOBJECTS, "n7-output")
    succeed(world, "n7", "again", attempt=2)
    values = (await peer.good("sources", source=0))["values"]
    assert values[7] == {"value": "again"}
    end(world, "n8", "Running", attempt=2)
    world.api.remove(TASKOBJECTS, "n8-output")
    code, text = await peer.refused("sources", source=0)
    assert (code, text) == ("rejected", "inputFrom: task n8 is Running; it has no result yet")
    end(world, "n8", "Failed", attempt=2)
    assert (await peer.good("sources", source=0))["values"][8] == {"value": None}


async def test_results_of_a_group_in_the_order_of_creation(world: World) -> None:
    names = ["c", "a", "b", "bad", "other", "late"]
    entries = [{"path": "/all", "group": "g"}, {"path": "/a", "task": "a"}]
    after = {"runAfter": {"group": "g"}, "group": "g"}
    peer = await reader(world, *names, inputFrom=entries, overrides=after)
    for second, name in enumerate(names):
        created = f"2026-01-02T03:04:{second:02}Z"
        world.api.change(TASKS, name, metadata={"creationTimestamp": created}, spec={"group": "g"})
        if name not in ("bad", "late"):
            succeed(world, name, name)
    end(world, "bad", "Failed")
    world.api.change(TASKS, "other", spec={"group": "h"})
    world.task("stranger", group="g")
    succeed(world, "stranger", "of another tree")
    answer = await peer.good("input", format="value")
    assert answer["sources"] == [{"path": "/all", "count": 4}, {"path": "/a", "count": None}]
    values = (await peer.good("sources", source=0))["values"]
    assert values == [{"value": "c"}, {"value": "a"}, {"value": "b"}, {"value": None}]
    end(world, "late")  # it was not there when the task asked first
    assert len((await peer.good("sources", source=0))["values"]) == 4
    assert (await peer.good("input", format="text", key="all"))["text"] == '["c","a","b",null]'


async def test_large_results_are_composed_up_to_a_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = await reader(world, "a", inputFrom=[{"path": "/all", "tasks": ["a", "a"]}])
    workspace = world.settings.workspace
    assert workspace is not None
    ref = Workspace(workspace).write_object(b'[1, "x"]') | {"codec": "json"}
    succeed(world, "a", None)
    world.api.change(TASKOBJECTS, "a-output", value=None, ref=ref)
    assert (await peer.good("input", format="json"))["json"] == '{"all":[[1,"x"],[1,"x"]]}'
    monkeypatch.setattr(sources, "MAX_COMPOSED_BYTES", 12)
    code, text = await peer.refused("input", format="json")
    assert code == "too_large"
    assert "over 12 bytes" in text


async def test_results_of_other_trees_are_not_given(world: World) -> None:
    world.task("stranger")
    succeed(world, "stranger", "secret")
    peer = await reader(world, inputFrom=[{"task": "stranger"}])
    code, text = await peer.refused("sources", source=0)
    assert code == "rejected"
    assert "belongs to another tree" in text
    world.api.change(TASKOBJECTS, "stranger-output", value="other")
    _, _, told = await world.running("root2", inputFrom=[{"task": "stranger"}])
    root = await world.attached(told)
    assert (await root.good("sources", source=0))["values"] == [{"value": "other"}]


async def test_a_place_that_is_not_there(world: World) -> None:
    peer = await reader(world, "a", inputFrom=[{"path": "/n/x", "task": "a"}], value={"n": 1})
    succeed(world, "a", 1)
    code, text = await peer.refused("input", format="json")
    assert (code, text) == ("rejected", "inputFrom: the input has no place /n/x for a result")


async def test_a_bad_entry_is_refused_when_it_is_spawned(world: World) -> None:
    _, _, told = await world.running("root")
    peer = await world.attached(told)
    overrides = {"inputFrom": [{"path": "no pointer", "task": "a"}]}
    code, text = await peer.refused("spawn", tasks=[{"key": "k", "overrides": overrides}])
    assert code == "bad_request"
    assert "inputFrom" in text
