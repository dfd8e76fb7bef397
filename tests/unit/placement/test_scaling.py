"""How many workers are needed, and how long a need counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.placement.queue import Size
from taskctl.placement.scaling import (
    Demand,
    Load,
    ScaleRule,
    cluster_size,
    needed_workers,
    scale_rule,
)
from taskctl.policy.resources import UNCOUNTED, Amount
from tests.unit.policy.build import raw_cluster

IDLE = Load(0, busy=False)
IDLE_S = 60.0


FOUR = Size(4, UNCOUNTED)


def sizes(queued: dict[int, int]) -> dict[Size, int]:
    return {Size(slots): count for slots, count in queued.items()}


def busy(used: int) -> Load:
    return Load(used, busy=True)


@pytest.mark.parametrize(
    ("loads", "queued", "needed"),
    [
        ([], {}, 0),
        ([IDLE, IDLE], {}, 0),
        ([], {1: 1}, 1),
        ([], {1: 9}, 3),
        ([IDLE], {1: 1}, 1),
        ([busy(4), IDLE], {1: 1}, 2),
        ([busy(3)], {1: 1}, 1),
        # Slots that are free in sum help no task that takes more than each worker has.
        ([busy(2), busy(2)], {3: 1}, 3),
        ([], {3: 4}, 4),
        ([], {3: 2, 1: 2}, 2),
        # All tasks of a worker wait for their children: it takes no slot, and cannot go.
        ([busy(0), IDLE], {}, 1),
        ([busy(0)], {1: 4}, 1),
        ([busy(5)], {1: 1}, 2),
        ([], {1: 1000}, 10),
        ([busy(1)] * 12, {}, 10),
        ([IDLE, busy(1)], {1: 3}, 1),
    ],
)
def test_need(loads: Sequence[Load], queued: dict[int, int], needed: int) -> None:
    assert needed_workers(FOUR, loads, sizes(queued), 10) == needed


def gib(count: int) -> Amount:
    return Amount(0, count * 2**30)


@pytest.mark.parametrize(
    ("loads", "queued", "needed"),
    [
        # Four slots, and memory for two tasks of 3 GiB.
        ([], {Size(1, gib(3)): 4}, 2),
        ([Load(1, busy=True, committed=gib(6))], {Size(1, gib(3)): 1}, 2),
        ([Load(1, busy=True, committed=gib(6))], {Size(1): 3}, 1),
        # One resumed after a wait for its children: the worker has less than nothing left.
        ([Load(1, busy=True, committed=gib(12))], {Size(1, gib(1)): 1}, 2),
        # The larger ones first.
        ([], {Size(1, gib(8)): 1, Size(2, gib(1)): 2}, 2),
        # Memory is short before the slots are, and CPU before memory.
        ([], {Size(1, Amount(1500, 2**30)): 4}, 4),
    ],
)
def test_need_by_memory_and_cpu(
    loads: Sequence[Load], queued: dict[Size, int], needed: int
) -> None:
    assert needed_workers(Size(4, Amount(2000, 8 * 2**30)), loads, queued, 10) == needed


def test_size_of_a_worker() -> None:
    resources = {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi", "cpu": "1500m"}}
    cluster = raw_cluster(slotsPerWorker=3, template={"resources": resources})
    assert cluster_size(cluster) == Size(3, Amount(1500, 2**30))
    assert cluster_size(raw_cluster(slotsPerWorker=3)) == Size(3, UNCOUNTED)


_LOADS = st.lists(st.builds(Load, st.integers(0, 5), busy=st.booleans()), max_size=6)
_QUEUED = st.dictionaries(st.integers(1, 4), st.integers(1, 30), max_size=4)


@given(_LOADS, _QUEUED, st.integers(1, 20))
def test_need_is_bounded_and_enough(loads: list[Load], queued: dict[int, int], most: int) -> None:
    needed = needed_workers(FOUR, loads, sizes(queued), most)
    assert 0 <= needed <= most
    working = sum(load.busy or load.used > 0 for load in loads)
    assert needed >= min(working, most)
    waiting = sum(size * count for size, count in queued.items())
    if needed < most and waiting:
        assert needed * 4 >= waiting, "all that wait have a place on so many workers"
    more = {**queued, 1: queued.get(1, 0) + 1}
    assert needed_workers(FOUR, loads, sizes(more), most) >= needed


def demand(*needs: tuple[float, int], start: int = 0) -> Demand:
    found = Demand.starting(start, 0.0)
    for now_s, need in needs:
        found = found.with_need(need, now_s, IDLE_S)
    return found


def test_a_higher_need_counts_at_once_and_a_lower_one_later() -> None:
    assert demand((0, 1), (1, 5)).highest == 5
    fallen = demand((0, 5), (10, 2), (20, 0))
    assert fallen.highest == 5
    assert fallen.falls_in_s(20, IDLE_S) == 50
    after = fallen.with_need(0, 70, IDLE_S)
    assert (after.highest, after.falls_in_s(70, IDLE_S)) == (2, 10)
    assert after.with_need(0, 80, IDLE_S).highest == 0
    assert demand((0, 5), (10, 2), (20, 5)).falls_in_s(20, IDLE_S) is None


def test_after_a_restart_workers_have_their_time_too() -> None:
    begun = demand((0, 0), start=3)
    assert (begun.highest, begun.falls_in_s(0, IDLE_S)) == (3, 60)
    assert begun.with_need(0, 60, IDLE_S).highest == 0


_NEEDS = st.lists(st.tuples(st.floats(0, 40), st.integers(0, 9)), min_size=1, max_size=30)


@given(_NEEDS, st.sampled_from([0.0, 10.0, 60.0]))
def test_wanted_is_the_highest_need_of_the_last_while(
    steps: list[tuple[float, int]], idle_s: float
) -> None:
    now_s, found = 0.0, Demand()
    seen: list[tuple[float, int]] = []
    for pause_s, need in steps:
        now_s += pause_s
        found = found.with_need(need, now_s, idle_s)
        seen.append((now_s, need))
        ends = [*(at_s for at_s, _ in seen[1:]), float("inf")]
        recent = [n for (_, n), end_s in zip(seen, ends, strict=True) if end_s + idle_s > now_s]
        assert found.highest == max(recent)
        falls_s = found.falls_in_s(now_s, idle_s)
        assert (falls_s is None) == (found.highest == need)
        assert len(found.levels) <= 10


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ({"replicas": 3}, None),
        ({"maxReplicas": 5}, ScaleRule(0, 5, 300.0)),
        (
            {"maxReplicas": 5, "minReplicas": 2, "idleSecondsBeforeScaleDown": 0},
            ScaleRule(2, 5, 0.0),
        ),
    ],
)
def test_rule(spec: dict[str, Any], rule: ScaleRule | None) -> None:
    assert scale_rule({"spec": spec}) == rule
    if rule is not None:
        assert [rule.clamp(need) for need in (0, 3, 99)] == [rule.least, 3, 5]
