"""The states of an attempt, a worker and a parked container, and every step between them.

The tables are the whole truth: :func:`advance_attempt`, :func:`advance_worker` and
:func:`advance_parked` refuse a step that is not in them. docs/placement.md shows them as they
stand here; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

S = TypeVar("S", bound=StrEnum)


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


class ParkedState(StrEnum):
    """Where a parked container stands."""

    COMING = "coming"
    PARKED = "parked"
    GIVEN = "given"
    USED = "used"
    LEAVING = "leaving"
    OVER = "over"


class WrongStep(Exception):
    """A step between two states that the table does not have: a fault of this program."""


_A: Final = AttemptState
ATTEMPT_STEPS: Final[Mapping[tuple[AttemptState, AttemptState], str]] = {
    (_A.WAITING, _A.ASSUMED): "a cycle gives it to a worker; the write is on its way",
    (_A.WAITING, _A.PLACED): "a worker's spec or record holds it: it was written before, or by "
    "another controller, or its agent has claimed it",
    (_A.ASSUMED, _A.PLACED): "the API server's answer, or the watch, shows it in the worker's spec "
    "or record",
    (_A.ASSUMED, _A.CLAIMED): "the Task says so before the answer to the write has come",
    (_A.ASSUMED, _A.WAITING): "it was not written, and will not be: it is queued again",
    (_A.ASSUMED, _A.OVER): "its Task has ended, or runs elsewhere",
    (_A.PLACED, _A.CLAIMED): "its agent has swapped the Task's status to Running",
    (_A.PLACED, _A.WAITING): "it was not claimed, and its worker is gone, or the parked container "
    "that it was handed to has ended, took too long or runs another: it is queued again",
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


_P: Final = ParkedState
_ENDS: Final = "its container has ended, or its worker is gone"
PARKED_STEPS: Final[Mapping[tuple[ParkedState, ParkedState], str]] = {
    (_P.COMING, _P.PARKED): "the pod's status shows it running",
    (_P.COMING, _P.GIVEN): "the record says so: it was written before",
    (_P.COMING, _P.USED): "a Task runs there",
    (
        _P.COMING,
        _P.LEAVING,
    ): "nothing is to be parked there any more, or it does not start",
    (_P.PARKED, _P.GIVEN): "a cycle hands an attempt to it",
    (_P.PARKED, _P.USED): "a Task runs there",
    (_P.PARKED, _P.LEAVING): "nothing is to be parked there any more: its agent is told to end it",
    (_P.GIVEN, _P.USED): "its agent has claimed the attempt",
    (_P.GIVEN, _P.LEAVING): "the attempt was taken back: what has had one is given no other",
    (_P.LEAVING, _P.USED): "the attempt was claimed before it was taken back",
    (_P.COMING, _P.OVER): _ENDS,
    (_P.PARKED, _P.OVER): _ENDS,
    (_P.GIVEN, _P.OVER): _ENDS,
    (_P.USED, _P.OVER): _ENDS,
    (_P.LEAVING, _P.OVER): _ENDS,
}


def advance_parked(before: ParkedState, after: ParkedState) -> ParkedState:
    """Return the new state of a parked container.

    Raises:
        WrongStep: the table has no such step.
    """
    return _advance(PARKED_STEPS, "a parked container", before, after)


def advance_attempt(before: AttemptState, after: AttemptState) -> AttemptState:
    """Return the new state of an attempt.

    Raises:
        WrongStep: the table has no such step.
    """
    return _advance(ATTEMPT_STEPS, "an attempt", before, after)


def advance_worker(before: WorkerState, after: WorkerState) -> WorkerState:
    """Return the new state of a worker.

    Raises:
        WrongStep: the table has no such step.
    """
    return _advance(WORKER_STEPS, "a worker", before, after)


def _advance(steps: Mapping[tuple[S, S], str], what: str, before: S, after: S) -> S:
    if before is not after and (before, after) not in steps:
        raise WrongStep(f"{what} cannot go from {before} to {after}")
    return after
