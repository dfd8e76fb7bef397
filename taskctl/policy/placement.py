"""Which task goes to which worker, now.

Scheduling is a pure function over a snapshot. What the measurements on a real kubelet say:
a pod that has not been synced for over a second starts a container in 70 ms, one synced a
moment ago takes up to a second more (its pod worker waits for the next relist), and the
containers of one batch start one after the other, some 60 ms each. So a quiet worker goes
first, then the one that runs the fewest, then the one the parent ran on (its files are in
the page cache), then one that has run this image before.

The work of a cycle is O(assignments + workers), whatever the length of the queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Final

from taskctl.policy.queue import PendingQueue, PendingTask

QUIET_AFTER_S: Final = 1.0
# Containers of one PATCH start in series; a longer one would only hide the wait.
MAX_BATCH: Final = 32
_IMAGE_LOOK: Final = 8


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker in a snapshot.

    Attributes:
        uid: the pod's UID.
        serial: its number; breaks ties.
        used: slots taken by placed and running attempts.
        entries_total: containers ever added to the pod, those on their way included.
        max_entries: never more than that (rotation).
        last_change_s: when it was last appended to or reported a change (monotonic).
        accepting: it runs, is not retiring, and no batch to it is in flight.
        images: images it has run.
    """

    uid: str
    serial: int
    used: int
    entries_total: int
    max_entries: int
    last_change_s: float
    accepting: bool = True
    images: frozenset[str] | set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one cycle decides on, for one TaskCluster.

    Attributes:
        slots: slots of each worker.
        workers: all of its workers.
        now_s: the time (monotonic).
    """

    slots: int
    workers: Sequence[WorkerState]
    now_s: float


class Refused(StrEnum):
    """Why the task whose turn it was got no worker."""

    NO_WORKER = "NoWorker"  # none accepts tasks at all
    FULL = "Full"  # not enough free slots on any one worker
    TOO_LARGE = "TooLarge"  # more slots than a worker has


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task and the worker it goes to."""

    task: PendingTask
    worker_uid: str


@dataclass(slots=True)
class Round:
    """The result of a cycle.

    Attributes:
        assignments: taken out of the queue, in order of decision.
        refused: UID of each head that was passed over, with the reason; not of every
            task behind it.
    """

    assignments: list[Assignment] = field(default_factory=list)
    refused: dict[str, Refused] = field(default_factory=dict)


def place(queue: PendingQueue, snapshot: Snapshot) -> Round:
    """Take from the queue what finds a worker.

    A head that needs more slots than any worker has free reserves the freest one: nothing
    else is placed there in this cycle, nor in the next ones as long as it stays first, so
    small tasks cannot starve a large one.
    """
    pool = _Pool(snapshot)
    result = Round()
    with queue.cycle() as cycle:
        while (task := cycle.head()) is not None:
            if task.slots > snapshot.slots:
                result.refused[task.uid] = Refused.TOO_LARGE
                cycle.skip()
                continue
            if pool.empty:
                result.refused[task.uid] = Refused.FULL if pool.any_accepts else Refused.NO_WORKER
                break
            worker = pool.pick(task)
            if worker is not None:
                cycle.take()
                result.assignments.append(Assignment(task, worker))
                continue
            pool.reserve_freest()
            result.refused[task.uid] = Refused.FULL
            cycle.skip()
    return result


@dataclass(slots=True)
class _Slot:
    """A worker while the cycle fills it."""

    state: WorkerState
    noisy: bool
    used: int
    room: int


class _Pool:
    """Workers with a free slot, grouped by (quiet or not, slots used), so a pick is O(slots)."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._slots = snapshot.slots
        self._levels: tuple[list[dict[str, _Slot]], ...] = (
            [{} for _ in range(snapshot.slots)],
            [{} for _ in range(snapshot.slots)],
        )
        self._by_uid: dict[str, _Slot] = {}
        self.any_accepts = False
        for state in sorted(snapshot.workers, key=lambda worker: worker.serial):
            if not state.accepting:
                continue
            self.any_accepts = True
            room = min(state.max_entries - state.entries_total, MAX_BATCH)
            noisy = snapshot.now_s - state.last_change_s <= QUIET_AFTER_S
            self._insert(_Slot(state, noisy, state.used, room))

    @property
    def empty(self) -> bool:
        """Whether no worker has a free slot left."""
        return not self._by_uid

    def _insert(self, slot: _Slot) -> None:
        if slot.used < self._slots and slot.room > 0:
            self._by_uid[slot.state.uid] = slot
            self._levels[slot.noisy][slot.used][slot.state.uid] = slot

    def _remove(self, slot: _Slot) -> None:
        del self._by_uid[slot.state.uid]
        del self._levels[slot.noisy][slot.used][slot.state.uid]

    def pick(self, task: PendingTask) -> str | None:
        """Give the task to a worker and return its UID; None: no one worker has the slots."""
        for levels in self._levels:
            for level in islice(levels, self._slots - task.slots + 1):
                if level:
                    slot = _choose(level, task)
                    self._remove(slot)
                    slot.used += task.slots
                    slot.room -= 1
                    self._insert(slot)
                    return slot.state.uid
        return None

    def reserve_freest(self) -> None:
        """Take the worker with the most free slots out of this cycle."""
        for quiet, noisy in zip(*self._levels, strict=True):
            candidates = [next(iter(level.values())) for level in (quiet, noisy) if level]
            if candidates:
                self._remove(min(candidates, key=lambda slot: slot.state.serial))
                return


def _choose(level: dict[str, _Slot], task: PendingTask) -> _Slot:
    """Among equals: the parent's worker, else one that knows the image, else the first."""
    parent = level.get(task.parent_worker)
    if parent is not None:
        return parent
    first: Iterable[_Slot] = islice(level.values(), _IMAGE_LOOK)
    for slot in first:
        if task.image in slot.state.images:
            return slot
    return next(iter(level.values()))
