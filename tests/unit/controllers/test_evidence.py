"""Worker pods that go: nothing of what they know is lost, and none is held for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.constants import FINALIZER_EVIDENCE, LABEL_CLUSTER_UID, LABEL_MANAGED_BY
from taskctl.errors import Conflict, Unavailable
from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import PODS
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.fake_node import running_status
from tests.unit.controllers.simulation import Simulation, once_each
from tests.unit.controllers.virtual import run


async def running(sim: Simulation, name: str) -> str:
    """Wait until a task runs; return its worker."""
    await sim.until(lambda: sim.status(name)["state"] == "Running")
    return str(sim.status(name)["podName"])


async def delete(sim: Simulation, name: str) -> None:
    """As kubectl would."""
    await sim.api.delete(PODS, name, "ns")


def finalizers(sim: Simulation, name: str) -> list[str]:
    found: list[str] = sim.api.peek(PODS, name)["metadata"].get("finalizers", [])
    return found


def releases(sim: Simulation) -> list[str]:
    return [c.name for c in sim.api.log if c.plural == "pods" and isinstance(c.body, list)]


def position(sim: Simulation, what: Any) -> int:
    return next(number for number, call in enumerate(sim.api.log) if what(call))


def test_workers_are_pinned() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.until(lambda: sim.api.has(PODS, "c-1"))
            assert finalizers(sim, "c-1") == [FINALIZER_EVIDENCE]
            await sim.task("t")
            await sim.finished("t")
            await asyncio.sleep(60)
            assert finalizers(sim, "c-1") == [FINALIZER_EVIDENCE], "as long as it is in use"

    run(main())


@pytest.mark.parametrize("last_words", [True, False])
def test_deleted_while_a_task_runs(last_words: bool) -> None:
    """The agent reports in its grace, or else the attempt is written off; then the pod goes."""

    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            sim.node.last_words = last_words
            await sim.task("t", "sleep", "30")
            name = await running(sim, "t")
            begun_s = sim.api.clock.monotonic_s()
            await delete(sim, name)
            await sim.until(lambda: not sim.api.has(PODS, name))
            assert sim.api.clock.monotonic_s() - begun_s < 1.0
            assert sim.status("t")["infraFailures"] == 1
            assert sim.status("t")["attempts"][0]["reason"] == "WorkerLost"
            recorded = position(
                sim, lambda c: c.is_status and c.name == "t" and "infraFailures" in c.body["status"]
            )
            released = position(sim, lambda c: c.name == name and isinstance(c.body, list))
            assert recorded < released
            assert releases(sim) == [name]
            (status,) = await sim.finished("t")
            assert (status["state"], status["attempt"]) == ("Succeeded", 2)
            once_each(sim)

    run(main())


def test_force_deleted_is_lost_only_when_nothing_runs_any_more() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            sim.node.stop_s = 5.0
            await sim.task("t", "sleep", "30")
            name = await running(sim, "t")
            sim.api.mark_deleted(PODS, name, 0)
            await asyncio.sleep(4.5)
            assert sim.status("t")["state"] == "Running"
            assert sim.api.has(PODS, name), "the pin holds against --force, too"
            await sim.until(lambda: not sim.api.has(PODS, name), timeout_s=2)
            assert (await sim.finished("t"))[0]["attempt"] == 2

    run(main())


def test_node_is_silent_for_good() -> None:
    """Given up 30 s after the pod's grace, and not a moment before."""

    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await sim.task("t", "sleep", "500")
            name = await running(sim, "t")
            sim.node.silent = True
            sim.node.kill_containers(sim.api.peek(PODS, name)["metadata"]["uid"])
            await delete(sim, name)
            await asyncio.sleep(58)
            assert sim.status("t")["state"] == "Running"
            assert finalizers(sim, name) == [FINALIZER_EVIDENCE]
            await sim.until(lambda: finalizers(sim, name) == [], timeout_s=5)
            assert sim.status("t")["attempt"] == 1
            assert "its node is silent" in sim.status("t")["message"]

    run(main())


def test_unreachable_worker_gets_nothing_and_loses_nothing() -> None:
    """Its node does not answer, and nobody has deleted it: it may come back."""

    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await asyncio.sleep(5)
            await sim.task("t", "sleep", "400")
            name = await running(sim, "t")

            def ready(status: str) -> None:
                stamp = sim.api.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
                condition = {"type": "Ready", "status": status, "lastTransitionTime": stamp}
                sim.node.set_pod(name, {"conditions": [condition]})

            ready("False")
            for number in range(6):
                await sim.task(f"u{number}", "sleep", "1")
            others = await sim.finished(*(f"u{number}" for number in range(6)))
            assert {status["podName"] for status in others}.isdisjoint({name})
            await sim.until(lambda: sim.api.has(PODS, "c-3"), timeout_s=40)
            await asyncio.sleep(200)
            assert sim.status("t")["state"] == "Running"
            ready("True")
            (status,) = await sim.finished("t")
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)
            await sim.until(lambda: len(sim.api.all(PODS)) == 2)

    run(main())


