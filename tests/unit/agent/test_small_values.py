"""Small values of functions: arguments in ``spec.input``, results in ``status.output``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskctl.agent import childwatch
from taskctl.agent.journal import Journal
from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.constants import SMALL_VALUE_BYTES
from taskctl.errors import Conflict, Unavailable
from tests.unit.agent.conftest import World, exit_of
from tests.unit.agent.fakes import Fault, Peer, eventually

WRITES = ("create", "patch", "patch_status", "delete")
FITS = "x" * (SMALL_VALUE_BYTES - 2)  # with its quotes
SMALL: list[Any] = [
    0,
    False,
    "",
    [],
    {},
    {"a": None, "b": [None, {"c": None}]},
    [[[{}]]],
    1.5,
    2**63 - 1,
    -(2**63),
    "日本😀\u0000\n",
    FITS,
]
# Null in a status is as good as nothing; the last one has one byte too many.
LARGE: list[Any] = [None, FITS + "x", {"text": "é" * SMALL_VALUE_BYTES}]


def writes(world: World) -> int:
    return sum(world.api.count(verb) for verb in WRITES)


async def function(world: World, **spec: Any) -> tuple[Peer, Peer, dict[str, Any]]:
    """Return a running task's taskctl-init, its own connection, and what it was told."""
    peer, _, told = await world.running(**spec)
    return peer, await world.attached(told), told


async def started(world: World, name: str, number: int = 1) -> tuple[Peer, Peer, dict[str, Any]]:
    """Run an attempt of a task that is there."""
    peer, _ = await world.init(world.place(world.api.see(TASKS, name), number))
    told = await peer.good("next")
    return peer, await world.attached(told), told


async def test_a_small_function_costs_three_writes(world: World) -> None:
    _, parent, _ = await function(world)
    before = writes(world)
    spec = {"key": "k", "name": "child", "value": {"n": 1}, "inline": True}
    await parent.good("spawn", tasks=[spec])
    peer, child, told = await started(world, "child")
    assert (await child.good("input", format="value"))["value"] == {"n": 1}
    assert (await child.good("output", value={"n": 2}, inline=True))["object"] == ""
    await peer.good("exited", **exit_of(told))
    assert world.status("child")["output"] == {"n": 2}
    assert writes(world) - before == 3, "create, claim, outcome"
    assert world.api.names(TASKOBJECTS) == []


@pytest.mark.parametrize("value", SMALL)
async def test_small_values_come_as_they_are(world: World, value: Any) -> None:
    peer, task, told = await function(world)
    spec = {"key": "k", "name": "child", "value": value, "inline": True}
    await task.good("spawn", tasks=[spec])
    assert world.api.see(TASKS, "child")["spec"]["input"] == value
    await task.good("output", value=value, inline=True)
    assert "output" not in world.status(), "it counts with the outcome"
    await peer.good("exited", **exit_of(told))
    status = world.status()
    assert (status["state"], status["output"]) == ("Succeeded", value)
    assert type(status["output"]) is type(value)
    assert (status["containerName"], status["times"]["started"]) != (None, None), "nothing is lost"
    assert "outputObject" not in status
    assert world.api.names(TASKOBJECTS) == []


@pytest.mark.parametrize("value", LARGE)
async def test_others_become_objects(world: World, value: Any) -> None:
    peer, task, told = await function(world)
    spec = {"key": "k", "name": "child", "value": value, "inline": True}
    await task.good("spawn", tasks=[spec])
    assert "input" not in world.api.see(TASKS, "child")["spec"]
    assert world.api.see(TASKOBJECTS, "child-input")["value"] == value
    assert (await task.good("output", value=value, inline=True))["object"] == "job-output"
    await peer.good("exited", **exit_of(told))
    assert world.status()["outputObject"] == "job-output"
    assert "output" not in world.status()


async def test_without_the_word_a_small_value_is_an_object(world: World) -> None:
    _, task, _ = await function(world)
    await task.good("spawn", tasks=[{"key": "k", "name": "child", "value": 1, "inline": False}])
    await task.good("output", value=1)
    assert world.api.names(TASKOBJECTS) == ["child-input", "job-output"]
    for op in ({"op": "output"}, {"op": "spawn"}):
        given = {"value": 1, "inline": "yes"}
        fields = given if op["op"] == "output" else {"tasks": [{"key": "k2", **given}]}
        code, text = await task.refused(op["op"], **fields)
        assert code == "bad_request"
        assert "inline: must be a boolean, not text" in text


