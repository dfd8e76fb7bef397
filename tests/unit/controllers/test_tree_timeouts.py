"""``treeTimeoutSeconds``: a tree that has run out of time ends as a whole, and for good."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from taskctl.api.conditions import find_condition
from taskctl.api.resources import TASKS
from taskctl.kube.resources import EVENTS
from taskctl.outside.rerunning import RetryRefused
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.test_retries import complete, graph, retry, states
from tests.unit.controllers.virtual import run


def outcome(sim: Simulation, name: str) -> tuple[str, str]:
    status = sim.status(name)
    return status["state"], status["reason"]


def verdict(sim: Simulation, name: str) -> str:
    condition = find_condition(sim.status(name).get("conditions"), "Succeeded") or {}
    return f"{condition.get('status')} {condition.get('reason')}"


def kids(sim: Simulation) -> list[str]:
    return [task["metadata"]["name"] for task in sim.tasks() if task["spec"].get("lineage")]


@pytest.mark.parametrize(
    ("command", "root"),
    [
        (["grow-and-work", "6", "900"], ("Failed", "TreeTimeout")),
        (["grow", "6", "900"], ("Succeeded", "Completed")),
    ],
)
def test_what_runs_is_stopped_and_what_waits_never_starts(
    command: list[str], root: tuple[str, str]
) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", *command, treeTimeoutSeconds=60)
            await sim.until(lambda: sim.condition("root", "Complete") == "True", timeout_s=120)
            assert 60 <= sim.api.clock.monotonic_s() <= 75
            assert outcome(sim, "root") == root
            assert verdict(sim, "root") == "False TreeTimeout"
            assert {outcome(sim, kid) for kid in kids(sim)} == {("Cancelled", "TreeTimeout")}
            assert len(kids(sim)) == 6
            assert len([name for name, _ in sim.node.runs if name != "root"]) in (3, 4)

    run(main())


def test_a_single_task_counts_its_waits_and_retries() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            retries = {"limit": 1000, "backoffSeconds": 7, "maxBackoffSeconds": 7}
            await sim.task("t", "fail", "1", treeTimeoutSeconds=30, retry=retries)
            await sim.task("held", suspend=True, treeTimeoutSeconds=10)
            await complete(sim, "t", succeeded=False)
            assert outcome(sim, "t") == outcome(sim, "held") == ("Failed", "TreeTimeout")
            assert sim.api.clock.monotonic_s() < 40
            assert "treeTimeoutSeconds=30" in sim.status("t")["message"]

    run(main())


def test_a_static_graph() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            steps: list[dict[str, Any]] = [
                {"name": "quick"},
                {"name": "long", "command": ["work", "900"]},
                {"name": "last", "runAfter": ["long"]},
                {"name": "alarm", "runAfter": ["long"], "when": "Failure"},
            ]
            await graph(sim, steps, treeTimeoutSeconds=20)
            await complete(sim, "g", succeeded=False)
            assert outcome(sim, "g") == ("Failed", "TreeTimeout")
            assert outcome(sim, "g-quick") == ("Succeeded", "Completed")
            for name in ("g-long", "g-last", "g-alarm"):
                assert outcome(sim, name) == ("Cancelled", "TreeTimeout")
            assert "cancel" not in sim.api.peek(TASKS, "g")["spec"]

    run(main())


def over(sim: Simulation, name: str) -> bool:
    return sim.condition(name, "Complete") == "True"


def tree_events(sim: Simulation, name: str) -> list[str]:
    found = [
        (event["type"], event["reason"])
        for event in sim.api.all(EVENTS)
        if event["involvedObject"]["name"] == name
    ]
    return [f"{kind} {reason}" for kind, reason in found if reason.startswith("Tree")]


def test_events_tell_when_a_tree_begins_and_ends() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("alone")
            await sim.task("good", "grow", "2", "5")
            await sim.task("late", "grow", "2", "900", treeTimeoutSeconds=20)
            await graph(sim, [{"name": "a", "command": ["fail-until", "2"]}])
            for name in ("alone", "good", "late", "g"):
                await sim.until(partial(over, sim, name))
            await asyncio.sleep(5)
            assert tree_events(sim, "alone") == []
            assert tree_events(sim, "good") == ["Normal TreeStarted", "Normal TreeSucceeded"]
            late = ["Normal TreeStarted", "Warning TreeTimeout", "Warning TreeFailed"]
            assert tree_events(sim, "late") == late
            assert tree_events(sim, "g") == ["Normal TreeStarted", "Warning TreeFailed"]
            await retry(sim, "g")
            await complete(sim, "g", succeeded=True)
            await asyncio.sleep(5)
            again = [e["message"] for e in sim.api.all(EVENTS) if "run 2" in e["message"]]
            assert len(again) == 1
            assert tree_events(sim, "g")[-1] == "Normal TreeSucceeded"

    run(main())


def test_in_time() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow", "3", "5", treeTimeoutSeconds=600)
            await complete(sim, "root", succeeded=True)
            await asyncio.sleep(700)
            assert verdict(sim, "root") == "True TreeComplete"
            assert "tree" not in sim.status("root")

    run(main())


def test_who_was_cancelled_before_keeps_that_reason() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow-and-work", "2", "900", treeTimeoutSeconds=30)
            await sim.until(lambda: list(states(sim).values()).count("Running") == 3)
            sim.spec("root", cancel=True)
            await complete(sim, "root", succeeded=False)
            await asyncio.sleep(60)
            assert outcome(sim, "root") == ("Cancelled", "Cancelled")
            assert verdict(sim, "root") == "False Cancelled"

    run(main())


@pytest.mark.parametrize("kill_after", range(1, 9))
def test_the_verdict_stands_before_anything_is_stopped(kill_after: int) -> None:
    """The controller is killed at each of its writes: the verdict is not taken back half way."""

    async def main() -> None:
        async with Simulation.started(slotsPerWorker=2) as sim:
            await sim.task("root", "grow-and-work", "3", "900", treeTimeoutSeconds=30)
            await sim.until(lambda: list(states(sim).values()).count("Running") == 2)
            writes = 0
            cut = asyncio.Event()

            def faults(call: Call, answered: bool) -> Exception | None:
                nonlocal writes
                if call.who == "controller" and call.plural == "tasks" and answered:
                    writes += 1
                    if writes == kill_after:
                        cut.set()
                return None

            await asyncio.sleep(20)
            sim.api.faults = faults
            waiting = asyncio.create_task(cut.wait())
            await asyncio.wait([waiting], timeout=60)
            waiting.cancel()
            stopped = [task for task in sim.tasks() if task["spec"].get("cancel")]
            if stopped:
                assert sim.status("root")["tree"]["timedOut"]
            sim.api.faults = None
            await sim.restart_controller()
            await complete(sim, "root", succeeded=False)
            assert outcome(sim, "root") == ("Failed", "TreeTimeout")
            assert {outcome(sim, kid) for kid in kids(sim)} == {("Cancelled", "TreeTimeout")}

    run(main())


def test_run_again_it_has_all_of_its_time() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow", "2", "40", treeTimeoutSeconds=30)
            await complete(sim, "root", succeeded=False)
            kid = kids(sim)[0]
            with pytest.raises(RetryRefused, match="run out of time: taskctl retry root --failed"):
                await retry(sim, kid, failed=False)
            await asyncio.sleep(100)
            assert set(await retry(sim, "root")) == set(kids(sim))
            await sim.until(lambda: sim.condition("root", "Complete") == "False")
            assert sim.status("root")["tree"]["run"] == 2
            assert "timedOut" not in sim.status("root")["tree"]
            await complete(sim, "root", succeeded=False)
            assert verdict(sim, "root") == "False TreeTimeout"
            assert {attempt for name, attempt in sim.node.runs if name == kid} == {1, 2}

    run(main())


def test_a_graph_run_again() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            steps: list[dict[str, Any]] = [
                {"name": "a", "command": ["work-once", "900"]},
                {"name": "b", "runAfter": ["a"]},
            ]
            await graph(sim, steps, treeTimeoutSeconds=30)
            await complete(sim, "g", succeeded=False)
            assert set(await retry(sim, "g")) == {"g", "g-a", "g-b"}
            await complete(sim, "g", succeeded=True)
            assert sim.status("g")["tree"]["run"] == 2

    run(main())


def test_a_cancelled_parent_that_ended_well_does_not_cancel_its_children_again() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow", "1", "20")
            await sim.finished("root")
            sim.spec("root", cancel=True)
            await complete(sim, "root", succeeded=False)
            assert await retry(sim, "root") == kids(sim)
            await complete(sim, "root", succeeded=True)

    run(main())
