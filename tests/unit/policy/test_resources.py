"""CPU and memory of tasks and workers: what is asked for, and what never fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.policy.entry import Ticket, build_entry, parse_entry
from taskctl.policy.handover import Handover, decode_entry, encode_entry
from taskctl.policy.resources import (
    NOTHING,
    UNCOUNTED,
    Amount,
    ClusterResources,
    amount_text,
    capacity_of,
    memory_limit_bytes,
    misfit,
    parse_amount,
    requested,
)
from tests.unit.policy.build import view

GIB = 2**30


@pytest.mark.parametrize(
    ("resources", "amount", "limit"),
    [
        (None, NOTHING, 0),
        ({}, NOTHING, 0),
        ({"requests": {"cpu": "500m", "memory": "1Gi"}}, Amount(500, GIB), 0),
        ({"requests": {"cpu": 2}}, Amount(2000), 0),
        ({"limits": {"memory": "1Gi", "cpu": "0.5"}}, Amount(500, GIB), GIB),
        ({"requests": {"memory": 5}, "limits": {"memory": "1k"}}, Amount(0, 5), 1000),
        ({"requests": {"cpu": "1n", "memory": "0.1"}}, Amount(1, 1), 0),
        ({"limits": {"memory": "1e3"}}, Amount(0, 1000), 1000),
    ],
)
def test_what_a_task_asks_for(resources: Any, amount: Amount, limit: int) -> None:
    spec = {} if resources is None else {"resources": resources}
    assert requested(spec) == amount
    assert memory_limit_bytes(spec) == limit


@pytest.mark.parametrize(
    ("resources", "capacity"),
    [
        (None, UNCOUNTED),
        ({"requests": {"memory": "1Gi"}}, Amount(UNCOUNTED.cpu_milli, GIB)),
        ({"limits": {"memory": "2Gi", "cpu": 1}, "requests": {"memory": "1Gi"}}, Amount(1000, GIB)),
        ({"requests": {"cpu": 0}}, Amount(0, UNCOUNTED.memory_bytes)),
    ],
)
def test_what_a_worker_has(resources: Any, capacity: Amount) -> None:
    assert capacity_of(resources) == capacity


@pytest.mark.parametrize(
    ("resources", "template", "words"),
    [
        ({"requests": {"memory": "1Gi"}}, {"requests": {"memory": "1Gi"}}, ()),
        ({"requests": {"memory": "9Ti"}}, {"requests": {"cpu": "1"}}, ()),
        (
            {"requests": {"memory": "2Gi"}},
            {"requests": {"memory": "1Gi"}},
            (
                "spec.resources.requests.memory is 2Gi",
                "have 1Gi",
                "template.resources.requests.mem",
            ),
        ),
        (
            {"limits": {"cpu": 3}},
            {"limits": {"cpu": "2"}},
            ("spec.resources.limits.cpu is 3", "have 2", "spec.template.resources.limits.cpu"),
        ),
    ],
)
def test_what_never_fits(resources: Any, template: Any, words: tuple[str, ...]) -> None:
    spec = {"resources": resources}
    found = misfit(spec, spec, ClusterResources("c", template))
    assert bool(found) == bool(words)
    assert all(word in found for word in words)
    from_defaults = misfit(spec, {}, ClusterResources("c", template))
    assert not words or from_defaults.startswith("spec.taskDefaults.resources.")


def test_the_entry_says_what_was_placed() -> None:
    spec = {"resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}}
    ticket = Ticket(1, "0" * 32, "2030-01-01T00:00:00.000000Z")
    entry = parse_entry(build_entry(view(spec=spec), ticket, {}))
    assert entry is not None
    assert entry.amount == Amount(250, 64 * 2**20)
    plain = parse_entry(build_entry(view(), ticket, {}))
    assert plain is not None
    assert plain.amount == NOTHING


@given(st.builds(Amount, st.integers(0, 2**60), st.integers(0, 2**60)))
def test_amounts_go_through_entries_and_records(amount: Amount) -> None:
    assert parse_amount(amount_text(amount)) == amount
    handover = Handover("t", "u", 1, "", amount)
    assert decode_entry(encode_entry(handover)) == handover


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"cpuMilli": true}', '{"memoryBytes": -1}'])
def test_what_is_no_amount_counts_nothing(text: Any) -> None:
    assert parse_amount(text) == NOTHING


_AMOUNTS = st.builds(Amount, st.integers(0, 50), st.integers(0, 50))


@given(_AMOUNTS, _AMOUNTS, st.integers(0, 20))
def test_as_often_as_there_is_room(amount: Amount, room: Amount, most: int) -> None:
    times = amount.times_in(room, most)
    assert 0 <= times <= most
    assert times == 0 or amount.times(times).within(room)
    assert times == most or not amount.times(times + 1).within(room)
