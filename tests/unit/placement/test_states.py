"""The tables of steps: what the page shows is what the code does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from taskctl.placement.states import (
    ATTEMPT_STEPS,
    PARKED_STEPS,
    WORKER_STEPS,
    AttemptState,
    ParkedState,
    WorkerState,
    WrongStep,
    advance_attempt,
    advance_parked,
    advance_worker,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "placement.md"


def table(steps: Mapping[tuple[Any, Any], str]) -> str:
    rows = [f"| {before} | {after} | {why} |" for (before, after), why in steps.items()]
    return "\n".join(["| from | to | when |", "|---|---|---|", *rows])


@pytest.mark.parametrize("steps", [ATTEMPT_STEPS, WORKER_STEPS, PARKED_STEPS])
def test_the_page_shows_the_tables_as_they_are(steps: Mapping[tuple[Any, Any], str]) -> None:
    shown = PAGE.read_text()
    assert table(steps) in shown, f"put this into docs/placement.md:\n{table(steps)}"


def test_what_is_not_in_the_tables_is_refused() -> None:
    for before in AttemptState:
        for after in AttemptState:
            if before is after or (before, after) in ATTEMPT_STEPS:
                assert advance_attempt(before, after) is after
            else:
                with pytest.raises(WrongStep):
                    advance_attempt(before, after)
    with pytest.raises(WrongStep):
        advance_worker(WorkerState.GONE, WorkerState.SERVING)
    with pytest.raises(WrongStep):
        advance_parked(ParkedState.USED, ParkedState.GIVEN)


def test_every_state_is_reached_and_only_the_last_is_not_left() -> None:
    for steps, states, last in (
        (ATTEMPT_STEPS, AttemptState, AttemptState.OVER),
        (WORKER_STEPS, WorkerState, WorkerState.GONE),
        (PARKED_STEPS, ParkedState, ParkedState.OVER),
    ):
        assert {before for before, _ in steps} == set(states) - {last}
        assert last in {after for _, after in steps}
