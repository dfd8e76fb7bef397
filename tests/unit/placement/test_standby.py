"""How many containers are parked: by pace, by what waits, and between the limits."""

from __future__ import annotations

from taskctl.placement.queue import PendingQueue, PendingTask
from taskctl.placement.standby import ClassDemand, StandbyRule, targets
from taskctl.policy.handover import ContainerClass, Dismissal, Handover, decode_entry, encode_entry
from taskctl.policy.resources import Amount

RULE = StandbyRule(floor=1, ceiling=16, total=200, idle_s=60.0)


def demand(image: str, starts: int, at_s: float = 100.0) -> ClassDemand:
    found = ClassDemand(ContainerClass(image), at_s)
    for _ in range(starts):
        found.start(at_s)
    return found


def test_without_demand_nothing_is_parked() -> None:
    assert targets(RULE, {}, 3, {"a": 50}, 100.0) == {}
    late = {"a": demand("a", 50, at_s=30.0)}
    assert targets(RULE, late, 3, {}, 100.0) == {}


def test_what_waits_counts_for_its_own_class() -> None:
    """Of two classes as busy as each other the one is parked of which more wait."""
    demands = {"a": demand("a", 5), "b": demand("b", 5)}
    alone = targets(RULE, demands, 1, {}, 100.0)
    assert alone == {"a": 3, "b": 3}
    assert targets(RULE, demands, 1, {"b": 6}, 100.0) == {"a": 3, "b": 6}
    assert targets(RULE, demands, 1, {"b": 1000}, 100.0) == {"a": 3, "b": 9}, "three times at most"
    assert targets(RULE, demands, 1, {"never started": 1000}, 100.0) == alone


def test_a_class_is_in_use_as_long_as_tasks_of_it_wait() -> None:
    slow = demand("slow", 1, at_s=10.0)
    slow.wait(100.0)
    assert targets(RULE, {"slow": slow}, 2, {"slow": 5}, 100.0) == {"slow": 1}
    assert targets(RULE, {"slow": slow}, 2, {}, 161.0) == {}


def test_limits_per_worker_and_in_all() -> None:
    demands = {"a": demand("a", 500), "b": demand("b", 100)}
    found = targets(RULE, demands, 2, {}, 100.0)
    assert sum(found.values()) <= RULE.ceiling
    assert sum(targets(RULE, demands, 50, {}, 100.0).values()) <= 4
    assert targets(StandbyRule(1, 0, 200, 60.0), demands, 2, {}, 100.0) == {}


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
