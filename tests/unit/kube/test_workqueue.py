"""The queue: client-go's promises one by one, then all of them against a model."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taskctl.controllers.metrics import Metrics
from taskctl.kube.workqueue import QueueClosed, RateLimits, WorkQueue
from tests.unit.kube.fakes import FakeTime, settle


def queue_with_time(limits: RateLimits | None = None) -> tuple[WorkQueue[str], FakeTime]:
    time = FakeTime(chance=0.999999)
    return WorkQueue("q", timing=time.timing, limits=limits or RateLimits()), time


async def take(queue: WorkQueue[str]) -> list[str]:
    """Take what is there, one after the other."""
    taken: list[str] = []
    while len(queue):
        key = await queue.get()
        taken.append(key)
        queue.done(key)
    return taken


async def test_first_come_first_served_and_no_doubles() -> None:
    queue, _ = queue_with_time()
    for key in "abcab":
        queue.add(key)
    assert queue.waiting() == ["a", "b", "c"]
    assert await take(queue) == ["a", "b", "c"]


async def test_key_added_while_worked_on_comes_back_once_and_not_before() -> None:
    queue, _ = queue_with_time()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    assert queue.processing == ("a",)
    queue.done("a")
    assert await take(queue) == ["a"]


async def test_get_waits() -> None:
    queue, _ = queue_with_time()
    waiting = [asyncio.create_task(queue.get()) for _ in range(2)]
    await settle()
    queue.add("a")
    queue.add("b")
    assert await asyncio.gather(*waiting) == ["a", "b"]


async def test_cancelled_waiter_passes_its_turn_on() -> None:
    queue, _ = queue_with_time()
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await settle()
    queue.add("a")
    first.cancel()
    await settle()
    assert second.done()
    assert await second == "a"
    await asyncio.gather(first, return_exceptions=True)


async def test_delays() -> None:
    queue, time = queue_with_time()
    queue.add_after("late", 10)
    queue.add_after("soon", 1)
    queue.add_after("now", 0)
    assert await take(queue) == ["now"]
    time.advance(0.999)
    assert await take(queue) == []
    time.advance(0.001)
    assert await take(queue) == ["soon"]
    time.advance(9)
    assert await take(queue) == ["late"]
    assert queue.delayed == 0


async def test_earliest_of_several_delays_counts() -> None:
    queue, time = queue_with_time()
    queue.add_after("a", 10)
    queue.add_after("a", 2)
    queue.add_after("a", 5)
    time.advance(2)
    assert await take(queue) == ["a"]
    time.advance(100)
    assert await take(queue) == []


async def test_failures_slow_a_key_down_and_success_forgets() -> None:
    queue, _ = queue_with_time()
    pauses = [queue.add_rate_limited("a") for _ in range(20)]
    assert pauses[:4] == pytest.approx([0.005, 0.01, 0.02, 0.04], rel=1e-3)
    assert pauses[-1] == pytest.approx(60, rel=1e-3)
    assert queue.failures("a") == 20
    assert queue.add_rate_limited("b") == pytest.approx(0.005, rel=1e-3)
    queue.forget("a")
    assert queue.add_rate_limited("a") == pytest.approx(0.005, rel=1e-3)
    assert queue.add_rate_limited("c", at_least_s=7) == 7


async def test_jitter_only_shortens() -> None:
    queue = WorkQueue[str]("q", timing=FakeTime(chance=0.0).timing)
    assert queue.add_rate_limited("a") == pytest.approx(0.005 * 0.75)


async def test_all_failures_together_are_bounded() -> None:
    queue, _ = queue_with_time(RateLimits(qps=10, burst=5))
    pauses = [queue.add_rate_limited(str(number)) for number in range(25)]
    assert pauses[4] < 0.01
    assert pauses[24] == pytest.approx(2.0)


async def test_shutdown_hands_out_the_rest_and_then_ends() -> None:
    queue, time = queue_with_time()
    queue.add("a")
    queue.add_after("later", 1)
    idle = asyncio.create_task(queue.get())
    await settle()
    assert await idle == "a"
    queue.add("b")
    waiting = asyncio.create_task(take_until_closed(queue))
    queue.shutdown()
    queue.add("c")
    time.advance(10)
    queue.done("a")
    assert await waiting == ["b"]


async def take_until_closed(queue: WorkQueue[str]) -> list[str]:
    taken: list[str] = []
    while True:
        try:
            key = await queue.get()
        except QueueClosed:
            return taken
        taken.append(key)
        queue.done(key)


async def test_shutdown_wakes_everyone_and_may_discard() -> None:
    queue, _ = queue_with_time()
    workers = [asyncio.create_task(take_until_closed(queue)) for _ in range(3)]
    await settle()
    queue.shutdown()
    assert await asyncio.gather(*workers) == [[], [], []]
    other, _ = queue_with_time()
    other.add("a")
    other.shutdown(discard=True)
    with pytest.raises(QueueClosed):
        await other.get()


async def test_drain_waits_for_work_under_way() -> None:
    queue, _ = queue_with_time()
    queue.add("a")
    queue.add("b")
    key = await queue.get()
    queue.add(key)  # comes back even after the shutdown, since it was added before
    draining = asyncio.create_task(queue.drain())
    await settle()
    assert not draining.done()
    queue.done(key)
    assert await take(queue) == ["b", "a"]
    await asyncio.wait_for(draining, 1)


async def test_metrics() -> None:
    metrics = Metrics()
    time = FakeTime()
    queue = WorkQueue[str]("q", timing=time.timing, observer=metrics.queue("q"))
    queue.add("a")
    queue.add("a")
    time.advance(2)
    assert metrics.registry.get_sample_value("taskctl_workqueue_depth", {"queue": "q"}) == 1
    await queue.get()
    queue.add_rate_limited("a")
    read = metrics.registry.get_sample_value
    assert read("taskctl_workqueue_depth", {"queue": "q"}) == 0
    assert read("taskctl_workqueue_adds_total", {"queue": "q"}) == 1
    assert read("taskctl_workqueue_retries_total", {"queue": "q"}) == 1
    assert read("taskctl_workqueue_wait_duration_seconds_sum", {"queue": "q"}) == 2


class QueueMachine(RuleBasedStateMachine):
    """Adds, delays, failures, workers and time in any order, against a plain model.

    The model: ``line`` is what should be handed out next, in order; ``again`` are keys
    added while worked on; ``due`` holds the earliest time each delayed key is due.
    """

    keys = st.sampled_from(["a", "b", "c", "d"])
    seconds = st.sampled_from([0.25, 0.5, 1.0, 3.0])

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.time = FakeTime(chance=0.999999)
        self.queue = WorkQueue[str]("q", timing=self.time.timing)
        self.line: list[str] = []
        self.busy: set[str] = set()
        self.again: dict[str, None] = {}
        self.due: dict[str, tuple[float, int]] = {}
        self.order = 0

    def teardown(self) -> None:
        self.loop.close()

    def model_add(self, key: str) -> None:
        if key in self.busy:
            self.again[key] = None
        elif key not in self.line:
            self.line.append(key)

    def model_delay(self, key: str, pause_s: float) -> None:
        due_s = self.time.now_s + pause_s
        if key not in self.due or due_s < self.due[key][0]:
            self.order += 1
            self.due[key] = (due_s, self.order)

    @rule(key=keys)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.model_add(key)

    @rule(key=keys, pause_s=seconds)
    def add_after(self, key: str, pause_s: float) -> None:
        self.queue.add_after(key, pause_s)
        self.model_delay(key, pause_s)

    @rule(key=keys)
    def fail(self, key: str) -> None:
        failures = self.queue.failures(key)
        pause_s = self.queue.add_rate_limited(key)
        assert pause_s <= 60
        assert pause_s >= 0.75 * min(60, 0.005 * 2**failures)
        self.model_delay(key, pause_s)

    @rule(key=keys)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        assert self.queue.failures(key) == 0

    @rule(seconds=seconds)
    def wait(self, seconds: float) -> None:
        end_s = self.time.now_s + seconds
        ripe = sorted((at, key) for key, at in self.due.items() if at[0] <= end_s)
        self.time.advance(seconds)
        for _, key in ripe:
            del self.due[key]
            self.model_add(key)

    @precondition(lambda self: self.line)
    @rule()
    def take(self) -> None:
        key = self.loop.run_until_complete(self.queue.get())
        assert key not in self.busy, "two workers have the same key"
        assert key == self.line.pop(0), "not first come first served"
        self.busy.add(key)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.busy)))
        self.queue.done(key)
        self.busy.discard(key)
        if key in self.again:
            del self.again[key]
            self.model_add(key)

    @invariant()
    def nothing_is_lost_or_early(self) -> None:
        assert self.queue.waiting() == self.line
        assert set(self.queue.processing) == self.busy
        assert self.queue.delayed == len(self.due)


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestQueueMachine = pytest.mark.slow(QueueMachine.TestCase)
