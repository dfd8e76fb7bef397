"""Metrics of Tasks, queues and workers, as a scrape shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskctl.api.resources import TASKCLUSTERS
from taskctl.controllers.metrics import Metrics
from taskctl.controllers.taskmetrics import KEPT_S, MAX_CLUSTERS, TaskMetrics, stage_seconds
from taskctl.kube.resources import PODS
from taskctl.metrics.catalog import CATALOG, MetricKind, Process
from taskctl.objectkey import ObjectKey
from taskctl.placement.machine import PlacementMachine
from taskctl.policy.view import TaskView, parse_task
from tests.unit.clocks import SetClock
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run
from tests.unit.metrics.exposition import samples, total
from tests.unit.policy.build import raw_task, running

OURS = {"namespace": "ns", "cluster": "c"}


def case(*, leads: bool = True) -> tuple[TaskMetrics, Metrics, SetClock]:
    metrics, clock = Metrics(), SetClock()
    machine = PlacementMachine(lambda: "0" * 32)
    return TaskMetrics(metrics, machine, lambda: leads, clock), metrics, clock


def task(cluster: str = "c", **status: Any) -> TaskView:
    return parse_task(raw_task(spec={"clusterName": cluster}, status=status))


def text(metrics: Metrics) -> str:
    return metrics.render().decode()


# --- through all controllers ------------------------------------------------------------


def test_what_becomes_of_tasks_is_counted() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("good")
            await sim.task("bad", "fail", "1", retry={"limit": 1, "backoffSeconds": 1})
            await sim.finished("good", "bad")
            seen = sim.scraped()
            for state, reason in (("Succeeded", "Completed"), ("Failed", "NonZeroExit")):
                labels = OURS | {"state": state, "reason": reason}
                assert total(seen, "taskctl_tasks_finished_total", **labels) == 1
                assert total(seen, "taskctl_tasks", **labels) == 1
            assert total(seen, "taskctl_tasks") == 2
            assert total(seen, "taskctl_attempts_started_total", **OURS) == 3
            assert total(seen, "taskctl_attempts_failed_total", **OURS) == 2
            assert total(seen, "taskctl_attempts_lost_total") == 0
            assert total(seen, "taskctl_task_attempts_count") == 2
            assert total(seen, "taskctl_task_attempts_sum") == 3
            stage = "taskctl_task_stage_duration_seconds_count"
            assert total(seen, stage, stage="queued") == 1, "of the one that had one attempt"
            assert total(seen, stage, stage="starting") == 2

    run(main())


def test_queue_slots_and_workers() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=1, slotsPerWorker=2) as sim:
            for number in range(5):
                await sim.task(f"t{number}", "sleep", "100")
            await sim.until(lambda: total(sim.scraped(), "taskctl_slots_used") == 2)
            await asyncio.sleep(20)
            seen = sim.scraped()
            assert total(seen, "taskctl_slots", **OURS) == 2
            assert total(seen, "taskctl_queue_length", **OURS) == 3
            assert 19 <= total(seen, "taskctl_queue_oldest_age_seconds", **OURS) <= 60
            assert total(seen, "taskctl_workers", **OURS, state="serving") == 1
            await sim.all_finished()
            seen = sim.scraped()
            assert total(seen, "taskctl_queue_length") == 0
            assert total(seen, "taskctl_queue_oldest_age_seconds") == 0

    run(main())


def fails(sim: Simulation, name: str) -> None:
    sim.node.set_pod(name, {"phase": "Failed"})


def vanishes(sim: Simulation, name: str) -> None:
    sim.api.remove(PODS, name)


@pytest.mark.parametrize("end", [fails, vanishes])
def test_a_worker_that_is_lost_with_its_tasks(end: Callable[[Simulation, str], None]) -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t", "sleep", "100")
            await sim.until(lambda: sim.status("t")["state"] == "Running")
            end(sim, sim.status("t")["podName"])
            await sim.finished("t")
            seen = sim.scraped()
            assert total(seen, "taskctl_attempts_lost_total", **OURS) == 1
            assert total(seen, "taskctl_workers_removed_total", **OURS, reason="lost") == 1

    run(main())


def test_rotation_and_scaling_down_are_told_apart() -> None:
    async def main() -> None:
        async with Simulation.started(replicas=2, rotation={"maxTasks": 10}) as sim:
            for number in range(40):
                await sim.task(f"t{number}")
            await sim.all_finished()
            removed = "taskctl_workers_removed_total"
            await sim.until(lambda: total(sim.scraped(), removed, **OURS, reason="worn") >= 2)
            sim.api.edit(TASKCLUSTERS, "c", lambda c: c["spec"].update(replicas=1))
            await sim.until(lambda: total(sim.scraped(), removed, **OURS, reason="surplus") == 1)
            await sim.until(lambda: len(sim.api.all(PODS)) == 1)
            assert total(sim.scraped(), removed, reason="lost") == 0

    run(main())


def test_hits_and_misses_of_standby() -> None:
    async def main() -> None:
        standby = {"maxPerWorker": 6, "minPerWorker": 3, "max": 50, "idleSeconds": 60}
        async with Simulation.started(standby=standby) as sim:
            await sim.task("first")
            await sim.finished("first")
            ready = "taskctl_standby_containers_ready"
            await sim.until(lambda: total(sim.scraped(), ready, **OURS) >= 3)
            await sim.task("second")
            await sim.finished("second")
            started = "taskctl_attempts_started_total"
            assert total(sim.scraped(), started, **OURS, container="own") == 1
            assert total(sim.scraped(), started, **OURS, container="standby") == 1

    run(main())


def test_a_new_controller_does_not_count_what_it_finds() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t")
            await sim.finished("t")
            await sim.restart_controller()
            await sim.until(lambda: total(sim.scraped(), "taskctl_tasks") == 1)
            assert total(sim.scraped(), "taskctl_tasks_finished_total") == 0

    run(main())


def test_all_that_is_listed_is_exposed_and_nothing_else() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            await sim.task("t")
            await sim.finished("t")
            families = {f.name: f for f in text_string_to_metric_families(sim.scraped())}
            listed = {
                metric.name.removesuffix("_total"): metric
                for metric in CATALOG
                if metric.process is Process.CONTROLLER
            }
            assert families.keys() == listed.keys()
            for name, family in families.items():
                assert family.type == listed[name].kind.value
                assert family.documentation == listed[name].text
                for sample in family.samples:
                    extra = {"le"} if listed[name].kind is MetricKind.HISTOGRAM else set()
                    assert set(sample.labels) - extra == set(listed[name].labels), sample.name

    run(main())


# --- alone --------------------------------------------------------------------------------


def test_who_stands_by_reports_no_tasks() -> None:
    tasks, metrics, _ = case(leads=False)
    tasks.on_cluster(ObjectKey("ns", "c"), exists=True)
    tasks.on_task(None, task(**running()))
    tasks.on_task(task(**running()), task(**running() | {"state": "Failed", "failures": 1}))
    for name, values in samples(text(metrics)).items():
        if name.startswith(("taskctl_tasks", "taskctl_attempts", "taskctl_task_attempts")):
            assert not any(values.values()), name


def test_labels_are_bounded_whatever_tasks_name() -> None:
    tasks, metrics, _ = case()
    for number in range(MAX_CLUSTERS + 50):
        tasks.on_cluster(ObjectKey("ns", f"c{number}"), exists=True)
    names = [f"c{number}" for number in range(MAX_CLUSTERS + 50)]
    for name in [*names, *(f"made-up-{number}" for number in range(500))]:
        tasks.on_task(None, task(name, **running()))
        tasks.on_task(task(name, **running()), task(name, state="Failed", reason="Timeout"))
    clusters = {dict(labels)["cluster"] for labels in samples(text(metrics))["taskctl_tasks"]}
    assert len(clusters) == MAX_CLUSTERS + 1
    assert total(text(metrics), "taskctl_tasks", cluster="(other)") == 550
    assert total(text(metrics), "taskctl_tasks_finished_total") == MAX_CLUSTERS + 550


@pytest.mark.parametrize("reason", ["<script>", "x" * 10_000, 'a"b\nc', "Completed\n"])
def test_a_reason_of_a_strangers_own(reason: str) -> None:
    tasks, metrics, _ = case()
    tasks.on_task(None, task(state="Failed", reason=reason))
    assert total(text(metrics), "taskctl_tasks", reason="(other)") == 1


def test_the_series_of_a_cluster_outlast_it_for_a_while() -> None:
    tasks, metrics, clock = case()
    key = ObjectKey("ns", "c")
    tasks.on_cluster(key, exists=True)
    tasks.on_task(task(**running()), task(state="Succeeded", reason="Completed"))
    tasks.on_cluster(key, exists=False)
    clock.pass_s(KEPT_S - 1)
    assert total(text(metrics), "taskctl_tasks_finished_total", **OURS) == 1
    tasks.on_cluster(key, exists=True)
    clock.pass_s(KEPT_S)
    assert total(text(metrics), "taskctl_tasks_finished_total", **OURS) == 1, "it came back"
    tasks.on_cluster(key, exists=False)
    clock.pass_s(KEPT_S)
    assert total(text(metrics), "taskctl_tasks_finished_total") == 0


def test_a_task_that_is_deleted_counts_no_more() -> None:
    tasks, metrics, _ = case()
    tasks.on_task(None, task(**running()))
    tasks.on_task(task(**running()), None)
    assert "taskctl_tasks" not in samples(text(metrics))


@pytest.mark.parametrize(
    ("attempt", "times", "expected"),
    [
        (1, {}, {}),
        (1, {"created": "2030-01-01T00:00:00Z", "placed": "2030-01-01T00:00:02Z"}, {"queued": 2}),
        (2, {"created": "2030-01-01T00:00:00Z", "placed": "2030-01-01T00:00:02Z"}, {}),
        (
            3,
            {"userCode": "2030-01-01T00:00:00Z", "exited": "2030-01-01T00:01:00Z"},
            {"running": 60},
        ),
        (1, {"placed": "2030-01-01T00:00:01Z", "started": "2030-01-01T00:00:00Z"}, {"starting": 0}),
        (1, {"exited": "2030-01-01T00:00:00Z", "observed": "nonsense"}, {}),
    ],
)
def test_stages(attempt: int, times: dict[str, str], expected: dict[str, float]) -> None:
    assert stage_seconds(task(state="Failed", attempt=attempt, times=times)) == expected
