"""Who waits for what: the way from an event to the Tasks that it may set free, in O(1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from taskctl.api.states import TaskState
from taskctl.controllers.groups import GroupKey, Tally
from taskctl.objectkey import ObjectKey
from taskctl.policy.status import FINE

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class WaitsFor:
    """What a Task that is not ready waits for.

    Attributes:
        cluster: its TaskCluster, to exist or to change; None: not for that.
        input_object: its TaskObject, to exist; None: not for that.
        tasks: tasks it runs after that have not ended yet.
        named: all tasks it runs after; they are kept until it has begun.
        missing: those of them that do not exist.
        group: the group that it runs after; None: none.
        count: how many members of the group must exist.
        in_group: it is a member itself, which does not count.
        subtree: all of these count with their descendants.
        source: the task whose output is its input, and which counts alone; None: none.
        spare: how many of the tasks that have not ended, and of the group's, may fail or be
            cancelled without settling anything; None: as many as will.
    """

    cluster: ObjectKey | None = None
    input_object: ObjectKey | None = None
    tasks: tuple[ObjectKey, ...] = ()
    named: tuple[ObjectKey, ...] = ()
    missing: tuple[ObjectKey, ...] = ()
    group: GroupKey | None = None
    count: int = 0
    in_group: bool = False
    subtree: bool = False
    source: ObjectKey | None = None
    spare: int | None = None

    def group_over(self, tally: Tally) -> bool:
        """Whether all members of the group exist and have ended."""
        itself = int(self.in_group)
        return tally.open_count <= itself and tally.total - itself >= self.count


@dataclass(slots=True)
class _Waiter:
    waits: WaitsFor
    open: set[ObjectKey]
    bad: int = 0  # of the tasks that were open

    def restart(self) -> None:
        """Count from what was found at the last look."""
        self.open = set(self.waits.tasks)
        self.bad = 0

    def settled(self, tally: Tally | None) -> bool:
        """Whether its Task is worth a look: all it waits for is over, or too many have failed."""
        waits = self.waits
        bad = self.bad + (0 if tally is None else tally.bad_count)
        if waits.spare is not None and bad > waits.spare:
            return True
        return not self.open and (tally is None or waits.group_over(tally))


@dataclass(slots=True)
class _Index(Generic[K]):
    """Tasks by what they wait for, in the order in which they came."""

    keys: dict[K, dict[ObjectKey, None]] = field(default_factory=dict)

    def add(self, target: K, task: ObjectKey) -> None:
        self.keys.setdefault(target, {})[task] = None

    def remove(self, target: K, task: ObjectKey) -> None:
        tasks = self.keys.get(target)
        if tasks is not None:
            tasks.pop(task, None)
            if not tasks:
                del self.keys[target]

    def get(self, target: K) -> list[ObjectKey]:
        return list(self.keys.get(target, ()))


class Waiters:
    """The Tasks that wait, by what they wait for."""

    def __init__(self) -> None:
        self._entries: dict[ObjectKey, _Waiter] = {}
        self._by_cluster: _Index[ObjectKey] = _Index()
        self._by_input: _Index[ObjectKey] = _Index()
        self._by_task: _Index[ObjectKey] = _Index()
        self._by_group: _Index[GroupKey] = _Index()

    def __len__(self) -> int:
        return len(self._entries)

    def set(self, task: ObjectKey, waits: WaitsFor) -> None:
        """Take note of what a Task waits for, in place of what was noted before."""
        entry = self._entries.get(task)
        if entry is not None:
            if entry.waits == waits:
                entry.restart()
                return
            self.clear(task)
        if not (waits.cluster or waits.input_object or waits.named or waits.group):
            return
        self._entries[task] = _Waiter(waits, set(waits.tasks))
        if waits.cluster:
            self._by_cluster.add(waits.cluster, task)
        if waits.input_object:
            self._by_input.add(waits.input_object, task)
        for name in waits.named:
            self._by_task.add(name, task)
        if waits.group:
            self._by_group.add(waits.group, task)

    def clear(self, task: ObjectKey) -> None:
        """The Task waits for nothing any more."""
        entry = self._entries.pop(task, None)
        if entry is None:
            return
        waits = entry.waits
        if waits.cluster:
            self._by_cluster.remove(waits.cluster, task)
        if waits.input_object:
            self._by_input.remove(waits.input_object, task)
        for name in waits.named:
            self._by_task.remove(name, task)
        if waits.group:
            self._by_group.remove(waits.group, task)

    def for_cluster(self, cluster: ObjectKey) -> Iterable[ObjectKey]:
        """Return the Tasks that wait for that TaskCluster."""
        return self._by_cluster.get(cluster)

    def for_input(self, input_object: ObjectKey) -> Iterable[ObjectKey]:
        """Return the Tasks that wait for that TaskObject."""
        return self._by_input.get(input_object)

    def is_awaited(self, task: ObjectKey) -> bool:
        """Whether a Task that has not begun names that one in ``runAfter``."""
        return task in self._by_task.keys

    def is_group_awaited(self, group: GroupKey) -> bool:
        """Whether a Task that has not begun waits for that group."""
        return group in self._by_group.keys

    def subtree_waiters(self, task: ObjectKey) -> Iterator[ObjectKey]:
        """Yield the Tasks that wait for that one together with its descendants, by name."""
        for waiter in self._by_task.get(task):
            if self._entries[waiter].waits.subtree:
                yield waiter

    def all_after(self) -> list[ObjectKey]:
        """Return all Tasks that run after others and have not begun. Costs O(all that wait)."""
        return [
            key for key, entry in self._entries.items() if entry.waits.named or entry.waits.group
        ]

    def task_ended(self, task: ObjectKey, state: TaskState) -> Iterator[ObjectKey]:
        """Take note that a Task has ended; yield those that may be ready, or doomed, by it."""
        return self._ended(task, state, subtree=False)

    def subtree_ended(self, task: ObjectKey, state: TaskState) -> Iterator[ObjectKey]:
        """Take note that a Task and all its descendants have ended; yield as for a Task."""
        return self._ended(task, state, subtree=True)

    def _ended(self, task: ObjectKey, state: TaskState, *, subtree: bool) -> Iterator[ObjectKey]:
        for waiter in self._by_task.get(task):
            entry = self._entries[waiter]
            counts = entry.waits.subtree is subtree or task == entry.waits.source
            if task not in entry.open or not counts:
                continue
            entry.open.discard(task)
            entry.bad += state not in FINE
            # With a group: the look at the Task itself tells how that stands.
            if entry.settled(None):
                yield waiter

    def group_moved(self, group: GroupKey, tally: Tally, *, subtree: bool) -> Iterator[ObjectKey]:
        """A group has new members, or members that ended: yield the Tasks worth a look.

        Args:
            group: the group.
            tally: how its members stand now.
            subtree: counted with their descendants.
        """
        for waiter in self._by_group.get(group):
            entry = self._entries[waiter]
            if entry.waits.subtree is subtree and entry.settled(tally):
                yield waiter

    def group_over(self, group: GroupKey, tally: Tally, *, subtree: bool) -> Iterator[ObjectKey]:
        """Yield the Tasks for which all members of a group exist and have ended."""
        if tally.open_count > 1:
            return
        for waiter in self._by_group.get(group):
            waits = self._entries[waiter].waits
            if waits.subtree is subtree and waits.group_over(tally):
                yield waiter

    def group_waiters(self, group: GroupKey) -> list[ObjectKey]:
        """Return the Tasks that wait for a group."""
        return self._by_group.get(group)

    def task_reopened(self, task: ObjectKey) -> Iterator[ObjectKey]:
        """Yield the Tasks to look at when an ended Task runs again or was created again."""
        yield from self._by_task.get(task)

    def task_appeared(self, task: ObjectKey) -> Iterator[ObjectKey]:
        """A Task was created: yield those that say of it that it does not exist."""
        for waiter in self._by_task.get(task):
            if task in self._entries[waiter].waits.missing:
                yield waiter
