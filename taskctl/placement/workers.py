"""What is known of a worker and of the attempts in it; mutable, in memory only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskctl.placement.attempts import OpenAttempt, Withdrawn
from taskctl.placement.fleet import RetireReason
from taskctl.placement.parked import Parked
from taskctl.placement.rest import ALWAYS, Rest
from taskctl.placement.rotation import READY_S, Wear, expected_entries
from taskctl.placement.states import WorkerState, advance_worker
from taskctl.policy.handover import Dismissal, Handover
from taskctl.policy.podview import PodView
from taskctl.policy.resources import NOTHING, UNCOUNTED, Amount, capacity_of
from taskctl.policy.workerpod import parse_frame

NEVER_S = float("-inf")
# The agent's container runs before the agent serves: it takes a Python program half a second to
# start, several on a loaded node. Who claims sooner has shown that it serves.
SERVES_AFTER_S = 3.0


@dataclass(slots=True)
class Worker:
    """A worker pod and what is open on it.

    Attributes:
        pod: the pod as last seen.
        raw: the raw pod, read-only.
        state: where it stands; see :meth:`settle`.
        names: containers in its spec or on their way there.
        attempts: by container, those not known to be over.
        used: slots taken by open attempts.
        capacity: CPU and memory that it has for tasks.
        committed: CPU and memory taken by open attempts.
        active: how many attempts are open.
        images: images of containers it was given.
        size_bytes: of the pod as JSON, about; it only grows.
        full: the API server refused a container because the pod has become too large.
        unreported: containers given to it that its status has not shown started.
        rest: when its kubelet will be at rest with it.
        in_flight: a batch is on its way to it.
        cool_until_s: no batch before then: one was written or refused just now (monotonic).
        gather_until_s: no batch before then unless everything given to it is reported: its
            kubelet would take it up no sooner (monotonic).
        failures: batches that failed in a row.
        unused: parked containers that have ended without a task.
        withdrawn: attempts that were taken back from parked containers and may be claimed for all
            that, by container; they keep their slots.
        retiring: why it gets no more tasks; None: it does.
        worn: it nears its end: its replacement is on its way.
        up_at_s: when its agent's container was first seen running (monotonic); None: it does
            not run.
    """

    pod: PodView
    raw: Mapping[str, Any]
    state: WorkerState = WorkerState.COMING
    names: set[str] = field(default_factory=set)
    attempts: dict[str, OpenAttempt] = field(default_factory=dict)
    used: int = 0
    capacity: Amount = UNCOUNTED
    committed: Amount = NOTHING
    active: int = 0
    images: set[str] = field(default_factory=set)
    size_bytes: int = 0
    full: bool = False
    unreported: set[str] = field(default_factory=set)
    rest: Rest = ALWAYS
    in_flight: bool = False
    cool_until_s: float = NEVER_S
    gather_until_s: float = NEVER_S
    failures: int = 0
    retiring: RetireReason | None = None
    worn: bool = False
    up_at_s: float | None = None
    parked: dict[str, Parked] = field(default_factory=dict)
    unused: int = 0
    record: Mapping[str, Handover | Dismissal] = field(default_factory=dict)
    record_wanted: dict[str, str | None] = field(default_factory=dict)
    withdrawn: dict[str, Withdrawn] = field(default_factory=dict)
    record_in_flight: bool = False
    record_cool_until_s: float = NEVER_S
    record_failures: int = 0
    _pace: float = 0.0
    _paced_at_s: float = NEVER_S

    @classmethod
    def seen(cls, pod: PodView, raw: Mapping[str, Any], size_bytes: int) -> Worker:
        """Return a worker whose pod is seen for the first time."""
        capacity = capacity_of((parse_frame(raw) or {}).get("resources"))
        return cls(pod, raw, size_bytes=size_bytes, capacity=capacity)

    def settle(self, *, removed: bool = False) -> None:
        """Work out the state again after something that it follows from has changed.

        Args:
            removed: its pod is not there any more.
        """
        if self.state is not WorkerState.GONE:
            self.state = advance_worker(self.state, self._state(removed=removed))

    def _state(self, *, removed: bool) -> WorkerState:
        pod = self.pod
        if removed or pod.dead or pod.deletion is not None:
            return WorkerState.GONE
        if self.retiring is not None:
            return WorkerState.RETIRING
        if not pod.agent_running:
            return WorkerState.COMING
        return WorkerState.WORN if self.worn else WorkerState.SERVING

    @property
    def alive(self) -> bool:
        """Whether attempts that wait here may still be started."""
        return self.state is not WorkerState.GONE and self.pod.unreachable_since is None

    @property
    def accepting(self) -> bool:
        """Whether tasks may be placed here, apart from a batch in flight or a refusal."""
        return self.state in (WorkerState.SERVING, WorkerState.WORN)

    def takes_batch(self, now_s: float) -> bool:
        """Whether it may be given a batch now, as far as the batches before are concerned."""
        if self.in_flight or now_s < self.cool_until_s:
            return False
        return not self.unreported or now_s >= self.gather_until_s

    def spare(self, fingerprint: str = "") -> list[Parked]:
        """Return the parked containers that wait for a task, or will; of one class, or all."""
        return [
            one
            for one in self.parked.values()
            if one.spare and fingerprint in ("", one.fingerprint)
        ]

    def ready(self) -> dict[str, int]:
        """Return how many parked containers can be given a task, by class."""
        counts: dict[str, int] = {}
        for one in self.parked.values():
            if one.ready:
                counts[one.fingerprint] = counts.get(one.fingerprint, 0) + 1
        return counts

    def serves_in_s(self, now_s: float) -> float:
        """Return in how many seconds the agent can be taken to serve; 0: it can."""
        if self.up_at_s is None:
            return SERVES_AFTER_S
        return max(0.0, self.up_at_s + SERVES_AFTER_S - now_s)

    def count(self, now_s: float) -> None:
        """Take note that it was given a container."""
        self._pace = self._pace_at(now_s) + 1.0
        self._paced_at_s = now_s

    def _pace_at(self, now_s: float) -> float:
        """Containers given of late: each counts less as time passes, e⁻¹ after ``READY_S``."""
        return self._pace * math.exp((self._paced_at_s - now_s) / READY_S) if self._pace else 0.0

    def wear(self, now_s: float, queued: float = 0.0) -> Wear:
        """Return how far it is used up.

        Args:
            now_s: the time (monotonic).
            queued: its share of the tasks that wait for a slot.
        """
        return Wear(
            entries=len(self.names),
            size_bytes=self.size_bytes,
            expected=expected_entries(self._pace_at(now_s) / READY_S, queued),
            full=self.full,
        )
