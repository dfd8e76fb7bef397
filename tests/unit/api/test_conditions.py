from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskctl.api.conditions import (
    ConditionUpdate,
    cap_message,
    condition_is,
    find_condition,
    set_condition,
)
from taskctl.api.states import ConditionStatus, TaskState
from taskctl.constants import MESSAGE_LIMIT_CHARS
from taskctl.safetext import visible

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
READY = ConditionUpdate("Ready", ConditionStatus.TRUE, "WorkersReady", "all there", 3)


def test_new_condition() -> None:
    assert set_condition(None, READY, now=NOW) == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "WorkersReady",
            "message": "all there",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 3,
        }
    ]


def test_time_moves_only_with_the_status() -> None:
    first = set_condition([], READY, now=NOW)
    same = set_condition(first, READY, now=LATER)
    assert same == first
    reworded = ConditionUpdate("Ready", ConditionStatus.TRUE, "Rotating", "one is replaced", 4)
    second = set_condition(first, reworded, now=LATER)
    assert second[0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert second[0]["reason"] == "Rotating"
    lost = ConditionUpdate("Ready", ConditionStatus.FALSE, "WorkersNotReady")
    third = set_condition(second, lost, now=LATER)
    assert third[0]["lastTransitionTime"] == "2026-01-01T00:05:00Z"
    assert "observedGeneration" not in third[0]


def test_others_keep_their_place_and_the_argument_is_left_alone() -> None:
    before: list[dict[str, Any]] = [
        {"type": "A"},
        {"type": "Ready", "status": "False"},
        {"type": "B"},
    ]
    copy = [dict(entry) for entry in before]
    after = set_condition(before, READY, now=NOW)
    assert [entry["type"] for entry in after] == ["A", "Ready", "B"]
    assert before == copy


def test_find_and_ask() -> None:
    conditions = set_condition([], READY, now=NOW)
    assert find_condition(conditions, "Ready") is conditions[0]
    assert find_condition(None, "Ready") is None
    assert condition_is(conditions, "Ready", ConditionStatus.TRUE)
    assert not condition_is(conditions, "Ready", ConditionStatus.FALSE)
    assert not condition_is([], "Ready", ConditionStatus.TRUE)


@given(st.text(max_size=MESSAGE_LIMIT_CHARS * 2))
def test_messages_are_capped(text: str) -> None:
    capped = cap_message(text)
    assert len(capped) <= MESSAGE_LIMIT_CHARS
    safe = visible(text)
    assert capped == safe or (capped.endswith(" …") and safe.startswith(capped[:-2]))


def test_terminal_states() -> None:
    ends = {"Succeeded", "Failed", "Cancelled", "Skipped"}
    assert {state for state in TaskState if state.terminal} == ends
