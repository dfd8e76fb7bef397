"""Which workers a TaskCluster should have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskctl.placement.fleet import (
    REPLACE_UNREACHABLE_AFTER_S,
    ClusterFacts,
    RetireReason,
    WorkerFacts,
    WorkersPlan,
    creation_backoff_s,
    plan_workers,
    serial_of,
)
from taskctl.placement.rotation import Wear, spread
from tests.unit.policy.build import NOW, pod_view

CLUSTER = ClusterFacts(prefix="w", replicas=2, slots=4, max_tasks=100, max_age_s=None, template="T")


def worker(serial: int, active: int = 0, entries: int = 0, **pod: Any) -> WorkerFacts:
    return WorkerFacts(pod=pod_view(serial, **pod), active=active, wear=Wear(entries), age_s=60.0)


def plan(*workers: WorkerFacts, **cluster: Any) -> WorkersPlan:
    return plan_workers(replace(CLUSTER, **cluster), workers)


def deleted(result: WorkersPlan) -> list[str]:
    return [pod.name for pod in result.delete]


def test_first_workers() -> None:
    assert plan().create == ("w-1", "w-2")


def test_numbers_only_rise() -> None:
    assert plan(worker(3), last_serial=7).create == ("w-8",)
    assert plan(worker(9), last_serial=7).create == ("w-10",)


def test_settled() -> None:
    result = plan(worker(1), worker(2))
    assert (result.create, result.retiring, result.delete) == ((), {}, ())


def test_missing_worker_is_replaced() -> None:
    assert plan(worker(1)).create == ("w-2",)


def test_terminating_worker_is_replaced_and_left_alone() -> None:
    result = plan(worker(1), worker(2, deletion=NOW))
    assert (result.create, deleted(result)) == (("w-3",), [])


def test_dead_pod_is_deleted_and_replaced_after_a_pause() -> None:
    result = plan(worker(1), worker(2, dead=True), create_in_s=4.0)
    assert deleted(result) == ["w-2"]
    assert (result.create, result.look_again_s) == ((), 4.0)
    assert plan(worker(1), worker(2, dead=True)).create == ("w-3",)


def test_scale_down_takes_the_idle_one() -> None:
    result = plan(worker(1, active=2), worker(2), replicas=1)
    assert deleted(result) == ["w-2"]
    assert result.retiring == {"pod-2": RetireReason.SURPLUS}


def test_scale_down_never_deletes_a_busy_one() -> None:
    result = plan(worker(1, active=3), worker(2, active=1), replicas=1)
    assert deleted(result) == []
    assert result.retiring == {"pod-2": RetireReason.SURPLUS}


def test_scale_down_prefers_one_that_is_not_up() -> None:
    result = plan(worker(1), worker(2, agent_running=False), replicas=1)
    assert deleted(result) == ["w-2"]


def test_the_one_chosen_to_go_stays_chosen() -> None:
    leaving = replace(worker(1, active=2), was_surplus=True)
    assert plan(leaving, worker(2, active=1), replicas=1).retiring.keys() == {"pod-1"}


def test_scale_to_zero() -> None:
    result = plan(worker(1), worker(2, active=1), replicas=0)
    assert deleted(result) == ["w-1"]
    assert len(result.retiring) == 2


def test_deleting_cluster_makes_nothing_new() -> None:
    result = plan(worker(1), deleting=True)
    assert (result.create, result.delete) == ((), ())
    assert result.retiring.keys() == {"pod-1"}


# --- rotation -----------------------------------------------------------------------


def test_replacement_comes_first() -> None:
    worn = worker(1, active=1, entries=97)
    result = plan(worn, worker(2))
    assert result.create == ("w-3",)
    assert result.retiring == {}, "it serves until the replacement is up"
    coming = worker(3, agent_running=False)
    result = plan(worn, worker(2), coming)
    assert (result.create, result.retiring) == ((), {})
    result = plan(worn, worker(2), worker(3))
    assert result.retiring == {"pod-1": RetireReason.WORN}
    assert deleted(result) == [], "it still runs a task"
    assert deleted(plan(worker(1, entries=97), worker(2), worker(3))) == ["w-1"]


def test_a_worn_one_serves_on_until_its_replacement_is_ready() -> None:
    """Past its budget, even: a slower start beats none."""
    worn = worker(1, active=1, entries=130)
    assert plan(worn, replicas=1).create == ("w-2",)
    coming = worker(2, agent_running=False)
    assert plan(worn, coming, replicas=1).retiring == {}
    assert plan(worn, worker(2), replicas=1).retiring == {"pod-1": RetireReason.WORN}


def test_a_replacement_takes_over_once_its_agent_serves() -> None:
    """Its container runs a moment before."""
    worn = worker(1, active=1, entries=97)
    fresh = replace(worker(2), serves_in_s=1.5)
    result = plan(worn, fresh, replicas=1)
    assert (result.create, result.retiring, result.look_again_s) == ((), {}, 1.5)
    assert plan(worn, worker(2), replicas=1).retiring == {"pod-1": RetireReason.WORN}


def test_what_neared_its_end_does_so_still_when_tasks_come_more_slowly() -> None:
    """Else the replacement would be surplus a moment after it was made."""
    quick = replace(worker(1), wear=Wear(50, expected=100))
    result = plan(quick, replicas=1)
    assert result.create == ("w-2",)
    assert set(result.worn) == {"pod-1"}
    slow = replace(worker(1), wear=Wear(51), was_worn=True)
    result = plan(slow, worker(2), replicas=1)
    assert (result.create, deleted(result)) == ((), ["w-1"])
    assert set(result.worn) == {"pod-1"}


def test_spent_gets_nothing_more_even_without_a_replacement() -> None:
    for entries, max_tasks in ((200, 100), (3, 3)):
        result = plan(worker(1, active=1, entries=entries), replicas=1, max_tasks=max_tasks)
        assert result.retiring == {"pod-1": RetireReason.WORN}
        assert result.create == ("w-2",)


def test_a_pod_that_has_become_too_large_is_spent() -> None:
    large = replace(worker(1, active=1), wear=Wear(40, size_bytes=2**20))
    full = replace(worker(1, active=1), wear=Wear(40, full=True))
    for item in (large, full):
        result = plan(item, replicas=1)
        assert (result.create, [*result.retiring]) == (("w-2",), ["pod-1"])


def test_a_silent_worker_is_replaced_and_not_deleted() -> None:
    silent_for_s = REPLACE_UNREACHABLE_AFTER_S
    mute = worker(1, active=2, agent_running=False)
    just = replace(mute, silent_s=silent_for_s - 1)
    result = plan(just, worker(2))
    assert (result.create, result.look_again_s) == ((), 1.0)
    silent = replace(mute, silent_s=silent_for_s)
    result = plan(silent, worker(2))
    assert (result.create, result.delete, result.retiring) == (("w-3",), (), {})
    back = plan(worker(1, active=2), worker(2, active=1), worker(3))
    assert (back.create, deleted(back)) == ((), ["w-3"])


def test_workers_of_a_node_that_is_to_be_emptied_give_way() -> None:
    busy, idle = (replace(worker(n, active=n - 1), leaving=True) for n in (2, 1))
    result = plan(busy, idle)
    assert result.retiring == {"pod-1": RetireReason.LEAVING, "pod-2": RetireReason.LEAVING}
    assert deleted(result) == ["w-1"], "never a busy one"
    assert result.create == ("w-3", "w-4"), "their replacements need not wait for them"
    together = plan(busy, idle, together=True)
    assert (together.create, deleted(together), together.moving) == ((), ["w-1"], True)
    stopping = replace(worker(1, deletion=NOW), leaving=True)
    assert plan(stopping, together=True).create == (), "it still holds its place"
    ended = replace(worker(1, deletion=NOW, dead=True), leaving=True)
    assert plan(ended, together=True).create == ("w-2", "w-3")
    again = plan(worker(1), worker(2, active=1), worker(3, agent_running=False))
    assert again.retiring == {"pod-3": RetireReason.SURPLUS}, "the node has been given back"


def test_age() -> None:
    life_s = 60 * (1 - 0.1 * spread(1))
    young = plan(replace(worker(1), age_s=50.0), replicas=1, max_age_s=60)
    assert young.create == ()
    assert young.look_again_s == pytest.approx(life_s - 50)
    assert 54 < life_s <= 60
    old = plan(worker(1), replicas=1, max_age_s=60)
    assert old.create == ("w-2",)
    done = plan(worker(1), replace(worker(2), age_s=0.0), replicas=1, max_age_s=60)
    assert done.retiring == {"pod-1": RetireReason.AGED}


def test_outdated_workers_go_a_few_at_a_time() -> None:
    old = [worker(n, template="old", active=1) for n in range(1, 9)]
    assert len(plan(*old, replicas=8).create) == 2
    coming = [worker(n, agent_running=False) for n in (9, 10)]
    assert plan(*old, *coming, replicas=8).create == ()
    ready = [worker(n) for n in (9, 10)]
    result = plan(*old, *ready, replicas=8)
    assert list(result.retiring.values()) == [RetireReason.OUTDATED] * 2
    assert len(result.create) == 2


def test_backoff() -> None:
    assert [creation_backoff_s(n) for n in (0, 1, 2, 3, 99)] == [0, 1, 2, 4, 60]


def test_serial_of() -> None:
    assert serial_of("w-12", "w") == 12
    assert serial_of("w-x", "w") == 0
    assert serial_of("other-3", "w") == 0
    assert serial_of("w-1-2", "w") == 0


facts_strategy = st.lists(
    st.builds(
        lambda serial, active, entries, dead, up, template, going, leaving: replace(
            worker(
                serial,
                0 if dead else active,
                entries,
                dead=dead,
                agent_running=up and not dead,
                template=template,
                deletion=NOW if going else None,
            ),
            leaving=leaving,
        ),
        st.integers(1, 40),
        st.integers(0, 3),
        st.integers(0, 10),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["T", "old"]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=8,
    unique_by=lambda item: item.pod.uid,
)


@given(workers=facts_strategy, replicas=st.integers(0, 6))
def test_plans_are_safe(workers: list[WorkerFacts], replicas: int) -> None:
    result = plan(*workers, replicas=replicas, max_tasks=8)
    by_uid = {item.pod.uid: item for item in workers}
    for pod in result.delete:
        assert by_uid[pod.uid].active == 0
        assert pod.dead or pod.uid in result.retiring
        assert pod.deletion is None
    names = {item.pod.name for item in workers}
    assert not names & set(result.create)
    assert len(set(result.create)) == len(result.create) <= replicas
    for item in workers:
        alive = not item.pod.dead and item.pod.deletion is None
        if alive and item.wear.entries >= 8:
            assert item.pod.uid in result.retiring


@settings(max_examples=50)
@given(workers=facts_strategy, replicas=st.integers(0, 6))
def test_plans_settle(workers: list[WorkerFacts], replicas: int) -> None:
    """Carrying plans out, with pods that come up and tasks that end, ends in peace."""
    for _ in range(40):
        result = plan(*workers, replicas=replicas, max_tasks=8)
        gone = {pod.uid for pod in result.delete}
        workers = [
            replace(item, active=max(item.active - 1, 0), pod=replace(item.pod, agent_running=True))
            for item in workers
            if item.pod.uid not in gone and item.pod.deletion is None
        ]
        workers += [worker(serial_of(name, "w"), agent_running=False) for name in result.create]
    result = plan(*workers, replicas=replicas, max_tasks=8)
    assert (result.create, result.retiring, result.delete) == ((), {}, ())
    assert len(workers) == replicas
    assert all(item.pod.template == "T" for item in workers)


# --- the workspace ------------------------------------------------------------------


def test_no_worker_runs_while_the_workspace_must_not_be_used() -> None:
    assert plan(held=True).create == ()
    result = plan(worker(1, active=1), worker(2), worker(3, template="old"), held=True)
    assert result.create == ()
    assert set(result.retiring) == {"pod-1", "pod-2", "pod-3"}
    assert deleted(result) == ["w-2", "w-3"], "the busy one first ends what it runs"


def test_workers_on_another_claim_give_way_at_once() -> None:
    result = plan(worker(1, active=1, claim_uid="A"), worker(2, claim_uid="B"), claim_uid="B")
    assert result.retiring == {"pod-1": RetireReason.WORKSPACE}
    assert (result.create, deleted(result)) == (("w-3",), [])


def test_workers_that_do_not_say_which_claim_they_have_stay() -> None:
    result = plan(worker(1), worker(2, claim_uid="B"), claim_uid="B")
    assert (result.create, result.retiring) == ((), {})
    assert plan(worker(1, claim_uid="A"), worker(2)).retiring == {}
