"""When a worker starts what it is given: against a model of the kubelet, in virtual time."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.placement.choice import Candidate, Snapshot, place
from taskctl.placement.queue import PendingQueue, PendingTask
from taskctl.placement.rest import (
    ALWAYS,
    MOST_RELISTS,
    RELIST_S,
    Rest,
    after_batch,
    after_report,
    gather_s,
    relists_to_wait,
)
from tests.unit.placement import kubelet_model
from tests.unit.placement.kubelet_model import Events, Kubelet, Spec

SLOTS = 4
# From a container's start to our knowing it: the agent's claim, the watch.
HEARD_S = 0.015
TASK_S = 0.01

Choose = Callable[["Client", str], str]


@dataclass
class Client:
    """A scheduler of one task at a time, with the product's bookkeeping."""

    events: Events
    names: list[str]
    choose: Choose
    phase_s: float
    rests: dict[str, Rest] = field(default_factory=dict)
    unreported: dict[str, set[str]] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    given_s: dict[str, float] = field(default_factory=dict)
    given_wait_s: dict[str, float] = field(default_factory=dict)
    starts_s: list[float] = field(default_factory=list)
    on_end: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.rests = dict.fromkeys(self.names, ALWAYS)
        self.unreported = {name: set() for name in self.names}
        self.used = dict.fromkeys(self.names, 0)
        self.kubelet = Kubelet(
            self.events, self.names, self.phase_s, self._started, self._ended, self._reported
        )

    def submit(self, task: str, length_s: float, parent: str = "") -> None:
        pod, now_s = self.choose(self, parent), self.events.now_s
        self.given_s[task] = now_s
        self.rests[pod] = after_batch(self.rests[pod], now_s)
        self.unreported[pod].add(task)
        self.used[pod] += 1
        spec: Spec = {task: length_s}
        self.kubelet.append(pod, spec)

    def _started(self, pod: str, task: str) -> None:
        self.starts_s.append(self.events.now_s)
        self.given_wait_s[task] = self.events.now_s - self.given_s[task]

    def _ended(self, pod: str, task: str) -> None:
        self.events.after(HEARD_S, partial(self._heard, pod))

    def _heard(self, pod: str) -> None:
        self.used[pod] -= 1
        self.on_end(pod)

    def _reported(self, pod: str, begun: set[str]) -> None:
        self.unreported[pod] -= begun
        settled = not self.unreported[pod]
        self.rests[pod] = after_report(self.rests[pod], self.events.now_s, settled=settled)


def by_policy(client: Client, parent: str) -> str:
    states = [
        Candidate(name, serial, client.used[name], 0, 10**6, rest=client.rests[name])
        for serial, name in enumerate(client.names)
    ]
    queue = PendingQueue()
    queue.push(PendingTask("t", ("0", 0), "r", ("0", 0), parent_worker=parent))
    decided = place(queue, Snapshot(SLOTS, states, client.events.now_s))
    return decided.assignments[0].worker_uid


def at_random(seed: int) -> Choose:
    chance = random.Random(seed)
    return lambda client, _: chance.choice([n for n in client.names if client.used[n] < SLOTS])


def chain(workers: int, choose: Choose, phase_s: float, hops: int = 120) -> list[float]:
    """Run one task after the other; returns the times between their starts."""
    events = Events()
    client = Client(events, [f"w{n}" for n in range(workers)], choose, phase_s)
    numbers = itertools.count()

    def following(parent: str) -> None:
        if (number := next(numbers)) < hops:
            client.submit(f"t{number}", TASK_S, parent)

    client.on_end = following
    events.after(3.0, lambda: following(""))
    events.run(1000.0)
    return [later - earlier for earlier, later in itertools.pairwise(client.starts_s)]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3, 4, 5, 8])
@given(phase_s=st.floats(0.0, 1.0))
def test_a_chain_goes_as_fast_as_the_kubelet_lets_it(workers: int, phase_s: float) -> None:
    """Each start costs its pod two relists, so that many workers start half as many a relist."""
    best_s = 2 * kubelet_model.RELIST_S / workers
    assert statistics.mean(chain(workers, by_policy, phase_s)) <= best_s * 1.06


@pytest.mark.slow
@pytest.mark.parametrize("workers", [3, 8])
@given(phase_s=st.floats(0.0, 1.0))
def test_and_much_faster_than_by_chance(workers: int, phase_s: float) -> None:
    policy = statistics.mean(chain(workers, by_policy, phase_s))
    chance = statistics.mean(chain(workers, at_random(1), phase_s))
    assert policy < 0.85 * chance


