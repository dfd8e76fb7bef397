"""How many containers are parked: by pace, by what waits, and between the limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.placement.queue import PendingQueue, PendingTask
from taskctl.placement.rotation import RotationRule
from taskctl.placement.standby import (
    ClassDemand,
    StandbyRule,
    Targets,
    WorkerStock,
    refill,
    standby_rule,
    targets,
)
from taskctl.policy.handover import ContainerClass, Dismissal, Handover, decode_entry, encode_entry
from taskctl.policy.resources import Amount

RULE = StandbyRule(floor=0, ceiling=16, total=200, idle_s=60.0)


def demand(image: str, starts: int, at_s: float = 100.0) -> ClassDemand:
    found = ClassDemand(ContainerClass(image), at_s)
    for _ in range(starts):
        found.start(at_s)
    return found


def stocks(count: int, **fields: Any) -> list[WorkerStock]:
    return [WorkerStock(f"w{number}", number, **fields) for number in range(count)]


def totals(found: Targets) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for shares in found.values():
        counts.update(shares)
    return dict(counts)


def wanted(
    demands: Mapping[str, ClassDemand],
    workers: int,
    queued: Mapping[str, int] | None = None,
    now_s: float = 100.0,
    rule: StandbyRule = RULE,
) -> dict[str, int]:
    """How many of each class there are to be in all."""
    return totals(targets(rule, demands, stocks(workers), queued or {}, now_s))


def test_without_demand_nothing_is_parked() -> None:
    assert wanted({}, 3, {"a": 50}) == {}
    late = {"a": demand("a", 50, at_s=30.0)}
    assert wanted(late, 3) == {}


def test_what_waits_counts_for_its_own_class() -> None:
    """Of two classes as busy as each other the one is parked of which more wait."""
    demands = {"a": demand("a", 5), "b": demand("b", 5)}
    alone = wanted(demands, 1)
    assert alone == {"a": 3, "b": 3}
    assert wanted(demands, 1, {"b": 6}) == {"a": 3, "b": 6}
    assert wanted(demands, 1, {"b": 1000}) == {"a": 3, "b": 9}, "three times at most"
    assert wanted(demands, 1, {"never started": 1000}) == alone


def test_a_class_is_in_use_as_long_as_tasks_of_it_wait() -> None:
    slow = demand("slow", 1, at_s=10.0)
    slow.wait(100.0)
    assert wanted({"slow": slow}, 8, {"slow": 2}) == {"slow": 2}, "each will be used"
    assert wanted({"slow": slow}, 2, {"slow": 5}) == {"slow": 2}, "one for the next free slot"
    assert wanted({"slow": slow}, 2, now_s=161.0) == {}


def test_limits_per_worker_and_in_all() -> None:
    demands = {"a": demand("a", 500), "b": demand("b", 100)}
    for shares in targets(RULE, demands, stocks(2), {}, 100.0).values():
        assert sum(shares.values()) <= RULE.ceiling
    assert sum(wanted(demands, 50).values()) <= RULE.total
    assert wanted(demands, 2, rule=StandbyRule(1, 0, 200, 60.0)) == {}
    few = replace(RULE, total=3)
    assert sum(wanted(demands, 8, rule=few).values()) == 3


def test_a_class_in_use_has_one_in_the_taskcluster_where_most_budget_is_left() -> None:
    workers = [
        WorkerStock("worn", 1, budget_left=2),
        WorkerStock("fresh", 2, budget_left=90),
        WorkerStock("full", 3, budget_left=95, free=False),
    ]
    demands = {"a": demand("a", 1)}
    assert targets(RULE, demands, workers, {}, 103.0) == {"worn": {}, "fresh": {"a": 1}, "full": {}}
    workers[0] = replace(workers[0], parked={"a": 1})
    assert targets(RULE, demands, workers, {}, 103.0)["worn"] == {"a": 1}, "it is there already"
    on_each = replace(RULE, floor=1)
    assert totals(targets(on_each, demands, workers, {}, 103.0)) == {"a": 3}, "asked for"
    none_left = [WorkerStock("w", budget_left=0)]
    assert targets(RULE, demands, none_left, {}, 103.0) == {"w": {}}


def test_a_class_that_is_started_more_rarely_than_it_would_be_kept_is_not_parked() -> None:
    rare = demand("rare", 1, at_s=0.0)
    assert wanted({"rare": rare}, 3, now_s=0.0) == {"rare": 1}, "it may be the first of many"
    rare.start(120.0)
    assert wanted({"rare": rare}, 3, now_s=120.0) == {}
    assert wanted({"rare": rare}, 3, {"rare": 1}, now_s=120.0) == {"rare": 1}, "one waits for it"
    on_each = replace(RULE, floor=1)
    assert wanted({"rare": rare}, 3, now_s=120.0, rule=on_each) == {"rare": 3}, "asked for"
    rare.start(140.0)
    assert wanted({"rare": rare}, 3, now_s=140.0) == {"rare": 1}


def test_what_ended_unused_counts_towards_the_share_of_its_worker() -> None:
    rule = replace(RULE, unused=12)
    workers = [WorkerStock("a", 1, unused=12), WorkerStock("b", 2, unused=10), WorkerStock("c", 3)]
    found = targets(rule, {"x": demand("x", 500)}, workers, {}, 100.0)
    assert found == {"a": {}, "b": {"x": 2}, "c": {"x": 12}}


@pytest.mark.parametrize(
    ("spec", "max_tasks", "expected"),
    [
        ({}, 100, StandbyRule(0, 0, 0, 0.0)),
        ({"standby": {"max": 200}}, 100, StandbyRule(0, 12, 200, 60.0, 12)),
        ({"standby": {"maxPerWorker": None}}, 500, StandbyRule(0, 16, 200, 60.0, 62)),
        ({"standby": {}}, 20, StandbyRule(0, 2, 200, 60.0, 2)),
        ({"standby": {}}, 19, StandbyRule(0, 0, 200, 60.0, 0)),
        ({"standby": {"minPerWorker": 3}}, 19, StandbyRule(3, 3, 200, 60.0, 3)),
        ({"standby": {"maxPerWorker": 0}}, 100, StandbyRule(0, 0, 200, 60.0)),
        ({"standby": {"maxPerWorker": 40, "max": 7}}, 10, StandbyRule(0, 40, 7, 60.0)),
    ],
)
def test_what_a_taskcluster_asks_for(
    spec: dict[str, Any], max_tasks: int, expected: StandbyRule
) -> None:
    assert standby_rule(spec, RotationRule(max_tasks, 4)) == expected


STARTS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 100.0)), max_size=30)
WORKERS = st.lists(
    st.builds(
        WorkerStock,
        uid=st.uuids().map(str),
        serial=st.integers(0, 9),
        budget_left=st.integers(-5, 100),
        free=st.booleans(),
        parked=st.dictionaries(st.sampled_from("abc"), st.integers(0, 5)),
        unused=st.integers(0, 20),
    ),
    max_size=9,
    unique_by=lambda one: one.uid,
)
RULES = st.builds(
    StandbyRule,
    floor=st.integers(0, 3),
    ceiling=st.integers(0, 16),
    total=st.integers(0, 40),
    idle_s=st.floats(1.0, 100.0),
    unused=st.none() | st.integers(0, 16),
)


@given(rule=RULES, starts=STARTS, workers=WORKERS, queued=st.dictionaries(
    st.sampled_from("abc"), st.integers(0, 50)
))  # fmt: skip
def test_limits_hold_whatever_is_asked_for(
    rule: StandbyRule,
    starts: list[tuple[str, float]],
    workers: list[WorkerStock],
    queued: dict[str, int],
) -> None:
    demands: dict[str, ClassDemand] = {}
    for name, at_s in sorted(starts, key=lambda one: one[1]):
        demands.setdefault(name, ClassDemand(ContainerClass(name), at_s)).start(at_s)
    found = targets(rule, demands, workers, queued, 100.0)
    assert set(found) == {worker.uid for worker in workers}
    assert sum(totals(found).values()) <= rule.total
    for worker in workers:
        shares = found[worker.uid]
        assert all(count > 0 for count in shares.values())
        assert sum(shares.values()) <= rule.ceiling
        if rule.unused is not None:
            assert sum(shares.values()) + worker.unused <= max(rule.unused, worker.unused)


def test_the_queue_counts_by_class() -> None:
    queue = PendingQueue()
    for number, name in enumerate(["a", "a", "b", ""]):
        created = ("2030-01-01T00:00:00Z", number)
        queue.push(PendingTask(f"u{number}", created, "r", created, container_class=name))
    assert queue.classes() == {"a": 2, "b": 1, "": 1}
    queue.discard("u2")
    with queue.cycle() as cycle:
        cycle.take()
    assert queue.classes() == {"a": 1, "": 1}


def test_entries_of_the_record_are_read_back() -> None:
    handover = Handover(
        "t", "u", 3, "", Amount(500, 1 << 20), {"image": "i", "retry": {"limit": 1}}
    )
    assert decode_entry(encode_entry(handover)) == handover
    bare = Handover("t", "u", 3, "")
    for entry in (bare, Dismissal(), Dismissal(bare)):
        assert decode_entry(encode_entry(entry)) == entry


# --- when to refill, and by how many ------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted_there", "queued", "pace_per_s", "rests_in_s", "parked"),
    [
        pytest.param((16, 16), 0, 20.0, 0.0, 0, id="nothing is missing"),
        pytest.param((4, 9), 0, 20.0, 0.0, 0, id="there are more than wanted"),
        pytest.param((16, 13), 0, 1.0, 0.0, 0, id="at rest, a few of many"),
        pytest.param((16, 12), 0, 1.0, 0.0, 4, id="at rest"),
        pytest.param((2, 1), 0, 1.0, 0.0, 1, id="at rest, one of two"),
        pytest.param((16, 8), 0, 2.0, 1.5, 0, id="it lasts until it rests"),
        pytest.param((16, 8), 0, 20.0, 1.5, 8, id="it would be empty before it rests"),
        pytest.param((16, 9), 0, 20.0, 1.5, 0, id="it would be, and has more than half"),
        pytest.param((16, 6), 0, 20.0, 0.0, 6, id="no more than start while those are used"),
        pytest.param((16, 1), 0, 20.0, 1.5, 4, id="one is left: four at least"),
        pytest.param((16, 0), 0, 20.0, 1.5, 4, id="none is left: the next task waits for few"),
        pytest.param((16, 0), 5, 20.0, 1.5, 16, id="tasks wait for slots: all at once"),
        pytest.param((16, 0), 0, 0.2, 1.5, 16, id="tasks come rarely: all at once"),
        pytest.param((3, 0), 0, 20.0, 1.5, 3, id="never more than are missing"),
        pytest.param((16, 0), 0, 0.0, 0.0, 16, id="none was started of late"),
        pytest.param((1, 0), 0, 0.2, 2.0, 1, id="the only one"),
    ],
)
def test_when_and_how_many(
    wanted_there: tuple[int, int], queued: int, pace_per_s: float, rests_in_s: float, parked: int
) -> None:
    assert refill(*wanted_there, queued, pace_per_s, rests_in_s) == parked


@given(
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 50),
    st.floats(0, 1000),
    st.floats(-10, 10),
)
def test_a_refill_never_exceeds_what_is_missing_and_an_empty_worker_always_gets_one(
    wanted: int, there: int, queued: int, pace_per_s: float, rests_in_s: float
) -> None:
    parked = refill(wanted, there, queued, pace_per_s, rests_in_s)
    assert 0 <= parked <= max(wanted - there, 0)
    if wanted and not there:
        assert parked > 0


@given(st.integers(1, 50), st.floats(0.1, 100))
def test_refills_at_rest_end_with_less_than_a_quarter_missing(wanted: int, pace: float) -> None:
    there = 0
    for _ in range(wanted):
        there += refill(wanted, there, 0, pace, 0.0)
    assert wanted - there < max(1, wanted // 4)