async def test_a_result_is_an_object_unless_the_taskcluster_says_otherwise(world: World) -> None:
    world.settings = replace(world.settings, inline_outputs=False)
    await world.restart()
    peer, task, told = await function(world)
    spec = {"key": "k", "name": "child", "value": 1, "inline": True}
    await task.good("spawn", tasks=[spec])
    assert world.api.see(TASKS, "child")["spec"]["input"] == 1
    assert (await task.good("output", value=1, inline=True))["object"] == "job-output"
    await peer.good("exited", **exit_of(told))
    assert (world.status()["outputObject"], "output" in world.status()) == ("job-output", False)


async def test_spawned_again_it_is_the_same_child(world: World) -> None:
    _, task, _ = await function(world)
    spec = {"key": "k", "name": "child", "value": {"n": 1}, "inline": True}
    [first] = (await task.good("spawn", tasks=[spec]))["tasks"]
    [second] = (await task.good("spawn", tasks=[spec]))["tasks"]
    assert (first["uid"], second["created"]) == (second["uid"], False)


async def test_a_small_output_survives_a_restart(world: World) -> None:
    _, token, told = await world.running()
    container = world.status()["containerName"]
    task = await world.attached(told)
    await task.good("output", value={"a": None}, inline=True)
    await world.restart()
    running = {"uid": told["uid"], "attempt": 1, "started_us": 5}
    peer = await world.back(container, token, running=running)
    await peer.good("exited", **exit_of(told))
    assert world.status()["output"] == {"a": None}
    kept = world.settings.state_dir / "outputs"
    await eventually(lambda: not list(kept.iterdir()), "the journal forgets it")


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("small_last", [False, True])
async def test_of_several_outputs_the_last_counts(
    world: World, small_last: bool, restart: bool
) -> None:
    _, token, told = await world.running()
    container = world.status()["containerName"]
    task = await world.attached(told)
    for inline in (not small_last, small_last):
        await task.good("output", value={"inline": inline}, inline=inline)
    running = {"uid": told["uid"], "attempt": 1, "started_us": 5}
    if restart:
        await world.restart()
    peer = await world.back(container, token, running=running)
    await peer.good("exited", **exit_of(told))
    status = world.status()
    if small_last:
        assert (status["output"], status.get("outputObject")) == ({"inline": True}, None)
        assert world.api.names(TASKOBJECTS) == []
    else:
        assert (status.get("output"), status["outputObject"]) == (None, "job-output")
        assert world.api.see(TASKOBJECTS, "job-output")["value"] == {"inline": False}


@pytest.mark.parametrize("first", ["small", "object"])
@pytest.mark.parametrize("then", ["small", "object", "none"])
async def test_an_attempt_has_nothing_of_the_one_before(
    world: World, first: str, then: str
) -> None:
    peer, task, told = await function(world, retry={"limit": 1})
    await task.good("output", value={"a": 1, "b": 1}, inline=first == "small")
    await peer.good("exited", **exit_of(told, code=1))
    peer, task, told = await started(world, "job", 2)
    assert "output" not in world.status()
    if then != "none":
        await task.good("output", value={"a": 2}, inline=then == "small")
    await peer.good("exited", **exit_of(told))
    status = world.status()
    assert status["state"] == "Succeeded"
    assert status.get("output") == ({"a": 2} if then == "small" else None)
    assert status.get("outputObject") == ("job-output" if then == "object" else None)
    assert world.api.names(TASKOBJECTS) == (["job-output"] if then == "object" else [])


async def test_a_full_disk_makes_it_an_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "keep_output", full)
    peer, task, told = await function(world)
    assert (await task.good("output", value=1, inline=True))["object"] == "job-output"
    await peer.good("exited", **exit_of(told))
    assert world.status()["outputObject"] == "job-output"