def test_placed_but_not_claimed_goes_elsewhere_uncharged() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await asyncio.sleep(5)
            sim.node.start_s = 20.0
            await sim.task("t")
            await sim.until(lambda: any(p["spec"].get("ephemeralContainers") for p in pods(sim)))
            (name,) = [
                p["metadata"]["name"] for p in pods(sim) if p["spec"].get("ephemeralContainers")
            ]
            sim.node.start_s = 0.1
            await delete(sim, name)
            (status,) = await sim.finished("t", timeout_s=3)
            assert (status["attempt"], status.get("infraFailures")) == (1, None)
            await sim.until(lambda: not sim.api.has(PODS, name), timeout_s=3)

    run(main())


def pods(sim: Simulation) -> list[KubeObject]:
    return sim.api.all(PODS)


def test_taskcluster_deleted_while_tasks_run() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=3) as sim:
            for number in range(5):
                await sim.task(f"t{number}", "sleep", "100")
            await sim.until(lambda: len(sim.node.runs) == 5)
            await sim.api.delete(TASKCLUSTERS, "c", "ns")
            await sim.until(lambda: pods(sim) == [], timeout_s=5)
            await sim.until(lambda: sim.status("t0").get("reason") == "ClusterNotFound")
            assert all(task["status"]["infraFailures"] == 1 for task in sim.tasks())
            await sim.cluster()
            await sim.all_finished()
            assert {task["status"]["state"] for task in sim.tasks()} == {"Succeeded"}

    run(main())


def test_worker_left_behind_by_its_taskcluster_is_released() -> None:
    """``kubectl delete --cascade=orphan``: it works to the end, and may then be deleted."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "sleep", "30")
            await running(sim, "t")
            sim.api.edit(PODS, "c-1", lambda pod: pod["metadata"].pop("ownerReferences"))
            await sim.api.delete(TASKCLUSTERS, "c", "ns")
            await asyncio.sleep(10)
            assert finalizers(sim, "c-1") == [FINALIZER_EVIDENCE]
            (status,) = await sim.finished("t")
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)
            await sim.until(lambda: finalizers(sim, "c-1") == [], timeout_s=15)

    run(main())


def test_a_late_cache_does_not_make_orphans() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t")
            await sim.finished("t")
            assert sim.controllers is not None
            caches = sim.controllers.api.caches
            key = caches.cluster_key(sim.api.peek(TASKCLUSTERS, "c")["metadata"]["uid"])
            assert key is not None
            caches.clusters._remove(key, caches.clusters._entries[key])
            await asyncio.sleep(30)
            assert finalizers(sim, "c-1") == [FINALIZER_EVIDENCE]

    run(main())


def test_the_whole_namespace_goes() -> None:
    """Tasks first, then everything else, while tasks run: no pod is left."""

    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await sim.task("t", "sleep", "100")
            await sim.task("u", "sleep", "100")
            await running(sim, "t")
            for task in sim.tasks():
                sim.api.remove(TASKS, task["metadata"]["name"])
            await sim.api.delete(TASKCLUSTERS, "c", "ns")
            for pod in pods(sim):
                await delete(sim, pod["metadata"]["name"])
            await sim.until(lambda: pods(sim) == [], timeout_s=5)

    run(main())


def test_task_that_is_going_itself_holds_no_pod() -> None:
    """Somebody else's finalizer keeps the Task; its outcome is of no interest any more."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "sleep", "100")
            name = await running(sim, "t")
            stamp = {"finalizers": ["x/y"], "deletionTimestamp": "2030-01-01T00:00:01Z"}
            sim.api.edit(TASKS, "t", lambda task: task["metadata"].update(stamp))
            await delete(sim, name)
            await sim.until(lambda: not sim.api.has(PODS, name), timeout_s=5)

    run(main())


