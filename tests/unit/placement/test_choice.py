"""Scheduling: never over slots, fair, no starvation, priority first, the same every time."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from taskctl.placement.choice import Candidate, Snapshot, place
from taskctl.placement.queue import PendingQueue, PendingTask
from taskctl.placement.rest import Rest
from taskctl.policy.resources import Amount


def task(uid: str, root: str = "r", **fields: Any) -> PendingTask:
    values: dict[str, Any] = {"created": "0", "root_uid": root, "root_created": root}
    return PendingTask(uid=uid, **values | fields)


def worker(serial: int, used: int = 0, **fields: Any) -> Candidate:
    values: dict[str, Any] = {"entries_total": 0, "max_entries": 100}
    return Candidate(uid=f"w{serial}", serial=serial, used=used, **values | fields)


def queue_of(*tasks: PendingTask) -> PendingQueue:
    queue = PendingQueue()
    for item in tasks:
        queue.push(item)
    return queue


def placed(queue: PendingQueue, *workers: Candidate, slots: int = 4) -> list[tuple[str, str]]:
    decided = place(queue, Snapshot(slots, workers, now_s=0.0))
    return [(item.task.uid, item.worker_uid) for item in decided.assignments]


# --- order --------------------------------------------------------------------------


def test_priority_first() -> None:
    queue = queue_of(task("low"), task("high", priority=5), task("mid", priority=1))
    assert [uid for uid, _ in placed(queue, worker(1))] == ["high", "mid", "low"]


def test_negative_priority_is_last() -> None:
    queue = queue_of(task("n", priority=-1), task("z"))
    assert [uid for uid, _ in placed(queue, worker(1))] == ["z", "n"]


def test_roots_take_turns_older_first() -> None:
    queue = queue_of(
        *(task(f"y{n}", "young", root_created="2") for n in range(3)),
        *(task(f"o{n}", "old", root_created="1") for n in range(3)),
    )
    order = [uid for uid, _ in placed(queue, worker(1), worker(2))]
    assert order == ["o0", "y0", "o1", "y1", "o2", "y2"]


def test_within_a_root_older_tasks_first() -> None:
    queue = queue_of(task("b", created="2"), task("a", created="1"), task("c", created="2"))
    assert [uid for uid, _ in placed(queue, worker(1))] == ["a", "b", "c"]


def test_leaving_and_coming_back_is_no_advantage() -> None:
    """A chain that shows one task at a time gets no more turns than a broad tree."""
    queue = queue_of(*(task(f"wide{n}", "wide", root_created="2") for n in range(60)))
    counts: Counter[str] = Counter()
    for number in range(40):
        queue.push(task(f"chain{number}", "chain", root_created="1"))
        ((uid, _),) = placed(queue, worker(1, used=3))
        counts[uid.rstrip("0123456789")] += 1
        if "wide" in uid:
            queue.discard(f"chain{number}")
    assert abs(counts["wide"] - counts["chain"]) <= 2


def test_pushing_the_same_task_again_keeps_its_place() -> None:
    queue = queue_of(task("a"), task("b"))
    assert queue.push(task("a")) is False
    assert queue.push(task("a", priority=1)) is True
    assert [uid for uid, _ in placed(queue, worker(1))] == ["a", "b"]
    assert len(queue) == 0


def test_a_task_taken_out_is_not_placed() -> None:
    queue = queue_of(task("a"), task("b"), task("c", "other"))
    assert queue.discard("a") is True
    assert queue.discard("a") is False
    queue.discard("c")
    assert [uid for uid, _ in placed(queue, worker(1))] == ["b"]


def test_a_task_that_came_back_is_placed_once() -> None:
    queue = queue_of(task("a"), task("b"))
    queue.discard("a")
    queue.push(task("a"))
    assert sorted(uid for uid, _ in placed(queue, worker(1))) == ["a", "b"]


# --- choice of worker ---------------------------------------------------------------


def test_a_worker_at_rest_goes_first() -> None:
    queue = queue_of(task("t"))
    assert placed(queue, worker(1, rest=Rest(0.5)), worker(2, used=3)) == [("t", "w2")]


def test_then_the_one_that_waits_for_fewer_relists() -> None:
    busy = [worker(1, rest=Rest(3.5, behind=True)), worker(2, used=3, rest=Rest(1.5))]
    assert placed(queue_of(task("t")), *busy) == [("t", "w2")]


def test_of_those_that_wait_alike_the_one_that_rests_soonest() -> None:
    """It is the parent's worker that was given a container last: not that one."""
    busy = [worker(1, rest=Rest(1.9)), worker(2, rest=Rest(0.4)), worker(3, rest=Rest(0.9))]
    assert placed(queue_of(task("t", parent_worker="w1")), *busy) == [("t", "w2")]


