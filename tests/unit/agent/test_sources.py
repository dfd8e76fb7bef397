"""Results of other tasks as parts of an input: ``spec.inputFrom``."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.agent import sources
from taskctl.client.resources import TASKOBJECTS, TASKS
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
    assert "lost its output" in text


@pytest.mark.parametrize("state", ["Pending", "Running"])
async def test_what_has_not_ended_is_named(world: World, state: str) -> None:
    peer = await reader(world, "a", inputFrom=[{"task": "a"}])
    end(world, "a", state)
    code, text = await peer.refused("input", format="json")
    assert code == "rejected"
    assert text == f"inputFrom: task a is {state}; it has no result yet"


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
