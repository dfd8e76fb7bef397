"""The states of an attempt and of a worker, and every step between them, in two tables.

The tables are the whole truth: :func:`advance_attempt` and :func:`advance_worker` refuse a step
that is not in them. docs/placement.md shows them as they stand here; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class AttemptState(StrEnum):
    """Where an attempt stands."""

    WAITING = "waiting"
    ASSUMED = "assumed"
    PLACED = "placed"
    CLAIMED = "claimed"
    OVER = "over"


class WorkerState(StrEnum):
    """Where a worker stands."""

    COMING = "coming"
    SERVING = "serving"
    WORN = "worn"
    RETIRING = "retiring"
    GONE = "gone"


class WrongStep(Exception):
    """A step between two states that the table does not have: a fault of this program."""


_A: Final = AttemptState
ATTEMPT_STEPS: Final[Mapping[tuple[AttemptState, AttemptState], str]] = {
    (_A.WAITING, _A.ASSUMED): "a cycle gives it to a worker; the write is on its way",
    (_A.WAITING, _A.PLACED): "a worker's spec holds it: an earlier or another controller wrote it",
    (_A.ASSUMED, _A.PLACED): "the API server's answer, or the watch, shows it in the worker's spec",
    (_A.ASSUMED, _A.CLAIMED): "the Task says so before the answer to the write has come",
    (_A.ASSUMED, _A.WAITING): "it did not get into the spec, and will not: it is queued again",
    (_A.ASSUMED, _A.OVER): "its Task has ended, or runs elsewhere",
    (_A.PLACED, _A.CLAIMED): "its agent has swapped the Task's status to Running",
    (_A.PLACED, _A.WAITING): "its worker is gone, and it was not claimed: it is queued again",
    (_A.PLACED, _A.OVER): "superseded, written off, or claimed elsewhere",
    (_A.CLAIMED, _A.OVER): "the Task's status has its outcome, or its worker is gone",
    (_A.CLAIMED, _A.PLACED): "its Task is no longer known: it holds its slots while it runs",
}

_W: Final = WorkerState
_RETIRES: Final = "it is surplus, too old or outdated, or its workspace must not be used"
_GOES: Final = "its pod was deleted, has ended, or is not there any more"
_FALLS_SILENT: Final = "its agent has ended, or its node has fallen silent"
WORKER_STEPS: Final[Mapping[tuple[WorkerState, WorkerState], str]] = {
    (_W.COMING, _W.SERVING): "its agent runs, and its node answers",
    (_W.COMING, _W.WORN): "its agent runs again; it was worn before",
    (_W.COMING, _W.RETIRING): _RETIRES,
    (_W.SERVING, _W.COMING): _FALLS_SILENT,
    (_W.SERVING, _W.WORN): "it nears its budget: its replacement is created, it serves on",
    (
        _W.SERVING,
        _W.RETIRING,
    ): _RETIRES,
    (_W.WORN, _W.COMING): _FALLS_SILENT,
    (_W.WORN, _W.SERVING): "`rotation.maxTasks` was raised",
    (_W.WORN, _W.RETIRING): "its replacement serves, or it can take nothing more",
    (_W.RETIRING, _W.SERVING): "it is needed after all: `spec.replicas` was raised, for example",
    (_W.RETIRING, _W.WORN): "it is needed after all, until its replacement serves",
    (_W.RETIRING, _W.COMING): "it is needed after all; its agent does not run at present",
    (_W.COMING, _W.GONE): _GOES,
    (_W.SERVING, _W.GONE): _GOES,
    (_W.WORN, _W.GONE): _GOES,
    (_W.RETIRING, _W.GONE): _GOES,
}


def advance_attempt(before: AttemptState, after: AttemptState) -> AttemptState:
    """Return the new state of an attempt.

    Raises:
        WrongStep: the table has no such step.
    """
    if before is not after and (before, after) not in ATTEMPT_STEPS:
        raise WrongStep(f"an attempt cannot go from {before} to {after}")
    return after


def advance_worker(before: WorkerState, after: WorkerState) -> WorkerState:
    """Return the new state of a worker.

    Raises:
        WrongStep: the table has no such step.
    """
    if before is not after and (before, after) not in WORKER_STEPS:
        raise WrongStep(f"a worker cannot go from {before} to {after}")
    return after
