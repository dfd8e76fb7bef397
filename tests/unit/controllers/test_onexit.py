"""``onExit``: one task once the tree is quiet, whatever its end, told how it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctl.api.resources import TASKS
from taskctl.constants import LABEL_EXIT_OF
from taskctl.errors import Invalid, Unavailable
from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import EVENTS
from taskctl.policy.onexit import exit_task_name
from taskctl.policy.view import parse_task
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation, once_each
from tests.unit.controllers.test_retries import complete, graph, retry
from tests.unit.controllers.virtual import run

EXIT: dict[str, Any] = {"command": ["ok"]}


def exits(sim: Simulation) -> list[KubeObject]:
    return [task for task in sim.tasks() if LABEL_EXIT_OF in (task["metadata"].get("labels") or {})]


def noted(sim: Simulation, root: str) -> dict[str, Any]:
    entry: dict[str, Any] = (sim.status(root).get("tree") or {}).get("exit") or {}
    return entry


async def settled(sim: Simulation, root: str) -> dict[str, Any]:
    await sim.until(lambda: noted(sim, root).get("finished"))
    return noted(sim, root)


def told(task: KubeObject) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in task["spec"]["env"]}


def runs_of(sim: Simulation, name: str) -> int:
    return sum(name == started for started, _ in sim.node.runs)


@pytest.mark.parametrize(
    ("command", "spec", "cancel", "state", "reason"),
    [
        (["ok"], {}, False, "Succeeded", "Completed"),
        (["fail", "3"], {}, False, "Failed", "NonZeroExit"),
        (["work", "900"], {}, True, "Cancelled", "Cancelled"),
        (["work", "900"], {"treeTimeoutSeconds": 30}, False, "Failed", "TreeTimeout"),
        (["grow", "3", "5"], {}, False, "Succeeded", "TreeComplete"),
        (["grow", "3", "900"], {"treeTimeoutSeconds": 30}, False, "Failed", "TreeTimeout"),
        (["grow-and-work", "2", "900"], {}, True, "Cancelled", "Cancelled"),
        (["ok"], {"suspend": True}, True, "Cancelled", "Cancelled"),
        (["ok"], {"runAfter": {"tasks": ["broken"]}}, False, "Failed", "DependencyFailed"),
    ],
)
def test_it_is_told_every_end(
    command: list[str], spec: dict[str, Any], cancel: bool, state: str, reason: str
) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("broken", "fail", "1")
            await sim.task("root", *command, onExit=EXIT, **spec)
            if cancel:
                await asyncio.sleep(5)
                sim.spec("root", cancel=True)
            assert (await settled(sim, "root"))["state"] == "Succeeded"
            (task,) = exits(sim)
            outcome = task["spec"]["input"]["outcome"]
            assert (outcome["state"], outcome["reason"]) == (state, reason)
            assert (outcome["root"], outcome["run"]) == ("root", 1)
            env = told(task)
            assert (env["TREE_STATE"], env["TREE_REASON"]) == (state, reason)
            assert (env["TREE_ROOT"], env["TREE_RUN"]) == ("root", "1")
            total = sim.status("root").get("descendants", {"total": 0})["total"]
            assert outcome["descendants"]["total"] == total
            began = task["status"]["times"]["started"]
            members = [one for one in sim.tasks() if one["spec"].get("lineage")]
            assert all(one["status"]["times"]["observed"] <= began for one in members)
            await asyncio.sleep(100)
            assert runs_of(sim, task["metadata"]["name"]) == 1
            assert len(exits(sim)) == 1

    run(main())


def test_of_a_root_with_tasks_it_has_the_parameters_and_what_the_root_says() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            template = {
                "command": ["ok", "{{params.what}}"],
                "env": [{"name": "TREE_STATE", "value": "made up"}, {"name": "B", "value": "b"}],
            }
            await graph(
                sim,
                [{"name": "exit"}, {"name": "bad", "command": ["fail", "1"]}],
                params=[{"name": "what", "value": "this"}],
                env=[{"name": "A", "value": "a"}],
                image="roots",
                limits={"descendants": 5},
                ttlSecondsAfterFinished=None,
                onExit=template,
            )
            await settled(sim, "g")
            (task,) = exits(sim)
            assert task["spec"]["command"] == ["ok", "this"]
            assert task["spec"]["image"] == "roots"
            assert task["spec"]["limits"] == {"descendants": 5}
            env = told(task)
            assert (env["A"], env["B"], env["what"]) == ("a", "b", "this")
            assert env["TREE_STATE"] == "Failed"
            assert env["TREE_MESSAGE"].endswith("1 failed and 0 were cancelled: bad.")
            assert sim.status("g")["descendants"]["total"] == 2

    run(main())


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("kill_after", range(1, 7))
def test_once_even_if_the_controller_is_killed_at_a_write(kill_after: int, answered: bool) -> None:
    """It is killed before, or after, its n-th write once the tree's last task has ended."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "grow", "2", "5", onExit=EXIT)
            await sim.until(lambda: len(sim.tasks()) == 3)
            writes = 0
            cut = asyncio.Event()

            def faults(call: Call, has_answered: bool) -> Exception | None:
                nonlocal writes
                mine = call.who == "controller" and call.plural == "tasks"
                if mine and call.verb in ("create", "patch", "patch_status", "update"):
                    writes += has_answered == answered
                    if writes >= kill_after:
                        cut.set()
                        return Unavailable("cut")
                return None

            sim.api.faults = faults
            waiting = asyncio.create_task(cut.wait())
            await asyncio.wait([waiting], timeout=60)
            waiting.cancel()
            await sim.kill_controller()
            sim.api.faults = None
            await asyncio.sleep(20)
            await sim.start_controller()
            await settled(sim, "root")
            await asyncio.sleep(60)
            (task,) = exits(sim)
            assert runs_of(sim, task["metadata"]["name"]) == 1
            once_each(sim)

    run(main())


