"""Workers get their account and rights before they come; what is refused is said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS
from taskctl.controllers.access import AccessKeeper
from taskctl.errors import Forbidden, Unavailable
from taskctl.kube.resources import EVENTS, PODS, PVCS, ROLEBINDINGS, SERVICEACCOUNTS
from taskctl.policy.workeraccess import WorkerAccess, build_binding
from tests.unit.controllers.fake_api import Call, FakeApi
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import VirtualClock, run
from tests.unit.policy.build import raw_cluster

MISSING = Forbidden('pods "c-1" is forbidden: serviceaccount "robot" not found', 403)


def cluster(**spec: Any) -> dict[str, Any]:
    made = raw_cluster(**spec)
    made["metadata"]["namespace"] = "ns"
    return made


def keeper(api: FakeApi, mode: WorkerAccess = WorkerAccess.MANAGE) -> AccessKeeper:
    return AccessKeeper(api, VirtualClock(), mode)


def refusing(error: Exception, *plurals: str) -> Callable[[Call, bool], Exception | None]:
    def faults(call: Call, after: bool) -> Exception | None:
        wanted = call.plural in plurals and call.verb in ("get", "create")
        return error if wanted and not after else None

    return faults


def calls(sim: Simulation, *verbs: str) -> list[str]:
    """Kinds written in that way, in order."""
    kinds = ("serviceaccounts", "rolebindings", "pods")
    return [call.plural for call in sim.api.log if call.verb in verbs and call.plural in kinds]


def ready(sim: Simulation, name: str = "c") -> dict[str, Any]:
    found: dict[str, Any] = next(
        one
        for one in sim.api.peek(TASKCLUSTERS, name)["status"]["conditions"]
        if one["type"] == "Ready"
    )
    return found


def test_account_and_binding_come_before_the_first_worker() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2) as sim:
            await sim.until(lambda: ready(sim)["status"] == "True")
            assert calls(sim, "create") == ["serviceaccounts", "rolebindings", "pods", "pods"]
            assert sim.api.has(SERVICEACCOUNTS, "taskctl-worker")
            binding = sim.api.peek(ROLEBINDINGS, "taskctl-worker")
            assert binding["roleRef"]["kind"] == "ClusterRole"

    run(main())


def test_it_is_asked_for_once_a_minute_at_most() -> None:
    async def main() -> None:
        api = FakeApi()
        asked: list[str] = []

        def note(call: Call, after: bool) -> None:
            asked.append(call.verb)

        api.faults = note
        access = keeper(api)
        assert await access.ensure(cluster()) == ""
        before = len(asked)
        assert await access.ensure(cluster()) == ""
        assert len(asked) == before
        access.forget("uid-c")
        assert await access.ensure(cluster()) == ""
        assert "create" not in asked[before:]
        api.remove(ROLEBINDINGS, "taskctl-worker")
        await asyncio.sleep(61)
        assert await access.ensure(cluster()) == ""
        assert api.has(ROLEBINDINGS, "taskctl-worker"), "made anew for the next worker"

    run(main())


def test_another_account_is_the_users_own_and_gets_a_binding() -> None:
    async def main() -> None:
        api = FakeApi()
        access = keeper(api)
        assert await access.ensure(cluster()) == ""
        assert await access.ensure(cluster(serviceAccountName="robot")) == ""
        assert [one["metadata"]["name"] for one in api.all(SERVICEACCOUNTS)] == ["taskctl-worker"]
        binding = api.peek(ROLEBINDINGS, "taskctl-worker-robot")
        assert binding["subjects"][0]["name"] == "robot"

    run(main())


def test_nothing_is_made_where_somebody_else_has_seen_to_it() -> None:
    async def main() -> None:
        api = FakeApi()
        assert await keeper(api, WorkerAccess.NONE).ensure(cluster()) == ""
        assert api.log == []

    run(main())


def test_a_stranger_in_its_place() -> None:
    async def main() -> None:
        api = FakeApi()
        other = build_binding("ns", "taskctl-worker")
        other["roleRef"]["name"] = "view"
        await api.create(ROLEBINDINGS, other, "ns")
        access = keeper(api)
        assert "ns/taskctl-worker" in await access.ensure(cluster())
        api.remove(ROLEBINDINGS, "taskctl-worker")
        assert await access.ensure(cluster()) == ""

    run(main())


def test_somebody_else_was_faster() -> None:
    async def main() -> None:
        api = FakeApi()

        def race(call: Call, after: bool) -> None:
            if call.verb == "create" and not after:
                api.faults = None
                key, body = ("ns", call.name), {"metadata": {"name": call.name, "namespace": "ns"}}
                api.objects.setdefault(call.plural, {})[key] = body

        api.faults = race
        assert await keeper(api).ensure(cluster()) == ""

    run(main())


def test_a_namespace_on_its_way_out_is_no_refusal() -> None:
    async def main() -> None:
        api = FakeApi()
        api.faults = refusing(Forbidden("ns is being terminated", 403), "serviceaccounts")
        with pytest.raises(Forbidden):
            await keeper(api).ensure(cluster())
        api.faults = refusing(Unavailable("no answer"), "rolebindings")
        with pytest.raises(Unavailable):
            await keeper(api).ensure(cluster())

    run(main())


def test_missing_rights_are_said_with_the_remedy_and_healed() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            error = Forbidden("rolebindings is forbidden: User taskctl cannot create", 403)
            sim.api.faults = refusing(error, "rolebindings")
            sim.api.edit(TASKCLUSTERS, "c", lambda found: found["spec"].update(replicas=1))
            await sim.until(lambda: ready(sim)["reason"] == "WorkersRefused")
            for words in ("User taskctl cannot create", "taskctl install", "--worker-access none"):
                assert words in ready(sim)["message"]
            assert sim.api.all(PODS) == []
            await asyncio.sleep(300)
            asked = [call for call in sim.api.log if call.plural == "rolebindings"]
            assert len(asked) < 15, "refusals are waited out, ever longer"
            assert "WorkerRefused" in {event["reason"] for event in sim.api.all(EVENTS)}
            sim.api.faults = None
            await sim.until(lambda: ready(sim)["status"] == "True", timeout_s=90)

    run(main())


def test_refused_workers_are_said() -> None:
    """A missing account, a quota, or a Pod Security level: the API server says which."""

    async def main() -> None:
        async with Simulation.started(replicas=0, serviceAccountName="robot") as sim:
            sim.api.faults = refusing(MISSING, "pods")
            sim.api.edit(TASKCLUSTERS, "c", lambda found: found["spec"].update(replicas=2))
            await sim.until(lambda: ready(sim)["reason"] == "WorkersRefused")
            assert 'serviceaccount "robot" not found' in ready(sim)["message"]
            sim.api.faults = None
            await sim.until(lambda: ready(sim)["status"] == "True", timeout_s=90)

    run(main())


def test_a_refused_claim_is_said_and_made_later() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            quota = Forbidden("exceeded quota: storage, requested: 1Gi, limited: 0", 403)
            sim.api.faults = refusing(quota, "persistentvolumeclaims")
            await sim.cluster("d", replicas=1, workspace={})

            def workspace() -> str:
                conditions = sim.api.peek(TASKCLUSTERS, "d")["status"]["conditions"]
                return str({c["type"]: c["message"] for c in conditions}["WorkspaceReady"])

            await sim.until(lambda: "exceeded quota" in workspace(), timeout_s=10)
            assert "'d-workspace' could not be created" in workspace()
            await asyncio.sleep(300)
            asked = [call for call in sim.api.log if call.plural == "persistentvolumeclaims"]
            assert len(asked) < 40, "asked again, but not without end"
            sim.api.faults = None
            await sim.until(lambda: sim.api.has(PVCS, "d-workspace"), timeout_s=30)

    run(main())


def test_a_full_cluster_needs_no_worker_and_asks_for_nothing() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.until(lambda: ready(sim)["status"] == "True")
            asked: list[str] = []

            def note(call: Call, after: bool) -> None:
                if call.plural in ("serviceaccounts", "rolebindings"):
                    asked.append(call.verb)

            sim.api.faults = note
            await asyncio.gather(*(sim.task(f"t{number}") for number in range(20)))
            await sim.all_finished()
            assert asked == []

    run(main())
