"""A parked container of a worker; mutable, in memory only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from taskctl.placement.states import ParkedState, advance_parked

# What ends so soon after it was parked, and was not told to, cannot run there.
SOON_S: Final = 10.0
_SPARE = frozenset({ParkedState.COMING, ParkedState.PARKED})
_TAKEN = frozenset({ParkedState.GIVEN, ParkedState.USED})


class ParkedNews(Enum):
    """What the kubelet's report of a parked container says that is new."""

    ARRIVED = auto()  # it runs
    ENDED = auto()
    BROKE = auto()  # it ended soon, and was not told to


@dataclass(slots=True)
class Parked:
    """A container that was appended without a task.

    Attributes:
        container: its name.
        fingerprint: of its class.
        since_s: when it was decided, or first seen (monotonic).
        size_bytes: what it adds to the pod, about.
        state: where it stands.
        in_spec: known to be in the pod's spec.
        running: the kubelet says that it runs.
    """

    container: str
    fingerprint: str
    since_s: float
    size_bytes: int = 0
    state: ParkedState = ParkedState.COMING
    in_spec: bool = False
    running: bool = False

    def end_news(self, now_s: float) -> ParkedNews:
        """Return what it means that it is over; where it stands is what it was before."""
        return ParkedNews.BROKE if self.spare and self.age_s(now_s) < SOON_S else ParkedNews.ENDED

    def age_s(self, now_s: float) -> float:
        """Return for how long it has been known."""
        return now_s - self.since_s

    def become(self, state: ParkedState) -> None:
        """Go to another state.

        Raises:
            WrongStep: from the present one there is no such step.
        """
        self.state = advance_parked(self.state, state)

    @property
    def spare(self) -> bool:
        """Whether it waits for a task, or will."""
        return self.state in _SPARE

    @property
    def taken(self) -> bool:
        """Whether it was given a task."""
        return self.state in _TAKEN

    @property
    def ready(self) -> bool:
        """Whether a task may be handed to it."""
        return self.state is ParkedState.PARKED
