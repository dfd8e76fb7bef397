"""``limits.spawnRate``: no faster than that in the long run, no more than the burst at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskctl.policy.spawnrate import InTime, Rate, TooFast, decide_pace, spawn_rate
from taskctl.policy.view import parse_task
from tests.unit.policy.build import NOW, raw_task, written


def root_of(**rate: int) -> dict[str, Any]:
    return raw_task("root", spec={"limits": {"spawnRate": rate}} if rate else {})


def ask(root: dict[str, Any], missing: int, at_s: float = 0.0) -> InTime | TooFast:
    now = NOW + timedelta(seconds=at_s)
    return decide_pace(parse_task(root), parse_task(raw_task("p")), missing, now)


def test_without_a_limit_or_something_new_nothing_is_written() -> None:
    assert ask(root_of(), 10**6) == InTime(None)
    assert ask(root_of(tasks=1), 0) == InTime(None)


def test_defaults() -> None:
    assert spawn_rate(parse_task(root_of(tasks=5))) == Rate(5, 1, 5)
    rate = spawn_rate(parse_task(root_of(tasks=5, perSeconds=60, burst=2)))
    assert rate == Rate(5, 60, 2)
    assert rate.each_s == 12


def test_the_refusal_names_the_limit_and_when() -> None:
    root = root_of(tasks=30, perSeconds=60, burst=4)
    first = ask(root, 3)
    assert isinstance(first, InTime)
    assert first.patch is not None
    root = written(root, first.patch)
    late = ask(root, 2)
    assert isinstance(late, TooFast)
    assert late.after_s is not None
    assert abs(late.after_s - 2) < 1e-5
    assert "limits.spawnRate of root task root allows 30 tasks in 60 s, 4 at once" in late.message
    assert "try again in 2 s" in late.message
    assert "taskDefaults.limits" in late.message
    assert isinstance(ask(root, 2, late.after_s), InTime)


def test_more_than_the_burst_is_never_possible() -> None:
    never = ask(root_of(tasks=5, burst=2), 3)
    assert isinstance(never, TooFast)
    assert never.after_s is None
    assert "spawn fewer at a time" in never.message


def test_a_clock_that_is_ahead_does_not_stop_the_tree() -> None:
    root = root_of(tasks=1, burst=3)
    ahead = ask(root, 1, at_s=3600)
    assert isinstance(ahead, InTime)
    assert ahead.patch is not None
    late = ask(written(root, ahead.patch), 1)
    assert isinstance(late, TooFast)
    assert late.after_s == 1.0


@given(
    st.integers(1, 20),
    st.integers(1, 60),
    st.integers(1, 15),
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 15)), max_size=40),
)
def test_no_window_has_more_than_burst_and_rate(
    tasks: int, per_s: int, burst: int, asked: list[tuple[float, int]]
) -> None:
    root, now_s = root_of(tasks=tasks, perSeconds=per_s, burst=burst), 0.0
    made: list[tuple[float, int]] = []
    for pause_s, count in asked:
        now_s += pause_s
        decision = ask(root, count, now_s)
        if isinstance(decision, TooFast):
            assert count > burst or decision.after_s is not None
            continue
        assert decision.patch is not None
        root = written(root, decision.patch)
        made.append((now_s, count))
    for begin, (start_s, _) in enumerate(made):
        total = 0
        for end_s, count in made[begin:]:
            total += count
            assert total <= burst + (end_s - start_s) * tasks / per_s + 1e-3
