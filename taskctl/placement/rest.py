"""When will a kubelet start what is added to a pod: at once, or after how many of its relists?

Kubelets have one goroutine per pod. Before it acts on a pod (a *sync*) it waits for a look at
the pod's containers that is newer than its last sync, and these looks (*relists*) come once a
second for the whole node (pod_workers.go, pleg/generic.go). So a pod that was synced since the
last relist waits for the next one; any other is *at rest*, and starts a container at once.

What one batch of containers does to a pod at rest:

    batch: sync, they start ─ relist: something changed: sync ─ relist: nothing new: at rest

A pod that is given a batch while not at rest takes it up at the next relist, and is at rest two
relists after that. A batch that comes while another one waits is behind it: one relist more.
So each batch costs its pod two relists, one after the other, like a queue that serves one batch
in two seconds. Measured on Kubernetes 1.34: 70 ms to the start at rest, up to 1 s at the first
relist, up to 2 s where the batch came behind another one.

Time is all that is kept here: no more than a guess at what the kubelet does, corrected by what
it reports. A wrong guess costs a start some milliseconds, never its correctness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

RELIST_S: Final = 1.0
_PER_BATCH_S: Final = 2 * RELIST_S
# What it takes a kubelet to start one container, at the very least (measured: 55 ms).
START_S: Final = 0.05
# All further ones are alike: nothing is known that far ahead.
MOST_RELISTS: Final = 2


@dataclass(frozen=True, slots=True)
class Rest:
    """When a pod will be at rest, as far as can be told.

    Attributes:
        at_s: from then on a batch is started at once (monotonic).
        behind: it was given a batch before it was at rest, so a report of all of its
            containers does not mean that its kubelet has nothing more to do there.
    """

    at_s: float = -math.inf
    behind: bool = False


ALWAYS: Final = Rest()


def after_batch(rest: Rest, now_s: float) -> Rest:
    """Return when a pod is at rest that is given containers now."""
    return Rest(max(now_s, rest.at_s) + _PER_BATCH_S, behind=now_s < rest.at_s)


def after_report(rest: Rest, now_s: float, *, settled: bool) -> Rest:
    """Return when a pod is at rest whose status has changed, so that it was synced just now.

    Args:
        rest: what was known before.
        now_s: when the report came (monotonic).
        settled: all containers that the pod was given have started, by its status.
    """
    next_s = now_s + RELIST_S
    if settled and not rest.behind:
        return Rest(next_s)
    return Rest(max(rest.at_s, next_s), rest.behind)


def relists_to_wait(rest: Rest, now_s: float) -> int:
    """Return after how many relists the pod would start a container: 0 to ``MOST_RELISTS``."""
    if now_s >= rest.at_s:
        return 0
    return min(math.ceil((rest.at_s - now_s) / _PER_BATCH_S), MOST_RELISTS)


def gather_s(unreported: int) -> float:
    """Return for how long nothing is gained by giving a pod another batch, in seconds.

    The kubelet takes it up after its present sync, which lasts as long as it takes to start
    what the pod was given before, one after the other. Each batch costs a rewrite of the whole
    pod, which is sent to all who watch it; so they are better fewer and larger.

    Args:
        unreported: containers given to the pod that its status does not show started yet.
    """
    return min(max(unreported, 1) * START_S, RELIST_S)
