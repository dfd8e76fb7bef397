"""How much of each measurement is made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """What can be measured by itself."""

    STARTS = "starts"
    CHAINS = "chains"
    PAUSES = "pauses"
    BURSTS = "bursts"


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurements.

    Attributes:
        singles: starts on quiet workers, of raw and of taskctl each.
        pods: starts of a bare pod, and of a Job.
        hops: length of the chains, by number of workers.
        pauses: starts with random pauses, for each way to choose; 0: left out.
        burst: tasks created at once.
        pod_burst: bare pods, and Jobs, created at once.
        variants: also measure other ways to choose a worker, and few slots.
        limit_s: all of it is over by then.
    """

    singles: int
    pods: int
    hops: dict[int, int]
    pauses: int
    burst: int
    pod_burst: int
    variants: bool
    limit_s: float


FULL = Plan(
    singles=30,
    pods=8,
    hops={1: 10, 3: 20, 8: 32},
    pauses=16,
    burst=200,
    pod_burst=60,
    variants=True,
    limit_s=600,
)
QUICK = Plan(
    singles=12,
    pods=4,
    hops={1: 5, 3: 12, 8: 20},
    pauses=0,
    burst=100,
    pod_burst=24,
    variants=False,
    limit_s=240,
)
