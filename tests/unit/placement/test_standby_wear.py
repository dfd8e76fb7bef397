"""Parked containers that were not asked for hardly use up any workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from taskctl.placement import events as ev
from taskctl.policy.handover import is_parked_name
from taskctl.policy.view import parse_task
from tests.unit.placement.model import ENDED, ModelWorld

MAX_TASKS = 40
NONE = {"maxPerWorker": 0}


@dataclass
class Used:
    """What it took to run some tasks: containers, workers that were replaced, and hits."""

    containers: int = 0
    replaced: int = 0
    handed_over: int = 0


def used(
    standby: Mapping[str, Any],
    *,
    gap_s: float,
    rounds: int,
    burst: int = 1,
    workers: int = 8,
) -> Used:
    """Run bursts of tasks, ``gap_s`` from one to the next."""
    world = ModelWorld()
    spec = world.cluster["spec"]
    spec["rotation"] = {"maxTasks": MAX_TASKS}
    spec["standby"] = standby
    world.cluster["metadata"]["generation"] += 1
    world.tell(ev.ClusterSeen(world.cluster))
    for _ in range(workers):
        world.create_pod()
    found = Used()
    for _ in range(rounds):
        names = [world.create_task(1) for _ in range(burst)]
        end_s = world.now_s + gap_s
        while world.now_s < end_s:
            world.quiet_round()
            if not world.due_looks() and not any(
                c.coming for c in (world.task_cache, world.pod_cache)
            ):
                wake_s = end_s if world.wake_s is None else world.wake_s
                world.now_s = max(world.now_s, min(end_s, wake_s))
        for uid in names:
            view = parse_task(world.tasks[uid])
            assert view.state in ENDED
            found.handed_over += is_parked_name(view.container)
            world.remove_task(uid)
        for uid, pod in list(world.pods.items()):
            entries = len(pod["spec"]["ephemeralContainers"])
            if entries >= MAX_TASKS:
                found.replaced += 1
                found.containers += entries
                world.remove_pod(uid)
                world.create_pod()
        world.drain()
    found.containers += sum(len(pod["spec"]["ephemeralContainers"]) for pod in world.pods.values())
    return found


@pytest.mark.parametrize("gap_s", [61.0, 120.0, 900.0])
def test_rare_tasks_do_not_wear_out_idle_workers(gap_s: float) -> None:
    """One task now and then on eight workers: it costs one container, as without standby."""
    rounds = 100
    with_defaults = used({}, gap_s=gap_s, rounds=rounds)
    assert used(NONE, gap_s=gap_s, rounds=rounds) == Used(containers=rounds)
    assert with_defaults.containers <= rounds + 1
    assert with_defaults.replaced == 0


def test_the_workers_of_rare_tasks_are_replaced_no_more_often() -> None:
    rounds = 3 * MAX_TASKS
    without = used(NONE, gap_s=120.0, rounds=rounds, workers=1)
    with_defaults = used({}, gap_s=120.0, rounds=rounds, workers=1)
    assert without.replaced >= 2
    assert with_defaults.replaced == without.replaced


def test_tasks_that_come_while_one_is_parked_use_it() -> None:
    rounds = 60
    found = used({}, gap_s=20.0, rounds=rounds)
    assert found.containers <= rounds + 2
    assert found.handed_over >= rounds - 2


def test_bursts_use_up_no_more_than_the_share() -> None:
    """What is parked at the end of each burst is not used; that has a limit for each worker."""
    rounds, burst = 20, 12
    found = used({}, gap_s=300.0, rounds=rounds, burst=burst, workers=3)
    tasks = rounds * burst
    assert found.replaced >= 3
    assert found.containers - tasks <= (found.replaced + 3) * (MAX_TASKS // 8)
    assert found.handed_over > 0
