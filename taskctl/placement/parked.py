"""A parked container of a worker; mutable, in memory only."""

from __future__ import annotations

from dataclasses import dataclass

from taskctl.placement.states import ParkedState, advance_parked

_SPARE = frozenset({ParkedState.COMING, ParkedState.PARKED})


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
    def ready(self) -> bool:
        """Whether a task may be handed to it."""
        return self.state is ParkedState.PARKED
