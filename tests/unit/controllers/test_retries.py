"""``taskctl retry --failed``: what did not succeed of a tree runs again, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest

from taskctl.api.resources import TASKS
from taskctl.errors import Unavailable
from taskctl.kube.client import KubeClient
from taskctl.outside.rerunning import Rerunner, RetryRefused
from taskctl.outside.session import Session
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation, once_each
from tests.unit.controllers.virtual import run


async def retry(sim: Simulation, name: str, *, failed: bool = True) -> list[str]:
    rerunner = Rerunner(Session(cast("KubeClient", sim.api), "ns"), sim.api.clock)
    return [task["metadata"]["name"] for task in await rerunner.retry(name, failed=failed)]


def states(sim: Simulation) -> dict[str, str]:
    return {task["metadata"]["name"]: task["status"]["state"] for task in sim.tasks()}


async def complete(sim: Simulation, name: str, *, succeeded: bool) -> None:
    await sim.until(lambda: sim.condition(name, "Complete") == "True")
    assert sim.condition(name, "Succeeded") == str(succeeded), sim.status(name)


async def graph(sim: Simulation, tasks: list[dict[str, Any]], **spec: Any) -> None:
    filled = [{"image": "img", "command": ["ok"], **task} for task in tasks]
    body = {"clusterName": "c", "tasks": filled, **spec}
    await sim.api.create(TASKS, {"metadata": {"name": "g"}, "spec": body}, "ns")


def test_a_deep_tree_repeats_only_what_failed() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "deep", "3", "2")
            await complete(sim, "root", succeeded=False)
            good = {name for name, state in states(sim).items() if state == "Succeeded"}
            assert (len(good), len(sim.tasks())) == (3, 7)
            assert set(await retry(sim, "root")) == set(states(sim)) - good
            await complete(sim, "root", succeeded=True)
            runs = Counter(name for name, _ in sim.node.runs)
            assert {name for name, count in runs.items() if count == 1} == good
            assert await retry(sim, "root") == []
            once_each(sim)

    run(main())


STEPS: list[dict[str, Any]] = [
    {"name": "clone"},
    {"name": "build", "command": ["fail-until", "2"], "runAfter": ["clone"]},
    {"name": "test", "runAfter": ["build"]},
    {"name": "publish", "runAfter": ["test"], "subtree": True},
    {"name": "alarm", "runAfter": ["build"], "when": "Failure"},
    {"name": "calm", "runAfter": ["alarm"], "when": "Failure"},
]


@pytest.mark.parametrize("failed", [True, False])
def test_a_static_graph_as_a_whole(failed: bool) -> None:
    """Whatever ran after a failure runs after the success, in whichever order they are queued."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await graph(sim, STEPS)
            await complete(sim, "g", succeeded=False)
            assert states(sim) == {
                "g": "Failed",
                "g-clone": "Succeeded",
                "g-build": "Failed",
                "g-test": "Failed",
                "g-publish": "Failed",
                "g-alarm": "Succeeded",
                "g-calm": "Skipped",
            }
            again = await retry(sim, "g", failed=failed)
            assert again[0] == "g"
            assert set(again) == {"g", "g-build", "g-test", "g-publish", "g-calm"}
            await complete(sim, "g", succeeded=True)
            assert states(sim)["g"] == states(sim)["g-publish"] == "Succeeded"
            assert ("g-clone", 2) not in sim.node.runs
            assert "suspend" not in sim.api.peek(TASKS, "g")["spec"]

    run(main())


def test_a_cancelled_tree_runs_to_its_end() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=2) as sim:
            steps: list[dict[str, Any]] = [
                {"name": "first"},
                {"name": "long", "command": ["work", "30"], "runAfter": ["first"]},
                {"name": "last", "runAfter": ["long"]},
            ]
            await graph(sim, steps)
            await sim.until(lambda: states(sim).get("g-long") == "Running")
            sim.spec("g", cancel=True)
            await sim.until(lambda: sim.condition("g", "Complete") == "True")
            assert states(sim)["g-last"] == "Cancelled"
            assert set(await retry(sim, "g")) == {"g", "g-long", "g-last"}
            await complete(sim, "g", succeeded=True)
            assert ("g-first", 2) not in sim.node.runs
            assert not any(task["spec"].get("cancel") for task in sim.tasks())

    run(main())


