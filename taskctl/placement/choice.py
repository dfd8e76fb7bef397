"""Which task goes to which worker, now.

Scheduling is a pure function over a snapshot. A worker at rest starts a container in 70 ms; one
that its kubelet has just looked after takes a second or two more, and the containers of one
batch start one after the other, some 60 ms each (:mod:`taskctl.placement.rest`). So the worker
goes first that will start it after the fewest relists, of those one within its rotation budget,
then the one that runs the fewest. Among equals at rest: the one the parent ran on (its files
are in the page cache), then one that has run this image before; else the one longest at rest,
or soonest. One that has only just come up is last: its agent may not be there yet.

Before all that: a worker on which a container of the task's class is parked. There the task begins
at once, whatever the kubelet does.

The work of a cycle is O(assignments + workers), whatever the length of the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from taskctl.placement.queue import PendingQueue, PendingTask
from taskctl.placement.rest import ALWAYS, MOST_RELISTS, Rest, relists_to_wait
from taskctl.policy.resources import NOTHING, UNCOUNTED, Amount

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
        parked: how many parked containers can be given a task, by class.
        hands_over: a task can be handed to them now; else in a moment.
        capacity: CPU and memory that it has for tasks.
        committed: CPU and memory taken by placed and running attempts.
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
    parked: Mapping[str, int] = field(default_factory=dict)
    hands_over: bool = False
    capacity: Amount = UNCOUNTED
    committed: Amount = NOTHING


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
    """A task and the worker it goes to.

    Attributes:
        task: the task.
        worker_uid: UID of the worker's pod.
        parked: it goes to a parked container; else to one of its own.
    """

    task: PendingTask
    worker_uid: str
    parked: bool = False


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

    A head that needs more than any worker has free (slots, CPU or memory) reserves the one that
    lacks the least: nothing else is placed there in this cycle, nor in the next ones as long as
    it stays first, so small tasks cannot starve a large one. The head of a tree that may have no
    more live tasks reserves nothing: it waits for its own tree, not for a worker.

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
            parked = pool.pick_parked(task)
            if parked is _IN_A_MOMENT:
                cycle.skip()
                continue
            worker = parked or pool.pick(task)
            if worker is not None:
                cycle.take()
                if left is not None:
                    room[root] = left - 1
                result.assignments.append(Assignment(task, worker, parked=parked is not None))
                continue
            pool.reserve_freest(task)
            cycle.skip()
    return result


@dataclass(slots=True)
class _Slot:
    """A worker while the cycle fills it."""

    state: Candidate
    lane: int
    used: int
    room: int
    parked: dict[str, int]
    committed: Amount

    @property
    def free(self) -> Amount:
        """CPU and memory that it has left; after a wait for children it may be less than none."""
        return self.state.capacity - self.committed

    def take(self, task: PendingTask) -> None:
        """Give it a task."""
        self.used += task.slots
        self.committed += task.amount


# The task fits a parked container, whose worker's record is just being written.
_IN_A_MOMENT: Final = ""


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
        self._shelf: dict[str, _Slot] = {}
        for state in sorted(snapshot.workers, key=lambda item: (item.rest.at_s, item.serial)):
            room = min(state.max_entries - state.entries_total, MAX_BATCH)
            if not state.accepting:
                room = 0
            lane = _lane(state, snapshot.now_s)
            slot = _Slot(state, lane, state.used, room, dict(state.parked), state.committed)
            self._insert(slot)
            if slot.parked and slot.used < self._slots:
                self._shelf[state.uid] = slot

    @property
    def empty(self) -> bool:
        """Whether no worker has a free slot left."""
        return not self._by_uid and not self._shelf

    def _insert(self, slot: _Slot) -> None:
        if slot.used < self._slots and slot.room > 0:
            self._by_uid[slot.state.uid] = slot
            self._levels[slot.lane][slot.used][slot.state.uid] = slot

    def _remove(self, slot: _Slot) -> None:
        del self._by_uid[slot.state.uid]
        del self._levels[slot.lane][slot.used][slot.state.uid]

    def _drop(self, slot: _Slot) -> None:
        """Take a worker out of this cycle."""
        if slot.state.uid in self._by_uid:
            self._remove(slot)
        self._shelf.pop(slot.state.uid, None)

    def pick_parked(self, task: PendingTask) -> str | None:
        """Give the task to a parked container, and return its worker's UID; None: there is none.

        ``_IN_A_MOMENT`` where there is one, but not just now.
        """
        fits = [
            slot
            for slot in self._shelf.values()
            if slot.parked.get(task.container_class, 0) > 0
            and slot.used + task.slots <= self._slots
            and task.amount.within(slot.free)
        ]
        now = [slot for slot in fits if slot.state.hands_over]
        if not now:
            return _IN_A_MOMENT if fits else None
        slot = min(now, key=lambda one: _parked_rank(one, task))
        if slot.state.uid in self._by_uid:
            self._remove(slot)
        slot.take(task)
        slot.parked[task.container_class] -= 1
        self._insert(slot)
        if slot.used >= self._slots:
            del self._shelf[slot.state.uid]
        return slot.state.uid

    def pick(self, task: PendingTask) -> str | None:
        """Give the task to a worker and return its UID; None: no one worker has the room."""
        for lane, levels in enumerate(self._levels):
            for level in islice(levels, self._slots - task.slots + 1):
                fits = level if task.amount == NOTHING else _with_room(level, task)
                if fits:
                    slot = _choose(fits, task, at_rest=lane in _AT_REST)
                    self._remove(slot)
                    slot.take(task)
                    slot.room -= 1
                    self._insert(slot)
                    if slot.used >= self._slots:
                        self._shelf.pop(slot.state.uid, None)
                    return slot.state.uid
        return None

    def reserve_freest(self, task: PendingTask) -> None:
        """Take the worker that lacks the least for a task out of this cycle."""
        slots = {**self._shelf, **self._by_uid}.values()
        able = [slot for slot in slots if task.amount.within(slot.state.capacity)]
        if able:  # the same one in each cycle, whatever their rest
            self._drop(min(able, key=lambda slot: self._missing(slot, task)))

    def _missing(self, slot: _Slot, task: PendingTask) -> tuple[float, int, int]:
        slots = (slot.used + task.slots - self._slots) / self._slots
        rest = task.amount.shortfall(slot.free, slot.state.capacity)
        return max(slots, rest), slot.used, slot.state.serial


def _with_room(level: Mapping[str, _Slot], task: PendingTask) -> dict[str, _Slot]:
    return {uid: slot for uid, slot in level.items() if task.amount.within(slot.free)}


def _parked_rank(slot: _Slot, task: PendingTask) -> tuple[int, bool, int]:
    return slot.used, slot.state.uid != task.parent_worker, slot.state.serial


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
