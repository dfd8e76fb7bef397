"""Roots with tasks: one object, one tree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskctl.api.resources import TASKS
from taskctl.policy.rerun import rerun_body
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run


async def graph(sim: Simulation, name: str, tasks: list[dict[str, Any]], **spec: Any) -> None:
    filled = [{"image": "img", "command": ["true"], **task} for task in tasks]
    body = {"clusterName": "c", "tasks": filled, **spec}
    await sim.api.create(TASKS, {"metadata": {"name": name}, "spec": body}, "ns")


def states(sim: Simulation) -> dict[str, str]:
    return {task["metadata"]["name"]: task["status"].get("state", "") for task in sim.tasks()}


STEPS: list[dict[str, Any]] = [
    {"name": "clone"},
    {"name": "build", "command": ["sleep", "3"], "runAfter": ["clone"]},
    {"name": "lint", "runAfter": ["clone"]},
    {"name": "publish", "runAfter": ["build", "lint"]},
    {"name": "alarm", "runAfter": ["build", "lint"], "when": "Failure"},
]


def test_a_graph_is_one_tree() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await graph(sim, "ci", STEPS)
            await sim.until(lambda: sim.condition("ci", "Complete") == "True")
            assert states(sim) == {
                "ci": "Succeeded",
                "ci-clone": "Succeeded",
                "ci-build": "Succeeded",
                "ci-lint": "Succeeded",
                "ci-publish": "Succeeded",
                "ci-alarm": "Skipped",
            }
            assert sim.condition("ci", "Succeeded") == "True"
            assert sim.status("ci")["descendants"]["total"] == 5
            began = sim.status("ci-publish")["times"]["started"]
            assert sim.status("ci-build")["times"]["exited"] <= began

    run(main())


def test_its_state_is_that_of_its_tree() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            steps = [*STEPS]
            steps[2] = {**STEPS[2], "command": ["fail", "1"]}
            await graph(sim, "ci", steps)
            await sim.until(lambda: sim.condition("ci", "Complete") == "True")
            status = sim.status("ci")
            assert (status["state"], status["reason"]) == ("Failed", "TreeFailed")
            assert status["message"].endswith("2 failed and 0 were cancelled: lint.")
            assert sim.condition("ci", "Succeeded") == "False"
            assert states(sim)["ci-alarm"] == "Succeeded"
            assert sim.status("ci-publish")["reason"] == "DependencyFailed"

    run(main())


def test_it_runs_again_with_its_tasks() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            steps: list[dict[str, Any]] = [
                {"name": "flaky", "command": ["fail-until", "2"]},
                {"name": "good"},
            ]
            await graph(sim, "g", steps)
            await sim.until(lambda: sim.condition("g", "Complete") == "True")
            assert states(sim)["g"] == "Failed"
            task = sim.api.peek(TASKS, "g-flaky")
            body = rerun_body(task, sim.api.clock.now())
            await sim.api.patch_status(TASKS, "g-flaky", "ns", body)
            await sim.until(lambda: states(sim)["g"] == "Succeeded", timeout_s=30)
            await sim.until(lambda: sim.condition("g", "Succeeded") == "True", timeout_s=30)

    run(main())


def test_cancel_goes_for_the_tree() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await graph(
                sim,
                "ci",
                [
                    {"name": "long", "command": ["work", "900"]},
                    {"name": "next", "runAfter": ["long"]},
                ],
            )
            await sim.until(lambda: states(sim).get("ci-long") == "Running")
            assert states(sim)["ci"] == "Running"
            sim.spec("ci", cancel=True)
            await sim.until(lambda: sim.condition("ci", "Complete") == "True", timeout_s=60)
            assert set(states(sim).values()) == {"Cancelled"}

    run(main())


@pytest.mark.parametrize(
    ("tasks", "spec", "words"),
    [
        ([{"name": "a", "runAfter": ["b"]}], {}, "b names no task"),
        (
            [{"name": "a", "runAfter": ["b"]}, {"name": "b", "runAfter": ["a"]}],
            {},
            "circle: a → b → a",
        ),
        ([{"name": "a", "args": ["{{params.x}}"]}], {}, "names no parameter"),
        ([{"name": "taken"}], {}, "exists and is not a task of this root"),
    ],
)
def test_what_cannot_run_is_said_at_once(
    tasks: list[dict[str, Any]], spec: dict[str, Any], words: str
) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("g-taken")
            await graph(sim, "g", tasks, **spec)
            await sim.until(lambda: sim.condition("g", "Complete") == "True", timeout_s=5)
            status = sim.status("g")
            assert (status["state"], status["reason"]) == ("Failed", "SpecInvalid")
            (succeeded,) = [one for one in status["conditions"] if one["type"] == "Succeeded"]
            assert succeeded["status"] == "False"
            assert words in succeeded["message"]
            assert set(states(sim)) == {"g", "g-taken"}

    run(main())


def test_a_graph_may_wait_itself() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("before", "sleep", "5")
            await graph(sim, "g", [{"name": "a"}], runAfter={"tasks": ["before"]})
            await sim.finished("before")
            await sim.until(lambda: sim.condition("g", "Complete") == "True", timeout_s=30)
            assert sim.status("before")["times"]["exited"] <= sim.status("g-a")["times"]["started"]

    run(main())


def test_a_task_that_grows_keeps_its_graph_running() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await graph(
                sim,
                "g",
                [
                    {"name": "grow", "command": ["grow", "2", "9"]},
                    {"name": "after", "runAfter": ["grow"], "subtree": True},
                ],
            )
            await sim.until(lambda: sim.condition("g", "Complete") == "True")
            assert sim.status("g")["descendants"]["total"] == 4
            began = sim.status("g-after")["times"]["started"]
            kids = [name for name in states(sim) if name not in ("g", "g-grow", "g-after")]
            assert all(sim.status(kid)["times"]["exited"] <= began for kid in kids)

    run(main())


@settings(max_examples=15, deadline=None)
@given(
    size=st.integers(1, 6),
    edges=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8),
    kills=st.lists(st.floats(0.0, 2.0), max_size=2),
)
def test_any_graph_runs_in_its_order_whoever_is_killed(
    size: int, edges: list[tuple[int, int]], kills: list[float]
) -> None:
    import asyncio

    after: dict[int, set[int]] = {n: set() for n in range(size)}
    for low, high in edges:
        low, high = sorted((low % size, high % size))
        if low != high:
            after[high].add(low)
    steps = [{"name": f"n{n}", "runAfter": [f"n{k}" for k in sorted(after[n])]} for n in after]

    async def main() -> None:
        async with Simulation.started() as sim:
            await graph(sim, "g", steps)
            for kill_s in kills:
                await asyncio.sleep(kill_s)
                await sim.restart_controller()
            await sim.until(lambda: sim.condition("g", "Complete") == "True")
            assert set(states(sim).values()) == {"Succeeded"}
            assert len(states(sim)) == size + 1
            for n, names in after.items():
                began = sim.status(f"g-n{n}")["times"]["started"]
                assert all(sim.status(f"g-n{k}")["times"]["exited"] <= began for k in names)

    run(main())
