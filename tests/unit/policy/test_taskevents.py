"""Which changes deserve an Event."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.policy.taskevents import TaskWarning, decide_event

RUNNING = {"state": "Running", "attempt": 1}
PENDING = {"state": "Pending"}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (RUNNING, {"state": "Failed", "reason": "NonZeroExit"}, "Failed"),
        (RUNNING, {"state": "Failed", "reason": "Timeout"}, "Failed"),
        (PENDING, {"state": "Failed", "reason": "DependencyFailed"}, "DependencyFailed"),
        (PENDING, {"state": "Failed", "reason": "StartDeadlineExceeded"}, "StartDeadlineExceeded"),
        (RUNNING, {"state": "Pending", "reason": "BackOff", "attempt": 1}, "Retrying"),
        (RUNNING, {"state": "Pending", "reason": "WorkerLost", "attempt": 1}, "WorkerLost"),
        (PENDING, {"state": "Pending", "reason": "ContainerLost", "attempt": 1}, "ContainerLost"),
        (PENDING, {"state": "Pending", "reason": "PlacementForbidden"}, "PlacementForbidden"),
    ],
)
def test_bad_news(old: dict[str, Any], new: dict[str, Any], reason: str) -> None:
    assert decide_event(old, new | {"message": "why"}) == TaskWarning(reason, "why")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (PENDING, RUNNING),
        (RUNNING, {"state": "Succeeded", "reason": "Completed"}),
        (RUNNING, {"state": "Cancelled", "reason": "Cancelled"}),
        (RUNNING, RUNNING | {"progress": {"done": 1}}),
        ({"state": "Failed", "reason": "Timeout"}, {"state": "Failed", "reason": "Timeout"}),
        ({"state": "Failed", "attempt": 1}, {"state": "Pending", "reason": "Queued", "attempt": 1}),
        (PENDING, {"state": "Pending", "reason": "WaitingForTasks"}),
        (PENDING, {"state": "Pending", "reason": "Suspended", "attempt": 1}),
        (PENDING, {"state": "Pending", "reason": "NoReadyWorker"}),
        (
            {"state": "Pending", "reason": "PlacementForbidden"},
            {"state": "Pending", "reason": "PlacementForbidden", "message": "said otherwise"},
        ),
        (
            {"state": "Pending", "reason": "WorkerLost", "attempt": 1},
            {"state": "Pending", "reason": "WorkerLost", "attempt": 1, "message": "new"},
        ),
    ],
)
def test_no_news(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert decide_event(old, new) is None
