"""Parked containers, through all controllers, against a fake API server and node."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.clock import parse_time
from taskctl.errors import Conflict, Forbidden, Throttled, Unavailable
from taskctl.kube.resources import LEASES, PODS
from taskctl.policy.handover import DEFAULTS_LIMIT_BYTES, Handover, parse_record
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation, kill, once_each
from tests.unit.controllers.virtual import run

STANDBY = {"maxPerWorker": 6, "minPerWorker": 3, "max": 50, "idleSeconds": 60}


def standby(main: Callable[[Simulation], Any], **cluster: Any) -> None:
    async def body() -> None:
        async with Simulation.started(standby=STANDBY, **cluster) as sim:
            await main(sim)

    run(body())


async def stocked(sim: Simulation, pod: str = "c-1", count: int = 3) -> None:
    """Run a task, so that its class is known, and wait for containers to be parked."""
    await sim.task("first")
    await sim.finished("first")
    await sim.until(lambda: len(sim.node.parked(pod)) >= count)


def appends(sim: Simulation) -> list[Call]:
    return [c for c in sim.api.log if c.verb == "patch" and c.subresource == "ephemeralcontainers"]


def record_writes(sim: Simulation) -> list[Call]:
    return [c for c in sim.api.log if c.plural == "leases" and c.verb in ("create", "patch")]


def entries(sim: Simulation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in sim.api.all(LEASES):
        found |= parse_record(record)
    return found


def test_a_task_is_handed_to_a_parked_container_without_a_pod_patch() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        await asyncio.sleep(10)
        seen = len(appends(sim))
        await sim.task("t", "sleep", "0.5")
        await sim.until(lambda: sim.status("t")["state"] == "Running")
        assert sim.node.handed_over == ["t"]
        status = sim.status("t")
        assert status["containerName"].startswith("s-")
        patched = [c for a in appends(sim)[seen:] for c in a.body["spec"]["ephemeralContainers"]]
        assert all(container["name"].startswith("s-") for container in patched), "a refill only"
        began = parse_time(status["times"]["started"])
        assert (began - parse_time(status["times"]["placed"])).total_seconds() < 0.05
        (status,) = await sim.finished("t")
        assert (status["state"], status["attempt"]) == ("Succeeded", 1)

    standby(main)


def test_what_a_cycle_gives_a_worker_is_one_write() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        await asyncio.sleep(10)
        before = len(record_writes(sim))
        await asyncio.gather(*(sim.task(f"t{n}", "sleep", "1") for n in range(3)))
        await sim.all_finished()
        assert sorted(sim.node.handed_over) == ["t0", "t1", "t2"]
        assert len(record_writes(sim)) - before <= 2

    standby(main)


def test_with_the_defaults_a_class_in_use_has_one_parked_in_the_taskcluster() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=3, standby={}) as sim:
            await asyncio.sleep(5)
            for number in range(5):
                await sim.task(f"t{number}")
                await sim.finished(f"t{number}")
                await asyncio.sleep(20)
                assert sum(len(sim.node.parked(f"c-{one}")) for one in (1, 2, 3)) == 1
            assert sim.node.handed_over == ["t1", "t2", "t3", "t4"]
            await asyncio.sleep(70)
            assert not any(sim.node.parked(f"c-{one}") for one in (1, 2, 3))
            once_each(sim)

    run(main())


@pytest.mark.parametrize("dies_after_s", [0.0, 3.0])
def test_parked_ones_that_end_at_once_are_not_parked_over_and_over(dies_after_s: float) -> None:
    """A kubelet that kills them, say: none takes a task, and the worker is not used up."""

    async def main(sim: Simulation) -> None:
        sim.node.parked_die_after_s = dies_after_s
        for number in range(60):
            await sim.task(f"t{number}")
            await sim.finished(f"t{number}")
            await asyncio.sleep(2)
        pod = sim.api.peek(PODS, "c-1")
        names = [c["name"] for c in pod["spec"]["ephemeralContainers"]]
        assert len([n for n in names if n.startswith("s-")]) <= 30
        once_each(sim)

    standby(main, rotation={"maxTasks": 500})


def test_without_standby_nothing_is_parked_and_no_record_is_made() -> None:
    async def main() -> None:
        none = {"standby": {**STANDBY, "maxPerWorker": 0}}
        for spec in ({}, {"standby": {}, "rotation": {"maxTasks": 19}}, none):
            async with Simulation.started(**spec) as sim:
                for number in range(5):
                    await sim.task(f"t{number}")
                await sim.all_finished()
                await asyncio.sleep(30)
                assert sim.api.all(LEASES) == []
                assert sim.node.parked("c-1") == []
                assert sim.node.handed_over == []

    run(main())


def test_parked_containers_take_no_slot_and_slots_are_kept() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        for number in range(12):
            await sim.task(f"t{number}", "sleep", "2")
        most = 0

        def over() -> bool:
            nonlocal most
            running = [t for t in sim.tasks() if t["status"]["state"] == "Running"]
            most = max(most, len(running))
            return all(t["status"]["state"] == "Succeeded" for t in sim.tasks())

        await sim.until(over)
        assert most == 2
        once_each(sim)

    standby(main, slotsPerWorker=2)


def test_a_task_of_another_class_gets_a_container_of_its_own() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        secret = {"secretKeyRef": {"name": "s", "key": "k"}}
        await sim.task("image", image="other")
        await sim.task("env", env=[{"name": "A", "valueFrom": secret}])
        await sim.task("plain", env=[{"name": "A", "value": "1"}])
        await sim.all_finished()
        assert sim.node.handed_over == ["plain"]
        assert sim.status("image")["containerName"].startswith("t-")
        assert sim.status("env")["containerName"].startswith("t-")

    standby(main)


DEFAULTS = {"image": "img", "command": ["sleep", "0.5"], "env": [{"name": "A", "value": "1"}]}


def test_a_task_that_takes_defaults_of_its_taskcluster_is_handed_over() -> None:
    async def main(sim: Simulation) -> None:
        await sim.api.create(TASKS, bare("first"), "ns")
        await sim.finished("first")
        await sim.until(lambda: len(sim.node.parked("c-1")) >= 3)
        await sim.api.create(TASKS, bare("bare"), "ns")
        await sim.task("whole", "sleep", "0.5", env=[{"name": "B", "value": "2"}])
        await sim.task("own", image="other")
        await sim.all_finished()
        assert sorted(sim.node.handed_over) == ["bare", "whole"], "the class counts defaults in"
        assert sim.status("bare")["defaults"] == DEFAULTS
        assert sim.status("whole")["defaults"] == {"env": DEFAULTS["env"]}
        assert sim.status("own")["containerName"].startswith("t-")

    standby(main, taskDefaults=DEFAULTS)


def test_defaults_that_change_while_containers_are_parked() -> None:
    """What is parked for another image is not given a task that now takes this one."""

    async def main(sim: Simulation) -> None:
        await sim.api.create(TASKS, bare("first"), "ns")
        await sim.finished("first")
        await sim.until(lambda: len(sim.node.parked("c-1")) >= 3)
        old = set(sim.node.parked("c-1"))
        new = {"taskDefaults": {**DEFAULTS, "image": "new"}}
        sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(new))
        for number in range(6):
            await sim.api.create(TASKS, bare(f"t{number}"), "ns")
            await sim.finished(f"t{number}")
        assert {sim.status(f"t{n}")["defaults"]["image"] for n in range(6)} == {"new"}
        assert not old & {sim.status(f"t{n}")["containerName"] for n in range(6)}
        assert len(sim.node.handed_over) >= 3, "the new class is parked in its turn"
        once_each(sim)

    standby(main, taskDefaults=DEFAULTS)


def test_defaults_that_are_too_long_for_the_record() -> None:
    async def main(sim: Simulation) -> None:
        for number in range(3):
            await sim.api.create(TASKS, bare(f"t{number}"), "ns")
            await sim.finished(f"t{number}")
        await asyncio.sleep(30)
        assert sim.node.handed_over == []
        assert sim.node.parked("c-1") == [], "nor is anything parked that no task could be given"

    long = [{"name": "LONG", "value": "x" * DEFAULTS_LIMIT_BYTES}]
    standby(main, taskDefaults={**DEFAULTS, "env": long})


def bare(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"clusterName": "c"}}


def test_parked_ones_end_when_there_is_no_demand() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        await sim.until(lambda: sim.node.parked("c-1") == [], timeout_s=120)
        await asyncio.sleep(200)
        assert sim.node.parked("c-1") == []
        await sim.task("later")
        await sim.finished("later")
        assert sim.status("later")["containerName"].startswith("t-")

    standby(main)


@pytest.mark.parametrize("how", ["off", "fewer"])
def test_parked_ones_end_when_the_spec_says_so(how: str) -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        most = 0 if how == "off" else 1
        spec = {"maxPerWorker": most, "minPerWorker": 0}
        sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"]["standby"].update(spec))
        await sim.until(lambda: len(sim.node.parked("c-1")) == most, timeout_s=20)
        await asyncio.sleep(20)
        assert len(sim.node.parked("c-1")) == most

    standby(main)


@pytest.mark.parametrize("orphan", [False, True])
def test_parked_ones_end_with_the_taskcluster(orphan: bool) -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        if orphan:  # as `kubectl delete --cascade=orphan` does; its workers stay
            sim.api.edit(PODS, "c-1", lambda pod: pod["metadata"].pop("ownerReferences"))
        await sim.api.delete(TASKCLUSTERS, "c", "ns")
        if orphan:
            await sim.until(lambda: sim.node.parked("c-1") == [], timeout_s=20)
            assert sim.api.has(PODS, "c-1")
            return
        await sim.until(lambda: not sim.api.has(PODS, "c-1"), timeout_s=120)
        await sim.until(lambda: sim.api.all(LEASES) == [], timeout_s=10)

    standby(main)


def test_a_class_of_which_nothing_ever_started_is_not_parked() -> None:
    async def main(sim: Simulation) -> None:
        await sim.task("bad", "hang", image="nowhere", startDeadlineSeconds=30)
        await sim.finished("bad")
        images = Counter(
            c["image"] for c in sim.api.peek(PODS, "c-1")["spec"]["ephemeralContainers"]
        )
        assert images == {"nowhere": 1}

    standby(main)


def test_a_class_whose_image_cannot_be_pulled_any_more_holds_up_nobody() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        sim.node.unpullable.add("rare")
        await sim.task("rare", image="rare")  # it was there when this one started
        await sim.finished("rare")
        for number in range(20):
            await sim.task(f"t{number}")
            await sim.finished(f"t{number}", timeout_s=30)
            await asyncio.sleep(1)
        assert len(sim.node.handed_over) >= 10
        containers = sim.api.peek(PODS, "c-1")["spec"]["ephemeralContainers"]
        assert sum(c["image"] == "rare" for c in containers) <= 1 + STANDBY["maxPerWorker"]

    standby(main, rotation={"maxTasks": 400})


def test_parked_ones_count_towards_rotation_and_the_next_worker_is_stocked() -> None:
    async def main(sim: Simulation) -> None:
        for number in range(60):
            await sim.task(f"t{number}", "sleep", "0.2")
            await asyncio.sleep(0.3)
        await sim.all_finished()
        once_each(sim)
        pods = sim.api.all(PODS)
        assert all(len(p["spec"].get("ephemeralContainers") or ()) <= 60 for p in pods)
        assert len(sim.node.handed_over) >= 30
        names = {task["status"]["podName"] for task in sim.tasks()}
        assert len(names) >= 2

    standby(main, rotation={"maxTasks": 30})


# --- faults -----------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["before the write", "after the write", "after the claim"])
def test_the_controller_is_killed_between_assignment_and_claim(after: str) -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        await asyncio.sleep(10)
        sim.node.takes_s = 0.5
        seen = len(record_writes(sim))
        if after == "before the write":

            def refuse(call: Call, done: bool) -> Exception | None:
                refused = call.plural == "leases" and not done and call.who == "controller"
                return Unavailable("away") if refused and call.verb in ("create", "patch") else None

            sim.api.faults = refuse
        await sim.task("t", "sleep", "1")
        if after == "before the write":
            await sim.until(lambda: sim.api.has(TASKS, "t"))
            await asyncio.sleep(0.1)
            sim.api.faults = None
        elif after == "after the write":
            await sim.until(lambda: len(record_writes(sim)) > seen)
        else:
            await sim.until(lambda: sim.status("t")["state"] == "Running")
        await sim.restart_controller()
        (status,) = await sim.finished("t")
        assert (status["state"], status["attempt"]) == ("Succeeded", 1)
        assert status.get("infraFailures", 0) == 0
        once_each(sim)
        if after == "after the write":
            assert status["containerName"].startswith("s-"), "the record was read back"

    standby(main)


def test_an_agent_that_is_away_gets_its_attempt_taken_back() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        sim.node.agents_away = True
        await sim.task("t")
        (status,) = await sim.finished("t", timeout_s=60)
        assert status["containerName"].startswith("t-"), "it got a container of its own"
        assert (status["state"], status["attempt"]) == ("Succeeded", 1)
        sim.node.agents_away = False
        await asyncio.sleep(30)
        once_each(sim)

    standby(main)


def test_a_claim_that_comes_after_the_attempt_was_taken_back() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        sim.node.takes_s, sim.node.start_s = 6.0, 5.0
        await sim.task("t", "sleep", "3")
        (status,) = await sim.finished("t", timeout_s=60)
        assert (status["state"], status["attempt"]) == ("Succeeded", 1)
        await asyncio.sleep(30)
        once_each(sim)

    standby(main)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_parked_container_dies(when: str) -> None:
    """Before it is picked it never is; afterwards its attempt goes elsewhere, uncharged."""

    async def main(sim: Simulation) -> None:
        await stocked(sim)
        await asyncio.sleep(5)
        sim.node.takes_s = 30.0
        uid = sim.api.peek(PODS, "c-1")["metadata"]["uid"]

        def die(name: str) -> None:
            sim.node._containers[uid, name].cancel()
            ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
            sim.node._report_container("c-1", name, ended)

        if when == "before":
            for name in sim.node.parked("c-1"):
                die(name)
            await sim.until(lambda: sim.node.parked("c-1") != [])
            sim.node.takes_s = 0.01
            await sim.task("t")
        else:
            await sim.task("t")
            await sim.until(lambda: any(isinstance(e, Handover) for e in entries(sim).values()))
            (name,) = [n for n, e in entries(sim).items() if isinstance(e, Handover)]
            die(name)
            sim.node.takes_s = 0.01
        (status,) = await sim.finished("t", timeout_s=60)
        assert (status["state"], status["attempt"]) == ("Succeeded", 1)
        assert status.get("infraFailures", 0) == 0
        once_each(sim)

    standby(main)


@pytest.mark.parametrize("away", [True, False])
def test_a_container_dies_with_the_task_that_was_handed_to_it(away: bool) -> None:
    """Also while no controller looks: the attempt is lost, and the task runs again."""

    async def main(sim: Simulation) -> None:
        await stocked(sim)
        await sim.task("t", "sleep", "20")
        await sim.until(lambda: sim.status("t")["state"] == "Running")
        name = sim.status("t")["containerName"]
        assert name.startswith("s-")
        if away:
            await sim.kill_controller()
        uid = sim.api.peek(PODS, "c-1")["metadata"]["uid"]
        sim.node._containers[uid, name].cancel()
        ended = {"terminated": {"exitCode": 137, "reason": "Error"}}
        sim.node._report_container("c-1", name, ended)
        if away:
            await sim.start_controller()
        (status,) = await sim.finished("t", timeout_s=120)
        assert (status["state"], status["attempt"], status["infraFailures"]) == ("Succeeded", 2, 1)

    standby(main)


def test_a_claim_of_which_the_watch_tells_after_its_container_has_ended() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        sim.node.takes_s = 3.0
        await sim.task("t", "vanish")
        await sim.until(lambda: any(isinstance(e, Handover) for e in entries(sim).values()))
        (name,) = [n for n, e in entries(sim).items() if isinstance(e, Handover)]
        # Its end is seen, and the attempt taken back; then comes the claim, which was first.
        ended = {"terminated": {"exitCode": 137, "reason": "Error"}}
        sim.node._report_container("c-1", name, ended)
        sim.node.start_s = 60.0
        await sim.until(lambda: sim.status("t")["state"] == "Running")
        assert sim.status("t")["containerName"] == name
        sim.node.start_s, sim.node.takes_s = 0.07, 0.001
        sim.spec("t", command=["ok"])
        (status,) = await sim.finished("t", timeout_s=60)
        assert (status["state"], status["attempt"], status["infraFailures"]) == ("Succeeded", 2, 1)

    standby(main)


def test_slots_are_kept_when_an_agent_begins_what_was_taken_back() -> None:
    """The agent is slower than the controller waits, and yet first: its slot was not given away."""

    async def main(sim: Simulation) -> None:
        await stocked(sim, count=2)
        sim.node.takes_s, sim.node.start_s = 7.0, 4.0
        for number in range(8):
            await sim.task(f"t{number}", "sleep", "10")
        most = 0

        def over() -> bool:
            nonlocal most
            most = max(most, sum(t["status"]["state"] == "Running" for t in sim.tasks()))
            return all(t["status"]["state"] == "Succeeded" for t in sim.tasks())

        await sim.until(over, timeout_s=600)
        assert most <= 2
        assert len(sim.node.handed_over) >= 1
        once_each(sim)

    standby(main, slotsPerWorker=2)


def test_an_assignment_to_a_worker_that_goes_away() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        sim.node.takes_s = 60.0
        await sim.task("t")
        await sim.until(lambda: any(isinstance(e, Handover) for e in entries(sim).values()))
        sim.node.takes_s = 0.01
        await sim.api.delete(PODS, "c-1", "ns")
        (status,) = await sim.finished("t", timeout_s=120)
        assert (status["state"], status["attempt"]) == ("Succeeded", 1)
        assert status["podName"] != "c-1"
        await sim.until(lambda: not sim.api.has(PODS, "c-1"), timeout_s=120)
        once_each(sim)

    standby(main)


@pytest.mark.parametrize("change", [{"cancel": True}, {"suspend": True}])
def test_cancelled_or_suspended_while_it_is_handed_over(change: dict[str, bool]) -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        sim.node.takes_s = 1.0
        await sim.task("t")
        await sim.until(lambda: any(isinstance(e, Handover) for e in entries(sim).values()))
        sim.spec("t", **change)
        await asyncio.sleep(5)
        assert ("t", 1) not in sim.node.runs
        if "suspend" in change:
            sim.spec("t", suspend=False)
        (status,) = await sim.finished("t", timeout_s=60)
        assert status["state"] == ("Cancelled" if "cancel" in change else "Succeeded")
        once_each(sim)

    standby(main)


@pytest.mark.parametrize("error", [Unavailable("away"), Forbidden("cannot patch resource", 403)])
def test_where_the_record_cannot_be_written_tasks_get_containers_of_their_own(
    error: Exception,
) -> None:
    async def main(sim: Simulation) -> None:
        def refuse(call: Call, done: bool) -> Exception | None:
            write = call.plural == "leases" and call.verb in ("create", "patch")
            return error if write and not done and call.who == "controller" else None

        sim.api.faults = refuse
        await stocked(sim)
        for number in range(4):
            await sim.task(f"t{number}")
        await sim.all_finished(timeout_s=120)
        once_each(sim)
        assert sim.node.handed_over == []

    standby(main)


def test_an_answer_that_is_lost_runs_nothing_twice() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)

        def lose(call: Call, done: bool) -> Exception | None:
            write = call.plural == "leases" and call.verb in ("create", "patch")
            return Unavailable("no answer") if write and done else None

        sim.api.faults = lose
        for number in range(6):
            await sim.task(f"t{number}", "sleep", "0.5")
        await sim.all_finished(timeout_s=120)
        sim.api.faults = None
        once_each(sim)
        assert {t["status"]["attempt"] for t in sim.tasks()} == {1}

    standby(main)


def test_a_chain_is_handed_from_parked_container_to_parked_container() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        await sim.task("root", "chain", "30")
        await sim.all_finished(timeout_s=300)
        once_each(sim)
        assert len(sim.node.runs) == 32
        assert len(sim.node.handed_over) >= 20

    standby(main, rotation={"maxTasks": 400})


def test_two_controllers_in_a_row_with_the_first_ones_write_arriving_late() -> None:
    async def main(sim: Simulation) -> None:
        await stocked(sim)
        await asyncio.sleep(10)
        sim.node.takes_s = 0.3
        for number in range(3):
            await sim.task(f"t{number}", "sleep", "1")
        for _ in range(3):
            await sim.restart_controller()
            await asyncio.sleep(0.05)
        await sim.all_finished(timeout_s=120)
        once_each(sim)
        await sim.until(lambda: sim.node.parked("c-1") == [], timeout_s=300)

    standby(main)


@pytest.mark.timeout(300)
def test_two_controllers_at_once() -> None:
    """One has lost its lease and does not know it yet: both hand over, each attempt runs once."""

    async def main(sim: Simulation) -> None:
        await stocked(sim)
        first = sim._controller
        assert first is not None
        await sim.start_controller()
        for number in range(12):
            await sim.task(f"t{number}", "sleep", "0.3")
        await sim.all_finished(timeout_s=300)
        assert sim.node.handed_over
        once_each(sim)
        await kill(first)
        await sim.until(lambda: sim.node.parked("c-1") == [], timeout_s=300)

    standby(main)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2))
def test_random_faults_while_tasks_are_handed_over(seed: int) -> None:
    """Answers lost, requests lost, refusals, parked containers and workers that die."""
    chance = random.Random(seed)

    def faults(call: Call, after: bool) -> Exception | None:
        ours = call.verb == "create" and call.name.startswith("t")
        if ours or call.verb in ("list", "watch") or chance.random() > 0.08:
            return None
        choices: list[Exception] = [Unavailable("lost"), Unavailable("reset")]
        if not after:
            choices += [Throttled("slow", 429), Conflict("changed", 409)]
        return chance.choice(choices)

    async def main(sim: Simulation) -> None:
        await stocked(sim)
        sim.api.faults = faults
        await sim.task("chain", "chain", "5")
        for number in range(10):
            await sim.task(f"t{number}", "sleep", "0.3")
            await asyncio.sleep(chance.random() / 2)
            match number:
                case 3:
                    await sim.restart_controller()
                case 5:
                    sim.node.kill_containers(sim.api.peek(PODS, "c-1")["metadata"]["uid"])
                case 7:
                    sim.api.mark_deleted(PODS, "c-1", 30)
        await asyncio.sleep(20)
        sim.api.faults = None
        await sim.all_finished(timeout_s=300)
        once_each(sim)
        await sim.until(lambda: not any(map(sim.node.parked, live(sim))), timeout_s=300)

    standby(main, replicas=2)


def live(sim: Simulation) -> list[str]:
    return [pod["metadata"]["name"] for pod in sim.api.all(PODS)]


def test_an_agent_passes_on_what_it_was_handed() -> None:
    """A claim in a parked container that was not picked counts there, and the picked one ends."""

    async def main(sim: Simulation) -> None:
        await stocked(sim)
        sim.node.passes_on = True
        for number in range(12):
            await sim.task(f"t{number}", "sleep", "0.5")
        most = 0

        def over() -> bool:
            nonlocal most
            states = [task["status"]["state"] for task in sim.tasks()]
            most = max(most, states.count("Running"))
            return set(states) == {"Succeeded"}

        await sim.until(over)
        assert most <= 2
        once_each(sim)
        assert sim.node.handed_over, "some were run in another container than the one picked"
        assert {sim.status(f"t{n}")["attempt"] for n in range(12)} == {1}
        sim.node.passes_on = False
        await sim.until(lambda: sim.node.parked("c-1") == [], timeout_s=200)
        left = [entry for entry in entries(sim).values() if isinstance(entry, Handover)]
        assert left == [], "what was handed over and run elsewhere is out of the record"

    standby(main, slotsPerWorker=2)
