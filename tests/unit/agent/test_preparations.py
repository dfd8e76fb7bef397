"""What the agent has prepared in parked containers, and which task it lets run there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskctl.kube.resources import PODS
from taskctl.policy.handover import NOT_BEGUN_CODE
from taskctl.policy.prepare import MAX_FAILURES, MAX_PREPARED, PREPARE_LIMIT_MS
from taskctl.policy.workerpod import ANNOTATION_FRAME
from taskctl.wire import Message
from tests.unit.agent.conftest import POD, World, exit_of
from tests.unit.agent.fakes import Peer
from tests.unit.agent.test_parked import NAME, give, park

SECOND = "s-ba9876543210"
FUNCTION: dict[str, Any] = {
    "command": ["python3", "-m", "taskctl.sdk.run"],
    "args": ["sums:square"],
    "env": [{"name": "A", "value": "1"}],
    "workingDir": "/app",
}
OTHER = FUNCTION | {"args": ["sums:cube"]}


def names(count: int) -> list[str]:
    return [f"s-{number:012d}" for number in range(count)]


def tree(root: str, task: str = "second") -> dict[str, Any]:
    """The part of a child's spec that says whose tree it belongs to."""
    parent = {"rootUID": f"uid-{root}", "root": root, "parentUID": f"uid-{root}"}
    return {"lineage": parent | {"parent": root, "depth": 1, "task": task, "key": task}}


async def ran(world: World, name: str = "first", prepared: str = "", **spec: Any) -> Message:
    """A task of a container of its own has run."""
    peer, _, told = await world.running(name, **(FUNCTION | spec))
    await peer.good("exited", **exit_of(told))
    return told


async def waiting(world: World, name: str = NAME) -> tuple[Peer, str]:
    """A parked container that has asked what to do."""
    peer, token = await world.init(park(world, name))
    peer.send("next")
    return peer, token


async def prepared(world: World, name: str = NAME) -> tuple[Peer, str, Message]:
    """A parked container in which the agent has something prepared; the push."""
    peer, token = await waiting(world, name)
    pushed = await peer.receive()
    assert pushed is not None
    assert (pushed["id"], pushed["op"]) == (0, "prepare")
    return peer, token, pushed


async def told_to(peer: Peer) -> Message:
    told = await peer.receive()
    assert told is not None
    return told


async def test_what_ran_is_prepared_where_nothing_was_given_yet(world: World) -> None:
    told = await ran(world)
    peer, _, pushed = await prepared(world)
    assert pushed["argv"] == told["argv"] == ["python3", "-m", "taskctl.sdk.run", "sums:square"]
    assert (pushed["cwd"], pushed["limit_ms"]) == ("/app", PREPARE_LIMIT_MS)
    assert pushed["env"] == {"A": "1", "PYTHONUNBUFFERED": "1"}
    assert world.api.count("patch_status") == 2, "it costs no write"
    give(world, world.task("second", **FUNCTION))
    run = await told_to(peer)
    assert (run["action"], run["task"], run["argv"]) == ("run", "second", pushed["argv"])


async def test_those_who_wait_already_are_told_as_well(world: World) -> None:
    peer, _ = await waiting(world)
    assert await peer.is_silent()
    await world.running("first", **FUNCTION)
    assert (await told_to(peer))["op"] == "prepare"
    assert await peer.is_silent(), "once"


async def test_other_commands_and_other_classes_are_left_alone(world: World) -> None:
    await ran(world, command=["python3", "/app/main.py"], args=[])
    await ran(world, "second", image="other")
    peer, _ = await waiting(world)
    assert await peer.is_silent()


async def test_so_many_on_a_worker_and_no_more(world: World) -> None:
    await ran(world)
    peers = [(await waiting(world, name))[0] for name in names(MAX_PREPARED + 2)]
    told = [not await peer.is_silent() for peer in peers]
    assert told == [True] * MAX_PREPARED + [False] * 2
    give(world, world.task("second", **FUNCTION), name=names(1)[0])
    assert (await told_to(peers[-2]))["op"] == "prepare", "there is room for one more"


async def test_a_task_of_the_same_tree_may_run_there(world: World) -> None:
    await ran(world, **tree("r", "first"))
    peer, _, _ = await prepared(world)
    give(world, world.task("second", **OTHER, **tree("r")))
    assert (await told_to(peer))["task"] == "second"


async def test_a_task_of_another_tree_goes_to_a_container_where_nothing_was_prepared(
    world: World,
) -> None:
    """Code that was imported ahead may have left files: another tree's task does not meet them."""
    await ran(world, **tree("r", "first"))
    peer, _, _ = await prepared(world)
    await ran(world, "foreign", command=["sh", "-c"], args=["true"], workingDir="")
    clean, _ = await waiting(world, SECOND)
    assert await clean.is_silent()
    give(world, world.task("second", **OTHER, **tree("q")))
    told, exits = await told_to(clean), await told_to(peer)
    assert (told["action"], told["task"]) == ("run", "second")
    assert (exits["action"], exits["code"]) == ("exit", 0)
    status = world.status("second")
    assert (status["state"], status["attempt"]) == ("Running", 1)
    assert status["containerName"] == SECOND


