"""Back-off and limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskctl.policy.retry import (
    MAX_INFRA_DELAY_S,
    MAX_INFRA_FAILURES,
    GiveUp,
    RetryLater,
    RetryRule,
    backoff_delay_s,
    decide_infra_retry,
    decide_retry,
    parse_retry,
)


def test_defaults_match_the_crd() -> None:
    assert parse_retry({}) == RetryRule(0, 1.0, 300.0, 0.2, frozenset(), frozenset())


def test_zero_is_not_absent() -> None:
    assert parse_retry({"retry": {"jitter": 0}}).jitter == 0.0


def test_doubling_and_cap() -> None:
    policy = RetryRule(limit=9, backoff_s=2, max_backoff_s=10, jitter=0)
    assert [backoff_delay_s(policy, n, 0.9) for n in (1, 2, 3, 4, 5)] == [2, 4, 8, 10, 10]


def test_says_why_it_gives_up() -> None:
    assert decide_retry(RetryRule(), 1, 1, 0.5) == GiveUp("")
    spent = decide_retry(RetryRule(limit=2), 3, 1, 0.5)
    assert isinstance(spent, GiveUp)
    assert "limit=2" in spent.message


@given(
    base=st.floats(0.001, 1e6),
    cap=st.floats(0.001, 1e6),
    jitter=st.floats(0, 1),
    failures=st.integers(1, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_delay_is_bounded(
    base: float, cap: float, jitter: float, failures: int, draw: float
) -> None:
    policy = RetryRule(failures, base, cap, jitter)
    delay_s = backoff_delay_s(policy, failures, draw)
    assert 0 <= delay_s <= cap
    assert delay_s >= min(base, cap) * (1 - jitter) - 1e-9


def test_infra_delays_grow_to_the_cap() -> None:
    delays = []
    for failures in range(1, MAX_INFRA_FAILURES):
        decision = decide_infra_retry(failures)
        assert isinstance(decision, RetryLater)
        delays.append(decision.delay_s)
    assert delays[:5] == [0, 1, 2, 4, 8]
    assert delays == sorted(delays)
    assert max(delays) <= MAX_INFRA_DELAY_S
    assert isinstance(decide_infra_retry(MAX_INFRA_FAILURES), GiveUp)
