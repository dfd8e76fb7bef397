"""Indexes over all Tasks, each kept up to date one event at a time, O(1) for most of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskctl.api.states import TaskState
from taskctl.clock import Clock
from taskctl.controllers.ages import Ages
from taskctl.controllers.arrivals import Arrivals
from taskctl.controllers.backoffs import Backoffs
from taskctl.controllers.cachedapi import Caches
from taskctl.controllers.families import Families
from taskctl.controllers.waiting import Waiters
from taskctl.kube.interface import KubeObject
from taskctl.objectkey import ObjectKey
from taskctl.policy.cycles import Cycles
from taskctl.policy.view import TaskView, parse_task

_WAITS = frozenset({TaskState.PENDING, TaskState.SCHEDULED})


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A Task that came, changed or went; one of the two is there.

    Attributes:
        old: as it was before; None: it is new.
        new: as it is; None: it is gone.
        key: its key.
        uid: its UID.
        old_view: as it was before; None: it is new.
        view: as it is; None: it is gone.
    """

    old: KubeObject | None = field(repr=False)
    new: KubeObject | None = field(repr=False)
    key: ObjectKey
    uid: str
    old_view: TaskView | None
    view: TaskView | None

    @classmethod
    def of(cls, old: KubeObject | None, new: KubeObject | None) -> TaskChange | None:
        """Return what a handler was told; None: nothing."""
        obj = new if new is not None else old
        if obj is None:
            return None
        return cls(
            old=old,
            new=new,
            key=ObjectKey.of(obj),
            uid=obj["metadata"]["uid"],
            old_view=None if old is None else parse_task(old),
            view=None if new is None else parse_task(new),
        )

    @property
    def before(self) -> TaskState | None:
        """Its state before; None: it is new."""
        return None if self.old_view is None else self.old_view.state

    @property
    def after(self) -> TaskState | None:
        """Its state; None: it is gone."""
        return None if self.view is None else self.view.state

    @property
    def waits(self) -> bool:
        """Whether it waits for something, be it a worker."""
        return self.after in _WAITS


class TaskIndexes:
    """What is known of Tasks beyond the objects themselves.

    Args:
        caches: what informers have brought.
        clock: source of time.

    Attributes:
        ages: how long ago stamps of other clocks were.
        arrivals: in which order Tasks were created.
        families: who is cancelled with whom.
        waiting: who waits for what.
        backoffs: how long back-offs still last.
        cycles: circles of ``runAfter``.
    """

    def __init__(self, caches: Caches, clock: Clock) -> None:
        self.ages = Ages(clock)
        self.arrivals = Arrivals(self.ages)
        self.families = Families(caches.task_by_uid)
        self.waiting = Waiters()
        self.backoffs = Backoffs(clock)
        self.cycles = Cycles()

    def on_task(self, change: TaskChange) -> list[ObjectKey]:
        """Take in a change; return the other Tasks that it may set free, cancel or doom."""
        self.arrivals.on_task(change.old, change.new)
        touched = self.families.on_task(change.old, change.new)
        if change.before is not change.after:
            touched += self._waiters(change)
        if not change.waits:
            self.waiting.clear(change.key)
            self.backoffs.drop(change.uid)
        if change.new is None:
            awaited = self.waiting.is_awaited(change.key)
            self.cycles.deleted(change.key.namespace, change.key.name, awaited=awaited)
        return touched

    def _waiters(self, change: TaskChange) -> list[ObjectKey]:
        before, after = change.before, change.after
        if not self.waiting.is_awaited(change.key):
            return []
        if after is not None and after.terminal:
            return list(self.waiting.task_ended(change.key, after))
        if before is not None and (before.terminal or after is None):
            return list(self.waiting.task_reopened(change.key))
        return []
