"""When a worker is worn out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.placement.rotation import (
    BUDGET_BYTES,
    LIMIT_BYTES,
    MOST_ENTRIES,
    READY_S,
    SPREAD,
    START_RATE_PER_S,
    STRICT_BELOW,
    RotationRule,
    Wear,
    expected_entries,
    spread,
)

DEFAULT = RotationRule(max_tasks=100, slots=4)


def first_near_end(rotation: RotationRule, serial: int = 1, expected: int = 0) -> int:
    """Entries at which the replacement is created."""
    return next(n for n in range(1001) if rotation.nears_end(Wear(n, expected=expected), serial))


def test_workers_made_together_end_one_after_the_other() -> None:
    budgets = [DEFAULT.budget(serial) for serial in (1, 2, 3)]
    assert budgets == [85, 95, 79]
    assert all(75 < DEFAULT.budget(serial) <= 100 for serial in range(1, 1000))


def test_small_budgets_are_kept_to_the_letter() -> None:
    for max_tasks in (1, 3, STRICT_BELOW - 1):
        rotation = RotationRule(max_tasks, slots=4)
        assert {rotation.budget(serial) for serial in range(9)} == {max_tasks}
        assert rotation.entry_limit == max_tasks


@pytest.mark.parametrize(
    ("max_tasks", "limit"), [(19, 19), (20, 40), (100, 200), (400, 600), (500, 600)]
)
def test_limit(max_tasks: int, limit: int) -> None:
    assert RotationRule(max_tasks, slots=4).entry_limit == limit


def test_the_replacement_is_made_as_early_as_the_pace_demands() -> None:
    budget = DEFAULT.budget(1)
    assert first_near_end(DEFAULT) == budget - 4
    assert first_near_end(DEFAULT, expected=20) == budget - 20
    assert first_near_end(DEFAULT, expected=100) == budget - budget // 2


@pytest.mark.parametrize(
    ("rate_per_s", "queued", "expected"),
    [
        (0.0, 0, 0),
        (0.0, 5000, 0),
        (0.3, 0, 2),
        (0.5, 5000, 9),
        (5.0, 60, 60),
        (5.0, 5000, 90),
        (20.0, 0, 120),
        (90.0, 5000, 120),
    ],
)
def test_expected(rate_per_s: float, queued: float, expected: int) -> None:
    assert expected_entries(rate_per_s, queued) == expected
    assert expected <= START_RATE_PER_S * READY_S


def test_bytes_wear_out_as_entries_do() -> None:
    entry = 16 * 1024
    steps = [Wear(n, size_bytes=n * entry) for n in range(1, 100)]
    near = next(wear for wear in steps if DEFAULT.nears_end(wear, 1))
    worn = next(wear for wear in steps if DEFAULT.is_worn(wear, 1))
    spent = next(wear for wear in steps if DEFAULT.is_spent(wear))
    assert worn.size_bytes == BUDGET_BYTES
    assert near.entries == worn.entries - 4, "room for what its slots hold"
    assert spent.size_bytes == LIMIT_BYTES


def test_full_is_full() -> None:
    wear = Wear(5, full=True)
    assert DEFAULT.is_worn(wear, 1)
    assert DEFAULT.nears_end(wear, 1)
    assert DEFAULT.is_spent(wear)


wears = st.builds(
    Wear,
    entries=st.integers(0, 1200),
    size_bytes=st.integers(0, 2 * LIMIT_BYTES),
    expected=st.integers(0, 100),
    full=st.booleans(),
)
rotations = st.builds(RotationRule, max_tasks=st.integers(1, 500), slots=st.integers(1, 100))


@given(rotation=rotations, wear=wears, serial=st.integers(0, 10_000))
def test_the_three_stages_follow_each_other(
    rotation: RotationRule, wear: Wear, serial: int
) -> None:
    near, worn = rotation.nears_end(wear, serial), rotation.is_worn(wear, serial)
    assert near or not worn
    assert worn or not rotation.is_spent(wear)
    assert 0 < rotation.budget(serial) <= rotation.max_tasks <= rotation.entry_limit
    assert rotation.budget(serial) >= (1 - SPREAD) * rotation.max_tasks
    assert rotation.entry_limit <= max(rotation.max_tasks, MOST_ENTRIES)


@given(rotation=rotations, wear=wears, serial=st.integers(0, 10_000), more=st.integers(1, 50))
def test_wear_only_grows(rotation: RotationRule, wear: Wear, serial: int, more: int) -> None:
    later = Wear(wear.entries + more, wear.size_bytes + more * 2000, wear.expected, wear.full)
    assert rotation.is_worn(later, serial) or not rotation.is_worn(wear, serial)
    assert rotation.is_spent(later) or not rotation.is_spent(wear)


@given(rotation=rotations, serial=st.integers(0, 10_000))
def test_a_fresh_worker_is_of_use(rotation: RotationRule, serial: int) -> None:
    """However fast the tasks come, a worker takes half of its budget before it is replaced."""
    begun = Wear((rotation.budget(serial) - 1) // 2, expected=100)
    assert not rotation.nears_end(begun, serial)


@given(first=st.integers(1, 10_000), count=st.integers(2, 8))
def test_neighbours_are_spread(first: int, count: int) -> None:
    found = sorted(spread(serial) for serial in range(first, first + count))
    gaps = [b - a for a, b in pairwise(found)]
    assert min(gaps) > 0.3 / count
