"""When a worker's pod may go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.policy.evidence import (
    KeepPod,
    PinFacts,
    PinnedAttempt,
    Release,
    Standing,
    WaitFor,
    decide_release,
    standing_of,
)
from tests.unit.policy.build import running, view


def facts(*standings: Standing, **fields: Any) -> PinFacts:
    values: dict[str, Any] = {"pinned": True, "going": True, "orphaned": False, "ended": False}
    attempts = [PinnedAttempt(f"t-{n}", standing) for n, standing in enumerate(standings)]
    return PinFacts(**values | fields, attempts=attempts)


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        ({}, Standing.UNKNOWN),  # attempt 2 of a Task that has not begun attempt 1
        ({"attempt": 1}, Standing.UNCLAIMED),
        ({"attempt": 1, "state": "Scheduled"}, Standing.UNCLAIMED),
        ({"attempt": 1, "state": "Cancelled"}, Standing.CLOSED),
        (running(2), Standing.CLAIMED),
        (running(2, podUID="another"), Standing.CLOSED),
        (running(3), Standing.CLOSED),
        ({"attempt": 2, "state": "Pending", "reason": "WorkerLost"}, Standing.CLOSED),
        ({"attempt": 2, "state": "Succeeded", "podUID": "pod-1"}, Standing.CLOSED),
    ],
)
def test_standing(status: dict[str, Any], standing: Standing) -> None:
    assert standing_of(2, "pod-1", view(status=status)) is standing


def test_standing_without_a_task() -> None:
    assert standing_of(1, "pod-1", None) is Standing.UNKNOWN


def test_a_worker_in_use_keeps_its_pin() -> None:
    assert decide_release(facts(going=False)) == KeepPod()
    assert decide_release(facts(Standing.CLOSED, going=False)) == KeepPod()


def test_no_pin_nothing_to_do() -> None:
    assert decide_release(facts(Standing.CLAIMED, pinned=False)) == KeepPod()


def test_all_accounted_for() -> None:
    assert decide_release(facts()) == Release()
    assert decide_release(facts(Standing.CLOSED, Standing.CLOSED)) == Release()


def test_what_runs_is_waited_for_even_when_the_pod_has_ended() -> None:
    """Then it is written off first."""
    for ended in (False, True):
        decided = decide_release(facts(Standing.CLOSED, Standing.CLAIMED, ended=ended))
        assert decided == WaitFor(("t-1",))


def test_what_was_never_claimed_holds_the_pod_only_while_it_may_be() -> None:
    assert decide_release(facts(Standing.UNCLAIMED)) == WaitFor(("t-0",))
    assert decide_release(facts(Standing.UNCLAIMED, ended=True)) == Release()


def test_without_a_taskcluster_it_is_released_although_nobody_deleted_it() -> None:
    assert decide_release(facts(Standing.CLAIMED, going=False, orphaned=True)) == WaitFor(("t-0",))
    assert decide_release(facts(Standing.CLOSED, going=False, orphaned=True)) == Release()


@given(
    standings=st.lists(st.sampled_from(Standing), max_size=6),
    pinned=st.booleans(),
    going=st.booleans(),
    orphaned=st.booleans(),
    ended=st.booleans(),
)
def test_no_evidence_is_lost_and_nothing_waits_for_nothing(
    standings: list[Standing], pinned: bool, going: bool, orphaned: bool, ended: bool
) -> None:
    decided = decide_release(
        facts(*standings, pinned=pinned, going=going, orphaned=orphaned, ended=ended)
    )
    match decided:
        case Release():
            assert pinned
            assert going or orphaned
            assert not {Standing.CLAIMED, Standing.UNKNOWN} & set(standings)
            assert ended or Standing.UNCLAIMED not in standings
        case WaitFor(containers):
            assert containers
            waited = {standings[int(name.removeprefix("t-"))] for name in containers}
            assert Standing.CLOSED not in waited
            assert not (ended and Standing.UNCLAIMED in waited)
        case KeepPod():
            assert not pinned or not (going or orphaned)
