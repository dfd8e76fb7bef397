"""Where trees come together: groups, subtrees, and who must be told when one of them ends.

It listens to the events of Tasks by itself, beside the handlers that :mod:`setup` connects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from taskctl.api.conditions import find_condition
from taskctl.api.states import ConditionStatus, ConditionType, TaskState
from taskctl.controllers.groups import GroupKey, Groups, Tally
from taskctl.controllers.subtrees import Subtrees, TaskId
from taskctl.controllers.waiting import Waiters, WaitsFor
from taskctl.kube.interface import KubeObject
from taskctl.kube.store import Store
from taskctl.kube.workqueue import WorkQueue
from taskctl.objectkey import ObjectKey
from taskctl.policy.cycles import Cycles, GroupNode, Place, SubtreeNode, failed_for_cycle
from taskctl.policy.readiness import ReadinessFacts
from taskctl.policy.runafter import NOTHING, Dependency, RunAfterRule, parse_run_after, spare
from taskctl.policy.status import FINE, is_complete
from taskctl.policy.view import TaskView, parse_task

# A Task that says of a predecessor that it does not exist is looked at so long after it does:
# most of the others that are missing come soon, too.
_APPEARED_LOOK_S: Final = 2.0


class Joins:
    """Answers what the tasks that a Task runs after have come to.

    Args:
        tasks: the cache of Tasks; it is listened to from now on.
        waiting: who waits for what.
        cycles: finds circles.
        queue: of Tasks to reconcile.
    """

    def __init__(
        self, tasks: Store, waiting: Waiters, cycles: Cycles, queue: WorkQueue[ObjectKey]
    ) -> None:
        self._tasks = tasks
        self._waiting = waiting
        self._cycles = cycles
        self._queue = queue
        self.groups = Groups()
        self.subtrees = Subtrees()
        tasks.add_handler(self._on_task)

    # --- events -------------------------------------------------------------------------

    def _on_task(self, old: KubeObject | None, new: KubeObject | None) -> None:
        obj = new if new is not None else old
        if obj is None:
            return
        view, key = parse_task(obj), ObjectKey.of(obj)
        group = group_of(view)
        if new is None and group is not None:
            self._leave(group, view)
        elif group is not None:
            before = None if old is None else parse_task(old).state
            if before is not view.state:
                self._move(group, view, view.state, subtree=False)
                if before is None:
                    self._move(group, view, self._whole_state(view), subtree=True)
        for node in self.subtrees.on_task(old, new):
            self._subtree_changed(node)
        if old is None:
            for waiter in self._waiting.task_appeared(key):
                self._queue.add_after(waiter, _APPEARED_LOOK_S)

    def _subtree_changed(self, node: TaskId) -> None:
        raw = self._tasks.get_by_uid(node.uid)
        if raw is None:
            return
        view, key = parse_task(raw), ObjectKey.of(raw)
        state = self._whole_state(view)
        group = group_of(view)
        if group is not None:
            self._move(group, view, state, subtree=True)
        if state.terminal:
            self._look_at(self._waiting.subtree_ended(key, state))
        else:
            self._look_at(self._waiting.subtree_waiters(key))

    def _move(self, key: GroupKey, view: TaskView, state: TaskState, *, subtree: bool) -> None:
        tally = self.groups.member(key).tally(subtree=subtree)
        free = list(self._waiting.group_over(key, tally, subtree=subtree))
        tally.set(view.uid, view.name, state)
        self._look_at(self._waiting.group_moved(key, tally, subtree=subtree))
        if tally.open_count:
            self._look_at(free)  # they may be on their way to be placed

    def _leave(self, key: GroupKey, view: TaskView) -> None:
        waiters = self._waiting.group_waiters(key)
        self.groups.leave(key, view.uid)
        self._look_at(waiters)

    def _look_at(self, waiters: Iterable[ObjectKey]) -> None:
        for waiter in list(waiters):
            self._queue.add(waiter)

    # --- facts --------------------------------------------------------------------------

    def after(self, view: TaskView) -> RunAfterRule:
        """Return what a Task still waits for; nothing once it has begun.

        What has begun once had its predecessors; they may be removed by now.
        """
        return parse_run_after(view.spec) if view.attempt == 0 else NOTHING

    def dependencies(self, view: TaskView, after: RunAfterRule) -> tuple[Dependency, ...]:
        """Return the tasks that a Task names, as they stand."""
        return tuple(
            Dependency(name, self._state(view, name, subtree=after.subtree)) for name in after.tasks
        )

    def tally(self, view: TaskView, after: RunAfterRule) -> Tally:
        """Return how the group stands that a Task waits for."""
        key = awaited_group(view, after)
        return Tally() if key is None else self.groups.tally(key, subtree=after.subtree)

    def _state(self, view: TaskView, name: str, *, subtree: bool) -> TaskState | None:
        raw = self._tasks.get(ObjectKey(view.namespace, name))
        if raw is None:
            return None
        found = parse_task(raw)
        return self._whole_state(found) if subtree else found.state

    def _whole_state(self, view: TaskView) -> TaskState:
        """Return the state of a Task and all its descendants together."""
        verdict = self.subtrees.verdict(TaskId(view.namespace, view.uid))
        if not view.state.terminal or verdict.open:
            return TaskState.RUNNING
        if view.is_root and is_complete(view):
            # Of a complete tree ended members may be gone by their time to live.
            return view.state if _succeeded(view) or view.state not in FINE else TaskState.FAILED
        return TaskState.FAILED if verdict.bad and view.state in FINE else view.state

    def waits_for(self, view: TaskView, facts: ReadinessFacts) -> WaitsFor:
        """Return what to note of a Task that runs after others."""
        after, found = facts.after, facts.dependencies
        keys = {one.name: ObjectKey(view.namespace, one.name) for one in found}
        open_ones = [one for one in found if one.state is None or not one.state.terminal]
        bad = sum(one.state is not None and one.state.terminal for one in found) - sum(
            one.state in FINE for one in found
        )
        total = len(found) + max(facts.group.total, after.count)
        group = awaited_group(view, after)
        return WaitsFor(
            tasks=tuple(keys[one.name] for one in open_ones),
            named=tuple(keys.values()),
            missing=tuple(keys[one.name] for one in open_ones if one.state is None),
            group=group,
            count=after.count,
            in_group=group is not None and group == group_of(view),
            subtree=after.subtree,
            spare=None if after.when != "Success" else spare(after, total) - bad,
        )

    # --- circles ------------------------------------------------------------------------

    def cycle(self, view: TaskView, after: RunAfterRule) -> tuple[str, ...]:
        """Return the circle of ``runAfter`` that a Task is on; empty: it is on none.

        A circle is closed by the last of its members to be created, which the one before waits
        for already: by name, as a member of a group, or as a descendant. So no other needs a
        look, but for those who are told of a circle.
        """
        if not after or not self._may_close(view, after):
            return ()
        above = self.subtrees.ancestors(TaskId(view.namespace, view.uid))
        return self._cycles.find(view.namespace, view.name, _Graph(self, view, above).waits)

    def _may_close(self, view: TaskView, after: RunAfterRule) -> bool:
        key = ObjectKey(view.namespace, view.name)
        group = group_of(view)
        return (
            view.name in after.tasks
            or after.subtree
            or self._waiting.is_awaited(key)
            or (group is not None and self._waiting.is_group_awaited(group))
            or (not view.is_root and self._below_an_awaited(view))
            or any((raw := self.raw(view, name)) and failed_for_cycle(raw) for name in after.tasks)
        )

    def _below_an_awaited(self, view: TaskView) -> bool:
        """Whether a Task above is waited for with all its descendants."""
        for uid in self.subtrees.ancestors(TaskId(view.namespace, view.uid)):
            raw = self._tasks.get_by_uid(uid)
            if raw is None:
                continue
            above = parse_task(raw)
            group = group_of(above)
            if any(self._waiting.subtree_waiters(ObjectKey.of(raw))):
                return True
            if group is not None and self._waiting.is_group_awaited(group):
                return True
        return False

    def raw(self, view: TaskView, name: str) -> Mapping[str, Any] | None:
        """Return the cached Task of that name beside another one, or None."""
        return self._tasks.get(ObjectKey(view.namespace, name))

    def waiters_below(self, view: TaskView, tops: set[str]) -> list[str]:
        """Return the names of the Tasks that wait for others and are below one of some."""
        found = []
        for key in self._waiting.all_after():
            raw = self._tasks.get(key) if key.namespace == view.namespace else None
            if raw is None:
                continue
            uid = raw["metadata"]["uid"]
            if tops & self.subtrees.ancestors(TaskId(key.namespace, uid)):
                found.append(key.name)
        return found

    def members(self, key: GroupKey) -> Tally:
        """Return the members of a group."""
        return self.groups.tally(key, subtree=False)


class _Graph:
    """Who waits for whom, as one Task asks that may be on a circle.

    Args:
        joins: what is known.
        view: the Task.
        above: UIDs of it and of the Tasks above it.
    """

    def __init__(self, joins: Joins, view: TaskView, above: set[str]) -> None:
        self._joins = joins
        self._view = view
        self._above = above

    def waits(self, place: Place) -> list[Place] | None:
        """Return what a place of the graph waits for; None: it does not exist (yet)."""
        match place:
            case GroupNode():
                return self._members(place)
            case SubtreeNode():
                return self._subtree([place.name])
            case _:
                return self._task(place)

    def _task(self, name: str) -> list[Place] | None:
        raw = self._joins.raw(self._view, name)
        if raw is None:
            return None
        view = parse_task(raw)
        waits = view.attempt == 0 and not view.state.terminal
        if not waits and not failed_for_cycle(raw):
            return []
        after = parse_run_after(view.spec)
        places: list[Place] = [SubtreeNode(one) if after.subtree else one for one in after.tasks]
        key = awaited_group(view, after)
        if key is not None:
            places.append(GroupNode(key.root_uid, key.group, view.uid, after.subtree))
        return places

    def _members(self, node: GroupNode) -> list[Place]:
        tally = self._joins.members(GroupKey(self._view.namespace, node.root_uid, node.group))
        names = [name for uid, name in tally.names.items() if uid != node.without]
        return self._subtree(names) if node.subtree else [*names]

    def _subtree(self, names: list[str]) -> list[Place]:
        tops = set()
        for name in names:
            raw = self._joins.raw(self._view, name)
            if raw is not None:
                tops.add(raw["metadata"]["uid"])
        if tops & self._above:
            return [*names, self._view.name]
        return [*names, *self._joins.waiters_below(self._view, tops)] if tops else [*names]


def group_of(view: TaskView) -> GroupKey | None:
    """Return the group that a Task is a member of; None: of none."""
    name = view.spec.get("group")
    return GroupKey(view.namespace, view.root_uid, str(name)) if name else None


def awaited_group(view: TaskView, after: RunAfterRule) -> GroupKey | None:
    """Return the group that a Task waits for; None: for none."""
    return GroupKey(view.namespace, view.root_uid, after.group) if after.group else None


def _succeeded(view: TaskView) -> bool:
    condition = find_condition(view.status.get("conditions"), ConditionType.SUCCEEDED)
    return condition is not None and condition.get("status") == ConditionStatus.TRUE