def test_not_while_it_is_being_cancelled() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow-and-work", "2", "900")
            await sim.until(lambda: list(states(sim).values()).count("Running") == 3)
            sim.spec("root", cancel=True)
            with pytest.raises(RetryRefused, match="has not ended yet; wait for that"):
                await retry(sim, "root")
            await sim.until(lambda: sim.condition("root", "Complete") == "True")
            kid = next(name for name in states(sim) if name != "root")
            with pytest.raises(RetryRefused, match="root, above it, is cancelled"):
                await retry(sim, kid)

    run(main())


def test_while_other_parts_of_the_tree_run_on() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            steps: list[dict[str, Any]] = [
                {"name": "bad", "command": ["fail-until", "2"]},
                {"name": "slow", "command": ["work", "60"]},
                {"name": "end", "runAfter": ["bad", "slow"]},
            ]
            await graph(sim, steps)
            await sim.until(lambda: states(sim).get("g-end") == "Failed")
            assert states(sim)["g-slow"] == "Running"
            assert set(await retry(sim, "g")) == {"g-bad", "g-end"}
            await complete(sim, "g", succeeded=True)
            assert ("g-slow", 2) not in sim.node.runs

    run(main())


def test_a_call_that_is_cut_off_is_taken_up_by_the_next() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await graph(sim, STEPS)
            await complete(sim, "g", succeeded=False)

            def broken(call: Call, answered: bool) -> Exception | None:
                is_build = call.verb == "patch" and call.name == "g-publish"
                return Unavailable("cut off") if is_build and call.who == "node" else None

            sim.api.faults = broken
            with pytest.raises(RetryRefused, match="taskctl retry g --failed"):
                await retry(sim, "g")
            sim.api.faults = None
            assert sim.api.peek(TASKS, "g")["spec"]["suspend"] is True
            await retry(sim, "g")
            await complete(sim, "g", succeeded=True)
            assert "suspend" not in sim.api.peek(TASKS, "g")["spec"]
            assert states(sim)["g-publish"] == "Succeeded"

    run(main())


def test_a_tree_that_its_user_has_suspended_stays_so() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await graph(sim, STEPS)
            await complete(sim, "g", succeeded=False)
            sim.spec("g", suspend=True)
            await retry(sim, "g")
            await sim.until(lambda: sim.status("g-build").get("reason") == "Suspended")
            sim.spec("g", suspend=False)
            await complete(sim, "g", succeeded=True)

    run(main())


def test_what_its_tree_has_stopped_stays_stopped() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "deep", "1", "2")
            await complete(sim, "root", succeeded=False)
            kid = next(
                task["metadata"]["name"]
                for task in sim.tasks()
                if task["status"]["state"] == "Succeeded"
            )
            sim.api.edit(
                TASKS,
                kid,
                lambda task: task["status"].update(state="Cancelled", reason="StoppedByTask"),
            )
            assert kid not in await retry(sim, "root")
            await complete(sim, "root", succeeded=True)

    run(main())


def test_a_part_of_a_tree() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "deep", "2", "2")
            await complete(sim, "root", succeeded=False)
            middle = next(
                task["metadata"]["name"]
                for task in sim.tasks()
                if task["status"]["state"] == "Failed"
                and (task["spec"].get("lineage") or {}).get("depth") == 1
            )
            again = await retry(sim, middle)
            assert len(again) == 2
            assert "root" not in again
            await sim.until(lambda: sim.condition("root", "Complete") == "True")
            assert states(sim)["root"] == "Failed"
            assert states(sim)[middle] == "Succeeded"

    run(main())


def test_one_cancelled_task_alone() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "work", "5")
            await sim.until(lambda: states(sim)["t"] == "Running")
            sim.spec("t", cancel=True)
            await complete(sim, "t", succeeded=False)
            assert await retry(sim, "t", failed=False) == ["t"]
            await complete(sim, "t", succeeded=True)

    run(main())
