"""Trees: who belongs to one, how it is cancelled, what its members' ends make of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctl.api.resources import TASKS
from taskctl.kube.resources import EVENTS
from tests.unit.controllers.simulation import TERMINAL, Simulation
from tests.unit.controllers.virtual import run


def states(sim: Simulation) -> dict[str, str]:
    return {task["metadata"]["name"]: task["status"]["state"] for task in sim.tasks()}


def children(sim: Simulation, parent: str) -> list[dict[str, Any]]:
    uid = sim.api.peek(TASKS, parent)["metadata"]["uid"]
    return [
        task for task in sim.tasks() if (task["spec"].get("lineage") or {}).get("parentUID") == uid
    ]


# --- lineage ------------------------------------------------------------------------


@pytest.mark.parametrize("disguise", ["labels", "copy"])
def test_a_stranger_changes_no_tree(disguise: str) -> None:
    """Labels are anybody's, and a copy of a child under another name is a Task of its own."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow", "2", "1")
            await sim.finished("root")
            await sim.until(lambda: len(children(sim, "root")) == 2)
            kid = children(sim, "root")[0]
            metadata = {"name": "stranger"} | {
                field: kid["metadata"][field] for field in ("labels", "annotations")
            }
            lineage = {"lineage": kid["spec"]["lineage"]} if disguise == "copy" else {}
            spec = {"clusterName": "c", "image": "img", "command": ["fail", "1"]} | lineage
            await sim.api.create(TASKS, {"metadata": metadata, "spec": spec}, "ns")
            await sim.finished("stranger")
            await sim.until(lambda: sim.condition("root", "Complete") == "True")
            assert sim.condition("root", "Succeeded") == "True"
            assert sim.status("root")["descendants"]["total"] == 2
            assert sim.condition("stranger", "Succeeded") == "False"

    run(main())


def test_a_child_without_its_labels_counts_on() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow", "1", "5")
            await sim.until(lambda: len(children(sim, "root")) == 1)
            name = children(sim, "root")[0]["metadata"]["name"]
            sim.api.edit(TASKS, name, lambda task: task["metadata"].update(labels={}))
            await sim.finished("root")
            await asyncio.sleep(2)
            assert sim.condition("root", "Complete") == "False"
            await sim.finished(name)
            await sim.until(lambda: sim.condition("root", "Complete") == "True")
            assert sim.status("root")["descendants"]["total"] == 1

    run(main())


# --- cancel -------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["grow", "grow-and-work"])
def test_cancel_takes_the_whole_tree(command: str) -> None:
    """Also what waits in the queue, and what a root that has ended left running."""

    async def main() -> None:
        async with Simulation.started(slotsPerWorker=3) as sim:
            await sim.task("root", command, "6", "1000")
            await sim.task("stranger", "sleep", "20")
            await sim.until(lambda: len(children(sim, "root")) == 6)
            await sim.until(
                lambda: "Running" in [t["status"]["state"] for t in children(sim, "root")]
            )
            sim.spec("root", cancel=True)
            await sim.until(lambda: sim.condition("root", "Complete") == "True", timeout_s=30)
            ends = [task["status"] for task in children(sim, "root")]
            assert {status["state"] for status in ends} == {"Cancelled"}
            assert all(status["message"] for status in ends)
            assert sim.condition("root", "Succeeded") == "False"
            await sim.finished("stranger")
            assert states(sim)["stranger"] == "Succeeded"

    run(main())


def test_cancel_of_one_task_alone() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow-and-work", "2", "30")
            await sim.until(lambda: len(children(sim, "root")) == 2)
            sim.spec("root", cancel=True, cancelScope="Task")
            (status,) = await sim.finished("root", timeout_s=10)
            assert status["state"] == "Cancelled"
            await sim.all_finished()
            assert {t["status"]["state"] for t in children(sim, "root")} == {"Succeeded"}

    run(main())


