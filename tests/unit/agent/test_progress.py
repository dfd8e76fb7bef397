"""Progress: throttled, the last report wins, dropped at the end."""

from __future__ import annotations

import asyncio

import pytest

from taskctl.api.resources import TASKS
from taskctl.errors import Conflict, Unavailable
from tests.unit.agent.conftest import World, exit_of
from tests.unit.agent.fakes import Fault, eventually


async def test_at_most_one_write_a_second_and_the_last_wins(world: World) -> None:
    _, _, told = await world.running()
    task = await world.attached(told)
    before = world.api.count("patch_status")
    await task.good("progress", done=1, total=10, message="working")
    await eventually(lambda: "progress" in world.status())
    assert world.status()["progress"] == {"done": 1, "total": 10, "message": "working"}
    for done in range(2, 8):
        await task.good("progress", done=done)
    await asyncio.sleep(0.02)
    assert world.api.count("patch_status") == before + 1
    world.time.advance(1)
    await eventually(lambda: world.status()["progress"]["done"] == 7)
    assert world.status()["progress"] == {"done": 7, "total": 0, "message": ""}
    assert world.api.count("patch_status") == before + 2


async def test_what_is_not_written_at_the_end_is_dropped(world: World) -> None:
    peer, _, told = await world.running()
    task = await world.attached(told)
    await task.good("progress", done=1)
    await eventually(lambda: "progress" in world.status())
    await task.good("progress", done=2)
    await peer.good("exited", **exit_of(told))
    world.time.advance(5)
    await asyncio.sleep(0.02)
    assert world.status()["progress"]["done"] == 1
    assert world.status()["state"] == "Succeeded"
    assert (await task.refused("progress", done=3))[0] == "superseded"


async def test_somebody_else_wrote_meanwhile(world: World) -> None:
    _, _, told = await world.running()
    task = await world.attached(told)
    world.api.faults.append(Fault("patch_status", Conflict("changed", status=409)))
    await task.good("progress", done=1)
    await eventually(lambda: "progress" in world.status())


async def test_server_away_loses_a_report_and_nothing_else(world: World) -> None:
    peer, _, told = await world.running()
    task = await world.attached(told)
    world.api.faults.append(Fault("patch_status", Unavailable("away")))
    await task.good("progress", done=1)
    await asyncio.sleep(0.02)
    assert "progress" not in world.status()
    world.time.advance(1)
    await asyncio.sleep(0.02)
    await task.good("progress", done=2)
    await eventually(lambda: "progress" in world.status())
    await peer.good("exited", **exit_of(told))
    assert world.status()["state"] == "Succeeded"


async def test_a_superseded_run_writes_no_progress(world: World) -> None:
    _, _, told = await world.running()
    task = await world.attached(told)
    world.api.change(TASKS, "job", status={"state": "Pending", "podName": None})
    await task.call("progress", done=1)
    await asyncio.sleep(0.03)
    assert "progress" not in world.status()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "done"),
        ({"done": "1"}, "done"),
        ({"done": -1}, "done"),
        ({"done": 1.5}, "done"),
        ({"done": 1, "total": True}, "total"),
        ({"done": 1, "message": 5}, "message"),
        ({"done": 1, "message": "x" * 1025}, "message"),
    ],
)
async def test_malformed_progress(world: World, fields: dict[str, object], named: str) -> None:
    _, _, told = await world.running()
    task = await world.attached(told)
    code, message = await task.refused("progress", **fields)
    assert code == "bad_request"
    assert message.startswith(f"{named}:")
