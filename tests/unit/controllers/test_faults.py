"""What goes wrong in a cluster, and what must come of it: every task ends, no attempt twice."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from taskctl.clock import format_seconds
from taskctl.errors import Conflict, Forbidden, Invalid, Throttled, Unavailable
from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import EVENTS, PODS
from taskctl.placement.events import PodGone
from taskctl.policy.handover import is_parked_name
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation, once_each
from tests.unit.controllers.virtual import run


def worker_of(sim: Simulation, name: str) -> str:
    return str(sim.status(name)["podName"])


async def running(sim: Simulation, name: str) -> None:
    await sim.until(lambda: sim.status(name)["state"] == "Running")


# --- workers ------------------------------------------------------------------------


def test_worker_deleted_while_a_task_runs() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await sim.task("t", "sleep", "30")
            await running(sim, "t")
            lost = worker_of(sim, "t")
            sim.api.remove(PODS, lost)
            await sim.until(lambda: sim.status("t").get("infraFailures") == 1, timeout_s=2)
            (status,) = await sim.finished("t")
            assert (status["state"], status["attempt"]) == ("Succeeded", 2)
            assert status["attempts"][0]["reason"] == "WorkerLost"
            assert status["attempts"][0]["podName"] == lost
            assert worker_of(sim, "t") != lost
            once_each(sim)
            await asyncio.sleep(1)
            assert "WorkerLost" in {event["reason"] for event in sim.api.all(EVENTS)}

    run(main())


def test_worker_evicted() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "sleep", "30")
            await running(sim, "t")
            pod = sim.api.peek(PODS, worker_of(sim, "t"))
            sim.node.kill_containers(pod["metadata"]["uid"])
            dead = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on disk."}
            sim.node.set_pod(pod["metadata"]["name"], dead)
            (status,) = await sim.finished("t")
            assert (status["attempt"], status["infraFailures"]) == (2, 1)
            await sim.until(lambda: not sim.api.has(PODS, "c-1"))
            once_each(sim)

    run(main())


def test_node_that_fell_silent() -> None:
    """A deleted pod whose node does not answer: given up 30 s after its grace."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "sleep", "500")
            await running(sim, "t")
            name = worker_of(sim, "t")
            uid = sim.api.peek(PODS, name)["metadata"]["uid"]
            sim.node.kill_containers(uid)
            deletion = format_seconds(sim.api.clock.now())

            def delete(pod: KubeObject) -> None:
                pod["metadata"]["deletionTimestamp"] = deletion

            sim.api.edit(PODS, name, delete)
            await asyncio.sleep(25)
            assert sim.status("t")["state"] == "Running"
            await sim.until(lambda: sim.status("t")["attempt"] == 2, timeout_s=15)

    run(main())