def test_a_branch_is_cancelled_and_no_more() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=8) as sim:
            await sim.task("root", "chain", "4")
            await sim.until(lambda: len(sim.tasks()) == 5)
            await sim.all_finished()
            await sim.task("other", "grow-and-work", "2", "30")
            await sim.until(lambda: len(children(sim, "other")) == 2)
            branch, left = (task["metadata"]["name"] for task in children(sim, "other"))
            sim.spec(branch, cancel=True)
            await sim.finished(branch, left, "other")
            assert (states(sim)[branch], states(sim)[left]) == ("Cancelled", "Succeeded")

    run(main())


def test_late_children_of_a_cancelled_tree_never_start() -> None:
    """Their creation and the cancellation crossed, or the controller was away."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow-and-work", "1", "1000")
            await sim.until(lambda: len(children(sim, "root")) == 1)
            kid = children(sim, "root")[0]
            await sim.kill_controller()
            sim.spec("root", cancel=True)
            lineage = kid["spec"]["lineage"] | {
                "task": "late",
                "parent": kid["metadata"]["name"],
                "parentUID": kid["metadata"]["uid"],
                "depth": 2,
            }
            await sim.task("late", "work", "1", lineage=lineage)
            await sim.start_controller()
            await sim.all_finished(timeout_s=30)
            assert set(states(sim).values()) == {"Cancelled"}
            assert ("late", 1) not in sim.node.runs

    run(main())


# --- skipped ------------------------------------------------------------------------


def test_a_handler_that_is_not_needed_fails_nothing() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            after = {"runAfter": {"tasks": ["good"]}}
            await sim.task("good")
            await sim.task("handler", when="Failure", **after)
            await sim.task("next", runAfter={"tasks": ["handler"]})
            await sim.task("always", when="Always", runAfter={"tasks": ["handler"]})
            await sim.finished("good", "handler", "next", "always")
            assert states(sim) == {
                "good": "Succeeded",
                "handler": "Skipped",
                "next": "Skipped",
                "always": "Succeeded",
            }
            assert sim.condition("handler", "Complete") == "True"
            assert sim.condition("handler", "Succeeded") == "True"

    run(main())


def test_a_skipped_member_fails_no_tree() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow", "1", "1")
            await sim.until(lambda: len(children(sim, "root")) == 1)
            kid = children(sim, "root")[0]
            lineage = kid["spec"]["lineage"] | {"task": "handler", "key": "h"}
            after = {"runAfter": {"tasks": [kid["metadata"]["name"]]}}
            await sim.task("handler", when="Failure", lineage=lineage, **after)
            await sim.until(lambda: sim.condition("root", "Complete") == "True")
            assert sim.condition("root", "Succeeded") == "True"
            counts = sim.status("root")["descendants"]
            assert (counts["succeeded"], counts["skipped"], counts["failed"]) == (1, 1, 0)

    run(main())


# --- cycles -------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["Success", "Always"])
@pytest.mark.parametrize(
    "edges",
    [
        {"a": ["a"]},
        {"a": ["b"], "b": ["a"]},
        {"a": ["b", "ghost"], "b": ["c"], "c": ["a"]},
        {"c": ["a"], "b": ["c"], "a": ["x", "b"], "x": ["y"], "y": []},
    ],
)
def test_who_waits_in_a_circle_is_told_at_once(edges: dict[str, list[str]], when: str) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            for name, after in edges.items():
                await sim.task(name, when=when, runAfter={"tasks": after})
            await sim.task("behind", runAfter={"tasks": ["a"]})
            circle = [name for name in edges if name in "abc"]
            for status in await sim.finished(*circle, timeout_s=2):
                assert (status["state"], status["reason"]) == ("Failed", "DependencyCycle")
                assert "itself" in status["message"] or "cycle" in status["message"]
            (behind,) = await sim.finished("behind", timeout_s=5)
            assert behind["reason"] == "DependencyFailed"
            for name in set(edges) - set(circle):
                (status,) = await sim.finished(name)
                assert status["state"] == "Succeeded"

    run(main())


def test_a_graph_made_backwards_is_no_circle() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=10) as sim:
            for number in reversed(range(20)):
                after = [f"t{before}" for before in (number - 1, number - 2) if before >= 0]
                await sim.task(f"t{number}", runAfter={"tasks": after})
            await sim.all_finished()
            assert set(states(sim).values()) == {"Succeeded"}

    run(main())


def test_a_circle_closed_while_the_controller_was_away() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("a", runAfter={"tasks": ["b"]})
            await asyncio.sleep(1)
            await sim.kill_controller()
            await sim.task("b", runAfter={"tasks": ["a"]}, when="Always")
            await sim.start_controller()
            for status in await sim.finished("a", "b", timeout_s=5):
                assert status["reason"] == "DependencyCycle"

    run(main())


# --- what keeps up with the spec ----------------------------------------------------


def test_observed_generation_is_never_left_behind() -> None:
    def behind(sim: Simulation) -> list[str]:
        found = []
        for task in sim.tasks():
            generation = task["metadata"]["generation"]
            status = task["status"]
            seen = [status.get("observedGeneration", 1)]
            seen += [entry["observedGeneration"] for entry in status.get("conditions") or ()]
            if min(seen) < generation:
                found.append(task["metadata"]["name"])
        return found

    async def main() -> None:
        async with Simulation.started(slotsPerWorker=1) as sim:
            await sim.task("ended")
            await sim.finished("ended")
            await sim.task("grown", "grow", "1", "1")
            await sim.until(lambda: sim.condition("grown", "Complete") == "True")
            await sim.task("running", "sleep", "100")
            await sim.until(lambda: sim.status("running")["state"] == "Running")
            await sim.task("queued")
            await sim.task("lost", clusterName="ghost")
            await sim.task("held", suspend=True)
            await asyncio.sleep(5)
            for name in ("ended", "grown", "running", "queued", "lost", "held"):
                sim.spec(name, priority=7)
                await sim.until(lambda: not behind(sim), timeout_s=3)
                assert sim.api.peek(TASKS, name)["metadata"]["generation"] == 2
            await sim.finished("running", "queued")
            await asyncio.sleep(3)
            assert behind(sim) == []
            assert all(
                state in TERMINAL for state in (states(sim)["running"], states(sim)["queued"])
            )

    run(main())


# --- order --------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
def test_what_is_created_in_one_second_runs_in_that_order(restart: bool) -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=1) as sim:
            await sim.task("first", "sleep", "5")
            await sim.until(lambda: sim.status("first")["state"] == "Running")
            names = [f"t{(number * 7) % 10}" for number in range(10)]
            for name in names:
                await sim.task(name)
            if restart:
                await sim.restart_controller()
            await sim.all_finished()
            assert [name for name, _ in sim.node.runs] == ["first", *names]

    run(main())


# --- limits -------------------------------------------------------------------------


def test_live_tasks() -> None:
    """At no moment do more tasks of the tree run than may; another tree is not held up."""

    async def main() -> None:
        async with Simulation.started(slotsPerWorker=8) as sim:
            await sim.task("root", "grow-and-work", "9", "5", limits={"liveTasks": 3})
            await sim.task("other", "grow", "4", "5")
            most = 0

            def over() -> bool:
                nonlocal most
                running = [
                    task
                    for task in sim.tasks()
                    if task["status"].get("state") == "Running"
                    and "other" not in task["metadata"]["name"]
                ]
                most = max(most, len(running))
                return sim.condition("root", "Complete") == "True"

            await sim.until(lambda: sim.condition("other", "Complete") == "True" or over())
            assert sim.condition("root", "Complete") != "True"
            await sim.until(over)
            assert sim.condition("root", "Succeeded") == "True"
            assert most == 3
            events = [event["reason"] for event in sim.api.all(EVENTS)]
            assert events.count("LiveTasksLimit") == 1

    run(main())


def test_what_a_dead_agent_had_set_aside_is_given_back() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow", "2", "5", limits={"descendants": 9})
            uid = sim.api.peek(TASKS, "root")["metadata"]["uid"]
            tree = {"descendants": 7, "spawning": [{"task": uid, "children": 7}]}
            sim.api.edit(TASKS, "root", lambda task: task["status"].update(tree=tree))
            await sim.until(lambda: sim.condition("root", "Complete") == "True")
            await sim.until(lambda: sim.status("root")["tree"] == {"descendants": 2})

    run(main())
