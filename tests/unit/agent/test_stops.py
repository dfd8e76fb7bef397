"""Stopping what runs: cancelled, deleted, superseded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctl.api.resources import TASKS
from taskctl.errors import Unavailable
from tests.unit.agent.conftest import World, exit_of
from tests.unit.agent.fakes import Fault, Peer, eventually


async def signal_on(peer: Peer) -> dict[str, Any]:
    push = await peer.receive()
    assert push is not None
    assert (push["id"], push["op"]) == (0, "signal"), push
    return push


async def test_cancel(world: World) -> None:
    peer, _, told = await world.running()
    task = await world.attached(told)
    world.api.change(TASKS, "job", spec={"cancel": True})
    push = await signal_on(peer)
    assert push["reason"] == "Cancelled"
    assert push["grace_ms"] == 10_000
    assert (push["uid"], push["attempt"]) == (told["uid"], 1)
    assert (await task.good("info"))["cancel"] == "Cancelled"
    await peer.good("exited", **exit_of(told, reason="Cancelled", signal=15))
    assert (world.status()["state"], world.status()["reason"]) == ("Cancelled", "Cancelled")
    assert await peer.is_silent(), "said once"


async def test_cancel_between_the_claim_and_the_watch(world: World) -> None:
    container = world.place(world.task())
    peer, _ = await world.init(container)

    def cancel(verb: str, _plural: str, _name: str) -> None:
        if verb == "patch_status":
            loop.call_soon(lambda: world.api.change(TASKS, "job", spec={"cancel": True}))

    loop = asyncio.get_running_loop()
    world.api.hooks.append(cancel)
    told = await peer.good("next")
    assert told["action"] == "run", "the run comes first, then the push"
    assert (await signal_on(peer))["reason"] == "Cancelled"


async def test_suspend_does_not_stop_what_runs(world: World) -> None:
    peer, _, told = await world.running()
    world.api.change(TASKS, "job", spec={"suspend": True})
    assert await peer.is_silent()
    await peer.good("exited", **exit_of(told))
    assert world.status()["state"] == "Succeeded"


async def test_delete(world: World) -> None:
    peer, _, told = await world.running()
    task = await world.attached(told)
    world.api.remove(TASKS, "job")
    await signal_on(peer)
    assert (await task.good("info"))["cancel"] == "Deleted"
    assert (await task.refused("spawn", tasks=[{"key": "k"}]))[0] == "superseded"
    writes = world.api.count("patch_status")
    answer = await peer.good("exited", **exit_of(told, reason="Cancelled", signal=15))
    assert (answer["action"], answer["code"]) == ("exit", 143)
    assert world.api.count("patch_status") <= writes + 1
    assert world.api.names(TASKS) == []


async def test_delete_that_a_finalizer_holds_up(world: World) -> None:
    peer, _, told = await world.running()
    world.api.change(TASKS, "job", metadata={"deletionTimestamp": "2026-01-02T03:04:05Z"})
    await signal_on(peer)
    await peer.good("exited", **exit_of(told, reason="Cancelled", signal=15))
    assert world.status()["state"] == "Cancelled"


async def test_delete_between_the_claim_and_the_answer(world: World) -> None:
    container = world.place(world.task())
    peer, _ = await world.init(container)
    loop = asyncio.get_running_loop()

    def delete(verb: str, _plural: str, _name: str) -> None:
        if verb == "patch_status":
            loop.call_soon(lambda: world.api.remove(TASKS, "job"))

    world.api.hooks.append(delete)
    assert (await peer.good("next"))["action"] == "run"
    await signal_on(peer)


@pytest.mark.parametrize(
    "status",
    [
        {"state": "Pending", "podName": None, "podUID": None, "containerName": None},
        {"attempt": 2, "podName": "w-2", "podUID": "p2", "containerName": "t-2"},
        {"attempt": 2, "containerName": "t-2"},
        {"state": "Failed"},
    ],
)
async def test_superseded(world: World, status: dict[str, Any]) -> None:
    peer, _, told = await world.running()
    task = await world.attached(told)
    world.api.change(TASKS, "job", status=status)
    await signal_on(peer)
    assert (await task.good("info"))["cancel"] == "Superseded"
    await peer.good("exited", **exit_of(told, reason="Cancelled", signal=15))
    assert (
        status.items()
        <= (world.status() | dict.fromkeys(set(status) - set(world.status()))).items()
    )


async def test_a_watch_that_shows_the_past_kills_nobody(world: World) -> None:
    peer, _, _ = await world.running()
    before = world.api.count("get", "tasks")
    # The stream says DELETED; a read says that the task is there and ours.
    task = world.api.see(TASKS, "job")
    world.api._tell("tasks", task, None, task)
    await eventually(lambda: world.api.count("get", "tasks") == before + 1)
    assert await peer.is_silent()


async def test_confirmation_waits_for_the_server(world: World) -> None:
    peer, _, _ = await world.running()
    world.api.faults.append(Fault("get", Unavailable("away"), "tasks", times=2))
    before = world.api.count("get", "tasks")
    world.api.remove(TASKS, "job")
    for number in (1, 2):
        await eventually(lambda: world.api.count("get", "tasks") >= before + number)  # noqa: B023
        await asyncio.sleep(0.005)
        world.time.advance(10)
    await signal_on(peer)


async def test_a_stop_waits_for_the_connection(world: World) -> None:
    peer, token, told = await world.running()
    container = world.status()["containerName"]
    await peer.close()
    await asyncio.sleep(0.01)
    world.api.change(TASKS, "job", spec={"cancel": True})
    await asyncio.sleep(0.02)
    running = {"uid": told["uid"], "attempt": 1, "started_us": 5}
    again = await world.back(container, token, running=running)
    assert (await signal_on(again))["reason"] == "Cancelled"


@pytest.mark.parametrize("what", ["cancel", "delete", "supersede"])
async def test_what_happened_while_the_agent_was_away(world: World, what: str) -> None:
    _, token, told = await world.running()
    container = world.status()["containerName"]
    await world.kill()
    if what == "cancel":
        world.api.change(TASKS, "job", spec={"cancel": True})
    elif what == "delete":
        world.api.remove(TASKS, "job")
    else:
        world.api.change(TASKS, "job", status={"state": "Pending", "podName": None})
    await world.restart()
    running = {"uid": told["uid"], "attempt": 1, "started_us": 5}
    peer = await world.back(container, token, running=running)
    await signal_on(peer)


async def test_second_attempt_on_the_same_worker_is_reached(world: World) -> None:
    first, _, _ = await world.running(retry={"limit": 1})
    await first.close()  # vanished without a word; the controller writes it off
    world.api.change(TASKS, "job", status={"state": "Pending", "podName": None, "infraFailures": 1})
    await asyncio.sleep(0.01)
    second, _ = await world.init(world.place(world.api.see(TASKS, "job"), 2))
    assert (await second.good("next"))["action"] == "run"
    world.api.change(TASKS, "job", spec={"cancel": True})
    assert (await signal_on(second))["attempt"] == 2


async def test_deadline_is_told(world: World) -> None:
    _, _, told = await world.running(timeoutSeconds=60)
    task = await world.attached(told)
    info = await task.good("info")
    assert info["deadline_us"] == 1_767_323_045_000_000 + 60_000_000
    _, _, told = await world.running("endless")
    endless = await world.attached(told)
    assert (await endless.good("info"))["deadline_us"] == 0
