"""The life of tasks, through all controllers, against a fake API server and node."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.clock import parse_time
from taskctl.constants import LABEL_OUTPUT_OF
from taskctl.kube.resources import EVENTS, PODS, PVCS
from taskctl.policy.handover import is_parked_name
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run


def writes(sim: Simulation, name: str) -> list[str]:
    """States that were written for a Task, in order."""
    return [
        call.body["status"].get("state", "")
        for call in sim.api.log
        if call.is_status and call.plural == "tasks" and call.name == name
    ]


def reasons(sim: Simulation) -> set[str]:
    return {event["reason"] for event in sim.api.all(EVENTS)}


def test_a_healthy_task_costs_two_status_writes() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t")
            (status,) = await sim.finished("t")
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)
            assert sim.condition("t", "Complete") == "True"
            await asyncio.sleep(10)
            assert writes(sim, "t") == ["Running", "Succeeded"]
            assert sim.node.runs == [("t", 1)]

    run(main())


def test_placing_takes_milliseconds() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            begun = sim.api.clock.now()
            await sim.task("t")
            (status,) = await sim.finished("t")
            assert (parse_time(status["times"]["placed"]) - begun).total_seconds() < 0.02

    run(main())


def test_a_burst_is_batched() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2, slotsPerWorker=10) as sim:
            await asyncio.sleep(5)
            await asyncio.gather(*(sim.task(f"t{n}", "sleep", "1") for n in range(20)))
            await sim.all_finished()
            patches = [call for call in sim.api.log if call.plural == "pods" and call.body]
            entries = [c.body["spec"]["ephemeralContainers"] for c in patches if c.verb == "patch"]
            appended = [len(batch) for batch in entries if not is_parked_name(batch[0]["name"])]
            assert sum(appended) == 20
            assert len(appended) <= 6

    run(main())


def test_slots_are_never_exceeded() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2, slotsPerWorker=3) as sim:
            for number in range(30):
                await sim.task(f"t{number}", "sleep", "0.7", slots=1 + number % 3)
            used: Counter[str] = Counter()

            def within() -> bool:
                used.clear()
                for task in sim.tasks():
                    if task["status"]["state"] == "Running":
                        used[task["status"]["podName"]] += task["spec"]["slots"]
                assert all(count <= 3 for count in used.values()), used
                return all(task["status"]["state"] == "Succeeded" for task in sim.tasks())

            await sim.until(within)
            assert len(sim.node.runs) == 30

    run(main())


def test_retry_with_back_off() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            retry = {"limit": 3, "backoffSeconds": 10, "jitter": 0}
            await sim.task("t", "fail-until", "3", retry=retry)
            (status,) = await sim.finished("t")
            assert (status["state"], status["attempt"], status["failures"]) == ("Succeeded", 3, 2)
            assert sim.node.runs == [("t", 1), ("t", 2), ("t", 3)]
            assert sim.api.clock.monotonic_s() > 30

    run(main())


def test_cancel_in_the_queue() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await sim.task("t")
            await asyncio.sleep(1)
            sim.spec("t", cancel=True)
            (status,) = await sim.finished("t", timeout_s=2)
            assert status["state"] == "Cancelled"
            assert sim.condition("t", "Complete") == "True"

    run(main())


def test_suspend_and_resume() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", suspend=True)
            await sim.until(lambda: sim.status("t").get("reason") == "Suspended", timeout_s=5)
            sim.spec("t", suspend=False)
            (status,) = await sim.finished("t", timeout_s=5)
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)

    run(main())


def test_suspend_after_placing_takes_it_back() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            sim.node.start_s = 3.0
            await asyncio.sleep(5)
            await sim.task("t")
            await asyncio.sleep(0.5)
            sim.spec("t", suspend=True)
            await asyncio.sleep(10)
            assert sim.node.runs == []
            assert sim.status("t")["attempt"] == 1
            assert "infraFailures" not in sim.status("t")
            sim.spec("t", suspend=False)
            (status,) = await sim.finished("t")
            assert (status["attempt"], sim.node.runs) == (2, [("t", 2)])

    run(main())


def test_waits_for_its_cluster_and_its_input() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", clusterName="d", inputObject="in")
            await sim.until(lambda: sim.status("t").get("reason") == "ClusterNotFound")
            await sim.cluster("d")
            await sim.until(lambda: sim.status("t").get("reason") == "InputNotFound")
            await sim.object("in")
            (status,) = await sim.finished("t", timeout_s=5)
            assert status["state"] == "Succeeded"

    run(main())


def test_an_output_is_an_input_once_its_task_has_succeeded() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("early", inputObject="make-output")
            await asyncio.sleep(3)
            await sim.task("make", "sleep", "30")
            await sim.until(lambda: sim.status("make").get("state") == "Running")
            uid = sim.api.peek(TASKS, "make")["metadata"]["uid"]
            await sim.object("make-output", labels={LABEL_OUTPUT_OF: uid})
            await sim.task("late", inputObject="make-output")
            await asyncio.sleep(10)
            assert sim.node.runs == [("make", 1)], "an attempt that may fail has written it"
            assert sim.status("late")["reason"] == "WaitingForTasks"
            states = [s["state"] for s in await sim.finished("make", "early", "late")]
            # The fake agent records no output, so the object is one of a failed attempt.
            assert states == ["Succeeded", "Failed", "Failed"]
            assert sim.status("late")["reason"] == "DependencyFailed"

    run(main())


@pytest.mark.parametrize("command", ["fail", "sleep"])
def test_a_task_without_output_leaves_nobody_waiting_for_it(command: str) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("early", inputObject="make-output")
            await asyncio.sleep(3)
            await sim.task("make", command, "1")
            await sim.finished("make")
            await sim.task("late", inputObject="make-output")
            for status in await sim.finished("early", "late", timeout_s=10):
                assert (status["state"], status["reason"]) == ("Failed", "DependencyFailed")

    run(main())


def test_an_input_is_not_given_up_because_its_watch_is_late() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("make", "sleep", "2")
            await sim.until(lambda: sim.status("make").get("state") == "Running")
            sim.api.held.add("taskobjects")
            await sim.object("make-output")  # by the program itself, through the API
            await sim.task("late", inputObject="make-output")
            await sim.finished("make")
            await asyncio.sleep(10)
            assert sim.status("late").get("state") != "Failed"
            sim.api.held.clear()
            (status,) = await sim.finished("late", timeout_s=10)
            assert status["state"] == "Succeeded"

    run(main())


def test_input_that_comes_a_moment_later_costs_no_write() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            await sim.task("t", inputObject="in")
            await asyncio.sleep(0.3)
            await sim.object("in")
            await sim.finished("t", timeout_s=5)
            assert writes(sim, "t") == ["Running", "Succeeded"]

    run(main())


def test_too_many_slots_until_the_cluster_grows() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=2) as sim:
            await sim.task("t", slots=3)
            await sim.until(lambda: sim.status("t").get("reason") == "SlotsExceedWorker")
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(slotsPerWorker=3))
            assert (await sim.finished("t", timeout_s=5))[0]["state"] == "Succeeded"

    run(main())


def test_run_after() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("last", runAfter={"tasks": ["a", "b"]})
            await sim.task("cleanup", runAfter={"tasks": ["bad"]}, when="Failure")
            await sim.task("never", runAfter={"tasks": ["bad", "a"]})
            await sim.task("a", "sleep", "3")
            await sim.task("b", "sleep", "1")
            await sim.task("bad", "fail", "1")
            states = [s["state"] for s in await sim.finished("last", "cleanup", "never")]
            assert states == ["Succeeded", "Succeeded", "Failed"]
            assert sim.status("never")["reason"] == "DependencyFailed"
            order = [name for name, _ in sim.node.runs]
            assert order.index("last") > order.index("a")
            assert "never" not in order
            await asyncio.sleep(1)
            assert "DependencyFailed" in reasons(sim)

    run(main())


def test_chain_of_200() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2, rotation={"maxTasks": 50}) as sim:
            await sim.task("t", "chain", "199")
            await sim.until(lambda: sim.condition("t", "Complete") == "True")
            assert sorted(attempt for _, attempt in sim.node.runs) == [1] * 200
            assert len(sim.tasks()) == 200
            descendants = sim.status("t")["descendants"]
            assert (descendants["total"], descendants["succeeded"]) == (199, 199)
            assert sim.condition("t", "Succeeded") == "True"
            pods = {task["status"]["podName"] for task in sim.tasks()}
            assert len(pods) >= 4, "workers were rotated on the way"

    run(main())


def test_tree_is_complete_when_the_last_descendant_ends() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "spawn", "3")
            await sim.finished("t")
            assert sim.condition("t", "Complete") == "False"
            await sim.until(lambda: sim.condition("t", "Complete") == "True")
            children = [task for task in sim.tasks() if task["metadata"]["name"] != "t"]
            assert [task["status"]["state"] for task in children] == ["Succeeded"] * 3
            assert sim.status("t")["descendants"]["succeeded"] == 3

    run(main())


def test_ttl_after_the_whole_tree() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            ttl = {"success": 5, "failure": 50}
            await sim.task("t", "spawn", "2", ttlSecondsAfterFinished=ttl)
            await sim.until(lambda: sim.condition("t", "Complete") == "True")
            assert len(sim.tasks()) == 3
            await asyncio.sleep(3)
            assert len(sim.tasks()) == 3
            await sim.until(lambda: sim.tasks() == [], timeout_s=10)

    run(main())


def test_ttl_spares_what_is_waited_for() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("a", ttlSecondsAfterFinished={"success": 1})
            await sim.task("b", runAfter={"tasks": ["a", "c"]})
            await asyncio.sleep(20)
            assert sim.api.has(TASKS, "a")
            await sim.task("c")
            assert (await sim.finished("b"))[0]["state"] == "Succeeded"
            await sim.until(lambda: not sim.api.has(TASKS, "a"), timeout_s=60)

    run(main())


def test_deleting_a_running_task_frees_its_slot_in_the_end() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=1) as sim:
            await sim.task("t", "sleep", "5")
            await sim.until(lambda: sim.status("t")["state"] == "Running")
            await asyncio.sleep(0.5)
            sim.api.remove(TASKS, "t")
            await sim.task("u")
            assert (await sim.finished("u"))[0]["state"] == "Succeeded"

    run(main())


# --- clusters -----------------------------------------------------------------------


def test_cluster_status() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2, slotsPerWorker=1) as sim:
            for number in range(5):
                await sim.task(f"t{number}", "sleep", "30")
            await sim.until(lambda: len(sim.node.runs) == 2)
            await asyncio.sleep(2.5)
            status = sim.api.peek(TASKCLUSTERS, "c")["status"]
            assert (status["replicas"], status["workers"], status["ready"]) == (2, 2, 2)
            assert (status["busySlots"], status["freeSlots"], status["queueLength"]) == (2, 0, 3)
            assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"

    run(main())


def test_cluster_status_is_written_once_a_second_at_most() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=1, slotsPerWorker=8) as sim:
            begun_s = sim.api.clock.monotonic_s()
            for number in range(60):
                await sim.task(f"t{number}", "sleep", "0.3")
            await sim.all_finished()
            elapsed_s = sim.api.clock.monotonic_s() - begun_s
            count = sum(c.plural == "taskclusters" and c.is_status for c in sim.api.log)
            assert 2 <= count <= elapsed_s + 2

    run(main())


def test_workspace_claim_is_made_and_reported() -> None:
    async def main() -> None:
        async with Simulation.started(workspace={}) as sim:
            await sim.until(lambda: sim.api.has(PVCS, "c-workspace"))

            def workspace() -> str:
                conditions = sim.api.peek(TASKCLUSTERS, "c")["status"]["conditions"]
                return str({c["type"]: c["reason"] for c in conditions}["WorkspaceReady"])

            await sim.until(lambda: workspace() == "WorkspacePending")
            sim.api.edit(PVCS, "c-workspace", lambda claim: claim.update(status={"phase": "Bound"}))
            await sim.until(lambda: workspace() == "WorkspaceReady", timeout_s=10)

    run(main())


def test_a_strangers_pod_of_that_name_is_left_alone() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            stranger = {"metadata": {"name": "c-1"}, "spec": {}, "status": {"phase": "Running"}}
            await sim.api.create(PODS, stranger, "ns")
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=1))
            await sim.until(lambda: sim.api.has(PODS, "c-2"), timeout_s=10)
            await asyncio.sleep(3)
            assert len(sim.api.all(PODS)) == 2
            assert "NameTaken" in reasons(sim)

    run(main())


def test_replicas_go_up_and_down() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=1) as sim:
            await sim.task("t", "sleep", "20")
            await sim.until(lambda: sim.status("t")["state"] == "Running")
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=4))
            await sim.until(lambda: len(sim.api.all(PODS)) == 4)
            await asyncio.sleep(3)
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=1))
            await sim.until(lambda: len(sim.api.all(PODS)) == 1)
            assert sim.api.all(PODS)[0]["metadata"]["name"] == "c-1", "the busy one stays"
            assert (await sim.finished("t"))[0]["attempt"] == 1

    run(main())


def test_rotation_by_age() -> None:
    async def main() -> None:
        async with Simulation.started(rotation={"maxAgeSeconds": 30}) as sim:
            await asyncio.sleep(29)
            assert sim.api.has(PODS, "c-1")
            await sim.until(lambda: not sim.api.has(PODS, "c-1"), timeout_s=10)
            assert sim.api.has(PODS, "c-2")

    run(main())


def test_new_template_rolls_through() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=3) as sim:
            await asyncio.sleep(5)
            for number in range(6):
                await sim.task(f"t{number}", "sleep", "5")
            await asyncio.sleep(1)
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(workerImage="new"))

            def rolled() -> bool:
                images = {p["spec"]["containers"][0]["image"] for p in sim.api.all(PODS)}
                return images == {"new"} and len(sim.api.all(PODS)) == 3

            await sim.until(rolled, timeout_s=60)
            await sim.all_finished()
            assert sorted(attempt for _, attempt in sim.node.runs) == [1] * 6, "nobody was hurt"

    run(main())


def test_budget_of_one_task_per_worker() -> None:
    async def main() -> None:
        async with Simulation.started(rotation={"maxTasks": 1}) as sim:
            for number in range(4):
                await sim.task(f"t{number}")
            await sim.all_finished()
            pods = {task["status"]["podName"] for task in sim.tasks()}
            assert len(pods) == 4
            await sim.until(lambda: len(sim.api.all(PODS)) == 1)

    run(main())


# --- fairness end to end ------------------------------------------------------------


def test_priority_and_fairness() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0, slotsPerWorker=1) as sim:
            for number in range(3):
                await sim.task(f"low{number}", "sleep", "1")
            await sim.task("high", "sleep", "1", priority=10)
            await asyncio.sleep(1)
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=1))
            await sim.all_finished()
            assert sim.node.runs[0][0] == "high"

    run(main())


def test_priority_can_change_in_the_queue() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0, slotsPerWorker=1) as sim:
            await sim.task("a", "sleep", "1")
            await sim.task("b", "sleep", "1")
            await asyncio.sleep(1)
            sim.spec("b", priority=1)
            await asyncio.sleep(1)
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=1))
            await sim.all_finished()
            assert [name for name, _ in sim.node.runs] == ["b", "a"]

    run(main())


@pytest.mark.parametrize("count", [50, 400])
def test_ended_tasks_leave_nothing_behind(count: int) -> None:
    """What is kept in memory does not grow with the number of ended tasks."""

    async def main() -> None:
        async with Simulation.started(replicas=4, slotsPerWorker=10) as sim:
            await asyncio.gather(*(sim.task(f"t{n}") for n in range(count)))
            await sim.all_finished()
            await asyncio.sleep(5)
            assert sim.controllers is not None
            machine = sim.controllers.placer.machine
            assert machine.waiting() == 0
            assert len(sim.controllers.indexes.waiting) == 0
            assert len(sim.controllers.trees) == 0
            assert machine.open_attempts() == 0
            for pod in sim.api.all(PODS):
                worker = machine.worker(pod["metadata"]["uid"])
                assert worker is not None
                assert worker.attempts == {}

    run(main())
