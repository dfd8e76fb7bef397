"""Controllers killed, doubled and plagued at random: every task ends, no attempt runs twice."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.errors import Conflict, Throttled, Unavailable
from taskctl.kube.resources import PODS
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation, kill, once_each
from tests.unit.controllers.virtual import run

STORY_WRITES = 40


async def story(sim: Simulation) -> None:
    """A bit of everything."""
    await sim.task("root", "spawn", "3", retry={"limit": 1})
    await sim.task("flaky", "fail-until", "2", retry={"limit": 2, "backoffSeconds": 0.5})
    await sim.task("after", runAfter={"tasks": ["flaky", "root"]})
    await sim.task("bad", "fail", "3")
    await sim.task("chain", "chain", "3")


async def happy_end(sim: Simulation) -> None:
    await sim.until(
        lambda: sim.condition("root", "Complete") == sim.condition("chain", "Complete") == "True"
    )
    await sim.all_finished()
    assert len(sim.tasks()) == 11
    failed = [t["metadata"]["name"] for t in sim.tasks() if t["status"]["state"] != "Succeeded"]
    assert failed == ["bad"]
    assert sim.status("flaky")["attempt"] == 2
    assert sim.status("root")["descendants"]["succeeded"] == 3
    assert sim.status("chain")["descendants"]["succeeded"] == 3
    assert all(task["status"].get("infraFailures") is None for task in sim.tasks())
    once_each(sim)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, STORY_WRITES, 3))
def test_controller_killed_at_every_write(number: int, after: bool) -> None:
    """Killed just before or just after its n-th write takes effect, and started again."""

    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            done = asyncio.Event()
            count = [0]

            def faults(call: Call, answered: bool) -> Exception | None:
                mine = call.who == "controller" and call.verb in ("create", "patch", "delete")
                if done.is_set() or not mine or answered is not after:
                    return None
                count[0] += 1
                if count[0] < number:
                    return None
                done.set()
                return Unavailable("killed")

            sim.api.faults = faults
            killer = asyncio.create_task(_restart_when(sim, done))
            await story(sim)
            await happy_end(sim)
            killer.cancel()

    run(main())


async def _restart_when(sim: Simulation, event: asyncio.Event) -> None:
    await event.wait()
    await sim.restart_controller()


def test_controller_restarted_all_the_time() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await story(sim)
            for _ in range(40):
                await asyncio.sleep(0.25)
                await sim.restart_controller()
            await happy_end(sim)

    run(main())


def test_two_controllers_at_once() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            first = sim._controller
            assert first is not None
            await sim.start_controller()
            await story(sim)
            await happy_end(sim)
            await asyncio.sleep(5)
            assert len(sim.api.all(PODS)) == 2
            await kill(first)

    run(main())


@pytest.mark.parametrize("seed", range(12))
def test_random_faults(seed: int) -> None:
    """Answers lost, requests lost, refusals, restarts, lost workers: everything still ends."""
    chance = random.Random(seed)

    def faults(call: Call, after: bool) -> Exception | None:
        if call.verb in ("list", "watch") or chance.random() > 0.08:
            return None
        choices: list[Any] = [Unavailable("lost"), Unavailable("reset")]
        if not after:
            choices += [Throttled("slow", 429), Conflict("changed", 409)]
        return chance.choice(choices)  # type: ignore[no-any-return]

    async def main() -> None:
        async with Simulation.started(replicas=3, rotation={"maxTasks": 6}) as sim:
            await asyncio.sleep(3)
            for number in range(12):
                await sim.task(f"t{number}", "sleep", "0.8", slots=1 + number % 2)
            await sim.task("root", "spawn", "4")
            await sim.task("chain", "chain", "6")
            sim.api.faults = faults
            for _ in range(8):
                await asyncio.sleep(chance.uniform(0.1, 2.0))
                event = chance.choice(["restart", "worker", "nothing"])
                pods = sim.api.all(PODS)
                if event == "restart":
                    await sim.restart_controller()
                elif event == "worker" and pods:
                    sim.api.remove(PODS, chance.choice(pods)["metadata"]["name"])
            sim.api.faults = None
            await sim.until(lambda: sim.condition("chain", "Complete") == "True")
            await sim.until(lambda: sim.condition("root", "Complete") == "True")
            await sim.all_finished()
            assert {task["status"]["state"] for task in sim.tasks()} == {"Succeeded"}
            assert len(sim.tasks()) == 12 + 5 + 7
            once_each(sim)
            await sim.until(lambda: len(sim.api.all(PODS)) == 3)
            assert sim.api.has(TASKCLUSTERS, "c")
            assert sim.api.has(TASKS, "chain")

    run(main())
