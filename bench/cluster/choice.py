"""Ways to choose a raw worker, to see what knowing the kubelet's rhythm is worth."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Final

from bench.cluster.fleet import RawWorker

Choose = Callable[[Sequence[RawWorker]], RawWorker]
QUIET_S: Final = 1.0


def always_the_same(workers: Sequence[RawWorker]) -> RawWorker:
    """Return the first."""
    return workers[0]


def round_robin() -> Choose:
    """Return a choice that takes one after the other."""
    turn = itertools.count()
    return lambda workers: workers[next(turn) % len(workers)]


def quiet_first(workers: Sequence[RawWorker]) -> RawWorker:
    """Return one that nothing was heard of for over a second, else the first."""
    now_s = time.monotonic()
    return min(workers, key=lambda worker: now_s - worker.changed_s <= QUIET_S)


def rested_first(workers: Sequence[RawWorker]) -> RawWorker:
    """Return the one that its kubelet will soonest be at rest with, by the product's rule."""
    return min(workers, key=lambda worker: worker.rest.at_s)