@pytest.mark.slow
@given(phase_s=st.floats(0.0, 1.0), gaps=st.lists(st.floats(0.45, 2.0), min_size=40, max_size=40))
def test_enough_workers_never_wait(phase_s: float, gaps: list[float]) -> None:
    """Ten workers, at most one task every 0.45 s: one of them is always at rest."""
    events = Events()
    client = Client(events, [f"w{n}" for n in range(10)], by_policy, phase_s)
    for number, time_s in enumerate(itertools.accumulate(gaps, initial=3.0)):
        events.after(time_s, partial(client.submit, f"t{number}", TASK_S))
    events.run(200.0)
    assert len(client.given_wait_s) == 41
    assert max(client.given_wait_s.values()) < 0.1


@given(relist_s=st.floats(0.1, 1.0), gap_s=st.floats(0.0, 4.0), length_s=st.floats(0.0, 3.0))
def test_the_guess_is_right_for_one_task_after_another(
    relist_s: float, gap_s: float, length_s: float
) -> None:
    """What is taken to be at rest starts at once, other pods within the relists guessed."""
    events = Events()
    phase_s = (3.0 + relist_s) % kubelet_model.RELIST_S  # not in the middle of the first start
    client = Client(events, ["w"], lambda *_: "w", phase_s)
    guesses: list[int] = []

    def second() -> None:
        guesses.append(relists_to_wait(client.rests["w"], events.now_s))
        client.submit("b", TASK_S)

    events.after(3.0, lambda: client.submit("a", length_s))
    events.after(3.0 + gap_s, second)
    events.run(60.0)
    wait_s = client.given_wait_s["b"]
    if guesses[0]:
        assert wait_s <= guesses[0] * kubelet_model.RELIST_S + 0.15
    elif wait_s > 0.1:
        ended_s = length_s + 0.08
        assert ended_s < gap_s < ended_s + 1.1, "its end was seen, and not told yet"


# --- the rule by itself -------------------------------------------------------------


def test_one_batch_takes_two_relists() -> None:
    rest = after_batch(ALWAYS, 10.0)
    assert rest == Rest(12.0, behind=False)
    assert [relists_to_wait(rest, now) for now in (9.0, 10.0, 11.9, 12.0)] == [2, 1, 1, 0]


def test_a_report_of_all_tells_more() -> None:
    rest = after_batch(ALWAYS, 10.0)
    waiting = after_report(rest, 10.02, settled=False)
    assert waiting == rest, "it is only about to start"
    assert after_report(waiting, 10.4, settled=True) == Rest(11.4)


def test_a_batch_behind_another() -> None:
    rest = after_batch(after_batch(ALWAYS, 10.0), 10.1)
    assert rest == Rest(14.0, behind=True)
    assert relists_to_wait(rest, 10.2) == 2
    assert after_report(rest, 11.0, settled=True) == rest, "no word on what the kubelet owes"
    assert after_batch(rest, 14.0) == Rest(16.0, behind=False)


def test_an_exit_is_looked_after_too() -> None:
    assert after_report(Rest(5.0), 100.0, settled=True) == Rest(101.0)


@given(count=st.integers(1, 300))
def test_a_batch_waits_no_longer_than_the_kubelet_takes(count: int) -> None:
    busy_s = count * kubelet_model.START_S
    assert 0 < gather_s(count) <= busy_s
    assert gather_s(count) <= RELIST_S, "a guess that is wrong costs no more than that"
    assert gather_s(count) >= min(0.8 * busy_s, RELIST_S)


@given(
    at_s=st.floats(-10, 10),
    behind=st.booleans(),
    now_s=st.floats(-10, 10),
    settled=st.booleans(),
)
def test_properties(at_s: float, behind: bool, now_s: float, settled: bool) -> None:
    rest = Rest(at_s, behind)
    assert 0 <= relists_to_wait(rest, now_s) <= MOST_RELISTS
    given_more = after_batch(rest, now_s)
    assert given_more.at_s >= max(rest.at_s, now_s) + RELIST_S
    assert relists_to_wait(given_more, now_s) >= max(1, relists_to_wait(rest, now_s))
    told = after_report(rest, now_s, settled=settled)
    assert told.at_s >= now_s + RELIST_S
    assert told.at_s >= rest.at_s or (settled and not behind)