def test_of_those_at_rest_the_one_that_rests_longest() -> None:
    """The others may have been looked after once more than we know."""
    rested = [worker(1, rest=Rest(-0.1)), worker(2, rest=Rest(-60.0)), worker(3, rest=Rest(-9.0))]
    assert placed(queue_of(task("t")), *rested) == [("t", "w2")]


def test_then_the_one_that_runs_the_fewest() -> None:
    queue = queue_of(*(task(f"t{n}") for n in range(4)))
    assert placed(queue, worker(1, used=2), worker(2)) == [
        ("t0", "w2"),
        ("t1", "w2"),
        ("t2", "w1"),
        ("t3", "w2"),
    ]


def test_then_the_parents_worker_then_one_that_knows_the_image() -> None:
    queue = queue_of(task("child", parent_worker="w3", image="x"))
    known = worker(2, images=frozenset({"x"}))
    assert placed(queue, worker(1), known, worker(3)) == [("child", "w3")]
    queue = queue_of(task("t", image="x", parent_worker="gone"))
    assert placed(queue, worker(1), known) == [("t", "w2")]


def test_one_within_its_budget_goes_before_a_worn_one_as_quiet() -> None:
    worn = worker(1, worn=True)
    assert placed(queue_of(task("t")), worn, worker(2, used=3)) == [("t", "w2")]
    noisy = worker(2, rest=Rest(0.5))
    assert placed(queue_of(task("t")), worn, noisy) == [("t", "w1")], "worn beats noisy"
    everywhere = placed(queue_of(*(task(f"t{n}") for n in range(6))), worn, worker(2))
    assert [where for _, where in everywhere] == ["w2"] * 4 + ["w1"] * 2


def test_one_that_has_just_come_up_is_last() -> None:
    fresh = worker(1, serves=False)
    busy = worker(2, used=3, worn=True, rest=Rest(1.0))
    assert placed(queue_of(task("a"), task("b")), fresh, busy) == [("a", "w2"), ("b", "w1")]
    assert placed(queue_of(task("t")), fresh) == [("t", "w1")], "better than none"


def test_never_over_the_limit() -> None:
    queue = queue_of(*(task(f"t{n}") for n in range(4)))
    assert len(placed(queue, worker(1, entries_total=98))) == 2


def test_not_on_a_worker_that_does_not_accept() -> None:
    queue = queue_of(task("t"))
    decided = place(queue, Snapshot(4, [worker(1, accepting=False)], 0.0))
    assert decided.assignments == []
    assert len(queue) == 1


def test_full() -> None:
    queue = queue_of(task("t"))
    assert place(queue, Snapshot(4, [worker(1, used=4)], 0.0)).assignments == []
    assert "t" in queue


def test_too_large_does_not_block_others() -> None:
    queue = queue_of(task("huge", "a", slots=9), task("t", "b"))
    decided = place(queue, Snapshot(4, [worker(1)], 0.0))
    assert [item.task.uid for item in decided.assignments] == ["t"]
    assert "huge" in queue


def test_a_large_task_reserves_the_freest_worker() -> None:
    queue = queue_of(task("big", "a", slots=4), *(task(f"s{n}", "b") for n in range(9)))
    small = placed(queue, worker(1, used=2), worker(2, used=1))
    assert {where for _, where in small} == {"w1"}
    assert len(small) == 2
    assert "big" in queue


