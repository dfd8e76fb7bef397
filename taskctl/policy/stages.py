"""The stages of an attempt, between the times that a Task's status records. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taskctl.policy.view import TaskView, time_or_none


class AttemptStage(StrEnum):
    """What an attempt goes through, in this order."""

    QUEUED = "queued"
    STARTING = "starting"
    LAUNCHING = "launching"
    RUNNING = "running"
    RECORDING = "recording"


_BETWEEN = (
    (AttemptStage.QUEUED, "created", "placed"),
    (AttemptStage.STARTING, "placed", "started"),
    (AttemptStage.LAUNCHING, "started", "userCode"),
    (AttemptStage.RUNNING, "userCode", "exited"),
    (AttemptStage.RECORDING, "exited", "observed"),
)


@dataclass(frozen=True, slots=True)
class StageTimes:
    """A stage that is over.

    Attributes:
        stage: which one.
        begun: when it began.
        ended: when it ended; not before it began, though clocks of two machines may differ.
    """

    stage: AttemptStage
    begun: datetime
    ended: datetime


def stages_of(view: TaskView) -> Iterator[StageTimes]:
    """Yield the stages of a Task's last attempt whose beginning and end are recorded.

    It was queued since its creation only if it has had one attempt.
    """
    times = view.status.get("times") or {}
    for stage, first, second in _BETWEEN:
        if stage is AttemptStage.QUEUED and view.attempt != 1:
            continue
        begun, ended = time_or_none(times.get(first)), time_or_none(times.get(second))
        if begun is not None and ended is not None:
            yield StageTimes(stage, begun, max(begun, ended))
