"""May a worker's pod go, with what its status still tells of the containers in it?

Worker pods carry a finalizer. Whatever deletes one (the controller, ``kubectl delete pod``, an
eviction, a drain, the garbage collector, the end of its namespace), the object stays
readable until every task container in it is accounted for: its attempt is over in the Task's
status, was superseded, or the Task is gone. Then the finalizer is removed. It is never waited
for something that may not come: once nothing can run in the pod any more
(:func:`taskctl.policy.lost.worker_end`), attempts still open are written off, which accounts
for them.

Everything follows from the pod and the Tasks, so a restarted controller decides the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from taskctl.api.states import TaskState
from taskctl.policy.view import TaskView


class Standing(Enum):
    """What a Task says of an attempt that some pod's spec holds."""

    UNCLAIMED = auto()  # the next attempt: its container has yet to claim it
    CLAIMED = auto()  # running, in that pod
    CLOSED = auto()  # over, superseded, or running elsewhere
    UNKNOWN = auto()  # there is no such Task (any more), or our view of it is behind


def standing_of(number: int, pod_uid: str, view: TaskView | None) -> Standing:
    """Return what a Task says of its attempt ``number`` in the pod with that UID.

    Args:
        number: of the attempt, ≥ 1.
        pod_uid: UID of the pod whose spec holds it; a name would not do, as a pod may be made
            again under the same one.
        view: the Task; None: none is known.
    """
    if view is None or view.attempt < number - 1:
        return Standing.UNKNOWN
    if view.attempt == number - 1:
        return Standing.CLOSED if view.state.terminal else Standing.UNCLAIMED
    here = view.attempt == number and view.pod_uid == pod_uid
    if here and view.state is TaskState.RUNNING:
        return Standing.CLAIMED
    return Standing.CLOSED


@dataclass(frozen=True, slots=True)
class PinnedAttempt:
    """A task container of the pod: its name, and what its Task says of the attempt."""

    container: str
    standing: Standing


@dataclass(frozen=True, slots=True)
class PinFacts:
    """What the decision depends on.

    Attributes:
        pinned: the pod has the finalizer.
        going: it is being deleted.
        orphaned: its TaskCluster is gone: nothing will be placed in it any more.
        ended: nothing runs in it any more, as far as can be known.
        attempts: the task containers in its spec.
    """

    pinned: bool
    going: bool
    orphaned: bool
    ended: bool
    attempts: Sequence[PinnedAttempt] = ()


@dataclass(frozen=True, slots=True)
class KeepPod:
    """Leave the finalizer as it is: it is absent, or the pod must stay."""


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Not before these containers are accounted for."""

    containers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Remove the finalizer."""


def decide_release(facts: PinFacts) -> KeepPod | WaitFor | Release:
    """Decide whether the finalizer may go.

    A container that has not claimed its attempt holds the pod only while it may still do so:
    when the pod has ended, the same attempt is placed on another worker and nothing is lost.
    """
    if not facts.pinned or not (facts.going or facts.orphaned):
        return KeepPod()
    waiting = {Standing.CLAIMED, Standing.UNKNOWN}
    if not facts.ended:
        waiting.add(Standing.UNCLAIMED)
    open_ = tuple(item.container for item in facts.attempts if item.standing in waiting)
    return WaitFor(open_) if open_ else Release()
