"""When is a worker worn out, and how early must its replacement be on its way?

Nothing is ever taken out of a pod: containers of ended tasks stay in its spec and its status,
so each start, each patch and each status report costs more with every one that was added
(70 ms to start the 16th container, 114 ms the 106th, 216 ms the 506th; the patch itself 8, 30
and 134 ms). A worker is therefore replaced after a number of containers, or of bytes.

*Budget*: the worker should be replaced by then. Its replacement is created earlier, by as many
containers as the worker will be given while another comes up: at 20 starts a second that is
half the budget, in a chain of tasks a few. Budgets differ from
worker to worker, so that workers filled at the same pace do not all end at the same moment.

*Limit*: a worker past its budget goes on serving as long as no ready worker has taken its
place, for a slower start beats none; at the limit it takes nothing more, whatever happens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# A worker pod's agent runs 1.3 to 3 s after the pod's creation on a real node that has the image,
# and is given 3 s more to start serving.
READY_S: Final = 6.0
# No node starts more containers in one pod: they start one after the other, 53 to 69 ms each.
START_RATE_PER_S: Final = 20.0
# A pace is known for sure after READY_S only; in a burst it is this much higher after a third.
_RAMP: Final = 3.0
# So small a budget is meant as isolation, and kept to the letter.
STRICT_BELOW: Final = 20
# Budgets are spread over this share of maxTasks, downwards.
SPREAD: Final = 0.25
# Multiples of the golden ratio fall evenly between 0 and 1, however many there are.
_GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0
# Start latency at 500 is three times that of a fresh worker; no maxTasks goes further.
MOST_ENTRIES: Final = 600

# etcd takes requests of 1.5 MiB, gRPC messages of 2 MiB, the API server bodies of 3 MiB. What
# is counted here is JSON, which is larger than what etcd stores, but leaves managedFields out
# (as much again as the spec). A third of etcd's limit leaves room for both, and for a batch.
BUDGET_BYTES: Final = 512 * 1024
LIMIT_BYTES: Final = 1024 * 1024
# One entry of that size would wear a worker out: no task needs it.
ENTRY_LIMIT_BYTES: Final = 128 * 1024
# The state of an ended container in the pod's status: measured 804 bytes.
STATUS_BYTES: Final = 800


@dataclass(frozen=True, slots=True)
class Wear:
    """How far a worker is used up.

    Attributes:
        entries: containers ever added to its pod, those on their way included.
        size_bytes: of the pod as JSON, about.
        expected: containers it will be given while a replacement comes up, about.
        full: the API server refused a container because the pod has become too large.
    """

    entries: int
    size_bytes: int = 0
    expected: int = 0
    full: bool = False


@dataclass(frozen=True, slots=True)
class RotationRule:
    """What a TaskCluster asks for.

    Attributes:
        max_tasks: ``rotation.maxTasks``.
        slots: slots of a worker.
    """

    max_tasks: int
    slots: int

    @property
    def entry_limit(self) -> int:
        """Containers at which a worker takes nothing more, with or without a replacement."""
        if self.max_tasks < STRICT_BELOW:
            return self.max_tasks
        return max(self.max_tasks, min(2 * self.max_tasks, MOST_ENTRIES))

    def budget(self, serial: int) -> int:
        """Return the containers after which worker number ``serial`` should be replaced."""
        if self.max_tasks < STRICT_BELOW:
            return self.max_tasks
        return self.max_tasks - int(self.max_tasks * SPREAD * spread(serial))

    def is_worn(self, wear: Wear, serial: int) -> bool:
        """Whether the worker is past its budget: others first."""
        return wear.full or wear.entries >= self.budget(serial) or wear.size_bytes >= BUDGET_BYTES

    def nears_end(self, wear: Wear, serial: int) -> bool:
        """Whether its replacement should be on its way."""
        budget = self.budget(serial)
        lead = min(max(min(self.slots, budget // 4), wear.expected), budget // 2)
        if self.is_worn(wear, serial) or wear.entries + lead >= budget:
            return True
        per_entry = wear.size_bytes / wear.entries if wear.entries else 0.0
        return wear.size_bytes + lead * per_entry >= BUDGET_BYTES

    def is_spent(self, wear: Wear) -> bool:
        """Whether it takes nothing more, replaced or not."""
        return wear.full or wear.entries >= self.entry_limit or wear.size_bytes >= LIMIT_BYTES


def spread(serial: int) -> float:
    """Return a number in [0, 1) that differs well from those of the workers made beside it."""
    return (serial * _GOLDEN) % 1.0


def expected_entries(rate_per_s: float, queued: float) -> int:
    """Return how many containers a worker will be given while a replacement comes up.

    A queue alone says little: a thousand tasks of an hour each use up no worker.

    Args:
        rate_per_s: containers it was given a second of late.
        queued: its share of the tasks that wait for a slot.
    """
    given = rate_per_s * READY_S
    return math.ceil(min(max(given, min(queued, _RAMP * given)), START_RATE_PER_S * READY_S))
