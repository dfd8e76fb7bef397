"""An attempt of a Task in a worker's spec, or on its way there; mutable, in memory only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from taskctl.objectkey import ObjectKey
from taskctl.placement.states import AttemptState, advance_attempt
from taskctl.policy.entry import container_name
from taskctl.policy.podview import ContainerReport
from taskctl.policy.resources import NOTHING, Amount


class AttemptId(NamedTuple):
    """Names an attempt.

    Attributes:
        task_uid: UID of the Task.
        number: of the attempt, ≥ 1.
    """

    task_uid: str
    number: int

    @property
    def container(self) -> str:
        """Name of the ephemeral container that runs it."""
        return container_name(self.task_uid, self.number)


class Withdrawn(NamedTuple):
    """An attempt that was taken back, and may be claimed for all that.

    Attributes:
        id: which.
        amount: CPU and memory that it takes.
    """

    id: AttemptId
    amount: Amount


@dataclass(slots=True)
class OpenAttempt:
    """An attempt that is not known to be over.

    Attributes:
        id: which attempt of which Task.
        container: name of the ephemeral container.
        task: key of the Task.
        placed_at_s: when it was decided (monotonic): what other clocks say counts once, when the
            attempt is first seen.
        state: where it stands.
        in_spec: known to be in the pod's spec.
        root_uid: UID of the root of its tree; empty until its Task is known.
        slots: how many it takes while open.
        amount: CPU and memory that it was placed with.
        size_bytes: what it adds to the pod, about.
        open: it takes slots.
        running: the kubelet says that the container runs.
        ended_at_s: when the container was first seen terminated (monotonic).
        ended: how it was seen to end; None: it was not.
        waiting: the kubelet's word and sentence while it does not run.
    """

    id: AttemptId
    container: str
    task: ObjectKey
    placed_at_s: float
    state: AttemptState = AttemptState.WAITING
    in_spec: bool = False
    root_uid: str = ""
    slots: int = 1
    amount: Amount = NOTHING
    size_bytes: int = 0
    open: bool = False
    running: bool = False
    ended_at_s: float | None = None
    ended: ContainerReport | None = None
    waiting: str = ""

    @property
    def live(self) -> bool:
        """Whether it is placed or runs, and does not only wait for its children."""
        return self.open and self.slots > 0

    @property
    def taken(self) -> Amount:
        """CPU and memory that it takes now: as with slots, none while it waits for children."""
        return self.amount if self.live else NOTHING

    @property
    def claimed(self) -> bool:
        """Whether the Task says that it runs here."""
        return self.state is AttemptState.CLAIMED

    def become(self, state: AttemptState) -> None:
        """Go to another state.

        Raises:
            WrongStep: from the present one there is no such step.
        """
        self.state = advance_attempt(self.state, state)

    def ended_for_s(self, now_s: float) -> float | None:
        """Return for how long its container has been seen terminated; None: it has not."""
        return None if self.ended_at_s is None else now_s - self.ended_at_s
