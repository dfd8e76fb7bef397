"""Who waits for what: the way from an event to the Tasks that it may set free, in O(1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from taskctl.api.meta import ObjectKey
from taskctl.api.states import TaskState, When
from taskctl.policy.readiness import settles


@dataclass(frozen=True, slots=True)
class WaitsFor:
    """What a Task that is not ready waits for.

    Attributes:
        cluster: its TaskCluster, to exist or to change; None: not for that.
        input_object: its TaskObject, to exist; None: not for that.
        tasks: tasks it runs after that have not ended yet.
        named: all tasks it runs after; they are kept until it has begun.
        when: ``spec.when``.
    """

    cluster: ObjectKey | None = None
    input_object: ObjectKey | None = None
    tasks: tuple[ObjectKey, ...] = ()
    named: tuple[ObjectKey, ...] = ()
    when: str = When.SUCCESS


@dataclass(slots=True)
class _Entry:
    waits: WaitsFor
    open: set[ObjectKey]


@dataclass(slots=True)
class _Index:
    """Tasks by what they wait for, in the order in which they came."""

    keys: dict[ObjectKey, dict[ObjectKey, None]] = field(default_factory=dict)

    def add(self, target: ObjectKey, task: ObjectKey) -> None:
        self.keys.setdefault(target, {})[task] = None

    def remove(self, target: ObjectKey, task: ObjectKey) -> None:
        tasks = self.keys.get(target)
        if tasks is not None:
            tasks.pop(task, None)
            if not tasks:
                del self.keys[target]

    def get(self, target: ObjectKey) -> list[ObjectKey]:
        return list(self.keys.get(target, ()))


class Waiting:
    """The Tasks that wait, by what they wait for."""

    def __init__(self) -> None:
        self._entries: dict[ObjectKey, _Entry] = {}
        self._by_cluster = _Index()
        self._by_input = _Index()
        self._by_task = _Index()

    def __len__(self) -> int:
        return len(self._entries)

    def set(self, task: ObjectKey, waits: WaitsFor) -> None:
        """Take note of what a Task waits for, in place of what was noted before."""
        entry = self._entries.get(task)
        if entry is not None:
            if entry.waits == waits:
                entry.open = set(waits.tasks)
                return
            self.clear(task)
        if not (waits.cluster or waits.input_object or waits.named):
            return
        self._entries[task] = _Entry(waits, set(waits.tasks))
        if waits.cluster:
            self._by_cluster.add(waits.cluster, task)
        if waits.input_object:
            self._by_input.add(waits.input_object, task)
        for name in waits.named:
            self._by_task.add(name, task)

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

    def for_cluster(self, cluster: ObjectKey) -> Iterable[ObjectKey]:
        """Return the Tasks that wait for that TaskCluster."""
        return self._by_cluster.get(cluster)

    def for_input(self, input_object: ObjectKey) -> Iterable[ObjectKey]:
        """Return the Tasks that wait for that TaskObject."""
        return self._by_input.get(input_object)

    def is_awaited(self, task: ObjectKey) -> bool:
        """Whether a Task that has not begun names that one in ``runAfter``."""
        return task in self._by_task.keys

    def task_ended(self, task: ObjectKey, state: TaskState) -> Iterator[ObjectKey]:
        """Take note that a Task has ended; yield those that may be ready, or doomed, by it."""
        for waiter in self._by_task.get(task):
            entry = self._entries[waiter]
            if task not in entry.open:
                continue
            entry.open.discard(task)
            if not entry.open or settles(entry.waits.when, state):
                yield waiter

    def task_reopened(self, task: ObjectKey) -> Iterator[ObjectKey]:
        """An ended Task runs again, or was made anew: yield the Tasks to look at."""
        yield from self._by_task.get(task)
