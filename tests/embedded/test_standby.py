"""Parked containers on the local stack: handed over, killed in between, and gone in the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.kube.resources import LEASES, PODS
from taskctl.policy.handover import parse_parked
from taskctl.testing.stack import Component, LocalStack
from tests.embedded.world import World, eventually

STANDBY = {"maxPerWorker": 4, "minPerWorker": 3, "idleSeconds": 600}
WAIT_S = 120.0


async def parked(world: World) -> set[str]:
    """Names of the parked containers that run and have been given nothing."""
    used = {task["status"].get("containerName") for task in await world.all(TASKS)}
    names = set()
    for pod in await world.all(PODS):
        statuses = pod["status"].get("ephemeralContainerStatuses", [])
        running = {item["name"] for item in statuses if "running" in item["state"]}
        views = map(parse_parked, pod["spec"].get("ephemeralContainers", []))
        names |= {view.container for view in views if view and view.container in running - used}
    return names


async def stocked(world: World, **spec: Any) -> None:
    """A TaskCluster with containers parked for the world's image."""
    await world.cluster(standby=STANDBY, **spec)
    await world.task("first", "true")
    await world.finished("first", timeout_s=WAIT_S)
    await eventually(lambda: parked(world), lambda names: len(names) >= 3, timeout_s=WAIT_S)


async def succeeded(world: World, name: str) -> dict[str, Any]:
    status: dict[str, Any] = (await world.finished(name, timeout_s=WAIT_S))["status"]
    assert (status["state"], status["attempt"]) == ("Succeeded", 1), status
    return status


async def test_handed_over_with_its_environment_and_gone_with_the_taskcluster(
    world: World,
) -> None:
    await stocked(world)
    waiting = await parked(world)
    script = (
        'test "$A" = 1 && test "$TASKCTL_TASK" = handed && test -z "$TASKCTL_NONCE"'
        " && echo $TASKCTL_ATTEMPT > /workspace/ran"
    )
    await world.task("handed", "sh", "-c", script, env=[{"name": "A", "value": "1"}])
    status = await succeeded(world, "handed")
    assert status["containerName"] in waiting
    assert (world.workspace() / "ran").read_text() == "1\n"
    await world.task("failing", "sh", "-c", "exit 3")
    failed = (await world.finished("failing", timeout_s=WAIT_S))["status"]
    assert (failed["state"], failed["exitCode"]) == ("Failed", 3)
    await world.remove(TASKCLUSTERS, "c")
    await eventually(world.workers, lambda pods: pods == [], timeout_s=WAIT_S, what="no workers")
    await eventually(
        lambda: world.all(LEASES), lambda found: found == [], timeout_s=WAIT_S, what="no record"
    )


@pytest.mark.parametrize("victim", ["agents", "all"])
async def test_killed_while_tasks_are_handed_over(
    stack: LocalStack, world: World, victim: str
) -> None:
    """Each task runs once, whoever is killed with its handover on the way."""
    await stocked(world, rotation={"maxTasks": 200})
    for number in range(8):
        script = f"echo $TASKCTL_ATTEMPT >> /workspace/ran-{number}"
        await world.task(f"t{number}", "sh", "-c", script)
        if number in (1, 4):
            if victim in ("agents", "all"):
                for pid in stack.agent_pids():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            for component in (Component.CONTROLLER, Component.NODE):
                if victim in (component.value, "all"):
                    stack.kill(component)
            await asyncio.to_thread(stack.start)
        await asyncio.sleep(0.1)
    for number in range(8):
        status = (await world.finished(f"t{number}", timeout_s=WAIT_S))["status"]
        assert status["state"] == "Succeeded", status
        ran = (world.workspace() / f"ran-{number}").read_text().split()
        assert ran[-1] == str(status["attempt"])
        assert len(ran) == len(set(ran)), "no attempt ran twice"
