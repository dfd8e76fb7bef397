"""Tasks of one TaskCluster that wait for a slot, in the order in which they should get one.

Priority first. Within a priority the trees (roots) take turns, older roots first: each root
carries a *virtual time* that advances by the slots it was given, and the root with the
smallest one is next (start-time fair queueing). A root that comes in, or comes back, starts
at the present virtual time, or at its own if that is ahead: it can neither claim turns it
was not there for nor jump the queue by leaving and coming back. Within a root, first come,
first served.

A plain data structure: no I/O, no clock. Adding, removing and taking a task cost
O(log n); a task removed while in the middle is skipped when it surfaces.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from taskctl.policy.resources import NOTHING, Amount

# Departed roots are remembered until their virtual time has passed; sweep when there are many.
_SWEEP_AT: Final = 256


Created = tuple[str, int]


class Size(NamedTuple):
    """What a task takes of a worker.

    Attributes:
        slots: of its slots.
        amount: of its CPU and memory.
    """

    slots: int
    amount: Amount = NOTHING


@dataclass(frozen=True, slots=True)
class PendingTask:
    """A Task that is ready to be placed.

    Attributes:
        uid: the Task's UID.
        created: when it was created: as RFC 3339 text, and a number that orders what was
            created in the same second; orders tasks of one root.
        root_uid: UID of its tree's root.
        root_created: the same of the root.
        priority: higher goes first.
        slots: how many it takes.
        amount: CPU and memory that it takes.
        image: its image; empty: no preference.
        parent_worker: UID of the worker its parent ran on; empty: no preference.
        container_class: fingerprint of the parked containers that fit; empty: none do.
    """

    uid: str
    created: Created
    root_uid: str
    root_created: Created
    priority: int = 0
    slots: int = 1
    amount: Amount = NOTHING
    image: str = ""
    parent_worker: str = ""
    container_class: str = ""

    @property
    def size(self) -> Size:
        """What it takes of a worker."""
        return Size(self.slots, self.amount)


@dataclass(slots=True)
class _Root:
    uid: str
    created: Created
    virtual_time: int
    # (created, arrival, uid); the arrival number tells a task that left and came back.
    tasks: list[tuple[Created, int, str]] = field(default_factory=list)
    listed: bool = False  # has an entry in the band's heap, or is set aside by a cycle

    def rank(self) -> tuple[int, Created, str]:
        return (self.virtual_time, self.created, self.uid)


@dataclass(slots=True)
class _Band:
    """All roots with tasks of one priority."""

    now: int = 0  # present virtual time: that of the root served last
    roots: dict[str, _Root] = field(default_factory=dict)
    ranked: list[tuple[tuple[int, Created, str], str]] = field(default_factory=list)
    departed: dict[str, int] = field(default_factory=dict)

    def enter(self, uid: str, created: Created) -> _Root:
        root = self.roots.get(uid)
        if root is None:
            start = max(self.now, self.departed.pop(uid, self.now))
            root = self.roots[uid] = _Root(uid, created, start)
        return root

    def list_root(self, root: _Root) -> None:
        if not root.listed:
            heapq.heappush(self.ranked, (root.rank(), root.uid))
            root.listed = True

    def leave(self, root: _Root) -> None:
        """Forget a root without tasks, but for the turns it is ahead."""
        del self.roots[root.uid]
        if root.virtual_time > self.now:
            self.departed[root.uid] = root.virtual_time
        if len(self.departed) > _SWEEP_AT + 2 * len(self.roots):
            self.departed = {u: v for u, v in self.departed.items() if v > self.now}


class PendingQueue:
    """The queue of one TaskCluster."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[int, PendingTask]] = {}
        self._bands: dict[int, _Band] = {}
        self._priorities: list[int] = []  # negated, so that the highest comes first
        self._arrivals = 0
        self._sizes: Counter[Size] = Counter()
        self._classes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, uid: str) -> bool:
        return uid in self._tasks

    def get(self, uid: str) -> PendingTask | None:
        """Return the queued task, or None."""
        entry = self._tasks.get(uid)
        return entry[1] if entry else None

    def uids(self) -> list[str]:
        """Return the UIDs of all tasks in the queue, in no particular order. Costs O(n)."""
        return list(self._tasks)

    def push(self, task: PendingTask) -> bool:
        """Queue a task. One that is there already, unchanged, keeps its place.

        Returns:
            Whether the queue has changed.
        """
        entry = self._tasks.get(task.uid)
        if entry is not None:
            if entry[1] == task:
                return False
            self.discard(task.uid)
        self._arrivals += 1
        self._tasks[task.uid] = (self._arrivals, task)
        self._sizes[task.size] += 1
        self._classes[task.container_class] += 1
        band = self._band(task.priority)
        root = band.enter(task.root_uid, task.root_created)
        heapq.heappush(root.tasks, (task.created, self._arrivals, task.uid))
        band.list_root(root)
        return True

    def discard(self, uid: str) -> bool:
        """Take a task out of the queue. Returns whether it was there."""
        entry = self._tasks.pop(uid, None)
        if entry is None:
            return False
        self._left(entry[1])
        return True

    def sizes(self) -> Mapping[Size, int]:
        """Return how many tasks wait, by what each takes."""
        return self._sizes

    def classes(self) -> Mapping[str, int]:
        """Return how many tasks wait, by fingerprint of the parked containers that fit them."""
        return self._classes

    def _left(self, task: PendingTask) -> None:
        self._sizes[task.size] -= 1
        if not self._sizes[task.size]:
            del self._sizes[task.size]
        self._classes[task.container_class] -= 1
        if not self._classes[task.container_class]:
            del self._classes[task.container_class]

    def _band(self, priority: int) -> _Band:
        band = self._bands.get(priority)
        if band is None:
            band = self._bands[priority] = _Band()
            insort(self._priorities, -priority)
        return band

    @contextmanager
    def cycle(self) -> Iterator[Cycle]:
        """Open a pass over the heads; only one at a time, and no push in between."""
        cycle = Cycle(self)
        try:
            yield cycle
        finally:
            cycle.close()

    # --- for Cycle ------------------------------------------------------------------

    def top(self) -> tuple[_Band, _Root, PendingTask] | None:
        """Return the next task to serve, clearing away what has left meanwhile."""
        for negated in self._priorities:
            band = self._bands[-negated]
            head = self._band_top(band)
            if head is not None:
                return band, *head
        return None

    def _band_top(self, band: _Band) -> tuple[_Root, PendingTask] | None:
        while band.ranked:
            root = band.roots[band.ranked[0][1]]
            task = self._root_top(root)
            if task is not None:
                return root, task
            heapq.heappop(band.ranked)
            root.listed = False
            band.leave(root)
        return None

    def _root_top(self, root: _Root) -> PendingTask | None:
        while root.tasks:
            _, arrival, uid = root.tasks[0]
            entry = self._tasks.get(uid)
            if entry is not None and entry[0] == arrival:
                return entry[1]
            heapq.heappop(root.tasks)
        return None

    def serve(self, band: _Band, root: _Root, task: PendingTask) -> None:
        """Take the head of the head root and charge the root for it."""
        heapq.heappop(root.tasks)
        del self._tasks[task.uid]
        self._left(task)
        heapq.heappop(band.ranked)
        root.listed = False
        band.now = max(band.now, root.virtual_time)
        root.virtual_time += task.slots
        if self._root_top(root) is None:
            band.leave(root)
        else:
            band.list_root(root)

    def drop_empty_bands(self) -> None:
        """Forget priorities that nobody waits at any more."""
        for negated in list(self._priorities):
            band = self._bands[-negated]
            if not band.roots:
                self._priorities.remove(negated)
                del self._bands[-negated]


class Cycle:
    """One pass over a queue: look at the head, then take it or set its root aside."""

    def __init__(self, queue: PendingQueue) -> None:
        self._queue = queue
        self._aside: list[tuple[_Band, _Root]] = []

    def head(self) -> PendingTask | None:
        """Return the task whose turn it is, or None."""
        top = self._queue.top()
        return top[2] if top else None

    def take(self) -> PendingTask:
        """Take the head out of the queue; its root has had this turn.

        Raises:
            LookupError: the queue is empty.
        """
        top = self._queue.top()
        if top is None:
            raise LookupError("the queue is empty")
        self._queue.serve(*top)
        return top[2]

    def skip(self) -> None:
        """Set the head's root aside for the rest of this pass; it loses no turn."""
        top = self._queue.top()
        if top is None:
            return
        band, root, _ = top
        heapq.heappop(band.ranked)  # stays marked as listed: close() lists it again
        self._aside.append((band, root))

    def close(self) -> None:
        """Put back what was set aside."""
        for band, root in self._aside:
            root.listed = False
            band.list_root(root)
        self._aside.clear()
        self._queue.drop_empty_bands()
