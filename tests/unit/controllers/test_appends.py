"""Each answer an API server may give to the PATCH that places tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from taskctl.errors import (
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Throttled,
    Unavailable,
)
from taskctl.kube.resources import PODS
from taskctl.policy.handover import is_parked_name
from tests.unit.controllers.fake_api import Call
from tests.unit.controllers.simulation import Simulation, once_each
from tests.unit.controllers.virtual import run

Answer = Callable[[list[dict[str, Any]]], ApiError | None]
TOO_LARGE = [
    BadRequest("Request entity too large: limit is 3145728", 413),
    Unavailable("etcdserver: request is too large", 500),
]


class Appends:
    """Answers appends of tasks by a rule, and counts them.

    Attributes:
        at_s: when each came.
        sizes: how many entries each had.
    """

    def __init__(self, sim: Simulation, answer: Answer) -> None:
        self.at_s: list[float] = []
        self.sizes: list[int] = []
        self._sim = sim
        self._answer = answer
        sim.api.faults = self._fault

    def _fault(self, call: Call, after: bool) -> Exception | None:
        if (call.verb, call.plural, after) != ("patch", "pods", False):
            return None
        if not isinstance(call.body, dict) or "ephemeralContainers" not in call.body["spec"]:
            return None
        entries = call.body["spec"]["ephemeralContainers"]
        if all(is_parked_name(entry["name"]) for entry in entries):
            return None  # a refill: no task waits for it
        self.at_s.append(self._sim.api.clock.monotonic_s())
        self.sizes.append(len(entries))
        return self._answer(entries)


def always(error: ApiError) -> Answer:
    return lambda _: error


def image(name: str, error: ApiError) -> Answer:
    return lambda entries: error if any(entry["image"] == name for entry in entries) else None


def times(count: int, error: ApiError) -> Answer:
    left = [count]

    def answer(_: list[dict[str, Any]]) -> ApiError | None:
        left[0] -= 1
        return error if left[0] >= 0 else None

    return answer


def reads(sim: Simulation) -> Callable[[], int]:
    """Count the pods read from now on."""
    count = [0]
    get = sim.api.get

    async def counting(*args: Any, **kwargs: Any) -> Any:
        count[0] += args[0] is PODS
        return await get(*args, **kwargs)

    sim.api.get = counting  # type: ignore[method-assign]
    return lambda: count[0]


def test_conflict_is_repeated_at_once_a_few_times() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            appends = Appends(sim, times(3, Conflict("changed", 409)))
            pods_read = reads(sim)
            await sim.task("t")
            await sim.finished("t", timeout_s=2)
            assert appends.sizes == [1] * 4
            assert appends.at_s[-1] - appends.at_s[0] < 0.8
            assert pods_read() == 0
            once_each(sim)

    run(main())


def test_conflict_without_end_is_held_back() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            appends = Appends(sim, always(Conflict("changed", 409)))
            await sim.task("t")
            await sim.until(lambda: sim.status("t").get("reason") == "PlacementFailed")
            assert sim.status("t")["message"] == "changed"
            await asyncio.sleep(300)
            last_minute = [at_s for at_s in appends.at_s if at_s > appends.at_s[-1] - 60]
            assert len(last_minute) <= 12
            sim.api.faults = None
            (status,) = await sim.finished("t", timeout_s=60)
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)

    run(main())


FORBIDDEN = Forbidden('violates PodSecurity "restricted:latest": runAsNonRoot != true', 403)
WEBHOOK = BadRequest('admission webhook "x" denied the request: image not allowed', 400)


@pytest.mark.parametrize("error", [FORBIDDEN, WEBHOOK], ids=["pod-security", "webhook"])
def test_forbidden_is_said_on_the_task_and_tried_ever_more_rarely(error: ApiError) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            appends = Appends(sim, always(error))
            await sim.task("t")
            await sim.until(
                lambda: sim.status("t").get("reason") == "PlacementForbidden", timeout_s=1
            )
            assert error.message in sim.status("t")["message"]
            await asyncio.sleep(300)
            assert 5 < len(appends.at_s) < 20
            gaps = [b - a for a, b in pairwise(appends.at_s)]
            assert gaps[-1] > 25
            states = [c.body["status"] for c in sim.api.log if c.is_status and c.name == "t"]
            assert len(states) == 1, "said once"
            assert sim.status("t")["state"] == "Pending", "somebody may change the policy"
            sim.api.faults = None
            (status,) = await sim.finished("t", timeout_s=60)
            assert (status["state"], status["message"]) == ("Succeeded", "")

    run(main())


def test_one_forbidden_image_does_not_hold_up_the_others() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=8) as sim:
            await asyncio.sleep(5)
            Appends(sim, image("bad", WEBHOOK))
            good = [f"t{number}" for number in range(6)]
            bad = sim.task("bad", image="bad")
            await asyncio.gather(bad, *(sim.task(name) for name in good))
            await sim.finished(*good, timeout_s=2)
            await sim.task("later")
            await sim.finished("later", timeout_s=1)
            assert sim.status("bad")["reason"] == "PlacementForbidden"
            once_each(sim)

    run(main())


def test_a_missing_right_costs_one_request_per_worker_and_pause() -> None:
    """No search for the guilty entry, and the worker is left alone ever longer."""
    error = Forbidden('cannot patch resource "pods/ephemeralcontainers" in API group ""', 403)

    async def main() -> None:
        async with Simulation.started(slotsPerWorker=20) as sim:
            await asyncio.sleep(5)
            appends = Appends(sim, always(error))
            pods_read = reads(sim)
            await asyncio.gather(*(sim.task(f"t{n}") for n in range(20)))
            await asyncio.sleep(120)
            assert len(appends.at_s) < 15
            assert pods_read() == 0
            assert "right to patch" in sim.status("t7")["message"]
            sim.api.faults = None
            await sim.all_finished(timeout_s=120)
            assert all(task["status"]["attempt"] == 1 for task in sim.tasks())

    run(main())


def test_where_everything_is_forbidden_only_a_few_are_tried_alone() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=30) as sim:
            await asyncio.sleep(5)
            appends = Appends(sim, always(FORBIDDEN))
            await asyncio.gather(*(sim.task(f"t{n}") for n in range(30)))
            await asyncio.sleep(0.2)
            assert appends.sizes[0] > 1
            assert appends.sizes.count(1) <= 3 * sum(size > 1 for size in appends.sizes)

    run(main())


@pytest.mark.parametrize("error", TOO_LARGE, ids=["413", "etcd"])
def test_full_pod_is_worn_out_and_the_task_goes_elsewhere(error: ApiError) -> None:
    async def main() -> None:
        async with Simulation.started(replicas=1) as sim:
            for number in range(3):
                await sim.task(f"t{number}")
            await sim.all_finished()
            full = sim.api.peek(PODS, "c-1")["metadata"]["uid"]

            def answer(_: list[dict[str, Any]]) -> ApiError | None:
                pod = sim.api.objects["pods"].get(("ns", "c-1"))
                return error if pod is not None and pod["metadata"]["uid"] == full else None

            Appends(sim, answer)
            # Of another image: none of the containers that are parked in the full pod will do.
            await sim.task("more", image="other")
            (status,) = await sim.finished("more", timeout_s=5)
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)
            assert status["podName"] == "c-2"
            await sim.until(lambda: not sim.api.has(PODS, "c-1"), timeout_s=5)

    run(main())


def test_batch_that_is_too_large_as_a_whole() -> None:
    too_large = TOO_LARGE[0]

    async def main() -> None:
        async with Simulation.started(slotsPerWorker=10) as sim:
            await asyncio.sleep(5)
            appends = Appends(sim, lambda entries: too_large if len(entries) > 1 else None)
            await asyncio.gather(*(sim.task(f"t{n}", "sleep", "1") for n in range(10)))
            await sim.all_finished(timeout_s=10)
            assert max(appends.sizes) > 1
            assert len({task["status"]["podName"] for task in sim.tasks()}) == 1, "nobody is full"
            once_each(sim)

    run(main())


def test_entry_that_is_too_large_for_any_pod() -> None:
    """Even an empty one refuses it: the task is at fault, the workers are not used up."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            secret = {"secretKeyRef": {"name": "s", "key": "k" * 200}}
            env = [{"name": f"V{n}", "valueFrom": secret} for n in range(600)]
            await sim.task("fat", env=env)
            (status,) = await sim.finished("fat", timeout_s=10)
            assert (status["state"], status["reason"]) == ("Failed", "StartError")
            assert "shorten spec.env" in status["message"]
            Appends(sim, image("fat", TOO_LARGE[1]))
            await sim.task("fat2", image="fat")
            (status,) = await sim.finished("fat2", timeout_s=10)
            assert (status["state"], status["reason"]) == ("Failed", "StartError")
            assert sim.api.has(PODS, "c-1")

    run(main())