def test_memory_and_cpu_count_beside_slots() -> None:
    two = Amount(2000, 100)
    queue = queue_of(
        task("m60", amount=Amount(0, 60), created="1"),
        task("m50", amount=Amount(0, 50), created="2"),
        task("cpu", "other", amount=Amount(1500, 0)),
        task("plain", "third"),
    )
    found = placed(queue, worker(1, capacity=two), worker(2, capacity=two, used=3))
    assert dict(found) == {"m60": "w1", "cpu": "w1", "plain": "w1", "m50": "w2"}
    queue = queue_of(task("m60", amount=Amount(0, 60)), task("plain", "b"))
    full = worker(1, capacity=two, committed=Amount(0, 41))
    found = placed(queue, full, worker(2, capacity=two, used=3))
    assert dict(found) == {"m60": "w2", "plain": "w1"}


def test_what_needs_memory_reserves_the_worker_that_lacks_the_least() -> None:
    """The emptier worker by slots is full of memory for long; the other is soon free."""
    capacity = Amount(0, 100)
    queue = queue_of(
        task("big", "a", amount=Amount(0, 60)), *(task(f"s{n}", "b") for n in range(9))
    )
    workers = (
        worker(1, used=1, capacity=capacity, committed=Amount(0, 90)),
        worker(2, used=2, capacity=capacity, committed=Amount(0, 50)),
    )
    assert {where for _, where in placed(queue, *workers)} == {"w1"}
    assert "big" in queue


def test_what_no_worker_can_ever_hold_reserves_none() -> None:
    """While workers of another template serve on, for example."""
    queue = queue_of(task("big", "a", amount=Amount(0, 60)), task("s", "b"))
    assert placed(queue, worker(1, capacity=Amount(0, 50))) == [("s", "w1")]


def test_a_parked_container_is_no_way_around_the_memory() -> None:
    capacity, want = Amount(0, 100), Amount(0, 60)
    queue = queue_of(task("m", amount=want, container_class="k"))
    full = worker(1, capacity=capacity, committed=Amount(0, 50), parked={"k": 1}, hands_over=True)
    free = worker(2, capacity=capacity)
    assert placed(queue, full, free) == [("m", "w2")]


def test_work_is_bounded_by_assignments_not_by_the_queue() -> None:
    """With a long queue and full workers a cycle looks at one head."""
    queue = queue_of(*(task(f"t{n}", f"r{n % 50}") for n in range(5000)))
    top, looks = queue.top, itertools.count()

    def counted() -> Any:
        next(looks)
        return top()

    queue.top = counted  # type: ignore[method-assign]
    assert place(queue, Snapshot(4, [worker(1, used=4)], 0.0)).assignments == []
    assert next(looks) <= 2


# --- limits of trees ----------------------------------------------------------------


def test_a_tree_at_its_limit_waits_and_reserves_nothing() -> None:
    large = [task(f"l{n}", "limited", slots=4, priority=9) for n in range(2)]
    queue = queue_of(*large, task("s1", "free"), task("s2", "free"))
    room = {"limited": 0}
    decided = place(queue, Snapshot(4, [worker(1, 2)], now_s=0.0), room.get)
    assert [item.task.uid for item in decided.assignments] == ["s1", "s2"]
    assert decided.limited == {"limited"}
    assert len(queue) == 2


def test_as_many_as_the_limit_leaves_in_all_priorities() -> None:
    tasks = [task(f"t{n}", "limited", priority=n % 3) for n in range(9)]
    queue = queue_of(*tasks, *(task(f"f{n}", "free") for n in range(3)))
    room = {"limited": 2}
    decided = place(queue, Snapshot(8, [worker(1)], now_s=0.0), room.get)
    roots = Counter(item.task.root_uid for item in decided.assignments)
    assert roots == {"limited": 2, "free": 3}
    assert [item.task.priority for item in decided.assignments[:2]] == [2, 2]
    assert room == {"limited": 2}, "the caller counts"