def test_its_failure_is_told_and_does_not_count() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", onExit={"command": ["fail", "7"]})
            entry = await settled(sim, "root")
            assert (entry["state"], entry["reason"]) == ("Failed", "NonZeroExit")
            await complete(sim, "root", succeeded=True)
            await asyncio.sleep(5)
            events = [
                (event["type"], event["reason"])
                for event in sim.api.all(EVENTS)
                if event["involvedObject"]["name"] == "root"
            ]
            assert events == [("Warning", "ExitTaskFailed")]

    run(main())


def test_it_has_retries_and_a_tree_of_its_own() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            again = {"command": ["fail-until", "2"], "retry": {"limit": 3, "backoffSeconds": 1}}
            await sim.task("a", onExit=again)
            assert (await settled(sim, "a"))["state"] == "Succeeded"
            await sim.task("b", onExit={"command": ["grow", "2", "30"]})
            await sim.until(lambda: noted(sim, "b"))
            await asyncio.sleep(15)
            assert "finished" not in noted(sim, "b")
            assert (await settled(sim, "b"))["state"] == "Succeeded"
            assert "descendants" not in sim.status("b")

    run(main())


def test_a_tree_that_is_run_again_has_it_again() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", "fail-until", "2", onExit=EXIT)
            first = await settled(sim, "root")
            assert first["run"] == 1
            await retry(sim, "root")
            await sim.until(lambda: noted(sim, "root").get("run") == 2)
            second = await settled(sim, "root")
            assert second["task"] != first["task"]
            outcomes = {task["metadata"]["name"]: told(task)["TREE_STATE"] for task in exits(sim)}
            assert outcomes == {first["task"]: "Failed", second["task"]: "Succeeded"}
            assert [runs_of(sim, name) for name in outcomes] == [1, 1]

    run(main())


def test_it_can_be_run_again_itself() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", onExit={"command": ["fail-until", "2"]})
            entry = await settled(sim, "root")
            assert entry["state"] == "Failed"
            await retry(sim, entry["task"], failed=False)
            await sim.until(lambda: noted(sim, "root")["state"] == "Succeeded")
            await settled(sim, "root")
            assert len(exits(sim)) == 1

    run(main())


def test_the_time_to_live_counts_from_its_end() -> None:
    async def main() -> None:
        ttl = {"success": 20, "failure": 20}
        defaults = {"ttlSecondsAfterFinished": {"success": 1, "failure": 1}}
        async with Simulation.started(taskDefaults=defaults) as sim:
            await sim.task(
                "root",
                "grow",
                "1",
                "1",
                ttlSecondsAfterFinished=ttl,
                onExit={"command": ["work", "60"]},
            )
            await complete(sim, "root", succeeded=True)
            await asyncio.sleep(40)
            assert len(sim.tasks()) == 3
            await settled(sim, "root")
            await asyncio.sleep(10)
            assert {task["metadata"]["name"] for task in sim.tasks()} >= {
                "root",
                noted(sim, "root")["task"],
            }
            await sim.until(lambda: not sim.tasks(), timeout_s=60)

    run(main())


def test_who_deletes_it_does_not_get_another_one() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("root", onExit={"command": ["work", "900"]})
            await sim.until(lambda: noted(sim, "root"))
            await sim.api.delete(TASKS, noted(sim, "root")["task"], "ns")
            entry = await settled(sim, "root")
            assert (entry["state"], entry["reason"]) == ("Failed", "ExitTaskDeleted")
            await sim.restart_controller()
            await asyncio.sleep(60)
            assert exits(sim) == []

    run(main())


def test_a_task_of_that_name_is_left_alone() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            root = await sim.task("root", "work", "20", onExit=EXIT)
            name = exit_task_name(parse_task(root))
            await sim.task(name)
            entry = await settled(sim, "root")
            assert (entry["state"], entry["reason"]) == ("Failed", "NameConflict")
            assert f"A Task named {name} exists" in entry["message"]
            await complete(sim, "root", succeeded=True)

    run(main())


def test_one_that_the_api_server_refuses_is_told() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:

            def faults(call: Call, answered: bool) -> Exception | None:
                refused = call.who == "controller" and call.verb == "create"
                if refused and call.plural == "tasks" and not answered:
                    return Invalid("spec.env: too long")
                return None

            sim.api.faults = faults
            await sim.task("root", onExit=EXIT)
            entry = await settled(sim, "root")
            assert (entry["state"], entry["reason"]) == ("Failed", "SpecInvalid")
            assert "spec.env: too long" in entry["message"]
            sim.api.faults = None
            await asyncio.sleep(100)
            assert exits(sim) == []

    run(main())
