"""The agent is killed at any point and starts again, drains, and lives through its own bugs."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from taskctl.api.resources import TASKS
from taskctl.errors import Unavailable
from tests.unit.agent.conftest import World, exit_of
from tests.unit.agent.fakes import Fault, eventually


async def test_restart_before_the_claim(world: World) -> None:
    container = world.place(world.task())
    _, token = await world.init(container)
    await world.restart()
    peer = await world.back(container, token)
    assert (await peer.good("next"))["action"] == "run"


async def test_restart_after_the_claim_before_it_is_told(world: World) -> None:
    container = world.place(world.task())
    peer, token = await world.init(container)
    world.api.faults.append(Fault("patch_status", Unavailable("cut"), after=True))
    peer.send("next")
    await eventually(lambda: world.status().get("state") == "Running")
    await world.restart()
    assert not list((world.settings.state_dir / "runs").iterdir()), "nothing was told"
    peer = await world.back(container, token)
    told = await peer.good("next")
    assert told["action"] == "run"
    assert world.api.count("patch_status") == 1
    await peer.good("exited", **exit_of(told))
    assert world.status()["state"] == "Succeeded"


async def test_restart_after_it_was_told_before_it_was_heard(world: World) -> None:
    _, token, told = await world.running()
    container = world.status()["containerName"]
    await world.restart()
    peer = await world.back(container, token)
    again = await peer.good("next")
    assert {key: again[key] for key in told if key != "id"} == {
        key: told[key] for key in told if key != "id"
    }
    await peer.good("exited", **exit_of(told))
    assert world.status()["state"] == "Succeeded"


async def test_told_again_only_while_it_counts(world: World) -> None:
    _, token, _ = await world.running()
    container = world.status()["containerName"]
    await world.restart()
    world.api.change(TASKS, "job", status={"state": "Pending", "infraFailures": 1})
    peer = await world.back(container, token)
    answer = await peer.good("next")
    assert (answer["action"], answer["code"]) == ("exit", 0)


async def test_restart_while_it_runs(world: World) -> None:
    _, token, told = await world.running()
    container = world.status()["containerName"]
    await world.restart()
    running = {"uid": told["uid"], "attempt": 1, "started_us": 5}
    peer = await world.back(container, token, running=running)
    task = await world.attached(told)
    assert (await task.good("input", format="value"))["value"] is None
    await peer.good("exited", **exit_of(told))
    assert world.status()["state"] == "Succeeded"


async def test_restart_before_the_exit_was_answered(world: World) -> None:
    peer, token, told = await world.running(retry={"limit": 3})
    container = world.status()["containerName"]
    world.api.faults.append(Fault("patch_status", Unavailable("cut"), after=True))
    peer.send("exited", **exit_of(told, code=9))
    await eventually(lambda: world.status().get("failures") == 1)
    await world.restart()
    peer = await world.back(container, token)
    answer = await peer.good("exited", **exit_of(told, code=9))
    assert (answer["action"], answer["code"]) == ("exit", 9)
    assert world.status()["failures"] == 1, "recorded once"


async def test_restart_after_the_exit_was_answered(world: World) -> None:
    peer, token, told = await world.running()
    container = world.status()["containerName"]
    await peer.good("exited", **exit_of(told, code=2))
    writes = world.api.count("patch_status")
    await world.restart()
    peer = await world.back(container, token)
    assert (await peer.good("exited", **exit_of(told, code=2)))["code"] == 2
    assert world.api.count("patch_status") == writes


async def test_lost_journal_is_made_up_for_by_the_pods_spec(world: World) -> None:
    _, token, told = await world.running()
    container = world.status()["containerName"]
    await world.kill()
    (world.settings.state_dir / "runs" / f"{container}.json").write_bytes(b"{half")
    await world.restart()
    running = {"uid": told["uid"], "attempt": 1, "started_us": 5}
    peer = await world.back(container, token, running=running)
    await peer.good("exited", **exit_of(told))
    assert world.status()["state"] == "Succeeded"


async def test_draining_claims_nothing_and_waits_for_exits(world: World) -> None:
    peer, _, told = await world.running()
    waiting = world.place(world.task("late"))
    assert world.agent is not None
    world.agent.drain()
    await eventually(lambda: not (world.settings.runtime_dir / "ready").exists())
    late, _ = await world.init(waiting)
    assert (await late.good("next"))["action"] == "exit"
    await late.close()
    assert world.status("late")["state"] == "Pending"
    await peer.good("exited", **exit_of(told, reason="Signalled", signal=15))
    await peer.close()
    assert world.status()["reason"] == "WorkerLost"
    ended = asyncio.create_task(world.ended())
    while not ended.done():
        await asyncio.sleep(0.002)
        world.time.advance(0.1)
    await ended


async def test_why_a_run_is_stopped_by_its_own_supervisor(world: World) -> None:
    """taskctl-init keeps the time and hears SIGTERM; the task asks the agent why."""
    peer, _, told = await world.running(timeoutSeconds=60)
    task = await world.attached(told)
    assert (await task.good("info"))["cancel"] == ""
    world.time.advance(59)
    assert (await task.good("info"))["cancel"] == ""
    world.time.advance(1)
    assert (await task.good("info"))["cancel"] == "Timeout"
    world.api.change(TASKS, "job", spec={"cancel": True})
    await eventually(lambda: world.api.see(TASKS, "job")["spec"]["cancel"])
    async with asyncio.timeout(5):
        while (await task.good("info"))["cancel"] != "Cancelled":
            await asyncio.sleep(0.002)
    await peer.close()


async def test_a_drained_worker_says_so_to_its_tasks(world: World) -> None:
    _, _, told = await world.running()
    task = await world.attached(told)
    assert world.agent is not None
    world.agent.drain()
    await eventually(lambda: not (world.settings.runtime_dir / "ready").exists())
    assert (await task.good("info"))["cancel"] == "WorkerLost"


async def test_draining_does_not_wait_for_what_vanished(world: World) -> None:
    peer, _, _ = await world.running()
    await peer.close()
    assert world.agent is not None
    world.agent.drain()
    ended = asyncio.create_task(world.ended())
    while not ended.done():
        await asyncio.sleep(0.002)
        world.time.advance(0.1)
    await ended
    assert world.status()["state"] == "Running", "left to the controller"


async def test_an_exit_does_not_get_lost_in_a_bug(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    peer, _, told = await world.running()
    with monkeypatch.context() as patch:
        patch.setattr("taskctl.agent.outcomes.decide_after_exit", lambda *_: 1 / 0)
        peer.send("exited", **exit_of(told))
        await eventually(lambda: "ZeroDivisionError" in caplog.text)
    world.time.advance(60)
    answer = await peer.receive()
    assert answer is not None
    assert world.status()["state"] == "Succeeded"


async def test_a_bug_in_a_loop_does_not_end_the_agent(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("taskctl.agent.recovery.RecordDelivery.look", lambda _: 1 / 0)
        world.time.advance(1)
        await eventually(lambda: "starting it again" in caplog.text)
    peer, _, told = await world.running()
    await peer.good("exited", **exit_of(told))


@pytest.mark.parametrize("turns", range(12))
async def test_who_connects_while_the_agent_stops_is_hung_up_on(world: World, turns: int) -> None:
    """Whoever connects in any turn of the event loop before the end, sees the end.

    A connection that stayed open would be waited on for ever by its taskctl-init.
    """
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.setblocking(False)
    with contextlib.closing(peer):
        peer.connect(str(world.settings.runtime_dir / "agent.sock"))
        for _ in range(turns):
            await asyncio.sleep(0)
        await world.kill()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(loop.sock_recv(peer, 1), 30) == b""
