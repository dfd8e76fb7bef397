"""Exit records: what is left of an exit that nobody could report."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgpack
import pytest

from taskctl.wire import Message
from tests.unit.agent.conftest import World, exit_of
from tests.unit.agent.fakes import eventually


def leave_record(told: Message, **fields: Any) -> Path:
    path = Path(told["record"])
    path.write_bytes(msgpack.packb(exit_of(told, key=told["record_key"], **fields)))
    return path


@pytest.mark.parametrize("key", [None, "", "0" * 64, 7, b"x"])
async def test_forged_record_does_not_count(world: World, key: Any) -> None:
    """Neither does it keep the right one, which comes later, from counting."""
    peer, _, told = await world.running()
    path = Path(told["record"])
    path.write_bytes(msgpack.packb(exit_of(told, code=0, key=key)))
    await peer.close()
    await pass_time(world, 6)
    assert world.status()["state"] == "Running"
    leave_record(told, code=3)
    await pass_time(world, 2)
    await eventually(lambda: world.status()["state"] == "Failed")


async def test_key_of_another_run_does_not_count(world: World) -> None:
    peer, _, told = await world.running()
    _, _, other = await world.running("other")
    leave_record(told | {"record_key": other["record_key"]}, code=0)
    await peer.close()
    await pass_time(world, 6)
    assert world.status()["state"] == "Running"


async def pass_time(world: World, seconds: float) -> None:
    for _ in range(int(seconds / 0.5)):
        await asyncio.sleep(0.005)
        world.time.advance(0.5)
    await asyncio.sleep(0.02)


async def test_record_of_a_killed_init_is_delivered(world: World) -> None:
    peer, _, told = await world.running()
    record = leave_record(told, code=3)
    await peer.close()
    await pass_time(world, 4)
    await eventually(lambda: world.status()["state"] == "Failed")
    assert world.status()["exitCode"] == 3
    await eventually(lambda: not record.exists(), "removed, as the API server has it now")


async def test_record_of_a_connected_init_is_left_to_it(world: World) -> None:
    peer, _, told = await world.running()
    leave_record(told, code=3)
    await pass_time(world, 10)
    assert world.status()["state"] == "Running"
    await peer.good("exited", **exit_of(told, code=0))
    assert world.status()["state"] == "Succeeded"


async def test_a_short_absence_is_no_reason(world: World) -> None:
    peer, token, told = await world.running()
    container = world.status()["containerName"]
    leave_record(told, code=3)
    await peer.close()
    await pass_time(world, 1)
    again = await world.back(container, token)
    await pass_time(world, 5)
    assert world.status()["state"] == "Running"
    await again.good("exited", **exit_of(told, code=0))
    assert world.status()["state"] == "Succeeded"


async def test_records_are_delivered_after_a_restart(world: World) -> None:
    _, _, told = await world.running()
    await world.kill()
    leave_record(told, signal=9, code=0)
    await world.restart()
    await pass_time(world, 4)
    await eventually(lambda: world.status()["state"] == "Failed")
    assert world.status()["signal"] == 9


async def test_an_exit_that_was_reported_and_recorded_counts_once(world: World) -> None:
    peer, token, told = await world.running(retry={"limit": 5})
    container = world.status()["containerName"]
    record = leave_record(told, code=1)
    await peer.close()
    await pass_time(world, 4)
    await eventually(lambda: world.status().get("failures") == 1)
    again = await world.back(container, token)
    assert (await again.good("exited", **exit_of(told, code=1)))["code"] == 1
    assert world.status()["failures"] == 1
    assert not record.exists()


def _garbage(path: Path) -> None:
    path.write_bytes(b"\xc1\xc1")


def _huge(path: Path) -> None:
    path.write_bytes(b"\x80" + b"x" * 100_000)


def _foreign(path: Path) -> None:
    path.write_bytes(msgpack.packb(exit_of({"uid": "other", "attempt": 1})))


def _incomplete(path: Path) -> None:
    path.write_bytes(msgpack.packb({"uid": "x"}))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_bytes(b"\x80")
    path.symlink_to(target)


@pytest.mark.parametrize("spoil", [_garbage, _huge, _foreign, _incomplete, _pipe, _link])
async def test_a_useless_record_is_left_to_the_controller(
    world: World, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    peer, _, told = await world.running()
    spoil(Path(told["record"]))
    await peer.close()
    await pass_time(world, 6)
    assert world.status()["state"] == "Running"
    assert caplog.text.count("exit record") == 1, "said once"
    other, _, again = await world.running("other")
    await other.good("exited", **exit_of(again))


async def test_no_record_is_left_to_the_controller(world: World) -> None:
    peer, _, _ = await world.running()
    writes = world.api.count("patch_status")
    await peer.close()
    await pass_time(world, 10)
    assert world.api.count("patch_status") == writes