def test_placement_on_a_dying_worker_is_made_again_elsewhere() -> None:
    """Not claimed yet: the same attempt goes to another worker; nothing is charged."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            sim.node.start_s = 1.5
            await sim.task("t")
            await asyncio.sleep(0.5)

            def delete(pod: KubeObject) -> None:
                pod["metadata"]["deletionTimestamp"] = "2031-01-01T00:00:00Z"

            sim.api.edit(PODS, "c-1", delete)
            (status,) = await sim.finished("t")
            assert status["state"] == "Succeeded"
            assert (status["attempt"], status.get("infraFailures")) == (1, None)
            once_each(sim)

    run(main())


def test_a_stale_cache_does_not_declare_workers_lost() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "sleep", "10")
            await running(sim, "t")
            assert sim.controllers is not None
            uid = sim.status("t")["podUID"]
            # As if the event of its coming were late.
            sim.controllers.placer.tell(PodGone(uid))
            await asyncio.sleep(3)
            assert sim.status("t")["state"] == "Running"
            assert (await sim.finished("t"))[0]["attempt"] == 1

    run(main())


def test_failing_workers_are_replaced_ever_more_slowly() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            sim.node.pods_come_up = False
            await sim.until(lambda: sim.api.has(PODS, "c-1"))
            created_at: list[float] = []
            for number in range(1, 6):
                await _pod_exists(sim, f"c-{number}")
                created_at.append(sim.api.clock.monotonic_s())
                sim.node.set_pod(f"c-{number}", {"phase": "Failed", "reason": "Evicted"})
            gaps = [b - a for a, b in itertools.pairwise(created_at)]
            assert gaps == sorted(gaps)
            assert gaps[0] >= 0.9
            assert gaps[-1] >= 7

    run(main())


async def _pod_exists(sim: Simulation, name: str) -> None:
    await sim.until(lambda: sim.api.has(PODS, name))


# --- containers ---------------------------------------------------------------------


def test_container_that_ends_without_a_word() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "vanish")
            await sim.until(lambda: sim.status("t").get("infraFailures") == 1)
            assert sim.status("t")["attempts"][0]["reason"] == "ContainerLost"
            (status,) = await sim.finished("t")
            assert (status["state"], status["reason"]) == ("Failed", "ContainerLost")
            assert (status["attempt"], status["infraFailures"], status["failures"]) == (3, 2, 1)
            assert "supervisor" in status["message"]
            once_each(sim)

    run(main())


def test_image_that_cannot_be_pulled() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=1) as sim:
            await sim.task("t", "hang", startDeadlineSeconds=20)
            await sim.until(lambda: sim.status("t")["state"] == "Scheduled")
            status = sim.status("t")
            assert (status["reason"], status["podName"]) == ("WaitingToStart", "c-1")
            assert "ImagePullBackOff" in status["message"]
            (status,) = await sim.finished("t", timeout_s=30)
            assert (status["state"], status["reason"]) == ("Failed", "StartDeadlineExceeded")
            assert "ImagePullBackOff" in status["message"]
            await sim.task("u")
            assert (await sim.finished("u", timeout_s=5))[0]["state"] == "Succeeded"

    run(main())


def test_zombie_start_after_the_deadline_runs_nothing() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            sim.node.start_s = 60.0
            await sim.task("t", startDeadlineSeconds=10)
            await sim.finished("t", timeout_s=20)
            await asyncio.sleep(120)
            assert sim.node.runs == []
            assert sim.status("t")["reason"] == "StartDeadlineExceeded"

    run(main())


def test_cancel_after_placing() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            sim.node.start_s = 3.0
            await sim.task("t")
            await asyncio.sleep(0.5)
            sim.spec("t", cancel=True)
            (status,) = await sim.finished("t", timeout_s=1)
            assert (status["state"], status["attempt"]) == ("Cancelled", 1)
            await asyncio.sleep(10)
            assert sim.node.runs == []

    run(main())


# --- the API server -----------------------------------------------------------------


def test_one_bad_entry_does_not_spoil_the_batch() -> None:
    def validate(call: Call) -> None:
        if call.plural == "pods" and call.verb == "patch":
            for entry in call.body["spec"]["ephemeralContainers"]:
                if entry["image"] == "bad image":
                    raise Invalid("spec.ephemeralContainers[0].image: Invalid value", 422)

    async def main() -> None:
        async with Simulation.started(slotsPerWorker=8) as sim:
            await asyncio.sleep(5)
            sim.api.validate = validate
            bad = sim.task("bad", image="bad image")
            await asyncio.gather(bad, *(sim.task(f"t{n}") for n in range(5)))
            await sim.finished("bad", *(f"t{n}" for n in range(5)))
            assert all(sim.status(f"t{n}")["state"] == "Succeeded" for n in range(5))
            assert (sim.status("bad")["state"], sim.status("bad")["reason"]) == (
                "Failed",
                "StartError",
            )
            assert "Invalid value" in sim.status("bad")["message"]
            once_each(sim)

    run(main())


@pytest.mark.parametrize(
    "error",
    [
        Forbidden("pods is forbidden", 403),
        Throttled("slow down", 429, retry_after_s=3.0),
        Conflict("the object has been modified", 409),
    ],
    ids=lambda error: type(error).__name__,
)
def test_refusals_are_waited_out(error: Exception) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            left = [5]

            def faults(call: Call, after: bool) -> Exception | None:
                if call.plural == "pods" and call.verb == "patch" and not after and left[0]:
                    left[0] -= 1
                    return error
                return None

            sim.api.faults = faults
            await asyncio.gather(*(sim.task(f"t{n}") for n in range(3)))
            await sim.all_finished(timeout_s=120)
            assert all(task["status"]["attempt"] == 1 for task in sim.tasks())
            assert sorted(sim.node.runs) == [("t0", 1), ("t1", 1), ("t2", 1)]

    run(main())


@pytest.mark.parametrize("after", [False, True])
def test_append_without_an_answer(after: bool) -> None:
    """Whether or not the server acted on it, the task is placed once."""

    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await asyncio.sleep(5)
            left = [1]

            def faults(call: Call, answered: bool) -> Exception | None:
                wanted = (call.verb, call.plural) == ("patch", "pods")
                if wanted and answered is after and left[0]:
                    left[0] -= 1
                    return Unavailable("the connection was reset")
                return None

            sim.api.faults = faults
            await sim.task("t")
            (status,) = await sim.finished("t", timeout_s=30)
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)
            entries = [
                entry["name"]
                for pod in sim.api.all(PODS)
                for entry in pod["spec"].get("ephemeralContainers") or ()
                if not is_parked_name(entry["name"])
            ]
            assert len(entries) == 1
            assert sim.node.runs == [("t", 1)]

    run(main())


def test_api_server_away_for_a_while() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            away = [True]

            def faults(call: Call, after: bool) -> Exception | None:
                return Unavailable("connection refused") if away[0] else None

            await asyncio.gather(*(sim.task(f"t{n}") for n in range(5)))
            sim.api.faults = faults
            await asyncio.sleep(20)
            away[0] = False
            await sim.all_finished(timeout_s=120)
            assert {task["status"]["state"] for task in sim.tasks()} == {"Succeeded"}
            once_each(sim)

    run(main())


def test_pod_made_again_under_the_same_name() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            assert sim.controllers is not None

            def faults(call: Call, after: bool) -> Exception | None:
                """Just as the append goes out, the pod is replaced."""
                if (call.verb, call.plural, after) == ("patch", "pods", False):
                    sim.api.faults = None
                    pod = sim.api.peek(PODS, "c-1")
                    sim.api.remove(PODS, "c-1")
                    fresh = {
                        "metadata": {
                            "name": "c-1",
                            "namespace": "ns",
                            "uid": "another",
                            "generation": 1,
                            "labels": {},
                        },
                        "spec": dict(pod["spec"]),
                    }
                    sim.api.objects["pods"][("ns", "c-1")] = fresh
                return None

            sim.api.faults = faults
            await sim.task("t")
            (status,) = await sim.finished("t")
            assert (status["state"], status["attempt"], status["podName"]) == (
                "Succeeded",
                1,
                "c-2",
            )

    run(main())


def test_history_compacted_under_the_watches() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("a", "sleep", "400")
            await running(sim, "a")
            sim.api.compact()
            await sim.task("b", "sleep", "1")
            await asyncio.sleep(400)
            await sim.finished("a", "b")
            once_each(sim)

    run(main())