async def test_it_goes_where_its_own_command_was_prepared(world: World) -> None:
    await ran(world, **tree("r", "first"))
    first, _, _ = await prepared(world)
    second, _, _ = await prepared(world, SECOND)
    for number in range(16):
        await ran(world, f"o{number}", **OTHER, **tree("q", f"o{number}"))
    third, _, pushed = await prepared(world, "s-00000000000c")
    assert pushed["argv"][-1] == "sums:cube"
    give(world, world.task("mine", **OTHER, **tree("p", "mine")))
    assert (await told_to(first))["action"] == "exit"
    assert (await told_to(third))["task"] == "mine"
    assert await second.is_silent()


async def test_without_another_container_it_is_left_to_the_controller(world: World) -> None:
    await ran(world, **tree("r", "first"))
    peer, _, _ = await prepared(world)
    give(world, world.task("second", **OTHER, **tree("q")))
    exits = await told_to(peer)
    assert (exits["action"], exits["code"]) == ("exit", NOT_BEGUN_CODE), "it need not wait"
    assert world.status("second")["state"] == "Pending"


async def test_none_is_prepared_where_a_worker_has_little_memory(world: World) -> None:
    """One that waits may take 128 MiB, and all of them take an eighth of what there is."""
    frame = {"volumeMounts": [], "resources": {"limits": {"memory": "1023Mi"}}}
    annotations = {ANNOTATION_FRAME: json.dumps(frame)}
    world.api.change(PODS, POD.name, metadata={"annotations": annotations})
    await ran(world)
    peer, _ = await waiting(world)
    assert await peer.is_silent()


async def test_the_same_command_of_another_tree_may_run_there(world: World) -> None:
    await ran(world, **tree("r", "first"))
    peer, _, _ = await prepared(world)
    give(world, world.task("second", **FUNCTION, **tree("q")))
    assert (await told_to(peer))["task"] == "second"


@pytest.mark.parametrize(("spec", "expected"), [(OTHER, "exit"), (FUNCTION, "run")])
async def test_an_agent_that_was_killed_still_knows(
    world: World, spec: dict[str, Any], expected: str
) -> None:
    await ran(world, **tree("r", "first"))
    _, token, _ = await prepared(world)
    await world.restart()
    peer = await world.back(NAME, token)
    peer.send("next")
    assert await peer.is_silent(), "it is not prepared again"
    give(world, world.task("second", **spec, **tree("q")))
    assert (await told_to(peer))["action"] == expected


async def test_a_damaged_note_admits_no_task(world: World) -> None:
    await ran(world)
    _, token, _ = await prepared(world)
    (note,) = (world.settings.state_dir / "prepared").iterdir()
    note.write_text("{")
    await world.restart()
    peer = await world.back(NAME, token)
    peer.send("next")
    give(world, world.task("second", **FUNCTION))
    assert (await told_to(peer))["action"] == "exit"


async def test_what_cannot_be_noted_is_not_prepared(world: World) -> None:
    await ran(world)
    directory = world.settings.state_dir / "prepared"
    directory.rmdir()
    directory.write_text("")
    peer, _ = await waiting(world)
    assert await peer.is_silent()
    give(world, world.task("second", **FUNCTION))
    assert (await told_to(peer))["action"] == "run", "it costs no task anything"


async def test_a_command_that_fails_again_and_again_is_left_alone(world: World) -> None:
    await ran(world)
    for number, name in enumerate(names(MAX_FAILURES)):
        peer, _, _ = await prepared(world, name)
        give(world, world.task(f"t{number}", **FUNCTION), name=name)
        told = await told_to(peer)
        await peer.good("exited", **exit_of(told), prepared="failed")
    first, _ = await waiting(world, SECOND)
    second, _ = await waiting(world, "s-00000000000c")
    assert await first.is_silent()
    assert await second.is_silent()
    for number in range(MAX_FAILURES + 1):
        await ran(world, f"o{number}", **OTHER)
    assert (await told_to(first))["argv"][-1] == "sums:cube", "others are prepared"


@pytest.mark.parametrize("between", ["used", "early", ""])
async def test_failures_count_in_a_row(world: World, between: str) -> None:
    """What came too early for its preparation says nothing about it; a success does."""
    await ran(world)
    ends = ["failed"] * (MAX_FAILURES - 1) + [between, "failed"]
    for number, (name, end) in enumerate(zip(names(len(ends)), ends, strict=True)):
        peer, _, _ = await prepared(world, name)
        give(world, world.task(f"t{number}", **FUNCTION), name=name)
        await peer.good("exited", **exit_of(await told_to(peer)), prepared=end)
    peer, _ = await waiting(world, SECOND)
    assert await peer.is_silent() is (between != "used")


async def test_nothing_is_prepared_once_the_agent_is_stopped(world: World) -> None:
    await ran(world)
    assert world.agent is not None
    world.agent.drain()
    peer, _ = await waiting(world)
    assert (await told_to(peer))["action"] == "exit"