def test_other_finalizers_survive() -> None:
    """Also one that comes in front of ours just as ours is removed."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.until(lambda: sim.api.has(PODS, "c-1"))
            await asyncio.sleep(2)

            def faults(call: Call, after: bool) -> Exception | None:
                if isinstance(call.body, list) and not after:
                    sim.api.faults = None
                    sim.api.edit(
                        PODS, "c-1", lambda pod: pod["metadata"]["finalizers"].insert(0, "x/first")
                    )
                return None

            sim.api.edit(
                PODS, "c-1", lambda pod: pod["metadata"]["finalizers"].insert(0, "x/other")
            )
            sim.api.faults = faults
            await delete(sim, "c-1")
            await sim.until(lambda: len(releases(sim)) == 2)
            await asyncio.sleep(2)
            assert finalizers(sim, "c-1") == ["x/first", "x/other"]
            assert len(releases(sim)) == 2

    run(main())


def test_pin_removed_by_hand() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "sleep", "30")
            name = await running(sim, "t")
            sim.api.edit(PODS, name, lambda pod: pod["metadata"].pop("finalizers"))
            await delete(sim, name)
            await sim.until(lambda: not sim.api.has(PODS, name))
            assert (await sim.finished("t"))[0]["attempt"] == 2
            assert releases(sim) == []

    run(main())


def test_retired_workers_are_no_failures() -> None:
    """A kubelet sets the phase of a deleted pod to Failed before it lets go."""

    async def main() -> None:
        async with Simulation.started(rotation={"maxTasks": 1}) as sim:
            for number in range(8):
                await sim.task(f"t{number}")
            await sim.all_finished(timeout_s=30)
            await sim.until(lambda: len(pods(sim)) == 1)
            assert "WorkerFailed" not in {e["reason"] for e in sim.api.objects["events"].values()}

    run(main())


# --- identity -----------------------------------------------------------------------


@pytest.mark.parametrize("disguised", [False, True])
def test_stranger_takes_the_workers_name(disguised: bool) -> None:
    """A pod made again under the same name is another pod, whatever its labels say."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            await sim.task("runs", "sleep", "60")
            name = await running(sim, "runs")
            sim.node.start_s = 30.0
            await sim.task("placed")
            await asyncio.sleep(1)
            old = sim.api.peek(PODS, name)
            sim.node.start_s = 0.1
            sim.api.remove(PODS, name)
            labels = dict(old["metadata"]["labels"]) if disguised else {}
            fresh = {"metadata": {"name": name, "labels": labels}, "spec": {"containers": []}}
            stranger = await sim.api.create(PODS, fresh, "ns")
            sim.node.set_pod(name, running_status())
            assert stranger["metadata"]["uid"] != old["metadata"]["uid"]
            ends = await sim.finished("runs", "placed", timeout_s=90)
            assert [status["state"] for status in ends] == ["Succeeded"] * 2
            assert [status["attempt"] for status in ends] == [2, 1]
            assert all(status["podUID"] != old["metadata"]["uid"] for status in ends)
            assert sim.status("runs")["infraFailures"] == 1
            once_each(sim)
            if not disguised:
                assert sim.api.peek(PODS, name)["spec"] == {"containers": []}, "left alone"

    run(main())


# --- crashes ------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, 12))
def test_controller_killed_at_every_write(number: int, after: bool) -> None:
    """From the deletion of two workers with tasks on them to their release."""

    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await asyncio.sleep(5)
            for task in range(4):
                await sim.task(f"t{task}", "sleep", "3")
            await sim.until(lambda: len(sim.node.runs) == 4)
            done = asyncio.Event()
            count = [0]

            def faults(call: Call, answered: bool) -> Exception | None:
                mine = call.who == "controller" and call.verb in ("create", "patch", "delete")
                if done.is_set() or not mine or answered is not after:
                    return None
                count[0] += 1
                if count[0] < number:
                    return None
                done.set()
                return Unavailable("killed")

            async def restart() -> None:
                await done.wait()
                await sim.restart_controller()

            sim.api.faults = faults
            killer = asyncio.create_task(restart())
            for name in ("c-1", "c-2"):
                await delete(sim, name)
            await sim.all_finished()
            await sim.until(
                lambda: {p["metadata"]["name"] for p in pods(sim)}.isdisjoint({"c-1", "c-2"})
            )
            assert all(task["status"]["attempt"] == 2 for task in sim.tasks())
            assert all(task["status"]["infraFailures"] == 1 for task in sim.tasks())
            once_each(sim)
            killer.cancel()

    run(main())


def test_release_is_repeated_until_it_is_done() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.until(lambda: sim.api.has(PODS, "c-1"))
            await asyncio.sleep(2)
            left: list[Exception] = [Conflict("changed", 409), Unavailable("lost")]

            def faults(call: Call, after: bool) -> Exception | None:
                return left.pop() if isinstance(call.body, list) and not after and left else None

            sim.api.faults = faults
            await delete(sim, "c-1")
            await sim.until(lambda: not sim.api.has(PODS, "c-1"), timeout_s=5)

    run(main())


def test_labels_tell_which_pods_are_workers() -> None:
    """What a stranger pinned himself is none of our business."""

    async def main() -> None:
        async with Simulation.started() as sim:
            labels = {LABEL_MANAGED_BY: "taskctl", LABEL_CLUSTER_UID: "gone"}
            for name, given in (("alien", {}), ("leftover", labels)):
                metadata = {"name": name, "finalizers": [FINALIZER_EVIDENCE], "labels": given}
                await sim.api.create(PODS, {"metadata": metadata, "spec": {}}, "ns")
            await sim.until(lambda: finalizers(sim, "leftover") == [], timeout_s=5)
            await asyncio.sleep(5)
            assert finalizers(sim, "alien") == [FINALIZER_EVIDENCE]

    run(main())
