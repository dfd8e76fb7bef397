"""Which task goes to which worker, now.

Scheduling is a pure function over a snapshot. A worker at rest starts a container in 70 ms; one
that its kubelet has just looked after takes a second or two more, and the containers of one
batch start one after the other, some 60 ms each (:mod:`taskctl.placement.rest`). So the worker
goes first that will start it after the fewest relists, of those one within its rotation budget,
then the one that runs the fewest. Among equals at rest: the one the parent ran on (its files
are in the page cache), then one that has run this image before; else the one longest at rest,
or soonest. One that has only just come up is last: its agent may not be there yet.

The work of a cycle is O(assignments + workers), whatever the length of the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from taskctl.placement.queue import PendingQueue, PendingTask
from taskctl.placement.rest import ALWAYS, MOST_RELISTS, Rest, relists_to_wait

# Containers of one PATCH start in series; a longer one would only hide the wait.
MAX_BATCH: Final = 32
_IMAGE_LOOK: Final = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """One worker in a snapshot.

    Attributes:
        uid: the pod's UID.
        serial: its number; breaks ties.
        used: slots taken by placed and running attempts.
        entries_total: containers ever added to the pod, those on their way included.
        max_entries: never more than that (rotation).
        worn: it is past its budget: another one first, if that starts as soon.
        serves: its agent is known to be there; else any other one first.
        rest: when its kubelet will be at rest with it.
        accepting: it runs, is not retiring, and no batch to it is in flight.
        images: images it has run.
    """

    uid: str
    serial: int
    used: int
    entries_total: int
    max_entries: int
    rest: Rest = ALWAYS
    accepting: bool = True
    worn: bool = False
    serves: bool = True
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
    workers: Sequence[Candidate]
    now_s: float


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
        limited: UIDs of the roots of which a task had to wait, since as many as may are live.
    """

    assignments: list[Assignment] = field(default_factory=list)
    limited: set[str] = field(default_factory=set)


def _no_limit(_: str) -> int | None:
    return None


def place(
    queue: PendingQueue, snapshot: Snapshot, room_of: Callable[[str], int | None] = _no_limit
) -> Round:
    """Take from the queue what finds a worker.

    A head that needs more slots than any worker has free reserves the freest one: nothing
    else is placed there in this cycle, nor in the next ones as long as it stays first, so
    small tasks cannot starve a large one. The head of a tree that may have no more live tasks
    reserves nothing: it waits for its own tree, not for a worker.

    Args:
        queue: of the TaskCluster.
        snapshot: of its workers.
        room_of: returns how many more tasks of a tree may be placed, by UID of its root; None:
            as many as there are.
    """
    pool = _Pool(snapshot)
    room: dict[str, int | None] = {}
    result = Round()
    with queue.cycle() as cycle:
        while (task := cycle.head()) is not None:
            if task.slots > snapshot.slots:
                cycle.skip()
                continue
            if pool.empty:
                break
            root = task.root_uid
            left = room[root] if root in room else room.setdefault(root, room_of(root))
            if left is not None and left <= 0:
                result.limited.add(root)
                cycle.skip()
                continue
            worker = pool.pick(task)
            if worker is not None:
                cycle.take()
                if left is not None:
                    room[root] = left - 1
                result.assignments.append(Assignment(task, worker))
                continue
            pool.reserve_freest()
            cycle.skip()
    return result


@dataclass(slots=True)
class _Slot:
    """A worker while the cycle fills it."""

    state: Candidate
    lane: int
    used: int
    room: int


# By relists to wait, each within its budget or worn; the last one: not known to serve.
_LANES: Final = 2 * (MOST_RELISTS + 1) + 1
_AT_REST: Final = (0, 1)


class _Pool:
    """Workers with a free slot, grouped by (lane, slots used), so a pick is O(slots)."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._slots = snapshot.slots
        self._levels: tuple[list[dict[str, _Slot]], ...] = tuple(
            [{} for _ in range(snapshot.slots)] for _ in range(_LANES)
        )
        self._by_uid: dict[str, _Slot] = {}
        for state in sorted(snapshot.workers, key=lambda item: (item.rest.at_s, item.serial)):
            if not state.accepting:
                continue
            room = min(state.max_entries - state.entries_total, MAX_BATCH)
            self._insert(_Slot(state, _lane(state, snapshot.now_s), state.used, room))

    @property
    def empty(self) -> bool:
        """Whether no worker has a free slot left."""
        return not self._by_uid

    def _insert(self, slot: _Slot) -> None:
        if slot.used < self._slots and slot.room > 0:
            self._by_uid[slot.state.uid] = slot
            self._levels[slot.lane][slot.used][slot.state.uid] = slot

    def _remove(self, slot: _Slot) -> None:
        del self._by_uid[slot.state.uid]
        del self._levels[slot.lane][slot.used][slot.state.uid]

    def pick(self, task: PendingTask) -> str | None:
        """Give the task to a worker and return its UID; None: no one worker has the slots."""
        for lane, levels in enumerate(self._levels):
            for level in islice(levels, self._slots - task.slots + 1):
                if level:
                    slot = _choose(level, task, at_rest=lane in _AT_REST)
                    self._remove(slot)
                    slot.used += task.slots
                    slot.room -= 1
                    self._insert(slot)
                    return slot.state.uid
        return None

    def reserve_freest(self) -> None:
        """Take the worker with the most free slots out of this cycle."""
        for same_use in zip(*self._levels, strict=True):
            candidates = [slot for level in same_use for slot in level.values()]
            if candidates:  # the same one in each cycle, whatever their rest
                self._remove(min(candidates, key=lambda slot: slot.state.serial))
                return


def _lane(state: Candidate, now_s: float) -> int:
    return 2 * relists_to_wait(state.rest, now_s) + state.worn if state.serves else _LANES - 1


def _choose(level: dict[str, _Slot], task: PendingTask, *, at_rest: bool) -> _Slot:
    """Among equals: the parent's worker, else one that knows the image, else the first.

    The parent's worker was given a container not long ago. At rest that is past; before, it
    makes this one the last to come to rest.
    """
    parent = level.get(task.parent_worker)
    if parent is not None and at_rest:
        return parent
    first: Iterable[_Slot] = islice(level.values(), _IMAGE_LOOK)
    for slot in first:
        if task.image in slot.state.images:
            return slot
    return next(iter(level.values()))
