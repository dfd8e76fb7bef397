"""Back-off: doubling, limited, spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.backoff import EXACT, Backoff

SECONDS = st.floats(0.001, 1e6)
FACTORS = st.tuples(st.floats(0, 1), st.floats(1, 3))
CHANCES = st.floats(0, 1)
FAILURES = st.integers(1, 10_000)


@given(first_s=SECONDS, limit_s=SECONDS, spread=FACTORS, failures=FAILURES, chance=CHANCES)
def test_a_pause_stays_in_its_spread_and_below_its_limit(
    first_s: float, limit_s: float, spread: tuple[float, float], failures: int, chance: float
) -> None:
    exact_s = Backoff(first_s, limit_s, EXACT).pause_s(failures, chance)
    assert exact_s <= limit_s
    least, most = spread
    pause_s = Backoff(first_s, limit_s, spread).pause_s(failures, chance)
    assert exact_s * least <= pause_s * (1 + 1e-9)
    assert pause_s <= exact_s * most * (1 + 1e-9)


@given(first_s=SECONDS, limit_s=SECONDS, failures=FAILURES)
def test_pauses_double_until_the_limit_and_never_shrink(
    first_s: float, limit_s: float, failures: int
) -> None:
    backoff = Backoff(first_s, limit_s, EXACT)
    now_s, next_s = backoff.pause_s(failures), backoff.pause_s(failures + 1)
    assert next_s == pytest.approx(min(now_s * 2, limit_s))
    assert backoff.pause_s(1) == min(first_s, limit_s)


@given(spread=FACTORS, failures=FAILURES, one=CHANCES, other=CHANCES)
def test_chance_orders_the_pauses(
    spread: tuple[float, float], failures: int, one: float, other: float
) -> None:
    backoff = Backoff(0.1, 30.0, spread)
    low, high = sorted((one, other))
    assert backoff.pause_s(failures, low) <= backoff.pause_s(failures, high) * (1 + 1e-9)


def test_without_a_failure_there_is_no_pause() -> None:
    assert Backoff(1.0, 60.0, EXACT).pause_s(0) == 0.0
    assert [Backoff(1.0, 60.0, EXACT).pause_s(n) for n in (1, 2, 6, 7, 10**9)] == [1, 2, 32, 60, 60]