def test_throttled_and_unavailable_are_waited_out() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            appends = Appends(sim, times(1, Throttled("slow", 429, retry_after_s=7.0)))
            await sim.task("t")
            await sim.finished("t", timeout_s=20)
            assert appends.at_s[1] - appends.at_s[0] >= 7.0
            Appends(sim, times(3, Unavailable("internal error", 500)))
            pods_read = reads(sim)
            await sim.task("u", image="other")  # one that is not parked
            await sim.finished("u", timeout_s=20)
            assert pods_read() >= 3, "each time the pod was asked what became of it"
            once_each(sim)

    run(main())


def test_404_of_a_pod_that_is_there_does_not_spin() -> None:
    """A server, or a proxy before it, that does not know the subresource."""

    async def main() -> None:
        async with Simulation.started() as sim:
            await asyncio.sleep(5)
            error = NotFound("the server could not find the requested resource", 404)
            appends = Appends(sim, always(error))
            await sim.task("t")
            await asyncio.sleep(60)
            assert len(appends.at_s) < 12
            assert sim.status("t")["reason"] == "PlacementFailed"
            assert "could not find" in sim.status("t")["message"]

    run(main())


def test_invalid_entry_is_still_the_tasks_own_fault() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=8) as sim:
            await asyncio.sleep(5)
            Appends(sim, image("bad", Invalid("spec: image: Invalid value", 422)))
            bad = sim.task("bad", image="bad")
            await asyncio.gather(bad, *(sim.task(f"t{n}") for n in range(5)))
            (status,) = await sim.finished("bad", timeout_s=10)
            assert (status["state"], status["reason"]) == ("Failed", "StartError")
            await sim.all_finished(timeout_s=5)

    run(main())
