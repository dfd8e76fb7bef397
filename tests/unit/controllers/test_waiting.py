"""Who waits for what, and who is held back."""

from __future__ import annotations

from taskctl.api.states import TaskState, When
from taskctl.controllers.waiting import Waiters, WaitsFor
from taskctl.objectkey import ObjectKey
from taskctl.placement.pending import HoldKind, PendingTasks
from taskctl.placement.queue import PendingTask


def key(name: str) -> ObjectKey:
    return ObjectKey("ns", name)


def after(*names: str, when: str = When.SUCCESS) -> WaitsFor:
    keys = tuple(key(name) for name in names)
    spare = 0 if when == When.SUCCESS else None
    return WaitsFor(tasks=keys, named=keys, spare=spare)


def test_by_cluster_and_input() -> None:
    waiting = Waiters()
    waiting.set(key("t"), WaitsFor(cluster=key("c")))
    waiting.set(key("u"), WaitsFor(cluster=key("c"), input_object=key("in")))
    assert waiting.for_cluster(key("c")) == [key("t"), key("u")]
    assert waiting.for_input(key("in")) == [key("u")]
    waiting.set(key("u"), WaitsFor())
    assert waiting.for_cluster(key("c")) == [key("t")]
    assert waiting.for_input(key("in")) == []
    waiting.clear(key("t"))
    assert len(waiting) == 0


def test_only_the_last_of_many_predecessors_matters() -> None:
    waiting = Waiters()
    names = [f"p{n}" for n in range(1000)]
    waiting.set(key("t"), after(*names))
    told = [list(waiting.task_ended(key(name), TaskState.SUCCEEDED)) for name in names]
    assert told == [[]] * 999 + [[key("t")]]
    assert waiting.is_awaited(key("p0")), "it must not be removed before the task has begun"
    waiting.clear(key("t"))
    assert not waiting.is_awaited(key("p0"))


def test_a_failure_settles_it_at_once_where_success_is_needed() -> None:
    waiting = Waiters()
    waiting.set(key("t"), after("a", "b"))
    waiting.set(key("u"), after("a", "b", when=When.ALWAYS))
    assert list(waiting.task_ended(key("a"), TaskState.FAILED)) == [key("t")]
    assert list(waiting.task_ended(key("b"), TaskState.SUCCEEDED)) == [key("t"), key("u")]


def test_noting_the_same_again_repairs_what_is_open() -> None:
    waiting = Waiters()
    waiting.set(key("t"), after("a", "b"))
    assert list(waiting.task_ended(key("a"), TaskState.SUCCEEDED)) == []
    assert list(waiting.task_reopened(key("a"))) == [key("t")]
    waiting.set(key("t"), after("a", "b"))
    assert list(waiting.task_ended(key("b"), TaskState.SUCCEEDED)) == []
    assert list(waiting.task_ended(key("a"), TaskState.SUCCEEDED)) == [key("t")]


# --- pending ------------------------------------------------------------------------


def pending_task(uid: str) -> PendingTask:
    return PendingTask(uid=uid, created=("1", 0), root_uid=uid, root_created=("1", 0))


def test_queues_come_and_go() -> None:
    pending = PendingTasks()
    assert pending.push(key("c"), pending_task("a"), 1.0) is True
    assert pending.push(key("c"), pending_task("a"), 1.0) is False
    pending.push(key("d"), pending_task("b"), 1.0)
    assert (len(pending), pending.length(key("c")), pending.length(key("x"))) == (2, 1, 0)
    assert pending.discard("a") == key("c")
    assert pending.discard("a") is None
    assert pending.queue(key("c")) is None
    pending.taken(key("d"), ["b"])
    assert len(pending) == 0


def test_a_task_waits_for_one_cluster_only() -> None:
    pending = PendingTasks()
    pending.push(key("c"), pending_task("a"), 1.0)
    pending.push(key("d"), pending_task("a"), 1.0)
    assert (pending.length(key("c")), pending.length(key("d"))) == (0, 1)


def test_how_long_the_oldest_waits() -> None:
    pending = PendingTasks()
    assert pending.oldest_s(key("c")) is None
    pending.push(key("c"), pending_task("a"), 5.0)
    pending.push(key("c"), pending_task("b"), 7.0)
    pending.push(key("c"), pending_task("a"), 9.0)
    assert pending.oldest_s(key("c")) == 5.0, "asked for again is no new wait"
    pending.discard("a")
    assert pending.oldest_s(key("c")) == 7.0
    pending.push(key("d"), pending_task("b"), 11.0)
    assert (pending.oldest_s(key("c")), pending.oldest_s(key("d"))) == (None, 11.0)


def test_holds_grow() -> None:
    pending = PendingTasks()
    kinds = [HoldKind.FAILED, HoldKind.FORBIDDEN] + [HoldKind.INVALID] * 7
    delays = [pending.hold("a", n, "why", kind) for n, kind in enumerate(kinds)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (0.5, 30.0)
    held = pending.held("a")
    assert held is not None
    assert (held.failures, held.refusals, held.message) == (9, 7, "why")
    assert (held.since_s, held.until_s, held.forbidden) == (0, 38.0, False)
    pending.release("a")
    assert pending.held("a") is None


def test_what_is_forbidden_stays_so_until_it_is_placed() -> None:
    pending = PendingTasks()
    pending.hold("a", 0.0, "a policy says no", HoldKind.FORBIDDEN)
    pending.hold("a", 1.0, "no answer", HoldKind.FAILED)
    held = pending.held("a")
    assert held is not None
    assert (held.forbidden, held.message, held.failures) == (True, "a policy says no", 2)
    pending.release("a")
    pending.hold("a", 2.0, "no answer", HoldKind.FAILED)
    held = pending.held("a")
    assert held is not None
    assert (held.forbidden, held.message) == (False, "no answer")
