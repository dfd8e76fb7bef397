"""A root with a TaskCluster of its own (``spec.cluster``), in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.errors import Forbidden
from taskctl.kube.interface import KubeObject
from taskctl.kube.resources import PODS, PVCS
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run

CLUSTER: dict[str, Any] = {"replicas": 2, "slotsPerWorker": 4, "workspace": {}}
MEMBERS = [{"name": "a", "image": "i", "command": ["ok"]}, {"name": "b", "command": ["ok"]}]


async def root(sim: Simulation, name: str = "job", *command: str, **spec: Any) -> KubeObject:
    body = {"cluster": CLUSTER, "image": "img", "command": list(command) or ["ok"]} | spec
    return await sim.api.create(TASKS, {"metadata": {"name": name}, "spec": body}, "ns")


def own(sim: Simulation) -> list[KubeObject]:
    return [one for one in sim.api.all(TASKCLUSTERS) if one["metadata"]["name"] != "c"]


def workers(sim: Simulation) -> list[str]:
    names = {one["metadata"]["name"] for one in own(sim)}
    return [
        pod["metadata"]["name"]
        for pod in sim.api.all(PODS)
        if pod["metadata"]["labels"]["taskctl.dev/cluster"] in names
        and "deletionTimestamp" not in pod["metadata"]
    ]


def claims(sim: Simulation) -> list[str]:
    return [one["metadata"]["name"] for one in sim.api.all(PVCS)]


def is_complete(sim: Simulation, name: str = "job") -> bool:
    return sim.condition(name, "Complete") == "True"


def test_it_comes_with_the_run_and_goes_with_the_root() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            made = await root(sim)
            (status,) = await sim.finished("job")
            assert (status["state"], status["attempt"]) == ("Succeeded", 1)
            [cluster] = own(sim)
            assert status["clusterName"] == cluster["metadata"]["name"]
            [owner] = cluster["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"]) == ("Task", made["metadata"]["uid"])
            assert cluster["spec"] == CLUSTER
            assert claims(sim) == [cluster["metadata"]["name"] + "-workspace"]
            await sim.api.delete(TASKS, "job", "ns")
            await sim.until(lambda: not own(sim) and not workers(sim) and not claims(sim))

    run(main())


def test_workers_end_some_time_after_the_run_and_come_back_with_a_retry() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await root(sim, "job", "fail")
            await sim.until(lambda: is_complete(sim))
            await asyncio.sleep(250)
            assert len(workers(sim)) == 2, "results are read through them"
            await sim.until(lambda: not workers(sim), timeout_s=200)
            before = own(sim)[0]["metadata"]["uid"]
            assert claims(sim), "the tree can be run again, with its files"
            retried = {"state": "Pending", "conditions": [], "reason": "Retried"}
            sim.api.edit(TASKS, "job", lambda task: task["status"].update(retried))
            await sim.until(lambda: sim.status("job").get("attempt") == 2)
            assert [one["metadata"]["uid"] for one in own(sim)] == [before]
            await sim.until(lambda: is_complete(sim))
            await sim.until(lambda: not workers(sim))

    run(main())


@pytest.mark.parametrize("kept_s", [0, 900])
def test_how_long_they_stay_is_the_users_to_say(kept_s: int) -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            scaled = {"maxReplicas": 1, "minReplicas": 1, "idleSecondsBeforeScaleDown": kept_s}
            await root(sim, cluster=CLUSTER | scaled)
            await sim.until(lambda: is_complete(sim))
            if kept_s:
                await asyncio.sleep(kept_s - 100)
                assert len(workers(sim)) == 1
            await sim.until(lambda: not workers(sim), timeout_s=300)

    run(main())


def test_time_to_live_takes_everything() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await root(sim, ttlSecondsAfterFinished={"success": 60})
            await sim.finished("job")
            await asyncio.sleep(50)
            assert len(workers(sim)) == 2
            await sim.until(lambda: not own(sim) and not workers(sim) and not claims(sim))

    run(main())


def test_what_does_not_start_has_none() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await root(sim, "suspended", suspend=True)
            await root(sim, "later", runAfter={"tasks": ["absent"]})
            await root(sim, "never", cancel=True)
            await asyncio.sleep(30)
            assert own(sim) == []
            sim.spec("suspended", suspend=False)
            await sim.finished("suspended")
            assert len(own(sim)) == 1

    run(main())


def test_a_graph_runs_in_it() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await root(sim, "job", tasks=MEMBERS)
            await sim.until(lambda: is_complete(sim))
            [cluster] = own(sim)
            for name in ("job-a", "job-b"):
                spec = sim.api.peek(TASKS, name)["spec"]
                assert spec["clusterName"] == cluster["metadata"]["name"]
                assert "cluster" not in spec
            assert sim.status("job")["state"] == "Succeeded"

    run(main())


@pytest.mark.parametrize("writes", range(1, 12))
def test_a_controller_that_is_killed_at_any_write(writes: int) -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            start = sim.api.version
            await root(sim, "job", tasks=MEMBERS)
            await sim.until(lambda: sim.api.version >= start + 1 + writes or is_complete(sim))
            await sim.restart_controller()
            await sim.until(lambda: is_complete(sim))
            [cluster] = own(sim)
            assert sim.status("job")["clusterName"] == cluster["metadata"]["name"]
            assert len(workers(sim)) == 2
            assert all(sim.status(f"job-{name}")["attempt"] == 1 for name in "ab")

    run(main())


def test_one_that_is_deleted_by_hand_is_made_again() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            members = [*MEMBERS, {"name": "c", "command": ["ok"], "runAfter": ["a"]}]
            members[0] = members[0] | {"command": ["sleep", "60"]}
            await root(sim, "job", tasks=members)
            await sim.until(lambda: sim.status("job-a")["state"] == "Running")
            [cluster] = own(sim)
            await sim.api.delete(TASKCLUSTERS, cluster["metadata"]["name"], "ns")
            await sim.until(lambda: is_complete(sim), timeout_s=1200)
            assert sim.status("job")["state"] == "Succeeded"
            [again] = own(sim)
            assert again["metadata"]["name"] == cluster["metadata"]["name"]
            assert again["metadata"]["uid"] != cluster["metadata"]["uid"]

    run(main())


def test_a_refusal_is_shown_and_tried_again() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            create = sim.api.create

            async def refuse(res: Any, obj: Any, namespace: Any = None) -> KubeObject:
                if res is TASKCLUSTERS:
                    raise Forbidden("exceeded quota", status=403)
                return await create(res, obj, namespace)

            sim.api.create = refuse  # type: ignore[method-assign,assignment]
            await root(sim)
            await sim.until(lambda: "exceeded quota" in sim.status("job").get("message", ""))
            assert sim.status("job")["reason"] == "ClusterNotFound"
            assert "spec.cluster" in sim.status("job")["message"]
            sim.api.create = create  # type: ignore[method-assign]
            (status,) = await sim.finished("job")
            assert status["state"] == "Succeeded"

    run(main())


def test_somebody_elses_is_not_used() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await root(sim, suspend=True)
            await asyncio.sleep(1)
            from taskctl.policy.runcluster import cluster_of_task

            name = cluster_of_task(sim.api.peek(TASKS, "job"))
            await sim.cluster(name)
            sim.spec("job", suspend=False)
            await sim.until(lambda: "was not made for" in sim.status("job").get("message", ""))
            await asyncio.sleep(30)
            assert sim.status("job").get("attempt") is None
            await sim.api.delete(TASKCLUSTERS, name, "ns")
            (status,) = await sim.finished("job")
            assert status["state"] == "Succeeded"

    run(main())


def test_without_an_admission_policy_only_plain_ones_are_made() -> None:
    """Whoever may create Tasks would have the files of the nodes otherwise."""

    async def main() -> None:
        async with Simulation.started(replicas=0) as sim:
            await root(sim, cluster=CLUSTER | {"workspace": {"hostPath": {"path": "/etc"}}})
            await sim.until(lambda: "workspace.hostPath is not" in sim.status("job")["message"])
            assert sim.status("job")["reason"] == "ClusterNotFound"
            await asyncio.sleep(60)
            assert own(sim) == []
            assert "clusterName" not in sim.status("job")

    run(main())
