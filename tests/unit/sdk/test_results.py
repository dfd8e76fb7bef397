"""Results of children: awaited one by one, gathered, as they come; errors; early stop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taskctl.sdk import (
    Child,
    ChildCancelled,
    ChildError,
    ChildFailed,
    ChildGone,
    ChildSkipped,
    InputCorrupt,
    InputInvalid,
    InputMissing,
    as_completed,
    child,
    gather,
    spawn,
    spawn_many,
    sync,
    task,
    wait,
)
from tests.unit.sdk.bundle import PYTHONS, bundle, find_python
from tests.unit.sdk.fake_agent import FakeAgent

pytestmark = pytest.mark.usefixtures("agent")


@dataclass
class Point:
    x: int
    y: int


@task
async def locate(name: str) -> Point:
    return Point(len(name), 0)


@task
def shout(text: str) -> str:
    return text.upper()


@task
def count(text: str) -> int:
    return len(text)


@task
def say(text: str) -> None:
    del text


def commands(count: int) -> list[Any]:
    return [child(["true"], key=f"k{number}") for number in range(count)]


async def many(count: int) -> list[Child[Any]]:
    """Spawn children named child-k0, child-k1, …"""
    return await spawn_many(commands(count))


async def test_a_result_has_the_type_of_the_annotation(agent: FakeAgent) -> None:
    made = await spawn(locate, "abc", key="p")
    agent.end(made.name, {"x": 3, "y": 0})
    assert await made.result() == Point(3, 0)
    assert await made.result() == Point(3, 0)


async def test_a_call_has_the_type_too(agent: FakeAgent) -> None:
    made = await spawn(locate.call(name="abc"), key="p")
    agent.end(made.name, {"x": 3, "y": 0})
    assert await made.result() == Point(3, 0)


async def test_commands_and_functions_without_output(agent: FakeAgent) -> None:
    command = await spawn(["true"], key="c")
    silent = await spawn(say, "x", key="s")
    agent.end(command.name, {"any": ["thing", None]})
    agent.end(silent.name)
    assert await gather([command, silent]) == [{"any": ["thing", None]}, None]


async def test_a_result_waits_for_the_end(agent: FakeAgent) -> None:
    [made] = await many(1)
    waiting = asyncio.create_task(made.result())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    agent.end("child-k0", 7)
    assert await waiting == 7


async def test_all_waiters_share_one_question(agent: FakeAgent) -> None:
    made = await many(50)
    waiting = [asyncio.create_task(one.result()) for one in made]
    await asyncio.sleep(0.1)
    assert len(agent.asked("children")) <= 1
    await spawn(["true"], key="meanwhile")
    for number in range(50):
        agent.end(f"child-k{number}", number)
    assert await asyncio.gather(*waiting) == list(range(50))


async def test_gather_keeps_the_order_of_spawning(agent: FakeAgent) -> None:
    made = await many(10)
    for number in reversed(range(10)):
        agent.end(f"child-k{number}", number)
    assert await gather(made) == list(range(10))
    assert await gather([made[3], made[1], made[3]]) == [3, 1, 3]
    assert await gather([]) == []


async def test_large_results_come_from_the_workspace(agent: FakeAgent) -> None:
    text = "x" * 5000
    made = await spawn(shout, "y", key="s")
    agent.results[made.uid] = {"ref": agent.store(text)}
    agent.end(made.name, "large")
    assert await made.result() == text


@pytest.mark.parametrize(("change", "error"), [("remove", InputMissing), ("write", InputCorrupt)])
async def test_large_results_are_checked(agent: FakeAgent, change: str, error: type) -> None:
    made = await spawn(shout, "y", key="s")
    reference = agent.store("x" * 5000)
    agent.results[made.uid] = {"ref": reference}
    agent.end(made.name, "large")
    assert agent.workspace is not None
    path = agent.workspace / reference["path"]
    path.unlink() if change == "remove" else path.write_bytes(b"changed")
    with pytest.raises(error, match=f"the result of {made.name}"):
        await made.result()


async def test_a_result_that_does_not_fit_is_refused(agent: FakeAgent) -> None:
    made = await spawn(count, "y", key="s")
    agent.end(made.name, "no number")
    with pytest.raises(InputInvalid, match=f"the result of {made.name}.*no number"):
        await made.result()


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("Failed", ChildFailed),
        ("Cancelled", ChildCancelled),
        ("Skipped", ChildSkipped),
        ("Deleted", ChildGone),
    ],
)
async def test_errors_are_typed(agent: FakeAgent, state: str, error: type[ChildError]) -> None:
    [made] = await many(1)
    message = "The command exited with code 3: ValueError: no\nTraceback …\nValueError: no"
    agent.end(made.name, state=state, reason="Why", message=message, exit_code=3, attempt=2)
    with pytest.raises(error) as caught:
        await made.result()
    raised = caught.value
    assert (raised.child, raised.state, raised.reason) == (made, state, "Why")
    assert (raised.exit_code, raised.attempt, raised.message) == (3, 2, message)
    assert raised.last_line == "ValueError: no"
    assert str(raised) == (
        f"child {made.name} is {state} (Why): The command exited with code 3: ValueError: no"
    )


async def test_the_first_failure_is_raised_at_once(agent: FakeAgent) -> None:
    made = await many(3)
    agent.end("child-k1", state="Failed")
    with pytest.raises(ChildFailed) as caught:
        await gather(made)
    assert caught.value.child is made[1]


async def test_errors_as_results(agent: FakeAgent) -> None:
    made = await many(3)
    agent.end("child-k1", state="Failed")
    agent.end("child-k2", 2)
    agent.end("child-k0", 0)
    found = await gather(made, return_exceptions=True)
    assert found[0] == 0
    assert isinstance(found[1], ChildFailed)
    assert found[2] == 2


async def test_enough_successes(agent: FakeAgent) -> None:
    made = await many(3)
    agent.end("child-k1", state="Failed")
    agent.end("child-k2", 2)
    agent.end("child-k0", 0)
    found = await gather(made, min_success=2)
    assert [found[0], type(found[1]), found[2]] == [0, ChildFailed, 2]
    with pytest.raises(ChildFailed):
        await gather(made, min_success=3)
    with pytest.raises(ValueError, match="min_success is 4; there are 3 children"):
        await gather(made, min_success=4)


async def test_too_few_successes_are_known_before_the_end(agent: FakeAgent) -> None:
    made = await many(3)
    agent.end("child-k0", state="Failed")
    agent.end("child-k1", state="Cancelled")
    with pytest.raises(ChildFailed):
        await asyncio.wait_for(gather(made, min_success=2), 5)


async def test_a_lost_output_is_an_error_of_the_child(agent: FakeAgent) -> None:
    made = await many(2)
    agent.results["uid-child-k0"] = {"missing": "its output was deleted"}
    agent.end("child-k0", 0)
    agent.end("child-k1", 1)
    with pytest.raises(ChildGone, match="its output was deleted; a longer ttl keeps results"):
        await gather(made)
    found = await gather(made, return_exceptions=True)
    assert [type(found[0]), found[1]] == [ChildGone, 1]


async def test_a_child_that_was_started_again_is_waited_for(agent: FakeAgent) -> None:
    [made] = await many(1)
    agent.results[made.uid] = {"open": "Pending"}
    agent.end(made.name, "first")
    waiting = asyncio.create_task(made.result())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    agent.results[made.uid] = {"value": "second"}
    agent.end(made.name, "second", attempt=2)
    assert await waiting == "second"


async def test_as_completed(agent: FakeAgent) -> None:
    made = await many(3)
    agent.end("child-k2", 2)
    agent.end("child-k0", state="Failed")
    seen = []
    async for one in as_completed(made):
        seen.append(one.key)
        if len(seen) == 2:
            agent.end("child-k1", 1)
    assert seen == ["k2", "k0", "k1"]


async def test_wait_for_the_first(agent: FakeAgent) -> None:
    made = await many(3)
    agent.end("child-k1", 1)
    done, pending = await wait(made, first=1)
    assert [one.key for one in done] == ["k1"]
    assert [one.key for one in pending] == ["k0", "k2"]
    with pytest.raises(ValueError, match="first is 4"):
        await wait(made, first=4)


async def test_wait_no_longer_than_that(agent: FakeAgent) -> None:
    made = await many(2)
    agent.end("child-k1", state="Failed")
    began = time.monotonic()
    for timeout in (0, 0.1):
        done, pending = await wait(made, timeout=timeout)
        assert ([one.key for one in done], [one.key for one in pending]) == (["k1"], ["k0"])
    assert time.monotonic() - began < 20  # not until the other one ends


async def test_a_wait_that_is_given_up_leaves_nothing_behind(agent: FakeAgent) -> None:
    [made] = await many(1)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(made.result(), 0.05)
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    agent.end(made.name, 1)
    assert await made.result() == 1


async def test_cancel(agent: FakeAgent) -> None:
    made = await many(2)
    assert await made[1].cancel() is True
    assert agent.cancelled == ["uid-child-k1"]


async def test_another_agent_tells_from_the_start(agent: FakeAgent) -> None:
    made = await many(3)
    agent.end("child-k0", 0)
    assert await made[0].result() == 0
    agent.epoch = "e2"
    agent.end("child-k1", 1)
    agent.end("child-k2", 2)
    assert await gather(made) == [0, 1, 2]


async def test_a_broken_connection_is_made_again(agent: FakeAgent) -> None:
    made = await many(1)
    agent.drops["children"] = 2
    agent.unavailable["results"] = 1
    agent.end("child-k0", 0)
    assert await gather(made) == [0]


@pytest.mark.parametrize("function", [gather, as_completed, wait, sync.gather])
async def test_what_is_no_child_is_refused(function: Any) -> None:
    coroutine = spawn(["true"], key="forgotten")

    async def call(children: Any) -> None:
        await function(children)

    with pytest.raises(TypeError, match="await spawn"):
        await call([coroutine])
    made = await spawn(["true"], key="k")
    with pytest.raises(TypeError, match="into a list"):
        await call(made)
    with pytest.raises(TypeError, match="not str"):
        await call(["name"])


# --- without async ----------------------------------------------------------------------


def test_sync(agent: FakeAgent) -> None:
    made = sync.spawn_many(commands(4))
    agent.end("child-k2", 2)
    agent.end("child-k1", 1)
    done, pending = sync.wait(made, first=2)
    assert [one.key for one in done] == ["k2", "k1"]
    assert len(pending) == 2
    assert len(sync.wait(made, timeout=0.05)[0]) == 2
    threading.Timer(0.1, lambda: agent.end("child-k0", 0)).start()
    assert made[0].result() == 0
    agent.end("child-k3", state="Failed", reason="Timeout")
    with pytest.raises(ChildFailed, match="Timeout"):
        sync.gather(made)
    assert [one.key for one in sync.as_completed(made)] == ["k2", "k1", "k0", "k3"]
    assert sync.gather(made, min_success=3)[:3] == [0, 1, 2]
    assert made[1].cancel() is True


def test_sync_result_has_the_type_of_the_annotation(agent: FakeAgent) -> None:
    made = sync.spawn(locate, "abc", key="p")
    agent.end(made.name, {"x": 3, "y": 0})
    assert made.result() == Point(3, 0)


def test_a_waiting_thread_holds_up_no_other(agent: FakeAgent) -> None:
    made = sync.spawn_many(commands(2))
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(made[0].result()))
    thread.start()
    time.sleep(0.1)
    began = time.monotonic()
    sync.progress(1)
    sync.spawn(["true"], key="other")
    assert time.monotonic() - began < 15  # the thread waits for 30 s
    agent.end("child-k0", 0)
    thread.join(10)
    assert found == [0]


# --- interpreters that images may bring -------------------------------------------------

PROGRAM = """
import asyncio
import sys

from taskctl.sdk import as_completed, child, gather, spawn, spawn_many, sync, task, wait


@task
def add(left: int, right: int) -> int:
    return left + right


async def main():
    made = await spawn_many(child(add.call(1, n), key="a%d" % n) for n in range(5))
    assert await gather(made, min_success=4) == [7] * 5
    assert [one.key async for one in as_completed(made)] == ["a%d" % n for n in range(5)]
    done, pending = await wait(made, first=2, timeout=3)
    assert (len(done), pending) == (5, [])
    other = await spawn(add, made[0], 2)
    assert await other.result() == 7
    assert await other.cancel()


asyncio.run(main())
made = sync.spawn_many([child(["true"], key="s")])
assert sync.gather(made) == [7]
assert made[0].result() == 7
"""


@pytest.mark.parametrize("python", PYTHONS)
def test_interpreters(agent: FakeAgent, tmp_path: Path, python: str) -> None:
    interpreter = find_python(python)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    agent.at_once = 7
    done = subprocess.run(
        [interpreter, str(program)],
        env=os.environ | {"PYTHONPATH": str(bundle(tmp_path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