@pytest.mark.parametrize("error", [Unavailable("cut"), Conflict("changed", status=409)])
@pytest.mark.parametrize("after", [False, True])
async def test_the_outcome_is_repeated(world: World, error: Any, after: bool) -> None:
    peer, task, told = await function(world)
    await task.good("output", value=[None], inline=True)
    world.api.faults.append(Fault("patch_status", error, after=after))
    number = peer.send("exited", **exit_of(told))
    await eventually(lambda: world.api.count("patch_status") >= 2)
    await eventually(lambda: world.time.sleeping > 0)
    world.time.advance(5)
    answer = await peer.receive()
    assert answer is not None
    assert (answer["id"], answer["ok"]) == (number, True)
    assert (world.status()["state"], world.status()["output"]) == ("Succeeded", [None])


# --- readers ---------------------------------------------------------------------------


async def family(world: World, value: Any) -> Peer:
    """Return the connection of a task whose child has succeeded with a small output."""
    _, parent, _ = await function(world)
    await parent.good("spawn", tasks=[{"key": "a", "name": "a"}])
    peer, child, told = await started(world, "a")
    await child.good("output", value=value, inline=True)
    await peer.good("exited", **exit_of(told))
    return parent


@pytest.mark.parametrize("value", [0, False, {"a": None}])
async def test_parents_find_them(world: World, value: Any) -> None:
    parent = await family(world, value)
    uid = world.api.see(TASKS, "a")["metadata"]["uid"]
    [ended] = (await parent.good("children", wait_ms=5000))["ended"]
    assert ended["has_output"] is True
    assert (await parent.good("results", uids=[uid]))["results"] == [{"value": value}]


async def test_parents_ask_the_api_server_for_none_of_them(world: World) -> None:
    parent = await family(world, {"a": None})
    uid = world.api.see(TASKS, "a")["metadata"]["uid"]
    await parent.good("children", wait_ms=5000)
    before = len(world.api.calls)
    assert (await parent.good("results", uids=[uid]))["results"] == [{"value": {"a": None}}]
    [answer] = (await parent.good("results", uids=[uid], format="json"))["results"]
    assert answer == {"json": '{"a":null}'}
    assert len(world.api.calls) == before


async def test_a_watch_that_lists_finds_them_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(childwatch, "MAX_STREAMS", 0)
    await world.restart()
    parent = await family(world, 7)
    uid = world.api.see(TASKS, "a")["metadata"]["uid"]
    [ended] = (await parent.good("children", wait_ms=1000))["ended"]
    assert ended["has_output"] is True
    assert (await parent.good("results", uids=[uid]))["results"] == [{"value": 7}]


async def test_they_are_parts_of_inputs(world: World) -> None:
    parent = await family(world, {"x": None})
    overrides = {"inputFrom": [{"path": "/one", "task": "a"}]}
    spec = {"key": "r", "name": "reader", "value": {"n": 1}, "inline": True, "overrides": overrides}
    await parent.good("spawn", tasks=[spec])
    _, reader, _ = await started(world, "reader")
    assert (await reader.good("input", format="json"))["json"] == '{"n":1,"one":{"x":null}}'
    assert (await reader.good("sources", source=0))["values"] == [{"value": {"x": None}}]


async def test_they_are_inputs_by_the_name_that_their_object_would_have(world: World) -> None:
    parent = await family(world, {"x": [None]})
    await parent.good("spawn", tasks=[{"key": "r", "name": "reader", "input_object": "a-output"}])
    _, reader, _ = await started(world, "reader")
    assert (await reader.good("input", format="value"))["value"] == {"x": [None]}
    world.api.change(TASKS, "a", status={"state": "Running"})
    code, text = await reader.refused("input", format="value")
    assert (code, "does not exist" in text) == ("rejected", True)


async def test_those_of_other_trees_are_not(world: World) -> None:
    await family(world, "secret")
    stranger_peer, _, told = await world.running("stranger")
    stranger = await world.attached(told)
    spec = {"key": "r", "name": "reader", "input_object": "a-output"}
    await stranger.good("spawn", tasks=[spec])
    _, reader, _ = await started(world, "reader")
    code, text = await reader.refused("input", format="value")
    assert (code, "secret" in text) == ("rejected", False)
    await stranger_peer.close()
